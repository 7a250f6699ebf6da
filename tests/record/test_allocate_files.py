"""Allocations in files: beside another, interrupted, refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lcakit as lk
from lcakit.record.allocation.allocator import Allocator
from tests.support.allocations import walk
from tests.support.networks import dense, examples, norm_net


@pytest.mark.slow
def test_file_in_place_with_a_second_objective(tmp_path):
    model, (x, y) = dense(), examples()
    objective = lk.Objective(model, (x, y))
    theta = walk(model, x, y)
    path = lk.save(lk.allocate(theta, objective, quiet=True), tmp_path / "run.nc")
    held_out = examples(30, seed=9)
    lk.allocate(path, lk.Objective(model, held_out), name="val", quiet=True)
    ds = lk.open_trajectory(path)
    np.testing.assert_array_equal(ds["lca"], lk.allocate(theta, objective, quiet=True)["lca"])
    alone = lk.allocate(theta, lk.Objective(model, held_out), quiet=True)
    for name in ("lca", "lca_unit_class", "loss", "loss_class", "residual", "gradient"):
        np.testing.assert_array_equal(ds[f"{name}_val"], alone[name])
    assert ds.attrs["n_examples"] == 50
    assert ds.attrs["n_examples_val"] == 30
    assert ds["lca_val"].attrs["units"] == "nats"
    with pytest.raises(lk.RecordingError, match="already has lca_val"):
        lk.allocate(path, lk.Objective(model, held_out), name="val", quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["run.nc"]


@pytest.mark.slow
def test_a_second_objective_has_its_own_unit(tmp_path):
    model, (x, y) = dense(), examples()
    ds = lk.allocate(walk(model, x, y), lk.Objective(model, (x, y)), quiet=True)
    one_hot = torch.nn.functional.one_hot(y, 3).float()
    squares = lk.Objective(model, (x, one_hot), loss="mse")
    ds = lk.open_trajectory(lk.save(lk.allocate(ds, squares, name="mse", quiet=True), tmp_path / "run.nc"))
    for name in ("loss", "lca", "residual", "lca_unit_class"):
        assert ds[name].attrs["units"] == "nats"
    for name in ("loss_mse", "lca_mse", "residual_mse", "unit_lca_mse"):
        if name in ds:
            assert ds[name].attrs["units"] == squares.loss_unit != "nats"
    assert lk.account(ds).loss_unit == "nats"
    assert lk.account(ds, "mse").loss_unit == squares.loss_unit
    assert lk.layers.freeze_candidates(ds, lca="lca_mse")["lca"].attrs["units"] == squares.loss_unit


@pytest.mark.slow
def test_classes_of_a_second_objective_have_the_names_of_the_file(tmp_path):
    model, (x, y) = dense(), examples()

    def objective(*names):
        return lk.Objective(model, (x, y), class_names=names or None)

    ds = lk.allocate(walk(model, x, y, 2), objective("a", "b", "c"), quiet=True)
    path = lk.save(lk.allocate(walk(model, x, y, 2), objective("a\tb", "b", "c"), quiet=True), tmp_path / "run.nc")
    assert "lca_val" in lk.allocate(path, objective("a\tb", "b", "c"), name="val", quiet=True)
    for names in ((), ("a", "b", "c")):
        assert "loss_class_val" in lk.allocate(ds, objective(*names), name="val", quiet=True)
    with pytest.raises(lk.RecordingError, match=r"3 classes \(a, b, c\), this objective 3 classes \(c, b, a\)"):
        lk.allocate(ds, objective("c", "b", "a"), name="val", quiet=True)


def test_interrupted_allocation_continues(tmp_path, monkeypatch):
    model, (x, y) = dense(), examples()
    theta = walk(model, x, y)
    source = lk.allocate(theta, lk.Objective(model, (x, y)), quiet=True)
    path = lk.save(source[["theta"]].assign_coords(source.coords), tmp_path / "run.nc")
    real = Allocator.advance
    calls = []

    def failing(self, vector):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return real(self, vector)

    monkeypatch.setattr(Allocator, "advance", failing)
    with pytest.raises(KeyboardInterrupt):
        lk.allocate(path, lk.Objective(model, (x, y)), quiet=True)
    monkeypatch.undo()
    assert "lca" not in lk.open_trajectory(path)
    with pytest.raises(lk.RecordingError, match="rule: stored 'rk4', now 'boole'"):
        lk.allocate(path, lk.Objective(model, (x, y)), rule="boole", quiet=True)
    objective = lk.Objective(model, (x, y))
    ds = lk.allocate(path, objective, quiet=True)
    assert objective.evaluations == 1 + 2 * 3
    for name in ("lca", "lca_unit_class", "loss", "residual", "gradient", "theta"):
        np.testing.assert_array_equal(ds[name], source[name])


def interrupted_allocation(theta, objective, path, monkeypatch, after=2):
    real, calls = Allocator.advance, []

    def failing(self, vector):
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(1)
        return real(self, vector)

    with monkeypatch.context() as patch:
        patch.setattr(Allocator, "advance", failing)
        with pytest.raises(KeyboardInterrupt):
            lk.allocate(theta, objective, out=path, quiet=True)


@pytest.mark.parametrize("make", [dense, norm_net], ids=["dense", "batchnorm"])
def test_a_batch_is_a_setting_where_it_is_part_of_the_objective(tmp_path, monkeypatch, make):
    data, path = examples(), tmp_path / "run.nc"
    theta = walk(make(), *data, 4)
    interrupted_allocation(theta, lk.Objective(make(), data, batch_size=25), path, monkeypatch)
    other = lk.Objective(make(), data, batch_size=50)
    if make is norm_net:
        with pytest.raises(lk.RecordingError, match="evaluation_batch_size: stored 25, now 50"):
            lk.allocate(theta, other, out=path, quiet=True)
    else:
        assert lk.allocate(theta, other, out=path, quiet=True).sizes["iteration"] == 4


def test_an_interrupted_allocation_of_another_path_is_not_continued(tmp_path, monkeypatch):
    model, (x, y) = dense(), examples()
    objective = lk.Objective(model, (x, y))
    one, other = walk(dense(), x, y), walk(dense(seed=1), x, y)
    interrupted_allocation(one, objective, tmp_path / "run.nc", monkeypatch)
    with pytest.raises(lk.RecordingError, match="path_fingerprint"):
        lk.allocate(other, objective, out=tmp_path / "run.nc", quiet=True)
    ds = lk.allocate(one, objective, out=tmp_path / "run.nc", quiet=True)
    np.testing.assert_array_equal(ds["lca"], lk.allocate(one, objective, quiet=True)["lca"])


def test_an_allocation_killed_before_its_first_segment_begins_anew(tmp_path, monkeypatch):
    model, (x, y) = dense(), examples()
    theta, objective = walk(model, x, y), lk.Objective(model, (x, y))
    interrupted_allocation(theta, objective, tmp_path / "run.nc", monkeypatch)
    for segment in (tmp_path / "run.nc.allocation.partial").glob("*.npz"):
        segment.unlink()
    assert lk.allocate(theta, objective, out=tmp_path / "run.nc", quiet=True).sizes["iteration"] == 6


def test_an_existing_output_is_kept_unless_overwritten(tmp_path):
    model, (x, y) = dense(), examples()
    theta, objective = walk(model, x, y), lk.Objective(model, (x, y))
    (tmp_path / "precious.nc").write_text("my thesis")
    with pytest.raises(lk.RecordingError, match="exists already"):
        lk.allocate(theta, objective, out=tmp_path / "precious.nc", quiet=True)
    assert (tmp_path / "precious.nc").read_text() == "my thesis"
    lk.allocate(theta, objective, out=tmp_path / "precious.nc", quiet=True, overwrite=True)


def test_allocating_anew_leaves_nothing_of_the_old_rule():
    model, (x, y) = dense(), examples()
    objective = lk.Objective(model, (x, y), class_names=["ant", "bee", "cat"])
    ds = lk.allocate(walk(model, x, y), objective, quiet=True)
    again = lk.allocate(ds, objective, rule="first_order", classes=None, overwrite=True, quiet=True)
    assert "lca_unit_class" not in again
    assert again.attrs["rule"] == "first_order"
    beside = lk.allocate(ds, lk.Objective(model, examples(20)), name="val", quiet=True)
    assert list(beside["class"].values) == ["ant", "bee", "cat"]


def test_an_unfinished_recording_is_not_extended_in_place(tmp_path):
    model, (x, y) = dense(), examples()
    objective = lk.Objective(model, (x, y))
    with pytest.raises(KeyboardInterrupt), lk.Recorder(tmp_path / "run.nc", objective, quiet=True) as rec:
        rec.step()
        raise KeyboardInterrupt
    with pytest.raises(lk.RecordingError, match=r"lk\.finish"):
        lk.allocate(tmp_path / "run.nc", objective, name="val", quiet=True)
    assert not (tmp_path / "run.nc").exists()
