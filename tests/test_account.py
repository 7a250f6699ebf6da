from __future__ import annotations

import dask
import numpy as np
import pytest

import lcakit as lk
from lcakit.labels import TensorSpec
from lcakit.testing import tiny_trajectory

from .laziness import two_runs


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
    assert "LCA" not in text
    assert "None" not in text


def test_sum_from_residual_or_units_where_lca_is_not_kept(ds):
    full, units = lk.account(ds), lk.account(ds.drop_vars("lca"))
    assert units.layers == pytest.approx(full.layers, rel=1e-5)
    assert units.helping_percent is None
    short = lk.account(ds.drop_vars(["lca", "lca_unit_class"]))
    assert short.lca_sum == pytest.approx(full.lca_sum, rel=1e-5)


def test_another_objective(ds):
    val = {f"{name}_val": 2 * ds[name] for name in ("lca", "loss", "residual")}
    got = lk.account(ds.assign(val), "val")
    assert got.lca_sum == pytest.approx(2 * lk.account(ds).lca_sum)
    assert got.loss_first == 2 * ds["loss"].values[0]
    assert got.accuracy_first is None
    with pytest.raises(lk.TrajectoryError, match="'test'"):
        lk.account(ds, "test")


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
