"""Peaks of layers: the iterations at which what a layer does is a local extreme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy.signal import find_peaks

from lcakit.analysis.aggregate import sum_by
from lcakit.analysis.norms import effective_norms, gradient_norms, movement_norms
from lcakit.errors import unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory import labels
from lcakit.trajectory.require import require_iterations, source

__all__ = ["QUANTITIES", "apply_to_series", "layer_series", "peak_iterations", "strongest_peaks"]


def __dir__() -> list[str]:
    return __all__


QUANTITIES = ("lca", "gradient", "movement", "effective_gradient")


@of_trajectories
def peak_iterations(
    ds: xr.Dataset,
    k: int = 20,
    of: str = "lca",
    by: str = "kernel_layer",
    classes: bool = True,
    lca: str = "lca",
) -> xr.DataArray:
    r"""Return the iterations at which each layer learns most: the strongest local extrema of its series.

    .. math:: A_\ell[t-1] > A_\ell[t] < A_\ell[t+1], \quad A_\ell[t] < 0

    For the norms :math:`\|∇L(θ_t)\|_\ell`, :math:`\|θ_{t+1} - θ_t\|_\ell` and :math:`\|\tilde g_c[t]\|_\ell` it is the
    local maxima that count. The effective gradient is the mean gradient along the step, by class,

    .. math:: \tilde g_c[t, i] = A_c[t, i] \,/\, (θ_i(t+1) - θ_i(t)), \quad 0 \text{ where } θ_i \text{ stays}

    Neighbours of equal value are one peak, at the first of their iterations, if the values before and after
    are weaker. The first and the last iteration lack a neighbour and are not peaks.

    Parameters
    ----------
    ds
        Trajectory.
    k
        Number of peaks of each series, 1 … T.
    of
        ``"lca"``; or ``"gradient"`` (of the full set, at the snapshot where the iteration starts) or
        ``"movement"``: the L2 norms of the layer's part of these vectors, never split by class. Or
        ``"effective_gradient"`` (Fig. S16): that of :math:`\tilde g`, by class from ``lca_class`` and ``theta``; a file
        without ``lca_class`` is refused unless ``classes=False``, which takes ``lca``. A compact copy may hold norms of
        units in place of the vectors (:func:`lcakit.share`).
    by
        ``"kernel_layer"``, ``"layer"``, or another grouping of :func:`lcakit.analysis.aggregate.sum_by`.
    classes
        Split LCA by class where the file holds it by class.
    lca
        ``"lca"``, or with a suffix (``"lca_val"``, which also stands for ``gradient_val``) for another objective.

    Returns
    -------
    DataArray
        (layer[, class], rank), labels of iterations, strongest first, among equals the earlier first; float64, and
        NaN where a series has fewer than k peaks. The coordinate ``value`` holds the LCA or norm at each peak.
        Lazy. Groupings other than into layers keep their name as dimension.

    Raises
    ------
    TrajectoryError
        If there is no iteration, or the file does not hold the quantity.
    ValueError
        For a k that the run has no iterations for (a short run needs a smaller one than 20), an unknown quantity or
        grouping.

    Notes
    -----
    Fig. 6 and S15-S19 of the paper: k = 20.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> peak_iterations(tiny_trajectory(), k=2, classes=False).values
    array([[ 7., 10.],
           [ 9.,  5.]])
    """
    return strongest_peaks(layer_series(ds, of, by, classes, lca), k, of)


def layer_series(ds: xr.Dataset, of: str, by: str, classes: bool, lca: str) -> xr.DataArray:
    """Return what is asked for per iteration and layer: (…, iteration, layer[, class]), float64."""
    if of not in QUANTITIES:
        raise unknown("quantity with peaks", of, QUANTITIES)
    if by not in labels.GROUPINGS:
        raise unknown("grouping", by, labels.GROUPINGS)
    if of == "lca":
        out = _lca_series(ds, by, classes, lca)
    elif of == "effective_gradient":
        out = effective_norms(ds, by, lca, classes)
    elif of == "movement":
        out = movement_norms(ds, by)
    else:
        out = _while_it_runs(gradient_norms(ds, by, lca))
    return out.rename({by: "layer"}) if by == "kernel_layer" else out


def _lca_series(ds: xr.Dataset, by: str, classes: bool, lca: str) -> xr.DataArray:
    split = classes and source(ds, lca, classes=True) in ds
    out = sum_by(ds, by, source(ds, lca, split))
    if "class" in out.dims:
        out = out.transpose(..., "class") if split else out.sum("class", keep_attrs=True, skipna=False)
    return out.assign_attrs(long_name="loss change allocation")


def _while_it_runs(series: xr.DataArray) -> xr.DataArray:
    """Return a series of snapshots at the start of each iteration, NaN where there is no snapshot at its end."""
    start, end = (series.isel(snapshot=part).drop_vars("snapshot") for part in (slice(None, -1), slice(1, None)))
    there = end.notnull().any([dim for dim in end.dims if dim not in ("snapshot", "run")])
    return start.where(there).assign_coords(snapshot=series["snapshot"][:-1]).rename(snapshot="iteration")


def strongest_peaks(series: xr.DataArray, k: int, of: str) -> xr.DataArray:
    """Return the iterations of the k strongest peaks of each series, as :func:`peak_iterations` does."""
    n = require_iterations(series)
    if not 1 <= k <= n or k != int(k):
        fewer = f"; pass fewer peaks, such as k={max(1, n // 5)}" if k > n else ""
        raise ValueError(f"k must be 1 to {n} (the run has {n} iterations), got k={k!r}{fewer}")
    options = {"iterations": series["iteration"].values, "k": int(k), "sign": -1 if of == "lca" else 1}
    ranks = [["rank"], ["rank"]]
    found, value = apply_to_series(
        _strongest, [series], [["iteration"]], ranks, [np.float64, np.float64], {"rank": int(k)}, **options
    )
    value.attrs = {"long_name": f"{series.attrs['long_name']} at the peak", "units": series.attrs.get("units", "1")}
    out = found.assign_coords(value=value.variable, rank=np.arange(int(k)))
    result: xr.DataArray = out.rename("peak_iteration").assign_attrs(long_name="iteration of the peak", units="1")
    return result


def apply_to_series(
    function: Callable[..., Any],
    arrays: list[xr.DataArray],
    cores: list[list[str]],
    out_core: list[list[str]],
    dtypes: list[Any],
    sizes: dict[str, int] | None = None,
    **options: Any,
) -> Any:
    """Apply a function of small series or tables (of the dimensions ``cores``). Lazy, in any chunks."""
    return xr.apply_ufunc(
        function,
        *(_in_one_piece(array, core) for array, core in zip(arrays, cores, strict=True)),
        input_core_dims=cores,
        output_core_dims=out_core,
        output_dtypes=dtypes,
        vectorize=True,
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": sizes or {}},
        kwargs=options,
    )


def _in_one_piece(array: xr.DataArray, core: list[str]) -> xr.DataArray:
    """Join the chunks of some dimensions; left to ``apply_ufunc``, the others would be cut up."""
    if array.chunks is None:
        return array
    return array.copy(data=array.data.rechunk({array.get_axis_num(dim): -1 for dim in core}))


def _strongest(series: np.ndarray, iterations: np.ndarray, k: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Return iterations and values of the k strongest peaks of one series, strongest first, NaN where there are none.

    ``sign`` times the series is the strength. Comparisons with NaN are false, so a gap makes no peaks.
    """
    strength = sign * series
    places = find_peaks(strength, plateau_size=1)[1]["left_edges"]
    places = places[strength[places] > 0]
    places = places[np.argsort(-strength[places], kind="stable")][:k]
    found, value = np.full(k, np.nan), np.full(k, np.nan)
    found[: places.size], value[: places.size] = iterations[places], series[places]
    return found, value
