"""Import arrays: snapshots of parameters, and whatever was computed along them, as a trajectory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.sharing.importers.names import guess_labels
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import (
    REQUIRED_ATTRIBUTES,
    UNSTATED_NUMBERS,
    VARIABLES,
    build_dataset,
    split_name,
    with_suffix,
)

__all__ = ["NOT_STATED", "UNSTATED", "Layout", "from_arrays"]


def __dir__() -> list[str]:
    return __all__


NOT_STATED = "not stated"
_STAMPED = ("Conventions", "schema_version", "created_at", "creator", "loss_unit", "sign_convention")
UNSTATED: dict[str, Any] = {name: NOT_STATED for name in REQUIRED_ATTRIBUTES if name not in _STAMPED}
UNSTATED |= dict.fromkeys(UNSTATED_NUMBERS, -1)
"""Attributes of the format of a source that does not state them; numbers are -1."""

Layout = Labels | Sequence[TensorSpec] | Mapping[str, Sequence[int]]


@checks_arguments
def from_arrays(
    theta: Any,
    labels: Layout,
    *,
    snapshot: Any = None,
    class_names: Sequence[str] | None = None,
    attrs: Mapping[str, Any] | None = None,
    **variables: Any,
) -> xr.Dataset:
    r"""Make a trajectory of arrays.

    What follows from them is added: the sum of the first-order allocation where there is a gradient, and

    .. math:: r_t = \sum_i A_{t,i} - (L(θ_{t+1}) - L(θ_t))

    where there are both ``lca`` and ``loss`` (for every objective).

    Parameters
    ----------
    theta
        Snapshots (T+1, K), NumPy or Dask, flat in the order of ``labels``; or None where there are none.
    labels
        What the K parameters are: a :class:`lcakit.trajectory.labels.Labels`, a list of
        :class:`lcakit.trajectory.labels.TensorSpec`, or a mapping of names to shapes, from which roles and layers are
        guessed (:mod:`lcakit.sharing.importers.names`).
    snapshot
        Optimizer steps taken before each snapshot (T+1), strictly increasing; 0 … T by default.
    class_names
        Names of the classes, for variables by class; ``"0", "1", …`` by default.
    attrs
        Root attributes: what is known of the loss, the data and the rule (``loss_name``, ``loss_unit`` (by default
        nats), ``n_examples``, …). What is missing is ``"not stated"``, or -1 where it is a number.
    **variables
        Any others of the format by name: ``lca`` (T, K), ``gradient`` (T+1, K), ``loss`` (T+1), ``lca_unit_class``
        (T, U, C), …, also with the suffix of a further objective (``loss_val``).

    Returns
    -------
    xarray.Dataset
        In the layout and the types of the format (theta in float32), lazy where the arrays are.

    Raises
    ------
    TrajectoryError
        If arrays do not fit each other, the labels or the format; the message names sizes and variable.

    Examples
    --------
    >>> theta = np.zeros((3, 8), "f4")
    >>> ds = from_arrays(theta, {"fc.weight": (2, 3), "fc.bias": (2,)}, loss=[0.7, 0.7, 0.7])
    >>> dict(ds.sizes)["iteration"], ds["tensor_role"].values.tolist()
    (2, ['kernel', 'bias'])
    """
    snapshot = None if snapshot is None else _as_array("snapshot", snapshot)
    table = _labels(labels)
    named = ({} if theta is None else {"theta": theta}) | variables
    arrays = {name: _array(name, value) for name, value in named.items()}
    sizes = {"parameter": table.n_parameters, "unit": table.n_units}
    sizes |= {} if class_names is None else {"class": len(class_names)}
    sizes = _sizes(arrays, sizes, snapshot)
    coords = table.coords() | _coords(sizes, snapshot, class_names)
    arrays |= dict(_derived(arrays))
    return build_dataset(coords, arrays, UNSTATED | {"imported_from": "arrays"} | dict(attrs or {}))


def _labels(labels: Layout) -> Labels:
    if isinstance(labels, Labels):
        return labels
    return guess_labels(labels) if isinstance(labels, Mapping) else Labels(tuple(labels))


def _array(name: str, value: Any) -> Any:
    if split_name(name)[0] not in VARIABLES:
        raise unknown("variable", name, VARIABLES, TrajectoryError)
    array = value if isinstance(value, da.Array) else _as_array(name, value)
    if array.dtype.kind not in "fiu":
        raise TrajectoryError(f"{name} holds {array.dtype}; numbers are needed (float or integer)")
    return array


def _as_array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, xr.Dataset):
        raise TrajectoryError(f"{name} must be an array, got a Dataset: pass one of its variables, ds[{name!r}]")
    return np.asarray(value)


def _sizes(arrays: Mapping[str, Any], known: dict[str, int], snapshot: Any) -> dict[str, int]:
    """Return the size of every dimension; refuse arrays that disagree."""
    sizes, said = dict(known), dict.fromkeys(known, "the labels")
    found: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []
    if snapshot is not None:
        found.append(("the list of snapshots", ("snapshot",), np.shape(snapshot)))
    found += [(name, VARIABLES[split_name(name)[0]].dims, array.shape) for name, array in arrays.items()]
    for name, dims, shape in found:
        if len(shape) != len(dims):
            raise TrajectoryError(f"{name} has the shape {shape}; it must have the dimensions ({', '.join(dims)})")
        for dim, size in zip(dims, shape, strict=True):
            steps = {"iteration": size, "snapshot": size - 1}.get(dim)
            key, value = (dim, size) if steps is None else ("iteration", steps)
            if sizes.setdefault(key, value) != value:
                raise TrajectoryError(
                    f"{name} has the shape {shape} for ({', '.join(dims)}), but {said[key]} has {sizes[key]} of "
                    f"{key}" + ("; there is one snapshot more than iterations" if key == "iteration" else "")
                )
            said.setdefault(key, name)
    if sizes.setdefault("iteration", 0) < 1:
        raise TrajectoryError("a trajectory needs at least two snapshots (one iteration)")
    return sizes | {"snapshot": sizes["iteration"] + 1}


def _coords(sizes: Mapping[str, int], snapshot: Any, class_names: Sequence[str] | None) -> dict[str, Any]:
    steps = np.arange(sizes["snapshot"]) if snapshot is None else snapshot
    if steps.dtype.kind not in "iu" or (np.diff(steps) <= 0).any():
        raise TrajectoryError(f"snapshot must be integers that increase strictly, got {steps[:10].tolist()} …")
    coords: dict[str, Any] = {"snapshot": (("snapshot",), steps), "iteration": (("iteration",), steps[:-1])}
    if "class" in sizes:
        names = map(str, range(sizes["class"]) if class_names is None else class_names)
        coords["class"] = (("class",), np.array(list(names)))
    return coords


def _derived(arrays: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield ``residual`` and ``first_order`` of every objective that allows them and has none."""
    for suffix in dict.fromkeys(split_name(name)[1] for name in arrays):
        lca, loss, gradient, residual, first_order = (
            with_suffix(name, suffix) for name in ("lca", "loss", "gradient", "residual", "first_order")
        )
        if {lca, loss} <= arrays.keys() and residual not in arrays:
            values = arrays[loss].astype("f8")
            yield residual, arrays[lca].sum(axis=1, dtype="f8") - (values[1:] - values[:-1])
        if {gradient, "theta"} <= arrays.keys() and first_order not in arrays:
            yield first_order, _first_order(arrays["theta"], arrays[gradient])


def _first_order(theta: Any, gradient: Any) -> Any:
    if not isinstance(theta, da.Array) and not isinstance(gradient, da.Array):
        return _products(theta[:-1], theta[1:], gradient[:-1])[:, 0]
    before, after, slope = (da.asarray(a) for a in (theta[:-1], theta[1:], gradient[:-1]))
    after, slope = after.rechunk(before.chunks), slope.rechunk(before.chunks)
    chunks = (before.chunks[0], (1,) * len(before.chunks[1]))
    meta = np.empty((0, 0))
    return da.map_blocks(_products, before, after, slope, chunks=chunks, dtype="f8", meta=meta).sum(axis=1)


def _products(before: np.ndarray, after: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Return Σ g Δθ of each row as one column, in float64: row by row, so that no float64 copy of a block is made."""
    rows = zip(before, after, slope, strict=True)
    return np.array([[(b.astype("f8") - a) @ g.astype("f8")] for a, b, g in rows]).reshape(-1, 1)
