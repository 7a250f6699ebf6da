"""Layers learn in sync: iterations at which all layers learn most, together (section 5 of the LCA paper).

A moment of learning of a layer is a local extremum of one short series: its LCA, or the norm of its gradient or of
its movement. The sums over parameters are one pass over the data; what follows works on those series, each in one
piece, so that chunks of the file make no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from lcakit.analysis.peaks import QUANTITIES as QUANTITIES
from lcakit.analysis.peaks import apply_to_series, layer_series, peak_iterations, strongest_peaks
from lcakit.errors import unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.arguments import checks_arguments, require_least

__all__ = ["peak_iterations", "synchronization_test", "synchronized", "tiers"]


def __dir__() -> list[str]:
    return __all__


SHIFTS = ("layer", "layer_and_class")


@checks_arguments
def synchronized(peaks: xr.DataArray, min_fraction: float = 1.0) -> xr.Dataset:
    r"""Mark the peaks that layers have at the same iteration.

    .. math:: \#\{\ell : t \in P_\ell\} \ge f \cdot \#\{\ell\}

    Parameters
    ----------
    peaks
        Result of :func:`peak_iterations`.
    min_fraction
        Share of the layers, in (0, 1], that must have the peak; it is always at least two layers.

    Returns
    -------
    Dataset
        ``synchronized`` (the dimensions of ``peaks``), True where enough layers have a peak of the same class at
        this iteration; ``count`` ([class]), the number of such iterations. Lazy.

    Raises
    ------
    ValueError
        For a share outside (0, 1], fewer than two layers, or an array without ``rank`` and one kind of layers.

    Notes
    -----
    Fig. 6 of the paper.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> synchronized(peak_iterations(tiny_trajectory(50), k=20)).sizes["class"]
    3
    """
    layer = _layer_dim(peaks)
    need = _layers_needed(peaks.sizes[layer], min_fraction)
    core = [layer, "rank"]
    flags, count = apply_to_series(_shared, [peaks], [core], [core, []], [bool, np.int64], need=need)
    flags = flags.transpose(*peaks.dims).assign_attrs(long_name="enough layers have this peak", units="1")
    count = count.assign_attrs(long_name="iterations with synchronized peaks", units="1")
    return xr.Dataset({"synchronized": flags, "count": count})


@checks_arguments
def tiers(peaks: xr.DataArray, fractions: Sequence[float] = (0.25, 0.5)) -> xr.Dataset:
    r"""Sort peaks into tiers by the share of layers that have a peak of the same class at this iteration (Fig. S15).

    .. math:: \text{tier } n: \quad f_n \cdot \#\{\ell\} \le \#\{\ell : t \in P_\ell\} < f_{n+1} \cdot \#\{\ell\}

    The paper colours networks of many layers in two tiers: 25 to 50 % of the kernel layers, and at least 50 %.

    Parameters
    ----------
    peaks
        Result of :func:`peak_iterations`.
    fractions
        f, ascending, each in (0, 1]; it is always at least two layers.

    Returns
    -------
    Dataset
        ``in_tier`` (the dimensions of ``peaks``), int64: 0 for peaks of fewer layers, 1 for the first tier, and so on;
        ``count`` ([class,] tier), iterations in each tier, which are in this tier alone. ``tier`` is the fraction it
        begins at. Lazy.

    Raises
    ------
    ValueError
        For fractions that do not ascend, and as :func:`synchronized`.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> found = tiers(peak_iterations(tiny_trajectory(50), k=20), (0.5, 1.0))
    >>> found["in_tier"].max().item()
    2
    """
    edges = [float(fraction) for fraction in fractions]
    if not edges or sorted(set(edges)) != edges:
        raise ValueError(f"fractions must ascend, such as (0.25, 0.5); got {fractions!r}")
    found = [synchronized(peaks, edge) for edge in edges]
    tier = xr.DataArray(edges, dims="tier", name="tier", attrs={"long_name": "least share of layers", "units": "1"})
    reached = [one["count"] for one in found]
    further = [*reached[1:], xr.zeros_like(reached[0])]
    alone = [more - fewer for more, fewer in zip(reached, further, strict=True)]
    count = xr.concat(alone, dim=tier).transpose(..., "tier")
    in_tier = xr.concat([one["synchronized"] for one in found], dim="tier").sum("tier")
    return xr.Dataset(
        {
            "in_tier": in_tier.assign_attrs(long_name="tier of the peak", units="1"),
            "count": count.assign_attrs(long_name="iterations with synchronized peaks", units="1"),
        }
    )


@of_trajectories
def synchronization_test(
    ds: xr.Dataset,
    max_shift: int = 2,
    trials: int = 1000,
    seed: int = 0,
    k: int = 20,
    of: str = "lca",
    min_fraction: float = 1.0,
    by: str = "kernel_layer",
    classes: bool = True,
    lca: str = "lca",
    shift: str = "layer",
) -> xr.Dataset:
    r"""Compare the number of synchronized peaks with that of layers shifted against each other in time.

    In each trial every layer is shifted by its own random number of iterations from ``-max_shift … max_shift``. Peaks
    that leave the run are dropped. What is shifted on its own is a matter of ``shift``:

    - ``"layer"``: a layer with all its classes. Draws that shift all layers alike are drawn again, because they change
      nothing. What classes have in common stays, so that only being in step across layers is tested.
    - ``"layer_and_class"``, as the paper has it (Fig. 6): each layer in each class, and any draw counts, also one that
      happens to shift all layers of a class alike. Among L layers that is :math:`(2 s + 1)^{1 - L}` of the classes (1
      in 25 for three layers and s = 2), whose peaks all stay in step, so that this baseline is higher.

    .. math:: p = \frac{1 + \#\{\text{trials}: baseline \ge observed\}}{1 + \#\text{trials}}

    Parameters
    ----------
    max_shift
        Largest shift, in recorded iterations, at least 1.
    trials
        Number of random shifts.
    seed
        Of the shifts; several runs in ``ds`` are shifted alike.
    ds, k, of, by, classes, lca
        See :func:`peak_iterations`.
    min_fraction
        See :func:`synchronized`.
    shift
        ``"layer"`` or ``"layer_and_class"``, see above. Without classes they differ in which draws count.

    Returns
    -------
    Dataset
        ``observed`` ([class]), synchronized iterations; ``observed_mean`` over classes; ``baseline`` (trial), mean
        over classes with shifted layers; ``baseline_mean`` over trials; ``p``. Lazy.

    Raises
    ------
    TrajectoryError, ValueError
        As :func:`peak_iterations` and :func:`synchronized`; and ValueError for no trials, a largest shift below 1, or
        another ``shift``.

    Notes
    -----
    Fig. 6 of the paper, MNIST-FC: 9.4 synchronized peaks per class against 0.4 for layers shifted in each class
    (``shift="layer_and_class"``); without classes 12 of 20.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> test = synchronization_test(tiny_trajectory(50), trials=99)
    >>> bool(test["p"] <= 1)
    True
    """
    require_least("seed", seed, 0)
    for name, number in (("max_shift", max_shift), ("trials", trials)):
        if number < 1 or number != int(number):
            raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}")
    if shift not in SHIFTS:
        raise unknown("way to shift layers", shift, SHIFTS)
    series = layer_series(ds, of, by, classes, lca)
    peaks = strongest_peaks(series, k, of)
    layer = _layer_dim(peaks)
    n_layers = peaks.sizes[layer]
    need = _layers_needed(n_layers, min_fraction)
    observed = synchronized(peaks, min_fraction)["count"]
    table = peaks.drop_vars("value")
    table = table if "class" in table.dims else table.expand_dims("class")
    shifts = _shifts(shift, seed, (int(trials), table.sizes["class"], n_layers), int(max_shift))
    options = {"shifts": shifts, "iterations": series["iteration"].values, "need": need}
    there = series.notnull().any(
        [dim for dim in ("class", layer) if dim in series.dims]
    )  # not what a run is padded with
    cores = [["class", layer, "rank"], ["iteration"]]
    baseline = apply_to_series(
        _count_shifted, [table, there], cores, [["trial"]], [np.float64], {"trial": int(trials)}, **options
    )
    mean = observed.mean("class") if "class" in observed.dims else observed.astype(np.float64)
    out = xr.Dataset({"observed": observed, "observed_mean": mean, "baseline": baseline})
    out["baseline_mean"] = baseline.mean("trial")
    out["p"] = (1 + (baseline >= mean).sum("trial")) / (1 + int(trials))
    return _described(out)


def _described(test: xr.Dataset) -> xr.Dataset:
    names = {
        "observed": "iterations with synchronized peaks",
        "observed_mean": "synchronized peaks, mean over classes",
        "baseline": "synchronized peaks of shifted layers, mean over classes",
        "baseline_mean": "synchronized peaks of shifted layers, mean over trials",
        "p": "share of trials with as many synchronized peaks",
    }
    for name, long_name in names.items():
        test[name].attrs = {"long_name": long_name, "units": "1"}
    return test


def _layer_dim(peaks: xr.DataArray) -> str:
    """Return the dimension of layers (or tensors, units) among those of an array of peaks."""
    dims = [str(dim) for dim in peaks.dims]
    others = [dim for dim in dims if dim not in ("run", "class", "rank")]
    if not isinstance(peaks, xr.DataArray) or len(others) != 1 or "rank" not in dims:
        got = f"a {type(peaks).__name__} with ({', '.join(dims)})"
        raise ValueError(
            "peaks must be an array with the dimensions (layer[, class], rank), as from "
            f"lk.synchronization.peak_iterations(ds); got {got}"
        )
    return others[0]


def _layers_needed(n_layers: int, min_fraction: float) -> int:
    if not 0 < min_fraction <= 1:
        raise ValueError(f"min_fraction must be above 0 and at most 1, got {min_fraction!r}")
    if n_layers < 2:
        raise ValueError(
            f"only two layers or more can be in sync, got {n_layers}: "
            'take the whole network, or look inside a layer with by="unit"'
        )
    return max(2, math.ceil(min_fraction * n_layers - 1e-9))  # 0.28 * 25 is a little over 7


def _shared(peaks: np.ndarray, need: int) -> tuple[np.ndarray, int]:
    """Mark the peaks (layer, rank) at moments that at least ``need`` layers have; count these moments."""
    moments, place = np.unique(peaks, return_inverse=True)
    place = place.reshape(peaks.shape)
    has = np.zeros((peaks.shape[0], moments.size), bool)
    has[np.arange(peaks.shape[0])[:, None], place] = True
    enough = (has.sum(axis=0) >= need) & ~np.isnan(moments)
    return enough[place], int(enough.sum())


def _shifts(how: str, seed: int, size: tuple[int, int, int], max_shift: int) -> np.ndarray:
    """Return random shifts (trial, class, layer): the same for all classes, or each of its own."""
    rng = np.random.default_rng(seed)
    if how == "layer_and_class":
        return rng.integers(-max_shift, max_shift, size, endpoint=True)
    trials, _, n_layers = size
    return np.broadcast_to(_draw_shifts(rng, trials, n_layers, max_shift)[:, None], size)


def _draw_shifts(rng: np.random.Generator, trials: int, n_layers: int, max_shift: int) -> np.ndarray:
    """Return random shifts (trial, layer), none of them the same for all layers."""
    shifts = rng.integers(-max_shift, max_shift, (trials, n_layers), endpoint=True)
    while (alike := (shifts == shifts[:, :1]).all(axis=1)).any():
        shifts[alike] = rng.integers(-max_shift, max_shift, (int(alike.sum()), n_layers), endpoint=True)
    return shifts


def _count_shifted(
    peaks: np.ndarray, there: np.ndarray, shifts: np.ndarray, iterations: np.ndarray, need: int
) -> np.ndarray:
    """Return synchronized moments per class for peaks (class, layer, rank) and shifts (trial, class, layer).

    ``there`` says which iterations the run has.
    """
    found = ~np.isnan(peaks)
    cls, layer, _ = np.nonzero(found)
    place = np.searchsorted(iterations, peaks[found])
    counts = np.empty(len(shifts))
    for trial, shift in enumerate(shifts):
        moved = place + shift[cls, layer]
        inside = (moved >= 0) & (moved < iterations.size)
        inside[inside] = there[moved[inside]]
        layers_at = np.bincount((cls * iterations.size + moved)[inside])
        counts[trial] = np.count_nonzero(layers_at >= need)
    out: np.ndarray = counts / peaks.shape[0]
    return out
