"""What running statistics answer, in studies, copies and checks, and what not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import lcakit as lk
from lcakit.record.allocation.axis_blocks import pieces_of
from lcakit.record.allocation.statistics import Statistics
from lcakit.storage.npz import open_segment
from lcakit.storage.paths import partial_path
from tests.support.running import LABELS, STEPS, assert_equal, record


def test_studies_of_the_whole_run_are_those_of_the_series(whole, small):
    same = np.testing.assert_array_equal
    for study in (lk.noise.iterations_helped, lk.oscillation.weight_turns, lk.oscillation.gradient_crossings):
        same(study(small), study(whole))
        assert study(small).dims == study(whole).dims
        assert study(small).dtype == np.int64
    for by in (None, "layer", "kernel_layer"):
        same(lk.noise.help_hurt_zero(small, by=by), lk.noise.help_hurt_zero(whole, by=by))
        same(lk.noise.fraction_helping(small, by), lk.noise.fraction_helping(whole, by))
        assert lk.oscillation.iterations_per_turn(small, by).equals(lk.oscillation.iterations_per_turn(whole, by))
    same(lk.noise.helped_histogram(small), lk.noise.helped_histogram(whole))
    np.testing.assert_allclose(
        lk.aggregate.rms_lca(small, "parameter"), lk.aggregate.rms_lca(whole, "parameter"), 1e-12
    )
    for by in ("parameter", "unit", "tensor"):
        one, other = lk.ranking.extremes(small, by, 3), lk.ranking.extremes(whole, by, 3)
        same(one["label"], other["label"])
        np.testing.assert_allclose(one["lca"], other["lca"], 1e-6)
    one, other = lk.account(small), lk.account(whole)
    assert one.helping_percent == other.helping_percent
    assert one.zero_percent == other.zero_percent
    assert one.parameters == whole.sizes["parameter"]


def test_what_statistics_cannot_tell_is_an_error_that_names_the_option(small):
    for question in (
        lambda: lk.noise.help_hurt_zero(small, by="unit"),
        lambda: lk.noise.help_hurt_zero(small.lk.sel(unit=3)),
        lambda: lk.ranking.extremes(small, iterations=slice(0, 3)),
        lambda: lk.aggregate.rms_lca(small),
        lambda: lk.noise.iterations_helped(small.lk.sel(iteration=slice(0, 9))),
    ):
        with pytest.raises(lk.TrajectoryError, match=r'keep=\("lca", …\)'):
            question()


@pytest.mark.slow
def test_selections_and_copies_keep_what_is_still_true(whole, small, tmp_path):
    layer, other = small.lk.sel(layer="3"), whole.lk.sel(layer="3")
    np.testing.assert_array_equal(lk.noise.help_hurt_zero(layer), lk.noise.help_hurt_zero(other))
    np.testing.assert_array_equal(lk.noise.iterations_helped(layer), lk.noise.iterations_helped(other))
    path = lk.save(small, tmp_path / "again.nc")
    assert_equal(lk.open_trajectory(path), small)
    lk.share(path, tmp_path / "shared.nc")
    assert_equal(
        lk.open_trajectory(tmp_path / "shared.nc").drop_vars("lca_unit_class"), small.drop_vars("lca_unit_class")
    )
    lk.share(path, tmp_path / "layers.nc", resolution="layer")
    layers = lk.open_trajectory(tmp_path / "layers.nc")
    np.testing.assert_array_equal(lk.noise.help_hurt_zero(layers), lk.noise.help_hurt_zero(whole))
    runs = lk.open_runs([path, tmp_path / "shared.nc"])
    assert lk.oscillation.weight_turns(runs).dims == ("run", "parameter")
    np.testing.assert_array_equal(lk.noise.fraction_helping(runs)[0], lk.noise.fraction_helping(whole))
    short = lk.save(small.lk.sel(iteration=slice(0, 9)), tmp_path / "short.nc")
    assert "turn_count" not in lk.open_trajectory([path, short], align="shortest")
    zarr = pytest.importorskip("zarr")
    assert zarr
    assert_equal(lk.open_trajectory(lk.save(small, tmp_path / "run.zarr")), small)


@pytest.mark.slow
def test_without_classes_units_and_layers_are_there(whole, tmp_path):
    plain = record(tmp_path / "run.nc", classes=None)
    assert plain["unit_lca"].dims == ("iteration", "unit")
    for study in (lk.layers.layer_lca, lambda ds: lk.aggregate.cumulative_lca(ds, "unit")):
        np.testing.assert_allclose(study(plain), study(whole), atol=1e-7)
    assert lk.validate(plain, quiet=True).ok
    lk.share(tmp_path / "run.nc", tmp_path / "units.nc", resolution="unit")
    np.testing.assert_allclose(
        lk.layers.layer_lca(lk.open_trajectory(tmp_path / "units.nc")), lk.layers.layer_lca(whole), atol=1e-4
    )


def test_statistics_answer_only_for_their_own_series(small):
    for study in (lk.noise.iterations_helped, lk.noise.help_hurt_zero):
        with pytest.raises(lk.TrajectoryError, match="has no 'lca_class'"):
            study(small, lca="lca_class")


@pytest.mark.parametrize(
    ("tamper", "check"),
    [
        (lambda ds: ds["total_lca"].values.__setitem__(3, ds["total_lca"].values[3] + 1e-3), "running sums"),
        (lambda ds: ds["helped_count"].values.__setitem__(0, STEPS + 1), "running counts"),
        (lambda ds: ds["hurt_count"].values.__setitem__(2, ds["hurt_count"].values[2] + 1), "running counts"),
        (lambda ds: ds["turn_count"].values.__setitem__(2, STEPS), "running counts"),
        (lambda ds: ds["layer_helped"].values.__setitem__((2, 0), -1), "running counts"),
        (lambda ds: ds["total_square_lca"].values.__setitem__(1, np.nan), "running sums"),
    ],
)
def test_validation_finds_what_was_tampered_with(small, tamper, check):
    ds = small.copy(deep=True)
    assert lk.validate(ds, quiet=True)[check].status == "pass"
    tamper(ds)
    report = lk.validate(ds, quiet=True)
    assert not report.ok
    assert report[check].status == "fail"


def moved_over(ds, name, where, by):
    """Let the first of some parameters have more of a running sum, and the largest less: the sum of all stays."""
    values = ds[name].values
    here = int(np.flatnonzero(where)[0])
    there = int(np.argmax(np.where(np.arange(values.size) == here, 0, values)))
    values[here] += by
    values[there] -= by


def a_help_more(ds):
    counted = ds["helped_count"] + ds["hurt_count"] == STEPS
    moved_over(ds, "helped_count", counted & (ds["hurt_count"] > 0), 1)


def a_sum_without_squares(ds):
    moved_over(ds, "total_lca", ds["total_square_lca"] == 0, 1e-3)


@pytest.mark.parametrize(
    ("tamper", "check", "says"),
    [
        (a_help_more, "running counts", "helped and hurt in more iterations"),
        (a_sum_without_squares, "running sums", "larger than its sum of squares allows"),
    ],
)
def test_validation_finds_what_cannot_be_of_one_parameter(small, tamper, check, says):
    ds = small.copy(deep=True)
    tamper(ds)
    found = lk.validate(ds, quiet=True)[check]
    assert found.status == "fail"
    assert says in found.figure


def test_statistics_of_another_recording_are_refused():
    one, other = (Statistics((n,), pieces_of(LABELS), torch.device("cpu")) for n in ("total_lca", "turn_count"))
    with pytest.raises(lk.RecordingError, match=r"run\.nc holds the statistics.*turn_count"):
        one.load(dict(other.arrays()), "run.nc")


def test_a_strangers_running_file_is_checked(tmp_path):
    path = tmp_path / "run.nc"
    with pytest.raises(KeyboardInterrupt):
        record(path, stop=9)
    running = max(partial_path(path).glob("*.running"))
    arrays = {name: stored[:] for name, stored in open_segment(running).items()}
    for wrong in (
        {"total_lca": np.zeros(3)},
        {"turn_count": np.zeros(arrays["turn_count"].size)},
        {"evil": np.zeros(1)},
    ):
        with running.open("wb") as file:
            np.savez(file, **(arrays | wrong))
        with pytest.raises(lk.TrajectoryError, match=f"{running.name}.*{next(iter(wrong))}"):
            lk.open_trajectory(path)


@pytest.mark.slow
def test_estimate_and_command(tmp_path, capsys):
    from lcakit.cli.main import main

    found = lk.estimate(LABELS, 10, keep=(), classes=None).bytes_by_variable
    k = LABELS.n_parameters
    assert found == {"unit_lca": 4 * 10 * LABELS.n_units, "statistics": 32 * k, "labels": 20 * k}
    assert "statistics" not in lk.estimate(LABELS, 10, keep=(), statistics=False).bytes_by_variable
    path = tmp_path / "run.nc"
    options = ["digits-fc", "--iterations", "3", "--train-examples", "50", "--keep", "none"]
    assert main(["record", *options, "--out", str(path)]) == 0
    with lk.open_trajectory(path) as ds:
        assert {"total_lca", "turn_count", "layer_hurt"} <= set(ds)
        assert "lca" not in ds
    capsys.readouterr()
    assert main(["info", "--json", str(path)]) == 0
    assert "total_square_lca" in {row["name"] for row in json.loads(capsys.readouterr().out)["variables"]}
    assert main(["estimate", *options]) == 0
    assert "statistics" in capsys.readouterr().out
