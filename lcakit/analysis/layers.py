"""Which layers help and which hurt (section 4 of the LCA paper)."""

from __future__ import annotations

import xarray as xr

from lcakit.analysis.freezing import argmin_iteration, freeze_candidates
from lcakit.analysis.layerwise import layer_lca
from lcakit.analysis.runs import compare, one_sample, require_runs, summary
from lcakit.analysis.trend import layer_trend
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.require import require
from lcakit.trajectory.schema import split_name, with_suffix

__all__ = ["argmin_iteration", "compare_runs", "freeze_candidates", "hurting_layers", "layer_lca", "layer_trend"]


def __dir__() -> list[str]:
    return __all__


@of_trajectories
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
    totals = layer_lca(runs, by, lca).sum("iteration", keep_attrs=True, skipna=False)
    out = summary(totals, confidence)
    out.update(one_sample(totals, correction=correction, over="layer"))
    sure = out["p_corrected"] < 1 - confidence
    verdict = xr.where(sure & (out["mean"] < 0), "helps", xr.where(sure, "hurts", "unclear"))
    return out.assign(verdict=verdict.assign_attrs(long_name=f"at the level {1 - confidence:.3g}", units="1"))


@of_trajectories
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
    totals = [layer_lca(ds, by, lca).sum("iteration", keep_attrs=True, skipna=False) for ds in (a, b)]
    names = [list(total["layer"].values) for total in totals]
    if names[0] != names[1]:
        raise ValueError(f"the runs have different layers: {names[0]} and {names[1]}; compare runs of one network")
    loss = [require(ds, with_suffix("loss", split_name(lca)[1])).isel(snapshot=-1, drop=True) for ds in (a, b)]
    tested = compare(totals[0], totals[1], paired=paired, correction=correction, over="layer")
    final = compare(loss[0], loss[1], paired=paired)
    return tested.drop_vars("statistic").assign(
        lca_a=totals[0].mean("run", keep_attrs=True, skipna=False),
        lca_b=totals[1].mean("run", keep_attrs=True, skipna=False),
        final_loss_a=loss[0].mean("run", keep_attrs=True, skipna=False),
        final_loss_b=loss[1].mean("run", keep_attrs=True, skipna=False),
        final_loss_difference=final["difference"],
        final_loss_p=final["p"],
    )
