"""Do weights that share an input or an output learn together: correlations over time (Fig. S20 of the LCA paper).

All pairs of n weights would be n² products of series. Their mean needs one sum: with every series standardized to
mean 0 and norm 1, the squared norm of the sum of the series is n plus all pairwise correlations.

Two passes over the data: means and norms, then sums of standardized series. The second pass reads the data again
once the first is done, so that neither keeps more than the blocks at work (and what it costs is reading twice).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from scipy.stats import ks_2samp

from lcakit.analysis.kernels.fold import fold
from lcakit.analysis.kernels.groups import reduce_groups
from lcakit.analysis.weight_groups import RANDOM, SHARED, random_groups, shared_groups
from lcakit.errors import unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.arguments import require_least
from lcakit.trajectory.labels import parameter_coord
from lcakit.trajectory.require import require, require_iterations, require_tables
from lcakit.trajectory.select import select

__all__ = ["GROUPS", "SHARED", "correlation_test", "mean_correlation"]


def __dir__() -> list[str]:
    return __all__


GROUPS = (*SHARED, "random")
"""Groups of :func:`correlation_test`: weights that share something, and random ones to compare with."""


@dataclass(frozen=True)
class _Moments:
    """Number of rows, mean and sum of squared deviations of the series in a block (…, K)."""

    n: int
    mean: np.ndarray
    squares: np.ndarray


@of_trajectories
def mean_correlation(
    ds: xr.Dataset,
    layer: str,
    by: str = "output",
    like: str = "input",
    seed: int = 0,
    lca: str = "lca",
    random: str = "apart",
) -> xr.DataArray:
    r"""Return the mean correlation over time between the LCA of the kernel weights of each group.

    .. math:: \bar r_g = \frac1{n(n-1)} \sum_{i \ne j \in g} r_{ij}
              = \frac{\|\sum_{i \in g} z_i\|^2 - n}{n(n-1)}, \qquad
              z_i[t] = \frac{A[t, i] - \bar A_i}{\sqrt{\sum_s (A[s, i] - \bar A_i)^2}}

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter).
    layer
        Name of a layer with a kernel. Only kernel weights count, not biases.
    by
        ``"output"``: weights into the same unit; ``"input"``: weights from the same input (channel), with all
        their taps and units; ``"random"``: random groups. In a grouped convolution inputs are counted within a
        group of channels, as the file does.
    like
        ``"output"`` or ``"input"``: random groups are as many as these (weights whose LCA never varies, which are left
        out later, among them).
    seed
        Of the random groups.
    lca
        Name of the variable; of LCA by class (``lca_class``), each class is treated by itself.
    random
        How random groups are drawn: ``"apart"``, as in the paper, so that no two weights of a group share an input or
        an output which makes them as large as the smaller of the numbers of inputs and outputs, or
        ``"any"``, the groups of ``like`` shuffled, as many and as large as these.

    Returns
    -------
    DataArray
        (group), float64, between −1 and 1, with the coordinates ``unit`` and ``unit_channel``, or ``input`` and
        ``tensor``. Weights whose LCA never varies have no correlation and are left out; NaN where fewer than
        two weights are left. Lazy.

    Raises
    ------
    TrajectoryError
        If there is no iteration, the file does not hold ``lca``, or the weights of the kernel have no inputs.
    ValueError
        For a layer without a kernel, or unknown groups.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> mean_correlation(tiny_trajectory(), "fc").sizes
    Frozen({'group': 4})
    """
    require_least("seed", seed, 0)
    if by not in GROUPS:
        raise unknown("grouping of weights", by, GROUPS)
    if like not in SHARED:
        raise unknown("grouping that random groups resemble", like, SHARED)
    if random not in RANDOM:
        raise unknown("way to draw random groups", random, RANDOM)
    part, array = _kernel(ds, layer, lca)
    if by == "random":
        ids, groups = random_groups(part, like, random, np.random.default_rng(seed))
        return _correlations(array, [ids])[0].isel(group=slice(groups))
    ids, names = shared_groups(part, by)
    return _correlations(array, [ids])[0].assign_coords(names)


@of_trajectories
def correlation_test(ds: xr.Dataset, layer: str, seed: int = 0, lca: str = "lca", random: str = "apart") -> xr.Dataset:
    r"""Compare the correlation inside groups that share an output or an input with that inside random groups.

    The two-sample Kolmogorov-Smirnov statistic is the largest distance between the distribution functions of
    :math:`\bar r_g` (:func:`mean_correlation`) over the groups and over random groups.

    .. math:: D = \max_r |F_{shared}(r) - F_{random}(r)|

    Parameters
    ----------
    ds, layer, lca
        See :func:`mean_correlation`.
    seed
        Of the random groups.
    random
        How they are drawn: ``"apart"`` (the paper) or ``"any"``, see :func:`mean_correlation`.

    Returns
    -------
    Dataset
        Over ``grouping`` (output, input): ``correlation``, mean over groups; ``random``, the same of random groups;
        ``statistic`` and ``p`` of the test. Groups without a correlation are left out; NaN where no group has one.
        Lazy; all of it takes two passes over the layer's data.

    Raises
    ------
    TrajectoryError
        If there is no iteration, the file does not hold ``lca``, or the weights of the kernel have no inputs.
    ValueError
        For a layer without a kernel.

    Notes
    -----
    Fig. S20 of the paper.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> correlation_test(tiny_trajectory(), "fc")["grouping"].values.tolist()
    ['output', 'input']
    """
    require_least("seed", seed, 0)
    if random not in RANDOM:
        raise unknown("way to draw random groups", random, RANDOM)
    part, array = _kernel(ds, layer, lca)
    rng = np.random.default_rng(seed)
    shared = [shared_groups(part, by)[0] for by in SHARED]
    drawn, groups = zip(*(random_groups(part, by, random, rng) for by in SHARED), strict=True)
    found = _correlations(array, [*shared, *drawn])
    others = [one.isel(group=slice(count)) for one, count in zip(found[2:], groups, strict=True)]
    tests = [_compared(ours, other) for ours, other in zip(found[:2], others, strict=True)]
    out = xr.concat(tests, dim=xr.DataArray(list(SHARED), dims="grouping", name="grouping"))
    names = {
        "correlation": "mean correlation of LCA inside groups",
        "random": "mean correlation of LCA inside random groups",
        "statistic": "Kolmogorov-Smirnov statistic",
        "p": "probability of such a statistic if the groups were random",
    }
    for name, long_name in names.items():
        out[name] = out[name].transpose(..., "grouping").assign_attrs(long_name=long_name, units="1")
    return out


def _compared(ours: xr.DataArray, random: xr.DataArray) -> xr.Dataset:
    statistic, p = xr.apply_ufunc(
        _kolmogorov_smirnov,
        ours,
        random,
        input_core_dims=[["group"], ["group"]],
        output_core_dims=[[], []],
        output_dtypes=[np.float64, np.float64],
        vectorize=True,
        dask="parallelized",
    )
    means = {"correlation": ours.mean("group"), "random": random.mean("group")}
    return xr.Dataset(means | {"statistic": statistic, "p": p})


def _kolmogorov_smirnov(ours: np.ndarray, random: np.ndarray) -> tuple[float, float]:
    ours, random = ours[~np.isnan(ours)], random[~np.isnan(random)]
    if not (ours.size and random.size):
        return np.nan, np.nan
    result = ks_2samp(ours, random)
    return float(result.statistic), float(result.pvalue)


def _kernel(ds: xr.Dataset, layer: str, lca: str) -> tuple[xr.Dataset, xr.DataArray]:
    """Return the part of the trajectory that holds a layer's kernel, and its LCA (…, iteration, parameter)."""
    require_iterations(require(ds, lca))
    require_tables(ds)
    owners = ds["layer"].values.astype(str)[parameter_coord(ds, "tensor_layer")]
    with_kernel = dict.fromkeys(owners[ds["tensor_role"].values == "kernel"])
    if layer not in with_kernel:
        raise unknown("layer with a kernel", layer, with_kernel)
    part = select(ds, layer=layer, role="kernel")
    return part, require(part, lca).transpose(..., "iteration", "parameter")


def _correlations(array: xr.DataArray, groupings: list[np.ndarray]) -> list[xr.DataArray]:
    """Return the mean correlation inside the groups (…, group) of each grouping, in two passes over all of them."""
    standard = fold(array.data, _moments, _merge, _mean_and_scale, width=2)
    edges = np.cumsum([0, *(ids.max() + 1 for ids in groupings)])
    ids = np.stack([edge + ids for edge, ids in zip(edges[:-1], groupings, strict=True)])  # all groups in one row
    dims = array.dims[:-2]
    sums = xr.DataArray(_group_sums(array.data, standard, ids), dims=(*dims, "iteration", "group"))
    varying = (standard[..., 1, :] != 0).astype(np.float64)  # NaN, where LCA is not finite, stays in
    counts = [reduce_groups(varying, ids, ids.max() + 1) for ids in groupings]
    n = xr.concat([xr.DataArray(count, dims=(*dims, "group")) for count in counts], "group")
    n = n.where(n > 1)
    mean = ((sums * sums).sum("iteration", skipna=False) - n) / (n * (n - 1))
    coords = {name: c for name, c in array.coords.items() if set(c.dims) <= set(dims)}
    mean = mean.rename("mean_correlation").assign_coords(coords)
    mean.attrs = {"long_name": "mean correlation of LCA over time", "units": "1"}
    return [mean.isel(group=slice(a, b)) for a, b in pairwise(edges)]


def _moments(block: np.ndarray) -> _Moments:
    """Take moments of deviations from the first row: exactly 0 where a series is constant, and else no cancellation.

    Σ(x − x₀)² is at most rows + 1 times Σ(x − mean)², so what is subtracted costs a few digits of sixteen.
    """
    rows = np.moveaxis(block, -2, 0)
    first = rows[0].astype(np.float64)
    total, squares = np.zeros_like(first), np.zeros_like(first)
    for row in rows[1:]:
        deviation = row - first
        total += deviation
        squares += np.square(deviation, out=deviation)
    mean = total / len(rows)
    return _Moments(len(rows), first + mean, squares - total * mean)


def _merge(a: _Moments, b: _Moments) -> _Moments:
    """Join the moments of two stretches of rows (Chan, Golub and LeVeque 1979)."""
    n, apart = a.n + b.n, b.mean - a.mean
    return _Moments(n, a.mean + apart * (b.n / n), a.squares + b.squares + apart**2 * (a.n * b.n / n))


def _mean_and_scale(moments: _Moments) -> np.ndarray:
    """Return what standardizes a series (…, 2, K): its mean, and 1 / norm of what is left (0 where nothing is)."""
    scale = np.zeros_like(moments.mean)
    np.divide(1.0, np.sqrt(moments.squares), out=scale, where=moments.squares != 0)
    return np.stack([moments.mean, scale], axis=-2)


def _group_sums(data: Any, standard: Any, ids: np.ndarray) -> Any:
    """Sum the standardized series of each group: (…, T, K) -> (…, T, groups); lazy where ``data`` is.

    ``ids`` (grouping, K) holds all groupings, so that a block has one reader and is let go when that is done.
    """
    if not isinstance(data, da.Array):
        return _sum_block(np.asarray(data), standard, ids)
    edges = np.cumsum([0, *data.chunks[-1]])
    present = [np.unique(ids[:, a:b]) for a, b in pairwise(edges)]
    partial = da.map_blocks(
        _read_and_sum,
        da.zeros(data.shape, chunks=data.chunks),  # one number: it brings the places of the blocks, no memory
        standard[..., :1, :],
        standard[..., 1:, :],
        again=_Again(data),
        ids=ids,
        chunks=(*data.chunks[:-1], tuple(groups.size for groups in present)),
        dtype=np.float64,
        meta=np.empty((0,) * data.ndim),
    )
    return reduce_groups(partial, np.concatenate(present), ids.max() + 1)


class _Again:
    """A lazy array inside a task: read when the task runs, not before, so that no block waits for the second pass."""

    def __init__(self, data: da.Array) -> None:
        self.data = data

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "_Again", self.data.name

    def read(self, place: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self.data[place].compute(scheduler="synchronous"))


def _read_and_sum(
    empty: np.ndarray, mean: np.ndarray, scale: np.ndarray, again: _Again, ids: np.ndarray, block_info: Any = None
) -> np.ndarray:
    place = tuple(slice(*ends) for ends in block_info[0]["array-location"])
    return _sum_block(again.read(place), np.concatenate([mean, scale], axis=-2), ids[:, place[-1]])


def _sum_block(block: np.ndarray, standard: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Sum standardized series over the groups in a block, row by row so that temporaries stay in the cache."""
    groups, compact = np.unique(ids, return_inverse=True)
    compact = compact.reshape(-1)
    mean, scale = standard[..., 0, :], standard[..., 1, :]
    out = np.empty((*block.shape[:-1], groups.size))
    for row in np.ndindex(*block.shape[:-1]):
        series = (block[row] - mean[row[:-1]]) * scale[row[:-1]]
        out[row] = np.bincount(compact, np.tile(series, len(ids)))
    return out
