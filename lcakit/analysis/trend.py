"""A line through many runs: each layer's LCA against a number that differs between them, such as a delay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import xarray as xr
from scipy import stats

from lcakit.analysis.layerwise import layer_lca
from lcakit.analysis.runs import require_runs
from lcakit.errors import unknown
from lcakit.storage.given import of_trajectories

__all__ = ["layer_trend", "line_through", "one_per_run"]


def __dir__() -> list[str]:
    return __all__


_COLUMNS = ("slope", "intercept", "r", "p", "stderr")


@of_trajectories
def layer_trend(
    runs: xr.Dataset,
    against: str | Sequence[float],
    by: str = "kernel_layer",
    lca: str = "lca",
    blocks: str | Sequence[object] | None = None,
) -> xr.Dataset:
    r"""Fit a line to each layer's LCA against a number that differs between runs, such as its delay (Fig. 5).

    .. math:: S_{r\ell} \approx a_\ell + b_\ell x_r, \qquad\text{with blocks } g:\quad
              S_{r\ell} \approx a_{g(r)\ell} + b_\ell x_r

    Runs with one seed share initial values and batches, so they are not independent of each other. With ``blocks``
    = their seeds, each block has an intercept of its own and the slope is what is common to all: the least-squares fit
    of what is left after the block means of S and x are taken off. For n runs in m blocks the p-value is that of
    Student's t with n − m − 1 degrees of freedom.

    Parameters
    ----------
    runs
        Trajectories joined along ``run``, at least three.
    against
        x: one number per run, or the name of a coordinate along ``run``.
    by, lca
        See :func:`layer_lca`.
    blocks
        What runs have in common: one label per run, or the name of a coordinate along ``run``. None: one intercept.

    Returns
    -------
    Dataset
        ``slope`` b, ``intercept`` a (with blocks, of the line through the means over all runs), ``r`` (Pearson's, of
        what is left of S and x after the block means), ``p`` (slope against zero, not corrected for the number of
        layers), ``stderr`` (of the slope), each (layer); intercepts in the unit of the loss, slopes in this by the unit
        of x. Lazy.

    Raises
    ------
    TrajectoryError
        For fewer than three runs, or files that do not hold this LCA.
    ValueError
        If there is not one number per run, or all are the same (in each block), for too few runs for the blocks, and
        for a grouping that is not into layers.

    Examples
    --------
    >>> from lcakit.analysis.runs import align
    >>> from lcakit.testing import tiny_trajectory
    >>> runs = align({f"seed {seed}": tiny_trajectory(seed=seed) for seed in range(4)})
    >>> layer_trend(runs, against=[0, 1, 2, 3])["slope"].round(2).values
    array([-0.61, -4.71])
    """
    n = require_runs(runs, least=3)
    x = np.asarray(one_per_run(runs, against), np.float64)
    if x.shape != (n,) or np.ptp(x) == 0:
        raise ValueError(f"a trend needs one number for each of the {n} runs, not all the same; got {x.tolist()}")
    fit = line_through(x, None if blocks is None else one_per_run(runs, blocks))
    totals = layer_lca(runs, by, lca).sum("iteration", keep_attrs=True, skipna=False)
    columns = xr.apply_ufunc(
        fit,
        totals,
        input_core_dims=[["run"]],
        output_core_dims=[["column"]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"column": len(_COLUMNS)}, "allow_rechunk": True},
    )
    return xr.Dataset({name: columns.isel(column=k) for k, name in enumerate(_COLUMNS)})


def one_per_run(runs: xr.Dataset | xr.DataArray, given: str | Sequence[object]) -> np.ndarray:
    """Return what is given, or the coordinate of that name."""
    if isinstance(given, str) and given not in runs.coords:
        raise unknown("coordinate of the runs", given, [c for c in runs.coords if runs[c].dims == ("run",)])
    return np.asarray(runs[given].values if isinstance(given, str) else given)


def line_through(x: np.ndarray, blocks: np.ndarray | None) -> Callable[[np.ndarray], np.ndarray]:
    """Return what fits a line to y, one number for each run: slope, intercept, r, p and standard error of the slope.

    ``blocks`` are labels of the runs, or None.

    Raises
    ------
    ValueError
        As :func:`layer_trend` for its blocks.
    """
    return partial(_fit, x) if blocks is None else partial(_fit_in_blocks, x, _block_numbers(blocks, x))


def _block_numbers(labels: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the number of each run's block; raise ValueError where blocks leave nothing to fit."""
    if labels.shape != x.shape:
        raise ValueError(f"blocks needs one label for each of the {len(x)} runs; got {labels.tolist()}")
    names, number = np.unique(labels, return_inverse=True)
    if len(x) - len(names) < 2:
        raise ValueError(
            f"{len(x)} runs in {len(names)} blocks leave too few to fit a line; give more runs of each block, or leave "
            "blocks out"
        )
    if not np.any(_without_block_means(x, number)):
        raise ValueError(
            "in each block all runs have the same number, so the blocks explain everything; leave them out"
        )
    return number


def _without_block_means(values: np.ndarray, block: np.ndarray) -> np.ndarray:
    means = np.bincount(block, values) / np.bincount(block)
    out: np.ndarray = values - means[block]
    return out


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    line = stats.linregress(x, y)
    return np.array([line.slope, line.intercept, line.rvalue, line.pvalue, line.stderr])


def _fit_in_blocks(x: np.ndarray, block: np.ndarray, y: np.ndarray) -> np.ndarray:
    line = stats.linregress(_without_block_means(x, block), _without_block_means(y, block))
    freedom = len(x) - (block.max() + 1) - 1
    stderr = line.stderr * np.sqrt((len(x) - 2) / freedom)  # SciPy counts a single intercept
    with np.errstate(divide="ignore", invalid="ignore"):  # a layer without any spread, such as a frozen one
        p = 2 * stats.t.sf(abs(np.divide(line.slope, stderr)), freedom)
    return np.array([line.slope, y.mean() - line.slope * x.mean(), line.rvalue, p, stderr])
