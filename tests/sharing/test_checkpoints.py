from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lcakit as lk
from lcakit.errors import LcakitError, RecordingError, TrajectoryError
from lcakit.record.allocation.allocator import Allocator
from lcakit.sharing.importers import rows
from lcakit.sharing.importers.checkpoints import from_checkpoints, read_state
from lcakit.trajectory.labels import tensor_shapes
from tests.support.checkpoints import STEPS, SUFFIXES, save, series
from tests.support.conformance import assert_conforms
from tests.support.laziness import nothing_computed
from tests.support.networks import dense, examples, norm_net


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("make", [dense, norm_net], ids=["dense", "batchnorm"])
def test_a_series_becomes_a_trajectory(tmp_path, suffix, make):
    model = make()
    theta = series(model, tmp_path / "all", suffix=suffix)
    ds = from_checkpoints(tmp_path / "all", model=model)
    with nothing_computed():
        assert ds["theta"].chunks is not None
    np.testing.assert_array_equal(ds["theta"], theta)
    assert ds["snapshot"].values.tolist() == list(STEPS)
    assert ds["iteration"].values.tolist() == list(STEPS[:-1])
    assert tensor_shapes(ds) == {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert ds.attrs["imported_from"] == "checkpoints"
    assert set(ds.data_vars) == {"theta"}
    assert_conforms(ds, tmp_path)


def test_files_a_pattern_or_a_folder(tmp_path):
    model = dense()
    theta = series(model, tmp_path / "all")
    (tmp_path / "all" / "notes.txt").write_text("no checkpoint")
    files = list((tmp_path / "all").glob("*.safetensors"))
    for paths in (files, map(str, files), tmp_path / "all", str(tmp_path / "all" / "*.safetensors")):
        np.testing.assert_array_equal(from_checkpoints(paths, model)["theta"], theta)


def test_any_block_of_it_is_read(tmp_path, monkeypatch):
    model = dense()
    theta = series(model, tmp_path / "all")
    for bytes_ in (1, 4 * theta.shape[1] * 2, 2**26):
        monkeypatch.setattr(rows, "BLOCK_BYTES", bytes_)
        array = from_checkpoints(tmp_path / "all", model)["theta"]
        assert len(array.chunks[0]) == {1: 4, 2**26: 1}.get(bytes_, 2)
        for key in (slice(None), (2, 7), (slice(1, 3), slice(3, 33)), (slice(None), -1)):
            np.testing.assert_array_equal(array[key], theta[key])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_other_precisions_become_float32(tmp_path, dtype, suffix):
    model = dense()
    theta = series(model, tmp_path / "all", suffix=suffix, wrap=lambda s: {n: v.to(dtype) for n, v in s.items()})
    expected = torch.tensor(theta).to(dtype).to(torch.float32).numpy()
    np.testing.assert_array_equal(from_checkpoints(tmp_path / "all", model)["theta"], expected)


# ---- allocation ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_allocation_between_sparse_checkpoints_adds_up(tmp_path):
    model, data = dense(), examples()
    series(model, tmp_path / "all")
    objective = lk.Objective(model, data)
    ds = from_checkpoints(tmp_path / "all", objective=objective, tolerance=1e-5, max_splits=256, quiet=True)
    change = np.diff(ds["loss"])
    assert abs(change.sum()) > 0.05
    np.testing.assert_allclose(ds["lca"].astype(float).sum("parameter"), change, atol=1.1e-5)
    assert int(ds["splits"].max()) > 2
    coarse = from_checkpoints(tmp_path / "all", objective=objective, rule="first_order", quiet=True)
    assert np.abs(coarse["residual"]).max() > 0.01
    assert_conforms(ds, tmp_path)


@pytest.mark.slow
def test_a_file_is_written_and_allocated_at_once(tmp_path):
    model, data = norm_net(), examples()
    series(model, tmp_path / "all")
    objective = lk.Objective(model, data)
    how = {"objective": objective, "quiet": True, "classes": "parameter"}
    in_memory = from_checkpoints(tmp_path / "all", **how)
    ds = from_checkpoints(tmp_path / "all", out=tmp_path / "run.nc", **how)
    assert (tmp_path / "run.nc").exists()
    np.testing.assert_array_equal(ds["lca_class"], in_memory["lca_class"])
    np.testing.assert_array_equal(ds["kernel_layer"], [0, 0, 2])
    assert ds.attrs["data_fingerprint"] == objective.data_fingerprint
    assert ds.attrs["imported_from"] == "checkpoints"
    assert not list(tmp_path.glob("*.partial"))
    assert_conforms(ds, tmp_path)


@pytest.mark.slow
def test_the_trajectory_can_be_allocated_later(tmp_path):
    model, data = dense(), examples()
    series(model, tmp_path / "all")
    ds = from_checkpoints(tmp_path / "all", model, out=tmp_path / "run.nc", quiet=True)
    assert set(ds.data_vars) == {"theta"}
    later = lk.allocate(tmp_path / "run.nc", lk.Objective(model, data), quiet=True)
    now = from_checkpoints(tmp_path / "all", objective=lk.Objective(model, data), quiet=True)
    np.testing.assert_array_equal(later["lca"], now["lca"])


def test_an_interrupted_allocation_goes_on(tmp_path, monkeypatch):
    model, data = dense(), examples()
    series(model, tmp_path / "all")
    objective, calls, real = lk.Objective(model, data), [], Allocator.advance

    def failing(self, vector):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, vector)

    monkeypatch.setattr(Allocator, "advance", failing)
    with pytest.raises(KeyboardInterrupt):
        from_checkpoints(tmp_path / "all", objective=objective, out=tmp_path / "run.nc", quiet=True)
    with pytest.raises(RecordingError, match=r"exists already.*lk\.allocate\(path, objective\)"):
        from_checkpoints(tmp_path / "all", objective=objective, out=tmp_path / "run.nc", quiet=True)
    assert lk.allocate(tmp_path / "run.nc", objective, quiet=True).sizes["iteration"] == 3


def test_an_existing_file_is_kept_unless_overwritten(tmp_path):
    model = dense()
    series(model, tmp_path / "all")
    (tmp_path / "run.nc").write_text("my thesis")
    with pytest.raises(RecordingError, match="exists already"):
        from_checkpoints(tmp_path / "all", model, out=tmp_path / "run.nc", quiet=True)
    assert (tmp_path / "run.nc").read_text() == "my thesis"
    from_checkpoints(tmp_path / "all", model, out=tmp_path / "run.nc", quiet=True, overwrite=True)


# ---- what is refused -------------------------------------------------------------------------------------------


def without(name):
    return lambda s: {n: v for n, v in s.items() if n != name}


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (without("2.bias"), "step20.*not of this model, missing: '2.bias'"),
        (lambda s: s | {"extra": torch.ones(2)}, "step20.*unexpected: 'extra'"),
        (
            lambda s: s | {"2.bias": torch.ones(4)},
            r"step20.*'2.bias' is float32 \(4,\), expected floats of shape \(3,\)",
        ),
        (lambda s: s | {"2.bias": torch.ones(3, dtype=torch.int64)}, r"'2.bias' is int64 \(3,\)"),
        (lambda s: {"model": {}}, "no tensors in it"),
        (lambda s: {"weights": 3}, "no tensors in it; it holds 'weights'"),
        (lambda s: [s], "holds a list, expected a state_dict"),
    ],
)
def test_a_checkpoint_of_something_else_is_named(tmp_path, wrap, says):
    model = dense()
    series(model, tmp_path / "all", suffix=".pt")
    save(wrap(model.state_dict()), tmp_path / "all" / "net2-step20.pt")
    with pytest.raises(TrajectoryError, match=says):
        from_checkpoints(tmp_path / "all", model)


def test_without_a_model_the_files_must_agree(tmp_path):
    model = dense()
    series(model, tmp_path / "all", suffix=".pt")
    for wrap, says in ((without("2.bias"), "missing: '2.bias'"), (lambda s: s | {"a.b": torch.ones(2)}, "'a.b'")):
        save(wrap(model.state_dict()), tmp_path / "all" / "net2-step20.pt")
        with pytest.raises(TrajectoryError, match=f"step20.*{says}"):
            from_checkpoints(tmp_path / "all")


class Trap:
    """Unpickling it would run code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_of_a_file_is_run(tmp_path):
    series(dense(), tmp_path / "all", suffix=".pt")
    path, sign = tmp_path / "all" / "net2-step5.pt", tmp_path / "sign"
    torch.save(dense().state_dict() | {"trap": Trap(sign)}, path)
    for spoil in (lambda: None, lambda: path.write_bytes(pickle.dumps(Trap(sign)))):
        spoil()
        with pytest.raises(TrajectoryError, match=r"step5\.pt: cannot be read: it is damaged, or holds more"):
            from_checkpoints(tmp_path / "all", dense())
    torch.save(dense(), path)
    with pytest.raises(TrajectoryError, match=r"step5\.pt.*\(torch\.nn.*Sequential\).*state_dict\(\)"):
        from_checkpoints(tmp_path / "all", dense())
    assert not sign.exists()


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
@pytest.mark.parametrize("cut", [0, 1, 7, 60, 300])
def test_damaged_files_are_named(tmp_path, suffix, cut):
    series(dense(), tmp_path / "all", suffix=suffix)
    path = tmp_path / "all" / f"net2-step100{suffix}"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(TrajectoryError, match=rf"step100\{suffix}: cannot be read"):
        from_checkpoints(tmp_path / "all", dense())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TrajectoryError, match=r"a2\.pt: there is no such file"):
        from_checkpoints([tmp_path / "a2.pt", tmp_path / "a3.pt"], dense())
    with pytest.raises(TrajectoryError, match="0 checkpoints"):
        from_checkpoints(str(tmp_path / "*.pt"), dense())


def test_old_pickles_are_read(tmp_path):
    state = dense().state_dict()
    torch.save(state, tmp_path / "old1.pt", _use_new_zipfile_serialization=False)
    assert read_state(tmp_path / "old1.pt").keys() == state.keys()


def test_options_of_an_allocation_need_an_objective(tmp_path):
    with pytest.raises(ValueError, match=r"tolerance: options of lk\.allocate"):
        from_checkpoints(tmp_path, dense(), tolerance=0.1)


def test_safetensors_may_be_missing(tmp_path, monkeypatch):
    series(dense(), tmp_path / "all")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(LcakitError, match=r"needs the package safetensors: pip install 'lcakit\[share\]'"):
        from_checkpoints(tmp_path / "all", dense())
