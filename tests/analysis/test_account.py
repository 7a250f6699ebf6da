from __future__ import annotations

import dask
import numpy as np
import pytest

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.laziness import two_runs


@pytest.fixture
def ds():
    return tiny_trajectory(12, chunks={"parameter": 7, "iteration": 5})


def test_numbers_against_numpy(ds):
    got, lca = lk.account(ds), ds["lca"].values.astype(float)
    change, loss = np.diff(ds["loss"].values), ds["loss"].values
    first = ds["first_order"].values
    assert (got.iterations, got.parameters, got.loss_unit) == (12, 61, "nats")
    assert (got.loss_first, got.loss_last) == (loss[0], loss[-1])
    assert got.lca_sum == pytest.approx(lca.sum())
    assert got.layers == pytest.approx({"conv1": lca[:, :33].sum(), "fc": lca[:, 33:].sum()}, rel=1e-5)
    assert abs(got.error_percent) < 1e-4
    assert got.first_order_error_percent == pytest.approx(100 * (first.sum() - change.sum()) / abs(change.sum()))
    assert got.first_order_error_percent < 0  # the first order claims too large a fall, as in the paper's table
    assert got.first_order_mean_abs_error == pytest.approx(np.abs(first - change).mean())
    assert got.gradient_evaluations == 2 * 12 + 1
    moving = lca != 0
    assert got.helping_percent == pytest.approx(100 * np.mean((lca < 0).sum(1) / moving.sum(1)))
    assert got.zero_percent == pytest.approx(100 * np.mean(~moving))
    assert got.accuracy_last == pytest.approx(1 / (1 + loss[-1]))


def test_residuals_and_flags(ds):
    residual = np.linspace(0, -2e-3, 12)
    got = lk.account(ds.assign(residual=("iteration", residual)))
    assert got.worst_residual == -2e-3
    assert got.worst_iteration == 11
    assert got.mean_abs_error == pytest.approx(1e-3)
    assert got.flagged == int((np.abs(residual) > 1e-3).sum())
    assert lk.account(ds.assign_attrs(tolerance=-1.0)).flagged is None


def test_a_wrong_sum_shows_with_its_sign(ds):
    worse = ds.assign(lca=ds["lca"] * np.float32(1.5))  # claims a fall 50 % too large
    assert lk.account(worse).error_percent == pytest.approx(-50, abs=1e-3)


def test_one_compute(ds):
    calls = []

    def counting(*args, **kwargs):
        calls.append(1)
        return dask.get(*args, **kwargs)

    with dask.config.set(scheduler=counting):
        lk.account(ds)
    assert len(calls) == 1


def test_what_is_not_there_is_left_out(ds):
    bare = ds[["theta", "loss"]]
    got = lk.account(bare)
    assert got.lca_sum is got.helping_percent is got.first_order_error_percent is got.accuracy_first is None
    assert got.layers == {}
    text = got.to_text()
    assert "loss at the end" in text
    assert text.count("LCA") == 1
    assert "There is no LCA" in text.splitlines()[-1]
    assert "lk.allocate" in text.splitlines()[-1]
    assert "no LCA" not in lk.account(ds).to_text()
    assert "None" not in text


def test_an_objective_that_is_not_there_is_named_beside_those_that_are(ds):
    both = ds.assign({f"{name}_val": ds[name] for name in ("lca", "loss")})
    assert lk.account(both, "val").lca_sum == lk.account(ds).lca_sum
    for wrong in ("vall", "class", "order"):  # first_order and loss_class are no objectives
        with pytest.raises(lk.TrajectoryError, match=rf"objective '{wrong}'.* Allowed: 'val'\."):
            lk.account(both, wrong)


def test_sum_from_residual_or_units_where_lca_is_not_kept(ds):
    full, units = lk.account(ds), lk.account(ds.drop_vars("lca"))
    assert units.layers == pytest.approx(full.layers, rel=1e-5)
    assert units.helping_percent is None
    short = lk.account(ds.drop_vars(["lca", "lca_unit_class"]))
    assert short.lca_sum == pytest.approx(full.lca_sum, rel=1e-5)


@pytest.mark.parametrize("kept", [["lca"], []])
def test_a_part_of_the_network_says_so_and_is_not_held_against_the_loss(ds, kept):
    held = [*kept, "loss", "accuracy", "residual", "first_order", "splits"]
    whole = lk.account(ds)
    got = lk.account(ds.lk.sel(layer="fc").drop_vars([name for name in ds.data_vars if name not in held]))
    assert (got.part, whole.part) == ("28 of 61 parameters", None)
    for name in ("error_percent", "first_order_error_percent", "first_order_mean_abs_error", "mean_abs_error"):
        assert getattr(got, name) is None
    assert got.worst_residual is got.worst_iteration is got.flagged is None
    assert (got.loss_last, got.gradient_evaluations) == (whole.loss_last, whole.gradient_evaluations)
    assert got.lca_sum == (pytest.approx(whole.layers["fc"]) if kept else None)
    text = got.to_text()
    assert text.count("28 of 61 parameters") == 1
    assert "error" not in text
    assert "part" not in whole.to_text()


def test_so_does_a_part_of_a_file_without_parameters(ds):
    units = ds.drop_dims("parameter")
    whole, got = lk.account(units), lk.account(units.lk.sel(layer="fc"))
    assert (got.part, whole.part) == ("4 of 10 units", None)
    assert got.error_percent is got.mean_abs_error is None
    assert got.lca_sum == pytest.approx(whole.layers["fc"])
    assert abs(whole.error_percent) < 1e-3
    assert lk.account(units.lk.sel(layer="fc").lk.sel(unit=7)).part == "1 of 10 units"


def test_classes_are_held_against_their_own_loss():
    ds = tiny_trajectory(12, class_parameters=True)
    got = lk.account(ds.lk.sel(cls=["a", "c"]))
    assert got.part == "2 of 3 classes"
    assert got.loss_last == pytest.approx(ds["loss_class"].values[-1, [0, 2]].sum())
    assert abs(got.error_percent) < 1e-3
    assert lk.account(ds.lk.sel(cls="b", layer="fc")).part == "28 of 61 parameters, 1 of 3 classes"


def test_another_objective(ds):
    val = {f"{name}_val": 2 * ds[name] for name in ("lca", "loss", "residual")}
    got = lk.account(ds.assign(val), "val")
    assert got.lca_sum == pytest.approx(2 * lk.account(ds).lca_sum)
    assert got.loss_first == 2 * ds["loss"].values[0]
    assert got.accuracy_first is None
    with pytest.raises(lk.TrajectoryError, match="'test'"):
        lk.account(ds, "test")


def test_residuals_of_another_objective_are_held_against_its_own_tolerance(ds):
    residual = ("iteration", np.linspace(0, -2e-3, 12))
    both = ds.assign(loss_val=ds["loss"], lca_val=ds["lca"], residual_val=residual)
    assert lk.account(both, "val").flagged == 6
    assert lk.account(both.assign_attrs(tolerance_val=1e-4), "val").flagged == 11
    assert lk.account(both.assign_attrs(tolerance_val=-1.0), "val").flagged is None


def test_text(ds):
    got = lk.account(ds)
    lines = got.lines()
    assert len({line.rstrip().rfind("  ") > 0 for line in lines}) == 1
    assert any(line.startswith("LCA of conv1") for line in lines)
    explained = got.lines(explain=True)
    assert [line for line in explained if not line.startswith("    ")] == lines
    assert len(explained) == 2 * len(lines) - 1  # one sentence a number; the layers share theirs
    assert str(got) == got.to_text()


def test_names_of_a_stranger_are_printed_safely():
    layers = (TensorSpec("\x1b[2Jw", (3,), "bias", "\x1b[2Jw"),)
    text = lk.account(tiny_trajectory(4, layers=layers).assign_attrs(loss_unit="\x1b[31mnats")).to_text()
    assert "\x1b" not in text
    assert "[2Jw" in text


def test_several_runs_are_refused(ds):
    with pytest.raises(lk.TrajectoryError, match=r"isel\(run=0\)"):
        lk.account(two_runs(ds, ds))


def test_flat_loss_has_no_percent(ds):
    flat = ds.assign(loss=ds["loss"] * 0 + 1.0)
    assert lk.account(flat).error_percent is None
