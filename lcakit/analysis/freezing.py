"""When a layer has done its work: the minimum of its cumulative LCA, and what freezing it there would have saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from lcakit.analysis.corrections import corrected
from lcakit.analysis.kernels.minima import running_minimum
from lcakit.analysis.layerwise import LAYER_GROUPINGS, layer_lca
from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.arguments import require_least
from lcakit.trajectory.require import WHERE_MISSING, require, require_pairs
from lcakit.trajectory.schema import loss_unit

__all__ = ["argmin_iteration", "freeze_candidates"]


def __dir__() -> list[str]:
    return __all__


@of_trajectories
def argmin_iteration(ds: xr.Dataset, by: str = "kernel_layer", lca: str = "lca") -> xr.DataArray:
    r"""Return where a layer stops helping: the snapshot at which its cumulative LCA is smallest.

    .. math:: \arg\min_{0 \le s \le T} \sum_{t < s} A_\ell[t]

    From the iteration with this label on, the layer hurts in sum; freezing it there is the best freezing there is if
    the other layers did the same. 0 (the first snapshot) if it never helps, the last snapshot if it helps to the end.
    The first of several equal minima counts.

    Parameters
    ----------
    ds
        Trajectory.
    by
        ``"kernel_layer"`` or ``"layer"``, or ``"parameter"`` for each parameter.
    lca
        ``"lca"``, or with a suffix (``"lca_val"``) for another objective.

    Returns
    -------
    DataArray
        (layer) or (parameter): labels of ``snapshot`` (optimizer steps taken before it), int64. Lazy.

    Raises
    ------
    TrajectoryError
        If the file does not hold this LCA, or, when it is computed, if some of it is missing (NaN).
    ValueError
        For another grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> argmin_iteration(tiny_trajectory()).values
    array([6, 4])
    """
    return _labels_of(ds, running_minimum(_per_layer(ds, by, lca))["position"])


@of_trajectories
def freeze_candidates(
    runs: xr.Dataset,
    by: str = "kernel_layer",
    lca: str = "lca",
    least: float = 0.01,
    level: float | None = 0.05,
    trials: int = 1999,
    seed: int = 0,
) -> xr.Dataset:
    r"""Say which layers would better have been frozen, from when on, and how much loss that might have saved.

    .. math:: \mathrm{gain}_\ell = \sum_{t \ge s_\ell} A_\ell[t], \qquad s_\ell = \text{argmin\_iteration}

    Every noisy sum gives something back after its minimum. A gain is told from noise by random walks of the same steps:
    :math:`\sum_t \pm A_\ell[t]`, each sign by a coin, as of a layer that goes nowhere:

    .. math:: p_\ell = \frac{1 + \#\{\text{walks with a gain} \ge \mathrm{gain}_\ell\}}{1 + \#\text{walks}}

    Steps that follow each other are not independent, as coins are, so read p as a sieve.

    The gain supposes that the other layers would have done the same; they do not (section 4 of the paper), so read it
    as a reason to try, not as a forecast.

    Parameters
    ----------
    runs
        One trajectory, or several joined along ``run``.
    by, lca
        See :func:`layer_lca`.
    least, level
        A layer is a candidate if its gain is at least this share of the whole loss change, and ``p_corrected`` below
        the level. None: whatever p is.
    trials, seed
        Random walks for each layer, the same signs for all, and the seed of their signs.

    Returns
    -------
    Dataset
        ``snapshot`` (:func:`argmin_iteration`), ``lca`` (over the run) and ``gain`` (≥ 0), both in the unit of the
        loss, ``relative_gain`` (of the absolute loss change), ``p`` and ``p_corrected`` (for the number of layers,
        Holm; in each run by itself), ``candidate`` (bool), each ([run,] layer); and over all runs, each (layer):
        ``agreement``, the share of runs in which the layer is a candidate, and ``p_runs``, the p-values of the runs
        combined (Fisher's method) and corrected (Holm, over layers): what single runs cannot tell, many can. Lazy.

    Raises
    ------
    TrajectoryError
        If the file does not hold this LCA, or, when it is computed, if some of it is missing (NaN).
    ValueError
        For a negative share, a level outside (0, 1), no walks, or a grouping that is not into layers.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> freeze_candidates(tiny_trajectory(), least=0.005, level=None)["candidate"].values
    array([False,  True])
    """
    if by not in LAYER_GROUPINGS:
        raise unknown("grouping into layers", by, LAYER_GROUPINGS)
    if not least >= 0:
        raise ValueError(f"least must be a share of the loss change, at least 0; got {least}")
    if level is not None and not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, or None for any p; got {level}")
    require_least("seed", seed, 0)
    if trials < 1 or trials != int(trials):
        raise ValueError(f"trials must be a whole number of random walks, at least 1; got {trials}")
    series = _per_layer(runs, by, lca)
    found = running_minimum(series)
    gain = found["total"] - found["minimum"]
    p = _as_random_walks(series, gain, int(trials), seed)
    p_corrected = corrected(p, "layer")
    relative = gain / abs(found["total"].sum("layer", skipna=False))
    candidate = (relative >= least) & (gain > 0)
    candidate = candidate if level is None else candidate & (p_corrected < level)
    known = candidate.where(gain.notnull())
    agreement = known.mean("run") if "run" in candidate.dims else known.astype(np.float64)
    p_runs = corrected(_combined(p), "layer") if "run" in p.dims else p_corrected
    unit = {"units": loss_unit(runs, lca)}
    return xr.Dataset(
        {
            "snapshot": _labels_of(runs, found["position"]),
            "lca": found["total"].assign_attrs(long_name="LCA over the run", **unit),
            "gain": gain.assign_attrs(long_name="LCA after the minimum", **unit),
            "relative_gain": relative.assign_attrs(long_name="gain over the absolute loss change", units="1"),
            "p": p.assign_attrs(long_name="p-value of the gain against random walks", units="1"),
            "p_corrected": p_corrected.assign_attrs(long_name="p-value (holm)", units="1"),
            "candidate": candidate.assign_attrs(long_name="worth freezing", units="1"),
            "p_runs": p_runs.assign_attrs(long_name="p-value of all runs (Fisher, holm)", units="1"),
            "agreement": agreement.assign_attrs(long_name="share of runs that agree", units="1"),
        }
    )


def _per_layer(ds: xr.Dataset, by: str, lca: str) -> xr.DataArray:
    return require(ds, lca) if by == "parameter" else layer_lca(ds, by, lca)


def _as_random_walks(series: xr.DataArray, gain: xr.DataArray, trials: int, seed: int) -> xr.DataArray:
    """Return the share of random walks of a layer's steps that give back as much, ([run,] layer)."""
    steps = series.astype(np.float64)
    steps = steps.chunk(iteration=-1) if steps.chunks is not None else steps
    out: xr.DataArray = xr.apply_ufunc(
        _share_of_walks,
        steps,
        gain,
        kwargs={"trials": trials, "seed": seed},
        input_core_dims=[["iteration"], []],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return out.transpose(*gain.dims).where(gain.notnull())


def _combined(p: xr.DataArray) -> xr.DataArray:
    """Return Fisher's combination of the p-values of those runs that have one."""
    logarithm: xr.DataArray = np.log(p)  # type: ignore[assignment]
    twice = -2 * logarithm.sum("run")
    known = p.notnull().sum("run")
    freedom = 2 * known.where(known > 0)
    options: dict[str, Any] = {"dask": "parallelized", "output_dtypes": [np.float64]}
    out: xr.DataArray = xr.apply_ufunc(lambda x, n: stats.chi2.sf(x, n), twice, freedom, **options)
    return out


def _share_of_walks(steps: np.ndarray, gain: float, trials: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    as_much = 0
    for _ in range(trials):
        walk = np.cumsum(np.where(rng.random(steps.size) < 0.5, -steps, steps))
        back = walk[-1] - min(walk.min(), 0.0) if steps.size else 0.0
        as_much += back >= gain * (1 - 1e-12)  # the same steps, summed in another order
    return (1 + as_much) / (1 + trials)


def _labels_of(ds: xr.Dataset, position: xr.DataArray) -> xr.DataArray:
    require_pairs(ds)
    labels = ds["snapshot"].values

    def look_up(place: np.ndarray) -> np.ndarray:
        if (place < 0).any():
            raise TrajectoryError(
                f"some of the LCA is missing (NaN), so where its sum is smallest is not known. {WHERE_MISSING}"
            )
        out: np.ndarray = labels[place]
        return out

    out: xr.DataArray = xr.apply_ufunc(look_up, position, dask="parallelized", output_dtypes=[labels.dtype])
    return out.rename("snapshot").assign_attrs(long_name="snapshot of the smallest cumulative LCA", units="1")
