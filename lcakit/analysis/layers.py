"""Which layers help and which hurt (section 4 of the LCA paper)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import stats

from lcakit.analysis._check import require, source
from lcakit.analysis._minima import running_minimum
from lcakit.analysis.aggregate import sum_by
from lcakit.analysis.runs import compare, one_sample, require_runs, summary
from lcakit.errors import unknown
from lcakit.schema import loss_unit, split_name, with_suffix

LAYER_GROUPINGS = ("kernel_layer", "layer")


def layer_lca(ds: xr.Dataset, by: str = "kernel_layer", lca: str = "lca", classes: bool = False) -> xr.DataArray:
    r"""Return the LCA of each layer in each iteration.

    .. math:: A_\ell[t] = \sum_{i \in \ell} A[t, i]

    Parameters
    ----------
    ds
        Trajectory.
    by
        ``"kernel_layer"``: biases and following norm layers count with the kernel they serve; ``"layer"``:
        each module for itself.
    lca
        ``"lca"``, or with a suffix (``"lca_val"``) for another objective.
    classes
        Split by class, from ``lca_unit_class`` or else ``lca_class``.

    Returns
    -------
    DataArray
        (iteration, layer) or (iteration, layer, class), in the unit of the loss. Lazy. Negative: the layer
        helps. Over layers (and classes) the values sum to the loss change of the iteration, up to its
        ``residual``.

    Raises
    ------
    TrajectoryError
        If the file does not hold this LCA, or not by class.
    ValueError
        For a grouping that is not into layers.

    Notes
    -----
    Fig. 4 of the paper, summed over the run.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> layer_lca(tiny_trajectory(), classes=True).dims
    ('iteration', 'layer', 'class')
    """
    if by not in LAYER_GROUPINGS:
        raise unknown("grouping into layers", by, LAYER_GROUPINGS)
    variable = source(ds, lca, classes)
    out = sum_by(ds, by, variable).rename({by: "layer"})
    if "class" in out.dims:
        out = out.transpose(..., "layer", "class") if classes else out.sum("class")
    return out.rename(lca).assign_attrs(long_name="loss change allocation of layers")


def hurting_layers(
    runs: xr.Dataset,
    by: str = "kernel_layer",
    lca: str = "lca",
    confidence: float = 0.95,
    correction: str = "holm",
) -> xr.Dataset:
    r"""Say which layers help and which hurt over whole runs: mean, spread, and a t-test per layer against zero.

    .. math:: S_{r\ell} = \sum_t A_{r\ell}[t], \qquad t_\ell = \bar S_\ell \sqrt n / s_\ell

    Parameters
    ----------
    runs
        Trajectories joined along ``run`` (:func:`lcakit.open_runs`), at least two.
    by, lca
        See :func:`layer_lca`.
    confidence
        Of the interval and of the verdict, between 0 and 1.
    correction
        Of the p-values for the many layers: ``"holm"``, ``"bh"`` or ``"none"`` (:func:`lcakit.runs.corrected`).

    Returns
    -------
    Dataset
        ``mean``, ``sd``, ``low``, ``high`` (confidence interval), all in the unit of the loss, ``n``, ``t``, ``p``,
        ``p_corrected`` and ``verdict`` (``"helps"`` or ``"hurts"`` where the corrected p-value is below 1 − confidence,
        else ``"unclear"``), each (layer). Lazy.

    Raises
    ------
    TrajectoryError
        For fewer than two runs, or files that do not hold this LCA.
    ValueError
        For a confidence outside its range, an unknown correction, or a grouping that is not into layers.

    Notes
    -----
    Section 4 of the paper: the first and the last layer of a residual network on CIFAR-10 hurt, p < 1e-4 in ten runs.

    Examples
    --------
    >>> from lcakit.analysis.runs import align
    >>> from lcakit.testing import tiny_trajectory
    >>> runs = align({f"seed {seed}": tiny_trajectory(seed=seed) for seed in range(4)})
    >>> hurting_layers(runs)["verdict"].values.tolist()
    ['helps', 'helps']
    """
    require_runs(runs)
    totals = layer_lca(runs, by, lca).sum("iteration", keep_attrs=True)
    out = summary(totals, confidence)
    out.update(one_sample(totals, correction=correction, over="layer"))
    sure = out["p_corrected"] < 1 - confidence
    verdict = xr.where(sure & (out["mean"] < 0), "helps", xr.where(sure, "hurts", "unclear"))
    return out.assign(verdict=verdict.assign_attrs(long_name=f"at the level {1 - confidence:.3g}", units="1"))


def compare_runs(
    a: xr.Dataset,
    b: xr.Dataset,
    by: str = "kernel_layer",
    lca: str = "lca",
    paired: bool = False,
    correction: str = "holm",
) -> xr.Dataset:
    r"""Compare the layers of two groups of runs, such as plain ones (a) and those with a frozen layer (b).

    .. math:: Δ_\ell = \bar S^b_\ell - \bar S^a_\ell, \qquad S_{r\ell} = \sum_t A_{r\ell}[t]

    Parameters
    ----------
    a, b
        Trajectories joined along ``run``, at least two each, of networks with the same layers.
    by, lca
        See :func:`layer_lca`.
    paired
        The k-th run of ``a`` and of ``b`` have the same seed.
    correction
        Of the p-values for the many layers, as in :func:`hurting_layers`.

    Returns
    -------
    Dataset
        ``lca_a``, ``lca_b`` (means) and ``difference`` Δ, in the unit of the loss, ``p`` (Welch's t-test, or the paired
        one) and ``p_corrected``, each (layer); ``final_loss_a``, ``final_loss_b`` (means), ``final_loss_difference``
        and ``final_loss_p``, of the loss at the last snapshot. Lazy.

    Raises
    ------
    TrajectoryError
        For fewer than two runs on a side, or files without this LCA or its loss.
    ValueError
        For networks with different layers, paired runs that are not as many, an unknown correction, or a grouping that
        is not into layers.

    Examples
    --------
    >>> from lcakit.analysis.runs import align
    >>> from lcakit.testing import tiny_trajectory
    >>> a, b = (align({str(seed): tiny_trajectory(seed=seed) for seed in seeds}) for seeds in ((0, 1), (2, 3)))
    >>> compare_runs(a, b)["difference"].round(2).values
    array([ 8.83, -0.14])
    """
    require_runs(a)
    require_runs(b)
    totals = [layer_lca(ds, by, lca).sum("iteration", keep_attrs=True) for ds in (a, b)]
    names = [list(total["layer"].values) for total in totals]
    if names[0] != names[1]:
        raise ValueError(f"the runs have different layers: {names[0]} and {names[1]}; compare runs of one network")
    loss = [require(ds, with_suffix("loss", split_name(lca)[1])).isel(snapshot=-1, drop=True) for ds in (a, b)]
    tested = compare(totals[0], totals[1], paired=paired, correction=correction, over="layer")
    final = compare(loss[0], loss[1], paired=paired)
    return tested.drop_vars("statistic").assign(
        lca_a=totals[0].mean("run", keep_attrs=True),
        lca_b=totals[1].mean("run", keep_attrs=True),
        final_loss_a=loss[0].mean("run", keep_attrs=True),
        final_loss_b=loss[1].mean("run", keep_attrs=True),
        final_loss_difference=final["difference"],
        final_loss_p=final["p"],
    )


def layer_trend(
    runs: xr.Dataset, against: str | Sequence[float], by: str = "kernel_layer", lca: str = "lca"
) -> xr.Dataset:
    r"""Fit a line to each layer's LCA against a number that differs between runs, such as its delay (Fig. 5).

    .. math:: S_{r\ell} \approx a_\ell + b_\ell x_r

    Parameters
    ----------
    runs
        Trajectories joined along ``run``, at least three.
    against
        x: one number per run, or the name of a coordinate along ``run``.
    by, lca
        See :func:`layer_lca`.

    Returns
    -------
    Dataset
        ``slope`` b, ``intercept`` a, ``r`` (Pearson's), ``p`` (slope against zero), ``stderr`` (of the slope), each
        (layer); intercepts in the unit of the loss, slopes in this by the unit of x. Lazy.

    Raises
    ------
    TrajectoryError
        For fewer than three runs, or files that do not hold this LCA.
    ValueError
        If there is not one number per run, or all are the same, and for a grouping that is not into layers.

    Examples
    --------
    >>> from lcakit.analysis.runs import align
    >>> from lcakit.testing import tiny_trajectory
    >>> runs = align({f"seed {seed}": tiny_trajectory(seed=seed) for seed in range(4)})
    >>> layer_trend(runs, against=[0, 1, 2, 3])["slope"].round(2).values
    array([-0.61, -4.71])
    """
    n = require_runs(runs, least=3)
    if isinstance(against, str) and against not in runs.coords:
        raise unknown("coordinate of the runs", against, [c for c in runs.coords if runs[c].dims == ("run",)])
    x = np.asarray(runs[against].values if isinstance(against, str) else against, np.float64)
    if x.shape != (n,) or np.ptp(x) == 0:
        raise ValueError(f"a trend needs one number for each of the {n} runs, not all the same; got {x.tolist()}")
    totals = layer_lca(runs, by, lca).sum("iteration", keep_attrs=True)

    def fit(values: np.ndarray) -> np.ndarray:
        line = stats.linregress(x, values)
        return np.array([line.slope, line.intercept, line.rvalue, line.pvalue, line.stderr])

    columns = xr.apply_ufunc(
        fit,
        totals,
        input_core_dims=[["run"]],
        output_core_dims=[["column"]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"column": 5}, "allow_rechunk": True},
    )
    names = ("slope", "intercept", "r", "p", "stderr")
    return xr.Dataset({name: columns.isel(column=k) for k, name in enumerate(names)})


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
        If the file does not hold this LCA.
    ValueError
        For another grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> argmin_iteration(tiny_trajectory()).values
    array([6, 4])
    """
    return _labels_of(ds, running_minimum(_per_layer(ds, by, lca))["position"])


def freeze_candidates(runs: xr.Dataset, by: str = "kernel_layer", lca: str = "lca", least: float = 0.01) -> xr.Dataset:
    r"""Say which layers would better have been frozen, from when on, and how much loss that might have saved.

    .. math:: \mathrm{gain}_\ell = \sum_{t \ge s_\ell} A_\ell[t], \qquad s_\ell = \text{argmin\_iteration}

    The gain supposes that the other layers would have done the same; they do not (section 4.2 of the paper), so read it
    as a reason to try, not as a forecast.

    Parameters
    ----------
    runs
        One trajectory, or several joined along ``run``.
    by, lca
        See :func:`layer_lca`.
    least
        A layer is a candidate if its gain is at least this share of the whole loss change.

    Returns
    -------
    Dataset
        ``snapshot`` (:func:`argmin_iteration`), ``lca`` (over the run) and ``gain`` (≥ 0), both in the unit of the
        loss, ``relative_gain`` (of the absolute loss change), ``candidate`` (bool), each ([run,] layer), and
        ``agreement`` (layer): the share of runs in which the layer is a candidate. Lazy.

    Raises
    ------
    TrajectoryError
        If the file does not hold this LCA.
    ValueError
        For a negative share, or a grouping that is not into layers.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> freeze_candidates(tiny_trajectory(), least=0.005)["candidate"].values
    array([False,  True])
    """
    if by not in LAYER_GROUPINGS:
        raise unknown("grouping into layers", by, LAYER_GROUPINGS)
    if not least >= 0:
        raise ValueError(f"least must be a share of the loss change, at least 0; got {least}")
    found = running_minimum(_per_layer(runs, by, lca))
    gain = found["total"] - found["minimum"]
    relative = gain / abs(found["total"].sum("layer"))
    candidate = (relative >= least) & (gain > 0)
    agreement = candidate.mean("run") if "run" in candidate.dims else candidate.astype(np.float64)
    unit = {"units": loss_unit(runs, lca)}
    return xr.Dataset(
        {
            "snapshot": _labels_of(runs, found["position"]),
            "lca": found["total"].assign_attrs(long_name="LCA over the run", **unit),
            "gain": gain.assign_attrs(long_name="LCA after the minimum", **unit),
            "relative_gain": relative.assign_attrs(long_name="gain over the absolute loss change", units="1"),
            "candidate": candidate.assign_attrs(long_name="worth freezing", units="1"),
            "agreement": agreement.assign_attrs(long_name="share of runs that agree", units="1"),
        }
    )


def _per_layer(ds: xr.Dataset, by: str, lca: str) -> xr.DataArray:
    return require(ds, lca) if by == "parameter" else layer_lca(ds, by, lca)


def _labels_of(ds: xr.Dataset, position: xr.DataArray) -> xr.DataArray:
    labels = ds["snapshot"].values
    out: xr.DataArray = xr.apply_ufunc(
        lambda place: labels[place], position, dask="parallelized", output_dtypes=[labels.dtype]
    )
    return out.rename("snapshot").assign_attrs(long_name="snapshot of the smallest cumulative LCA", units="1")
