"""Several runs: put them together, and say what holds beyond one seed.

Every function takes arrays with a ``run`` dimension (from :func:`lcakit.open_runs` or :func:`align`) and reduces it.
SciPy does the statistics.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from lcakit.analysis.corrections import CORRECTIONS as CORRECTIONS
from lcakit.analysis.corrections import corrected, with_correction
from lcakit.errors import LcakitWarning, TrajectoryError, unknown
from lcakit.trajectory.arguments import checks_arguments, require_least
from lcakit.trajectory.join import join as align

__all__ = ["STATISTICS", "align", "bootstrap", "compare", "corrected", "one_sample", "require_runs", "summary"]


def __dir__() -> list[str]:
    return __all__


METHODS = ("t", "rank")
_BOOTSTRAPS = ("percentile", "basic", "BCa", "t")
_FEW_RUNS = 8
STATISTICS: dict[str, Callable[..., Any]] = {"mean": np.mean, "median": np.median}
"""Statistics that :func:`bootstrap` knows by name."""


def require_runs(data: xr.DataArray | xr.Dataset, least: int = 2) -> int:
    """Return the number of runs; raise TrajectoryError if there are fewer than a test needs."""
    n = data.sizes.get("run", 1)
    if n < least:
        raise TrajectoryError(
            f"statistics over runs need at least {least} runs, got {n}. "
            "Open several files together: lk.open_runs([...]), or a pattern: lk.open_trajectory('run-*.nc')."
        )
    return n


@checks_arguments
def summary(array: xr.DataArray, confidence: float = 0.95) -> xr.Dataset:
    r"""Return mean, standard deviation and Student's confidence interval over runs.

    .. math:: \bar x \pm t_{n-1,\,(1+\gamma)/2} \; s / \sqrt n

    Parameters
    ----------
    array
        With a ``run`` dimension.
    confidence
        γ, between 0 and 1.

    Returns
    -------
    Dataset
        ``mean``, ``sd`` (of the sample), ``low``, ``high``, ``n`` (runs that are not NaN), over the other dimensions
        of the array and, but for ``n``, in its units. Lazy. With one run, sd and interval are NaN.

    Raises
    ------
    ValueError
        For a confidence outside its range.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> runs = align({f"seed {seed}": tiny_trajectory(seed=seed) for seed in range(4)})
    >>> found = summary(runs["loss"].isel(snapshot=-1))
    >>> [round(float(found[name]), 1) for name in ("mean", "low", "high")]
    [79.3, 51.0, 107.5]
    """
    _check_confidence(confidence)
    require_runs(array, least=1)
    array = array if "run" in array.dims else array.expand_dims("run")
    n = array.notnull().sum("run")
    mean, sd = array.mean("run"), array.std("run", ddof=1)
    quantile: xr.DataArray = xr.apply_ufunc(
        lambda count: stats.t.ppf((1 + confidence) / 2, np.where(count > 1, count - 1, np.nan)),
        n,
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    half = quantile * sd / n**0.5
    out = xr.Dataset({"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "n": n})
    for name, text in (("mean", "mean"), ("sd", "standard deviation"), ("low", "lower end"), ("high", "upper end")):
        out[name].attrs = array.attrs | {"long_name": f"{text}: {array.attrs.get('long_name', array.name)}"}
    return out.assign_attrs(confidence=confidence)


@checks_arguments
def bootstrap(
    array: xr.DataArray,
    statistic: str = "mean",
    confidence: float = 0.95,
    resamples: int = 9999,
    method: str = "percentile",
    seed: int = 0,
) -> xr.Dataset:
    r"""Return a bootstrap confidence interval over runs (``scipy.stats.bootstrap``).

    .. math:: \left[Q_{(1-\gamma)/2},\ Q_{(1+\gamma)/2}\right] \text{ of } \{f(x^*_1), \dots, f(x^*_B)\}

    for the percentile method: each :math:`x^*` has as many runs as the array, drawn from these with replacement.

    With few runs such an interval is too narrow: one of 95 % around the mean of n Gaussian numbers holds the truth in
    about 50, 75, 81, 84 and 90 % of cases for n = 2, 3, 4, 5 and 10. Below eight runs a warning says so; ``method="t"``
    gives Student's interval, which is right for Gaussian numbers at any n, as :func:`summary` does.

    Parameters
    ----------
    array
        With a ``run`` dimension of at least two runs.
    statistic
        f: ``"mean"`` or ``"median"``.
    confidence
        γ, between 0 and 1.
    resamples
        B.
    method
        ``"percentile"``, ``"basic"`` or ``"BCa"`` (NaN where all runs agree); or ``"t"``, Student's interval of the
        mean, without resampling.
    seed
        The same seed gives the same interval.

    Returns
    -------
    Dataset
        ``estimate`` f(x), ``low``, ``high``, over the other dimensions of the array and in its units. Lazy.

    Raises
    ------
    TrajectoryError
        For fewer than two runs.
    ValueError
        For a confidence outside its range, an unknown statistic or method, or a t interval of something else than the
        mean.

    Warns
    -----
    LcakitWarning
        If there are too few runs for the interval to hold what its confidence says.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> runs = align({f"seed {seed}": tiny_trajectory(seed=seed) for seed in range(4)})
    >>> found = bootstrap(runs["loss"].isel(snapshot=-1), method="t")
    >>> bool(found["low"] < found["estimate"] < found["high"])
    True
    """
    n = require_runs(array)
    _check_confidence(confidence)
    require_least("seed", seed, 0)
    require_least("resamples", resamples, 1)
    if statistic not in STATISTICS:
        raise unknown("statistic", statistic, STATISTICS)
    if method not in _BOOTSTRAPS:
        raise unknown("method of intervals", method, _BOOTSTRAPS)
    if method == "t":
        if statistic != "mean":
            raise ValueError(f'a t interval is of the mean, got statistic={statistic!r}; pass method="percentile"')
        return summary(array, confidence)[["mean", "low", "high"]].rename(mean="estimate")
    if n < _FEW_RUNS:
        warnings.warn(
            f"a bootstrap of {n} runs is too narrow for its {confidence:.0%} (of three runs, 95 % hold about 75 %): "
            'pass method="t" for Student\'s interval of the mean, or record more runs',
            LcakitWarning,
            stacklevel=2,
        )
    reduce = STATISTICS[statistic]

    def interval(values: np.ndarray) -> np.ndarray:
        moved = np.moveaxis(values, -1, 0)
        result = stats.bootstrap(
            (moved,),
            reduce,
            axis=0,
            confidence_level=confidence,
            n_resamples=resamples,
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return np.stack([reduce(moved, axis=0), result.low, result.high], axis=-1)

    columns = _over_runs(interval, [array], 3)
    names = ("estimate", "low", "high")
    return xr.Dataset({name: columns.isel(column=k).assign_attrs(array.attrs) for k, name in enumerate(names)})


@checks_arguments
def one_sample(
    array: xr.DataArray, value: float = 0.0, correction: str = "none", over: str | None = None
) -> xr.Dataset:
    r"""Test whether the mean over runs differs from a value: Student's t, two-sided.

    .. math:: t = (\bar x - \mu_0) \sqrt n / s

    Parameters
    ----------
    array
        With a ``run`` dimension of at least two runs.
    value
        :math:`\mu_0`, in the units of the array.
    correction, over
        How p-values are corrected for the many tests along the dimension ``over``: see :func:`corrected`.

    Returns
    -------
    Dataset
        ``t``, ``p``, ``p_corrected``, over the other dimensions of the array. NaN where a run is. Lazy.

    Raises
    ------
    TrajectoryError
        For fewer than two runs.
    ValueError
        For an unknown correction, or one without ``over``.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> runs = align({f"seed {seed}": tiny_trajectory(seed=seed) for seed in range(4)})
    >>> round(float(one_sample(runs["loss"].diff("snapshot").sum("snapshot"))["t"]), 1)
    -7.3
    """
    require_runs(array)

    def test(values: np.ndarray) -> np.ndarray:
        result = stats.ttest_1samp(values, value, axis=-1)
        return np.stack([result.statistic, result.pvalue], axis=-1)

    columns = _over_runs(test, [array], 2)
    out = xr.Dataset({"t": columns.isel(column=0), "p": columns.isel(column=1)})
    return with_correction(out, correction, over)


@checks_arguments
def compare(
    a: xr.DataArray,
    b: xr.DataArray,
    paired: bool = False,
    method: str = "t",
    correction: str = "none",
    over: str | None = None,
) -> xr.Dataset:
    r"""Test whether two groups of runs differ, two-sided.

    .. math:: t = \frac{\bar b - \bar a}{\sqrt{s_a^2 / n_a + s_b^2 / n_b}} \quad \text{(Welch)}, \qquad
              t = \bar d \sqrt n / s_d,\ d = b - a \quad \text{(paired)}

    Parameters
    ----------
    a, b
        Each with a ``run`` dimension of at least two runs and the same other dimensions.
    paired
        The k-th run of ``a`` belongs to the k-th of ``b`` (the same seed).
    method
        ``"t"``: Welch's t-test, or the paired one; ``"rank"``: Mann-Whitney, or Wilcoxon's signed ranks.
    correction, over
        See :func:`corrected`.

    Returns
    -------
    Dataset
        ``difference`` (mean of b − mean of a, in the units of the arrays), ``statistic`` (t, U of b, or the smaller sum
        of ranks), ``p``, ``p_corrected``, over the other dimensions. Lazy.

    Raises
    ------
    TrajectoryError
        For fewer than two runs on a side.
    ValueError
        For an unknown method or correction, a correction without ``over``, or paired runs that are not as many.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> runs = align({f"seed {seed}": tiny_trajectory(seed=seed) for seed in range(4)})
    >>> found = compare(runs["loss"].isel(snapshot=0), runs["loss"].isel(snapshot=-1), paired=True)
    >>> bool(found["difference"] < 0), bool(found["p"] < 0.05)
    (True, True)
    """
    n_a, n_b = require_runs(a), require_runs(b)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if paired and n_a != n_b:
        raise ValueError(f"paired runs must be as many on both sides, got {n_a} and {n_b}; pass paired=False")

    def test(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if method == "t":
            result = stats.ttest_rel(y, x, axis=-1) if paired else stats.ttest_ind(y, x, axis=-1, equal_var=False)
        else:
            result = stats.wilcoxon(y - x, axis=-1) if paired else stats.mannwhitneyu(y, x, axis=-1)
        return np.stack([np.asarray(result.statistic, float), np.asarray(result.pvalue, float)], axis=-1)

    columns = _over_runs(test, [a, b], 2)
    difference = (b.mean("run", skipna=False) - a.mean("run", skipna=False)).assign_attrs(a.attrs)
    out = xr.Dataset({"difference": difference, "statistic": columns.isel(column=0), "p": columns.isel(column=1)})
    return with_correction(out, correction, over)


def _over_runs(function: Callable[..., np.ndarray], arrays: list[xr.DataArray], width: int) -> xr.DataArray:
    """Apply a function of (…, run) arrays that returns (…, width); runs of two groups need not be as many."""
    renamed = [array.rename(run=f"run{k}").drop_vars(f"run{k}", errors="ignore") for k, array in enumerate(arrays)]
    out: xr.DataArray = xr.apply_ufunc(
        function,
        *renamed,
        input_core_dims=[[f"run{k}"] for k in range(len(arrays))],
        output_core_dims=[["column"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"column": width}, "allow_rechunk": True},
    )
    return out


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
