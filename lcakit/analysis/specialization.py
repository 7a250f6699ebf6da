"""Specialization: which classes a unit learns, and what its weights look at (Fig. S21 and S22 of the LCA paper)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import grouped, unit_group_ids
from lcakit.analysis.layerwise import LAYER_GROUPINGS
from lcakit.analysis.saliency import IMAGE_DIMS, one_unit, saliency
from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.require import require, require_tables, require_units_by_class
from lcakit.trajectory.select import select_iterations

__all__ = ["IMAGE_DIMS", "class_curves", "class_share", "saliency", "specialized_fraction", "unit_class_lca"]


def __dir__() -> list[str]:
    return __all__


@of_trajectories
def unit_class_lca(ds: xr.Dataset, lca: str = "lca_unit_class", iterations: slice | int | None = None) -> xr.DataArray:
    r"""Return the LCA of each unit and class, summed over the run.

    .. math:: S[u, c] = \sum_t A_c[t, u]

    Parameters
    ----------
    ds
        Trajectory with ``lca_unit_class`` (iteration, unit, class).
    lca
        Name of the variable; ``"lca_unit_class_val"`` for another objective.
    iterations
        Labels of the iterations to sum over: a slice (both ends included), one label, or None for all.

    Returns
    -------
    DataArray
        (unit, class), float64, in the unit of the loss. Negative: the unit helps the class. Lazy.

    Raises
    ------
    TrajectoryError
        If the file was recorded without classes, or holds sums of whole layers.
    ValueError
        For iterations that the run does not have.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> unit_class_lca(tiny_trajectory(), iterations=slice(0, 5)).sizes["unit"]
    10
    """
    array = _by_unit_and_class(ds, lca)
    if iterations is not None:
        array = select_iterations(ds, iterations)[lca]
    out = array.sum("iteration", dtype=np.float64, skipna=False).transpose(..., "unit", "class")
    return out.rename("lca").assign_attrs(array.attrs | {"long_name": "loss change allocation of units by class"})


def _by_unit_and_class(ds: xr.Dataset, lca: str) -> xr.DataArray:
    require_units_by_class(ds)
    array = require(ds, lca)
    missing = [dim for dim in ("iteration", "unit", "class") if dim not in array.dims]
    if missing:
        raise TrajectoryError(
            f"{lca!r} has dimensions {array.dims}; specialization needs (iteration, unit, class): "
            "lca_unit_class, or lca_unit_class_… of another objective"
        )
    return array


@of_trajectories
def class_share(
    ds: xr.Dataset,
    top: Sequence[int] = (1, 2, 3),
    lca: str = "lca_unit_class",
    iterations: slice | int | None = None,
) -> xr.DataArray:
    r"""Return how much of the help of each unit goes to the few classes that it helps most.

    .. math:: h[u, c] = \max(0, -S[u, c]), \qquad
              s[u, k] = \sum_{c \in \text{top}_k(u)} h[u, c] \,\Big/\, \sum_c h[u, c]

    with S of :func:`unit_class_lca`. A unit that helps n classes alike has s = k / n.

    Parameters
    ----------
    ds
        Trajectory with ``lca_unit_class`` (iteration, unit, class).
    top
        Numbers of classes k, each 1 … C.
    lca, iterations
        See :func:`unit_class_lca`.

    Returns
    -------
    DataArray
        (unit, top), between 0 and 1; NaN where a unit helps no class. Lazy.

    Raises
    ------
    TrajectoryError
        If the file was recorded without classes, or holds sums of whole layers.
    ValueError
        For a k that is not between 1 and the number of classes, or iterations that the run does not have.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> float(class_share(tiny_trajectory()).sel(top=3).max())
    1.0
    """
    sums = unit_class_lca(ds, lca, iterations)
    ks = _tops(top, sums.sizes["class"])
    out: xr.DataArray = xr.apply_ufunc(
        _top_shares,
        sums,
        kwargs={"top": ks},
        input_core_dims=[["class"]],
        output_core_dims=[["top"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"top": len(ks)}, "allow_rechunk": True},
    )
    out = out.assign_coords(top=ks).rename("specialization")
    return out.assign_attrs(long_name="share of the help that goes to the classes helped most", units="1")


def _tops(top: Sequence[int], classes: int) -> list[int]:
    ks = np.asarray(top).tolist()
    if not ks or any(k not in range(1, classes + 1) for k in ks) or len(set(ks)) < len(ks):
        raise ValueError(
            f"top must be different numbers of classes, 1 to {classes} (the trajectory has them), got {top!r}"
        )
    return [int(k) for k in ks]


def _top_shares(sums: np.ndarray, top: list[int]) -> np.ndarray:
    """Return the shares (…, top) of sums (…, class)."""
    helped = np.maximum(0, -np.sort(sums, axis=-1))  # sorted: the most negative, so the most helped, first
    upto = np.cumsum(helped, axis=-1)
    total = upto[..., -1:]
    shares = np.full((*sums.shape[:-1], len(top)), np.nan)
    out: np.ndarray = np.divide(upto[..., [k - 1 for k in top]], total, out=shares, where=total > 0)
    return out


@of_trajectories
def specialized_fraction(
    ds: xr.Dataset,
    top: Sequence[int] = (1, 2, 3),
    threshold: float = 0.8,
    by: str = "kernel_layer",
    lca: str = "lca_unit_class",
    iterations: slice | int | None = None,
) -> xr.DataArray:
    r"""Return which fraction of the units of each layer is specialized on k classes.

    .. math:: f[\ell, k] = \#\{u \in \ell : s[u, k] > τ\} \,/\, \#\{u \in \ell : \text{u helps a class}\}

    Parameters
    ----------
    ds
        Trajectory with ``lca_unit_class`` (iteration, unit, class).
    threshold
        τ, from 0 up to, not including, 1; s is the share of :func:`class_share`.
    by
        ``"kernel_layer"``: the units of norm layers (units of their own) count with the kernel they serve;
        ``"layer"``: each module for itself.
    top, lca, iterations
        See :func:`class_share`.

    Returns
    -------
    DataArray
        (layer, top), between 0 and 1; NaN where no unit of a layer helps anything. Lazy.

    Raises
    ------
    TrajectoryError
        If the file was recorded without classes, or holds sums of whole layers.
    ValueError
        For a threshold out of range, an unknown grouping, and as :func:`class_share`.

    Notes
    -----
    Fig. S21 of the paper.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> specialized_fraction(tiny_trajectory(), by="layer").sel(top=3).values
    array([1., 1., 1.])
    """
    if by not in LAYER_GROUPINGS:
        raise unknown("grouping into layers", by, LAYER_GROUPINGS)
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be a share, 0 or more and less than 1, got {threshold!r}")
    share = class_share(ds, top, lca, iterations)
    require_tables(ds)
    ids, names = unit_group_ids(ds, by)
    special, acting = (grouped(x.astype(np.int64), "unit", ids, names) for x in (share > threshold, share.notnull()))
    out = (special / acting.where(acting > 0)).rename({by: "layer"}).transpose(..., "layer", "top")
    attrs = {"long_name": f"fraction of units with a share above {threshold:g}", "units": "1"}
    return out.rename("specialized_fraction").assign_attrs(attrs)


@of_trajectories
def class_curves(ds: xr.Dataset, unit: int, layer: str | None = None, lca: str = "lca_unit_class") -> xr.DataArray:
    r"""Return how one unit changes the loss of each class in the course of training.

    .. math:: C[t, c] = \sum_{s \le t} A_c[s, u]

    Parameters
    ----------
    ds
        Trajectory with ``lca_unit_class`` (iteration, unit, class).
    unit
        Channel number inside ``layer``; without a layer, a value of the ``unit`` coordinate.
    layer
        Name of the layer.
    lca
        Name of the variable.

    Returns
    -------
    DataArray
        (iteration, class), float64, in the unit of the loss. Falling: the unit helps the class. Lazy.

    Raises
    ------
    TrajectoryError
        If the file was recorded without classes, or holds sums of whole layers.
    ValueError
        For a unit or layer that does not exist.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> class_curves(tiny_trajectory(), unit=2, layer="fc").dims
    ('iteration', 'class')
    """
    require_units_by_class(ds)
    require_tables(ds)
    array = _by_unit_and_class(one_unit(ds, unit, layer=layer), lca).isel(unit=0)
    out = array.transpose(..., "iteration", "class").astype(np.float64).cumsum("iteration", skipna=False)
    out = out.assign_coords(iteration=array["iteration"]).rename("cumulative_lca")
    return out.assign_attrs(array.attrs | {"long_name": "cumulative loss change allocation of the unit by class"})
