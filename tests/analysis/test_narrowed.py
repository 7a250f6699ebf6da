"""Datasets narrowed by xarray instead of ``ds.lk.sel``: right numbers, or an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.testing import tiny_trajectory

HELD = {
    "the place of one iteration": (lambda ds: ds.isel(iteration=3, snapshot=3), "dimensions"),
    "one parameter": (lambda ds: ds.isel(parameter=5), "dimensions"),
    "one unit": (lambda ds: ds.isel(unit=0), "dimensions"),
    "some units": (lambda ds: ds.isel(unit=[0, 2]), "unit table"),
    "another name": (lambda ds: ds.rename(parameter="weight"), "dimensions"),
    "no parameter": (lambda ds: ds.isel(parameter=[]), "no parameter"),
    "iterations without snapshots": (lambda ds: ds.isel(iteration=slice(2, 6)), "for 4 iterations"),
    "the variable alone": (lambda ds: ds[["lca"]], "table"),
    "spread": (lambda ds: ds.where(ds["layer_index"] == 0, drop=True), "dimensions"),
}
ASKED: dict[str, Callable[[xr.Dataset], Any]] = {
    "account": lk.account,
    "describe": lk.describe,
    "phase_lag": lk.phase.phase_lag,
    "argmin_iteration": lk.layers.argmin_iteration,
    "fraction_helping": lk.noise.fraction_helping,
    "helped_histogram": lk.noise.helped_histogram,
    "signs_per_class": lk.noise.signs_per_class,
    "cumulative_lca": lk.aggregate.cumulative_lca,
    "rms_lca": lk.aggregate.rms_lca,
    "layer_lca by class": lambda ds: lk.layers.layer_lca(ds, classes=True),
    "weight_turns": lk.oscillation.weight_turns,
    "excess_kurtosis": lk.tails.excess_kurtosis,
    "histogram": lk.tails.histogram,
    "mean_correlation": lambda ds: lk.correlation.mean_correlation(ds, "conv1"),
    "last_active_iteration": lk.ranking.last_active_iteration,
}
STUMBLING = [
    *((name, "the place of one iteration") for name in ("account", "describe", "phase_lag", "argmin_iteration")),
    *((name, "the place of one iteration") for name in ("fraction_helping", "signs_per_class", "cumulative_lca")),
    *((name, "one parameter") for name in ("rms_lca", "weight_turns", "mean_correlation", "cumulative_lca")),
    *((name, "one unit") for name in ("signs_per_class", "mean_correlation", "last_active_iteration")),
    ("last_active_iteration", "some units"),
    *((name, "another name") for name in ("rms_lca", "weight_turns", "helped_histogram", "cumulative_lca")),
    *((name, "no parameter") for name in ("fraction_helping", "rms_lca", "excess_kurtosis", "histogram")),
    *((name, "iterations without snapshots") for name in ("account", "describe", "phase_lag", "argmin_iteration")),
    ("rms_lca", "the variable alone"),
    *((name, "spread") for name in ("layer_lca by class", "account", "describe")),
]


@pytest.mark.parametrize(("name", "kind"), STUMBLING)
def test_what_cannot_be_used_is_said(name, kind):
    edit, says = HELD[kind]
    with pytest.raises(lk.TrajectoryError, match=f"{says}|belong together"):
        ASKED[name](edit(tiny_trajectory()))


def test_sums_of_what_was_spread_over_parameters_are_refused():
    """The sums would count each number once for each parameter that is left."""
    ds = tiny_trajectory()
    spread = ds.where(ds["layer_index"] == 0, drop=True)
    with pytest.raises(lk.TrajectoryError, match=r"ds\.where"):
        lk.layers.layer_lca(spread, classes=True)
    np.testing.assert_allclose(
        lk.layers.layer_lca(spread).sel(layer="conv1"), lk.layers.layer_lca(ds.lk.sel(layer="conv1"))[:, 0]
    )


@pytest.mark.parametrize("kind", ["iterations without snapshots", "one unit", "no parameter", "spread"])
def test_a_mistake_in_other_arguments_is_told_as_before(kind):
    with pytest.raises((ValueError, lk.TrajectoryError), match=r"unknown|no parameter|dimensions") as caught:
        lk.layers.layer_lca(HELD[kind][0](tiny_trajectory()), by="tensors")
    assert "cannot use this dataset" not in str(caught.value)


def test_iterations_alone_are_enough_where_nothing_else_is_asked():
    ds = tiny_trajectory()
    some = ds.isel(iteration=slice(2, 6))
    xr.testing.assert_identical(
        lk.noise.help_hurt_zero(some).compute(), lk.noise.help_hurt_zero(ds).isel(iteration=slice(2, 6)).compute()
    )
    assert not lk.validate(some, quiet=True).ok


def test_a_report_on_a_selection_of_nothing_says_so():
    nothing = tiny_trajectory().chunk().isel(iteration=[], snapshot=[0])
    assert lk.validate(nothing, quiet=True).summary()
