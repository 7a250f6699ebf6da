"""Saliency of units: which of its inputs a unit's LCA went to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.labels import parameter_coord
from lcakit.trajectory.require import require, require_tables
from lcakit.trajectory.select import TAPS, select, select_iterations
from lcakit.trajectory.selection_notes import size_before

__all__ = ["IMAGE_DIMS", "one_unit", "saliency"]


def __dir__() -> list[str]:
    return __all__


IMAGE_DIMS = ("channel", "y", "x")
"""Dimensions of the images that saliency is laid out in."""

_GATES = {"lstm": 4, "gru": 3}


@of_trajectories
def saliency(
    ds: xr.Dataset,
    unit: int,
    layer: str | None = None,
    shape: Sequence[int] | None = None,
    lca: str = "lca",
    iterations: slice | int | None = None,
    tensor: str | None = None,
) -> xr.DataArray:
    r"""Return what a unit learned from each of its inputs, in the shape of the input.

    .. math:: I[j] = -\sum_t A[t, w_{uj}]

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter).
    unit
        Channel number inside the layer.
    layer
        A layer with a kernel; None: the first one, whose inputs are the pixels.
    shape
        Shape of the input of a linear or recurrent layer, (y, x) or (channel, y, x). None: a square image with one
        channel or, where the number of inputs is three times a square, with three. Convolution kernels have their own
        shape.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    iterations
        As in :func:`unit_class_lca`.
    tensor
        A kernel, where the layer has several: ``"lstm.weight_ih_l0"`` is that from the inputs of an LSTM.

    Returns
    -------
    DataArray
        (y, x) or (channel, y, x) for a linear layer; (gate, …) for the kernel of an LSTM or GRU, its gates in PyTorch's
        order; (in, ky, kx) for a convolution (as many taps as it has); float64, in the unit of the loss. Positive: the
        weight helped. Lazy.

    Raises
    ------
    TrajectoryError
        If the file does not hold ``lca``, or no layer has a kernel.
    ValueError
        For an unknown unit, layer or tensor, a layer with several kernels, a shape that does not fit, or iterations
        that the run does not have.

    Notes
    -----
    Fig. S22 of the paper.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> saliency(tiny_trajectory(), unit=0).sizes
    Frozen({'in': 2, 'ky': 2, 'kx': 2})
    >>> saliency(tiny_trajectory(), unit=0, layer="fc", shape=(2, 3)).dims
    ('y', 'x')
    """
    require(ds, lca)
    require_tables(ds)
    row = _kernel_row(ds, layer, tensor)
    part = _weights_of(ds, unit, row)
    part = part if iterations is None else select_iterations(part, iterations)
    weights = require(part, lca).sum("iteration", dtype=np.float64, skipna=False)
    order, sizes = _layout(part, row, shape)
    whole: Any = weights.chunk(parameter=-1).data if weights.chunks else weights.data
    if (np.diff(order) < 0).any():
        whole = whole[..., order]
    image = -whole.reshape((*weights.shape[:-1], *sizes.values()))
    lead = weights.dims[:-1]
    coords = {name: c for name, c in weights.coords.items() if set(c.dims) <= set(lead)}
    attrs = ds[lca].attrs | {"long_name": "saliency: minus the sum of LCA"}
    return xr.DataArray(image, dims=[*lead, *sizes], coords=coords, name="saliency", attrs=attrs)


def _kernel_row(ds: xr.Dataset, layer: str | None, tensor: str | None) -> int:
    """Return the row of the tensor table that holds the kernel of a layer, of those of which there are weights."""
    present = np.bincount(parameter_coord(ds, "tensor_index"), minlength=ds.sizes["tensor"]) > 0
    kernels = (ds["tensor_role"].values.astype(str) == "kernel") & present
    owners = ds["layer"].values.astype(str)[parameter_coord(ds, "tensor_layer")]
    names = ds["tensor"].values.astype(str)
    if not kernels.any():
        raise TrajectoryError("no layer of this trajectory has a kernel, so it has no inputs to look at")
    if layer is not None and layer not in owners[kernels]:
        raise unknown("layer with a kernel", layer, dict.fromkeys(owners[kernels]))
    if tensor is not None:
        among = kernels if layer is None else kernels & (owners == layer)
        if tensor not in names[among]:
            raise unknown("kernel", tensor, names[among].tolist())
        return int(np.flatnonzero(among & (names == tensor))[0])
    name = owners[kernels][0] if layer is None else layer
    rows = np.flatnonzero(kernels & (owners == name))
    if rows.size > 1:
        raise ValueError(
            f"layer {name!r} has several kernels ({', '.join(names[rows])}), so its units have no one image: name one, "
            f"tensor={str(names[rows[0]])!r}"
        )
    return int(rows[0])


def _weights_of(ds: xr.Dataset, unit: int, row: int) -> xr.Dataset:
    """Return the part of a unit's weights in one kernel; refuse one of which some are missing."""
    name = str(ds["tensor"].values[row])
    inside = parameter_coord(ds, "tensor_index") == row
    numbers, held = np.unique(parameter_coord(ds, "unit_index")[inside], return_counts=True)
    channels = ds["unit_channel"].values[np.isin(ds["unit"].values, numbers)]
    if isinstance(unit, int | np.integer) and unit not in channels and unit in _channels(ds, row):
        raise ValueError(
            f"unit {unit} has no weights in the kernel {name!r} here, whose units are {channels.min()} to "
            f"{channels.max()}: choose one of these, or another kernel, tensor=…"
        )
    part = one_unit(ds, unit, tensor=name)
    expected = int(held.max())
    if size_before(ds, "unit") is None:  # the table of units is whole
        expected = max(expected, math.ceil(ds["tensor_size"].values[row] / len(_channels(ds, row))))
    if gates := _gates(part, row):
        expected = gates * int(ds["tensor_shape"].values[row][1])
    if part.sizes["parameter"] != expected:
        raise ValueError(
            f"the dataset holds {part.sizes['parameter']} of the {expected} weights of the unit: select less narrowly"
        )
    return part


def _gates(part: xr.Dataset, row: int) -> int:
    """Return the number of gates for which a unit has weights from each input, 0 where it has none."""
    kind = str(part["layer_kind"].values[part["tensor_layer"].values[row]])
    return _GATES.get(kind.removesuffix("cell"), 0) if (parameter_coord(part, "tap_index") >= 0).all() else 0


def _channels(ds: xr.Dataset, row: int) -> np.ndarray:
    """Return the numbers of all units of the layer that a tensor belongs to."""
    channels: np.ndarray = ds["unit_channel"].values[ds["unit_layer"].values == ds["tensor_layer"].values[row]]
    return channels


def _layout(part: xr.Dataset, row: int, shape: Sequence[int] | None) -> tuple[np.ndarray, dict[str, int]]:
    """Return the order in which a unit's weights make the image, and its dimensions."""
    inputs, taps = (parameter_coord(part, f"{name}_index") for name in ("input", "tap"))
    n_inputs, n_taps = np.unique(inputs).size, np.unique(taps).size
    kernel = tuple(int(n) for n in part["tensor_shape"].values[row] if n)
    if n_inputs * n_taps != part.sizes["parameter"]:
        raise ValueError(
            f"the {part.sizes['parameter']} weights of the unit in the kernel {kernel} are not one for each of "
            f"{n_inputs} inputs and {n_taps} places: select less narrowly"
        )
    if len(kernel) > 2:
        if shape is not None:
            raise ValueError(f"a convolution with the kernel {kernel} has a shape of its own; got shape={shape!r}")
        named = len(kernel) - 2 <= len(TAPS) and math.prod(kernel[2:]) == n_taps
        own = dict(zip(TAPS[-len(kernel[2:]) :], kernel[2:], strict=True)) if named else {"tap": n_taps}
        return np.lexsort((taps, inputs)), {"in": n_inputs, **own}
    several = {"gate" if _gates(part, row) else "tap": n_taps} if n_taps > 1 else {}
    return np.lexsort((inputs, taps)), several | _image_sizes(n_inputs, shape)


def _image_sizes(inputs: int, shape: Sequence[int] | None) -> dict[str, int]:
    """Return the dimensions of the input of a linear layer, laid out as an image."""
    if shape is None:
        return _square(inputs)
    sizes = [int(n) for n in shape]
    if len(sizes) not in (2, 3) or min(sizes) < 1 or math.prod(sizes) != inputs:
        raise ValueError(f"shape must be (y, x) or (channel, y, x) with {inputs} entries, one an input; got {shape!r}")
    return dict(zip(IMAGE_DIMS[-len(sizes) :], sizes, strict=True))


def _square(inputs: int) -> dict[str, int]:
    for channels in (1, 3):
        side = math.isqrt(inputs // channels)
        if channels * side * side == inputs:
            sizes = {"channel": channels, "y": side, "x": side}
            return sizes if channels > 1 else {"y": side, "x": side}
    raise ValueError(
        f"the layer has {inputs} inputs, neither a square nor three times one: pass shape=(y, x) or (channel, y, x)"
    )


def one_unit(ds: xr.Dataset, unit: int, **names: str | None) -> xr.Dataset:
    """Return the part of one unit; raise ValueError where ``unit`` is not a single whole number."""
    if isinstance(unit, bool) or not isinstance(unit, int | np.integer):
        raise ValueError(f"unit must be one whole number, got {unit!r}; for several, call this for each")
    return select(ds, unit=int(unit), **names)  # type: ignore[arg-type]
