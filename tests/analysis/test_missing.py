"""NaN in every study: missing stays missing, counts are of what is there, and T never includes padding."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
import lcakit.analysis
from lcakit.analysis import norms, resolution, runs, specialization, windows
from lcakit.errors import TrajectoryError
from lcakit.testing import chunked, tiny_trajectory
from tests.support.missing import LONG, SHORT, damaged, joined, run_of


@pytest.fixture(scope="module")
def short() -> xr.Dataset:
    return run_of(SHORT, seed=0)


@pytest.fixture(scope="module")
def padded(short) -> xr.Dataset:
    return joined(short, run_of(LONG, seed=1), run_of(LONG, seed=2))


Study = Callable[[xr.Dataset], Any]
STUDIES: dict[str, Study] = {
    "account.account": lambda ds: lk.account(ds, quiet=True),
    "aggregate.cumulative_lca": lambda ds: lk.aggregate.cumulative_lca(ds, "layer"),
    "aggregate.rms_lca": lambda ds: lk.aggregate.rms_lca(ds, "parameter"),
    "aggregate.series": lambda ds: lk.aggregate.series(ds, "unit", classes=True),
    "aggregate.sum_by": lambda ds: lk.aggregate.sum_by(ds, "tensor"),
    "aggregate.window_lca": lambda ds: lk.aggregate.window_lca(ds, 4),
    "correlation.correlation_test": lambda ds: lk.correlation.correlation_test(ds, "fc"),
    "correlation.mean_correlation": lambda ds: lk.correlation.mean_correlation(ds, "fc"),
    "fisher.fisher_diagonal": lk.fisher.fisher_diagonal,
    "fisher.rescaled": lambda ds: lk.fisher.rescaled(_without_norm(ds), "conv1", "fc", 2.0)["gradient"],
    "freezing.argmin_iteration": lk.layers.argmin_iteration,
    "freezing.freeze_candidates": lambda ds: lk.layers.freeze_candidates(ds, least=0.001),
    "generalization.overfitting_map": lambda ds: lk.generalization.overfitting_map(ds, window=2),
    "generalization.train_validation": lk.generalization.train_validation,
    "histograms.histogram": lk.tails.histogram,
    "kurtosis.excess_kurtosis": lk.tails.excess_kurtosis,
    "layers.compare_runs": lambda ds: lk.layers.compare_runs(_both(ds), _both(ds)),
    "layers.hurting_layers": lambda ds: lk.layers.hurting_layers(_both(ds)),
    "trend.layer_trend": lambda ds: lk.layers.layer_trend(_both(ds, 3), against=[0.0, 1.0, 3.0]),
    "layerwise.layer_lca": lambda ds: lk.layers.layer_lca(ds, lca="lca_class"),
    "myopia.sign_agreement": lambda ds: lk.myopia.sign_agreement(ds, [2, 3]),
    "noise.fraction_helping": lambda ds: lk.noise.fraction_helping(ds, "unit"),
    "noise.help_hurt_zero": lk.noise.help_hurt_zero,
    "noise.helped_histogram": lk.noise.helped_histogram,
    "noise.iterations_helped": lk.noise.iterations_helped,
    "noise.signs_per_class": lk.noise.signs_per_class,
    "norms.effective_norms": lambda ds: norms.effective_norms(ds, "unit"),
    "norms.gradient_norms": lambda ds: norms.gradient_norms(ds, "layer"),
    "norms.movement_norms": lambda ds: norms.movement_norms(ds, "kernel_layer"),
    "norms.unit_norms": lambda ds: xr.Dataset(norms.unit_norms(ds, "layer")),
    "oscillation.gradient_crossings": lk.oscillation.gradient_crossings,
    "oscillation.iterations_per_crossing": lambda ds: lk.oscillation.iterations_per_crossing(ds, "layer"),
    "oscillation.iterations_per_turn": lk.oscillation.iterations_per_turn,
    "oscillation.oscillation_detail": lambda ds: lk.oscillation.oscillation_detail(ds, 1),
    "oscillation.weight_turns": lk.oscillation.weight_turns,
    "peaks.layer_series": lambda ds: lk.synchronization.synchronization_test(ds, k=3, trials=20, of="gradient"),
    "peaks.peak_iterations": lambda ds: lk.synchronization.peak_iterations(ds, k=3),
    "phase.phase_lag": lambda ds: lk.phase.phase_lag(ds, max_lag=2),
    "ranking.dead_units": lambda ds: lk.ranking.dead_units(ds, after=5),
    "ranking.extremes": lambda ds: lk.ranking.extremes(ds, "parameter", k=5)["lca"],
    "ranking.last_active_iteration": lk.ranking.last_active_iteration,
    "resolution.aggregated": lambda ds: resolution.aggregated(ds.drop_vars("lca_val"), "layer")["lca_unit_class"],
    "saliency.saliency": lambda ds: lk.specialization.saliency(ds, 0),
    "specialization.class_curves": lambda ds: lk.specialization.class_curves(ds, 1, "fc"),
    "specialization.class_share": lk.specialization.class_share,
    "specialization.specialized_fraction": lk.specialization.specialized_fraction,
    "specialization.unit_class_lca": specialization.unit_class_lca,
    "synchronization.synchronization_test": lambda ds: lk.synchronization.synchronization_test(ds, k=3, trials=20),
    "tails.tail_share": lambda ds: lk.tails.tail_share(ds, 1.0),
    "windows.helping_by_window": lambda ds: windows.helping_by_window(ds, [1, 4]),
}
NO_STUDIES = {"aggregate.unit_group_ids", "saliency.one_unit", "trend.one_per_run"}  # they only look at tables
OF_PARTS = {"outcomes.outcome_counts"}  # inside noise.help_hurt_zero


def _without_norm(ds: xr.Dataset) -> xr.Dataset:
    """A trajectory whose first layer no norm layer serves, so that it may be scaled."""
    return ds.assign_coords(kernel_layer=("layer", np.arange(ds.sizes["layer"], dtype=np.int32)))


def _both(ds: xr.Dataset, n: int = 2) -> xr.Dataset:
    """Make a run, with others that have all their numbers, into several."""
    return ds if "run" in ds.dims else joined(ds, *(run_of(ds.sizes["iteration"], seed=k) for k in range(1, n)))


def test_every_study_is_tried():
    """Every public function whose first argument is a dataset of trajectories: a new one has to be added above."""
    found = set()
    for module in pkgutil.walk_packages(lcakit.analysis.__path__, "lcakit.analysis."):
        if ".kernels" in module.name:
            continue
        room = importlib.import_module(module.name)
        for name, value in inspect.getmembers(room, inspect.isfunction):
            first = next(iter(inspect.signature(value).parameters), "")
            if value.__module__ == module.name and not name.startswith("_") and first in ("ds", "runs", "a"):
                found.add(f"{module.name.removeprefix('lcakit.analysis.')}.{name}")
    of_arrays = {f"runs.{name}" for name in runs.__all__}
    assert found - of_arrays - NO_STUDIES - OF_PARTS - {"_summaries.members", "_summaries.describe"} == set(STUDIES)


def _arrays(result: Any) -> dict[str, xr.DataArray]:
    """Return the numbers of a result by name: those that can be told apart from labels."""
    if isinstance(result, lk.account(tiny_trajectory(2), quiet=True).__class__):
        numbers = {k: v for k, v in asdict(result).items() if isinstance(v, int | float)}
        return {k: xr.DataArray(v) for k, v in (numbers | result.layers).items()}
    if isinstance(result, xr.Dataset):
        return {str(name): array for name, array in result.data_vars.items() if array.dtype.kind in "fiub"}
    return {"": result}


def _computed(study: Study, ds: xr.Dataset) -> dict[str, xr.DataArray] | None:
    """Return what a study says, None for the error that points to the remedy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy, for means of nothing
        try:
            return {name: array.compute() for name, array in _arrays(study(ds)).items()}
        except TrajectoryError as error:
            if "lk.runs.align" not in str(error):
                raise
            return None


# ---- runs that were padded ---------------------------------------------------------------------------------------

OVER_RUNS = {"layers.compare_runs", "layers.hurting_layers", "trend.layer_trend"}
COUNTS_THE_MISSING = {("histograms.histogram", "not_finite")}


@pytest.mark.parametrize("name", sorted(set(STUDIES) - OVER_RUNS))
def test_a_padded_run_is_as_it_is_alone(name, short, padded):
    study = STUDIES[name]
    whole = padded.isel(run=0) if name in ("account.account", "resolution.aggregated") else padded
    alone, got = _computed(study, short), _computed(study, whole)
    if got is None:
        return
    assert alone is not None
    for key, array in got.items():
        if (name, key) in COUNTS_THE_MISSING:
            continue
        ours = array.isel(run=0) if "run" in array.dims else array
        theirs = alone[key]
        common = {d: np.intersect1d(theirs[d], ours[d]) for d in theirs.dims if d in theirs.indexes}
        a, b = ours.sel(common).values, theirs.sel(common).values
        known = ~np.isnan(a) if a.dtype.kind == "f" else np.ones(a.shape, bool)
        np.testing.assert_allclose(a[known], b[known], rtol=1e-6, err_msg=f"{name} {key}")
        beyond = {d: ours[d][~np.isin(ours[d], theirs[d])] for d in ("iteration", "snapshot") if d in ours.dims}
        for dim, labels in beyond.items():
            there = ours.sel({dim: labels})
            nothing = np.isnan(there) if there.dtype.kind == "f" else there == 0
            assert nothing.all(), f"{name} {key} tells what is not there"


SAME_WHEN_PADDED: dict[str, Study] = {
    "account": STUDIES["account.account"],
    "fraction helping": lk.noise.fraction_helping,
    "iterations helped": lk.noise.iterations_helped,
    "turns": lk.oscillation.iterations_per_turn,
    "crossings": lambda ds: lk.oscillation.iterations_per_crossing(ds, "layer"),
    "peaks": lambda ds: lk.synchronization.synchronization_test(ds, k=3, trials=50),
    "agreement": lambda ds: lk.myopia.sign_agreement(ds, [2])["agreement"],
    "last active": lk.ranking.last_active_iteration,
    "dead": lambda ds: lk.ranking.dead_units(ds, after=5),
}


@pytest.mark.parametrize("name", sorted(SAME_WHEN_PADDED))
def test_counts_of_a_padded_run_are_known(name, short, padded):
    study, whole = SAME_WHEN_PADDED[name], padded.isel(run=0) if name == "account" else padded
    alone, got = _computed(study, short), _computed(study, whole)
    for key, expected in alone.items():
        ours = got[key].isel(run=0) if "run" in got[key].dims else got[key]
        np.testing.assert_allclose(ours, expected, rtol=1e-6, err_msg=key)


def test_running_statistics_of_a_padded_run_are_of_its_own_iterations(short):
    both = joined(_kept(short), _kept(run_of(LONG, seed=1)))
    for study in (
        lk.noise.iterations_helped,
        lk.oscillation.iterations_per_turn,
        lambda ds: lk.aggregate.rms_lca(ds, "parameter"),
    ):
        np.testing.assert_allclose(study(both).isel(run=0), study(short), rtol=1e-6)


def _kept(ds: xr.Dataset) -> xr.Dataset:
    """Return what a recording with statistics instead of series would hold."""
    counts = lk.noise.iterations_helped(ds).astype(np.int32)
    return ds.drop_vars(["lca", "theta"]).assign(
        helped_count=counts.sel(outcome="helping", drop=True),
        hurt_count=counts.sel(outcome="hurting", drop=True),
        turn_count=lk.oscillation.weight_turns(ds).astype(np.int32),
        total_square_lca=(ds["lca"].astype(float) ** 2).sum("iteration"),
    )


def test_statistics_over_runs_say_how_many_have_all_their_numbers(padded):
    found = lk.layers.hurting_layers(padded)
    assert found["n"].values.tolist() == [2, 2]
    assert (found["verdict"] == "unclear").all()
    totals = lk.layers.layer_lca(padded.isel(run=[1, 2])).sum("iteration")
    np.testing.assert_allclose(found["mean"], totals.mean("run"))
    assert np.isnan(lk.layers.compare_runs(padded, padded)["difference"]).all()
    assert np.isnan(lk.layers.layer_trend(padded, [0.0, 1.0, 2.0])["slope"]).all()


# ---- numbers that were damaged -----------------------------------------------------------------------------------

ZERO_IS_LEFT_OUT = {  # by definition, so that leaving out and counting as zero are the same
    "account.account",  # its share that helps; the sums have a test of their own
    "myopia.sign_agreement",
    "noise.fraction_helping",
    "noise.helped_histogram",
    "oscillation.gradient_crossings",
    "ranking.last_active_iteration",
    "windows.helping_by_window",
}


@pytest.mark.parametrize("name", sorted(set(STUDIES) - ZERO_IS_LEFT_OUT))
def test_a_missing_number_is_never_a_zero(name, short):
    study = STUDIES[name]
    clean, zero, got = (_computed(study, ds) for ds in (short, damaged(short, 0.0), damaged(short, np.nan)))
    if got is None:
        return
    assert zero is not None
    assert clean is not None
    for key in got.keys() & zero.keys() & clean.keys():
        ours, as_zero, whole = (part[key].values.astype(float) for part in (got, zero, clean))
        if ours.shape != whole.shape or as_zero.shape != whole.shape:
            continue
        wrong = ~np.isnan(ours) & np.isclose(ours, as_zero, rtol=1e-12, atol=0) & ~np.isclose(as_zero, whole)
        share = wrong.mean()
        assert share < 0.5 if ours.size > 1 else not wrong, f"{name} {key}: {share:.0%} are as if NaN were 0"


@pytest.mark.sampled
@pytest.mark.parametrize("name", sorted(STUDIES))
def test_chunks_make_no_difference_to_missing_numbers(name, short):
    bad = damaged(short, np.nan)
    if name in OVER_RUNS:
        bad = _both(bad, 3)
    lazy = chunked(bad, {"iteration": 3, "snapshot": 4, "parameter": 7, "unit": 2})
    whole, blocks = _computed(STUDIES[name], bad), _computed(STUDIES[name], lazy)
    assert (whole is None) == (blocks is None)
    for key in whole or ():
        np.testing.assert_allclose(blocks[key], whole[key], rtol=2e-5, atol=1e-7, err_msg=f"{name} {key}")
