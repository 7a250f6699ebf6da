"""What a recorder writes, and what it refuses."""

from __future__ import annotations

import time

import netCDF4
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.storage import netcdf, segments
from lcakit.storage.paths import partial_path
from tests.support.networks import dense, dropout_net, examples, flat, norm_net, train
from tests.support.training import OPTIMIZERS, assert_same_data, record


@pytest.mark.sampled
@pytest.mark.parametrize("make", [dense, dropout_net, norm_net], ids=["dense", "dropout", "batchnorm"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_is_bit_identical_and_recorded_exactly(tmp_path, make, optimizer):
    recorded = record(tmp_path / "run.nc", make, optimizer)
    torch.manual_seed(5)
    model, (x, y) = make(), examples()
    snapshots = [flat(model)]
    train(
        model,
        OPTIMIZERS[optimizer](model.parameters()),
        x,
        y,
        20,
        each=lambda _: snapshots.append(flat(model)),
    )
    for name, value in model.state_dict().items():  # running statistics too
        assert torch.equal(value, recorded.state_dict()[name]), name
    ds = lk.open_trajectory(tmp_path / "run.nc")
    np.testing.assert_array_equal(ds["theta"], torch.stack(snapshots))
    residual = ds["lca"].astype(float).sum("parameter") - np.diff(ds["loss"])
    np.testing.assert_allclose(residual, ds["residual"], atol=1e-7)
    assert abs(float(ds["residual"].sum())) < 0.01 * abs(float(ds["loss"][-1] - ds["loss"][0]))


def test_global_generators_go_on_as_without_recorder(tmp_path):
    record(tmp_path / "run.nc", dropout_net)
    after = torch.rand(3), np.random.get_state()[1]
    torch.manual_seed(5)
    model, (x, y) = dropout_net(), examples()
    train(model, OPTIMIZERS["adam"](model.parameters()), x, y, 20)
    assert torch.equal(torch.rand(3), after[0])
    assert np.array_equal(np.random.get_state()[1], after[1])


@pytest.mark.slow
def test_later_equals_online(tmp_path):
    record(tmp_path / "online.nc")
    record(tmp_path / "later.nc", allocate="later")
    assert_same_data(lk.open_trajectory(tmp_path / "online.nc"), lk.open_trajectory(tmp_path / "later.nc"))


@pytest.mark.slow
def test_block_length_changes_nothing(tmp_path):
    record(tmp_path / "one.nc", block_rows=1)
    record(tmp_path / "many.nc", block_rows=7)
    assert_same_data(lk.open_trajectory(tmp_path / "one.nc"), lk.open_trajectory(tmp_path / "many.nc"))


@pytest.mark.slow
def test_thinning_keeps_the_last_snapshot_and_the_total(tmp_path):
    model = record(tmp_path / "thin.nc", every=6)
    record(tmp_path / "all.nc")
    thin, full = lk.open_trajectory(tmp_path / "thin.nc"), lk.open_trajectory(tmp_path / "all.nc")
    assert thin["snapshot"].values.tolist() == [0, 6, 12, 18, 20]
    assert thin["iteration"].values.tolist() == [0, 6, 12, 18]
    np.testing.assert_array_equal(thin["theta"], full["theta"].sel(snapshot=thin["snapshot"]))
    np.testing.assert_array_equal(thin["theta"][-1], flat(model))
    assert float(thin["lca"].sum()) == pytest.approx(float(full["loss"][-1] - full["loss"][0]), abs=1e-3)


@pytest.mark.slow
def test_keep_and_classes_choose_the_variables(tmp_path):
    record(tmp_path / "few.nc", keep=("lca",), classes=None)
    few = lk.open_trajectory(tmp_path / "few.nc")
    assert "theta" not in few
    assert "gradient" not in few
    assert "lca_unit_class" not in few
    record(tmp_path / "all.nc", classes="parameter")
    np.testing.assert_allclose(few["lca"], lk.open_trajectory(tmp_path / "all.nc")["lca"], atol=1e-7)


def test_learning_rate_and_provenance_are_stored(tmp_path):
    model, (x, y) = dense(), examples()
    opt = OPTIMIZERS["sgd"](model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)
    objective = lk.Objective(model, (x, y), class_names=["a", "b", "<b>c</b>"])
    config = {"what": "a test", "lr": [0.1, 0.05]}
    with lk.Recorder(tmp_path / "run.nc", objective, opt, quiet=True, config=config, seed=7):
        train(model, opt, x, y, 4, each=lambda _: schedule.step())
    ds = lk.open_trajectory(tmp_path / "run.nc")
    np.testing.assert_allclose(ds["learning_rate"], [0.1, 0.1, 0.05, 0.05], rtol=1e-6)
    assert ds.attrs["seed"] == 7
    assert ds.attrs["data_fingerprint"] == objective.data_fingerprint
    assert '"a test"' in str(ds["config"].values)
    assert list(ds["class"].values) == ["a", "b", "<b>c</b>"]


def test_regression_without_classes(tmp_path):
    torch.manual_seed(0)
    model, x = nn.Linear(3, 2), torch.randn(40, 3)
    y = x[:, :2] * 2
    opt = OPTIMIZERS["sgd"](model.parameters())
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y), loss="mse"), opt, quiet=True):
        for _ in range(5):
            opt.zero_grad()
            F.mse_loss(model(x), y).backward()
            opt.step()
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert "lca_unit_class" not in ds
    assert ds["lca"].attrs["units"] == "squared error"
    np.testing.assert_allclose(ds["lca"].sum("parameter"), np.diff(ds["loss"]), atol=1e-6)


@pytest.mark.slow
def test_an_existing_file_is_never_replaced_unasked(tmp_path):
    path = tmp_path / "run.nc"
    record(path, steps=3)
    with pytest.raises(lk.RecordingError, match="exists already"):
        record(path)
    with pytest.raises(lk.RecordingError, match="is finished"):
        record(path, resume=True)
    assert lk.open_trajectory(path).sizes["iteration"] == 3
    record(path, steps=5, overwrite=True)
    assert lk.open_trajectory(path).sizes["iteration"] == 5


def test_divergence_names_the_iteration_and_keeps_what_was_before(tmp_path):
    model, (x, y) = dense(activation=nn.Identity), examples()
    opt = torch.optim.SGD(model.parameters(), lr=1e-2)

    def explode(step):
        if step == 6:
            opt.param_groups[0]["lr"] = 1e30

    path = tmp_path / "run.nc"
    with (
        pytest.raises(lk.DivergedError, match=r"iteration 7 \(optimizer step 8\)"),
        lk.Recorder(path, lk.Objective(model, (x, y)), opt, quiet=True),
    ):
        train(model, opt, x, y, 20, each=explode)
    ds = lk.open_trajectory(path)
    assert ds.sizes["iteration"] == 7
    assert np.isfinite(ds["lca"]).all()


@pytest.mark.slow
def test_full_disk_is_an_error_and_finished_segments_stay(tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    real, written = segments.write_arrays, []

    def full(*args, **kwargs):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(segments, "write_arrays", full)
    with pytest.raises(lk.RecordingError, match="No space left"):
        record(path, block_rows=3)
    monkeypatch.undo()
    assert lk.open_trajectory(path).sizes["iteration"] == 6
    record(path, resume=True, block_rows=3)
    record(tmp_path / "whole.nc")
    assert_same_data(lk.open_trajectory(path), lk.open_trajectory(tmp_path / "whole.nc"))


@pytest.mark.slow
def test_full_disk_while_merging_keeps_the_segments(tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    monkeypatch.setattr(
        netcdf, "write_window", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(lk.RecordingError, match="No space left"):
        record(path)
    monkeypatch.undo()
    assert not path.exists()
    assert lk.open_trajectory(path).sizes["iteration"] == 20
    lk.finish(path)
    assert lk.open_trajectory(path).sizes["iteration"] == 20


def test_budget_is_checked_before_anything_is_written(tmp_path):
    with pytest.raises(lk.LcakitError, match=r"needs 15\.1 KB, the budget is 2 KB"):
        record(tmp_path / "run.nc", budget="2 KB", n_iterations=20)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep": ("weights",)}, "theta"),
        ({"keep": "theta"}, "keep must be a list of texts, got the text 'theta'"),
        ({"keep": "lca, theta"}, r"write keep=\['lca', 'theta'\]"),
        ({"allocate": "never"}, "online"),
        ({"allocate": "later", "keep": ("lca",)}, "must include"),
        ({"every": 0}, "at least 1"),
        ({"path": ""}, "name of the file is empty"),
        ({"path": None}, "must be a str or a Path, got NoneType"),
        ({"every": 2.5}, "every must be a whole number"),
        ({"n_iterations": 1.5}, "n_iterations must be a whole number"),
        ({"compression": "lzma"}, "unknown compression 'lzma'.*zlib"),
        ({"config": {"a": 1, "b": object()}}, r"config\['b'\] cannot be stored"),
        ({"budget": "1 GB"}, "n_iterations"),
        ({"resume": True, "overwrite": True}, "one of them"),
        ({"state": {"x": object()}}, "state_dict"),
    ],
)
def test_bad_options_are_named(tmp_path, options, says):
    with pytest.raises((ValueError, lk.RecordingError), match=says):
        record(**({"path": tmp_path / "run.nc"} | options))
    assert not list(tmp_path.iterdir())


def test_two_recorders_cannot_write_one_recording(tmp_path):
    path = tmp_path / "run.nc"
    model, (x, y) = dense(), examples()
    with lk.Recorder(path, lk.Objective(model, (x, y)), quiet=True, block_rows=1) as rec:
        rec.step()
        while not segments.has_rows(partial_path(path)):
            time.sleep(0.01)
        second = lk.Recorder(path, lk.Objective(model, (x, y)), quiet=True, resume=True)
        replacing = lk.Recorder(path, lk.Objective(model, (x, y)), quiet=True, overwrite=True)
        for intrude in (second.__enter__, replacing.__enter__, lambda: lk.finish(path)):
            with pytest.raises(lk.RecordingError, match="being written by another recorder"):
                intrude()
    assert lk.open_trajectory(path).sizes["iteration"] == 1


def test_any_failure_of_the_writer_reaches_the_loop(tmp_path, monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError("no memory")

    monkeypatch.setattr(segments, "write_arrays", no_memory)
    with pytest.raises(lk.RecordingError, match="no memory"):
        record(tmp_path / "run.nc", block_rows=1)


@pytest.mark.slow
def test_later_keeps_what_online_keeps(tmp_path):
    options = {"keep": ("theta", "lca"), "compression": "zlib"}
    record(tmp_path / "later.nc", allocate="later", **options)
    record(tmp_path / "online.nc", **options)
    assert_same_data(lk.open_trajectory(tmp_path / "online.nc"), lk.open_trajectory(tmp_path / "later.nc"))
    assert netCDF4.Dataset(tmp_path / "later.nc")["lca"].filters()["zlib"]


def test_relative_path_survives_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    model, (x, y) = dense(), examples()
    opt = OPTIMIZERS["sgd"](model.parameters())
    with lk.Recorder("new folder/run.nc", lk.Objective(model, (x, y)), opt, quiet=True, block_rows=1):
        monkeypatch.chdir(tmp_path / "elsewhere")
        train(model, opt, x, y, 3)
    assert lk.open_trajectory(tmp_path / "new folder" / "run.nc").sizes["iteration"] == 3


def test_a_place_that_cannot_be_written_is_named_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    objective = lk.Objective(dense(), examples())
    with (
        pytest.raises(lk.RecordingError, match="Choose another place"),
        lk.Recorder(tmp_path / "file" / "run.nc", objective),
    ):
        pass
    assert objective.evaluations == 0


@pytest.mark.slow
def test_estimate_is_the_size_of_the_file(tmp_path):
    model = record(tmp_path / "run.nc", steps=50, classes="parameter")
    objective = lk.Objective(model, examples())
    found = lk.estimate(objective, 50, classes="parameter")
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert found.bytes_by_variable == {name: ds[name].nbytes for name in found.bytes_by_variable}
    assert set(found.bytes_by_variable) == {"theta", "gradient", "lca", "lca_unit_class", "lca_class"}
    assert found.gradient_evaluations == 101
    assert lk.estimate(model, 50, n_classes=3).n_parameters == 53


UNREADABLE = {
    "a long name": ({"class_names": ["a" * 2000, "b", "c"]}, {}, "2,000 letters"),
    "names that look the same": ({"class_names": ["e\u0301", "\u00e9", "c"]}, {}, "repeated names"),
    "a seed beyond 64 bits": ({}, {"seed": 2**70}, "'seed' is no number of 64 bits"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_the_file_could_not_be_opened_with_is_told_before_the_training(tmp_path, kind):
    of_objective, of_recorder, says = UNREADABLE[kind]
    objective = lk.Objective(dense(), examples(), **of_objective)
    recorder = lk.Recorder(tmp_path / "run.nc", objective, quiet=True, **of_recorder)
    with pytest.raises(lk.RecordingError, match=says):
        recorder.start()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file_to_record_to(tmp_path):
    objective = lk.Objective(dense(), examples())
    for name in (tmp_path, tmp_path / ".", str(tmp_path)):
        with pytest.raises(lk.RecordingError, match="is a folder"):
            lk.Recorder(name, objective, overwrite=True)
