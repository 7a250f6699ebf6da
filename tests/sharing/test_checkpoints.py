from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lcakit as lk
from lcakit.errors import LcakitError, RecordingError, TrajectoryError
from lcakit.record.allocation.allocator import Allocator
from lcakit.sharing.importers import checkpoints, rows
from lcakit.sharing.importers.checkpoints import from_checkpoints, read_state
from lcakit.sharing.importers.numbered import numbered
from lcakit.trajectory.labels import tensor_shapes
from tests.support.conformance import assert_conforms, assert_equal
from tests.support.laziness import nothing_computed
from tests.support.networks import dense, examples, flat, norm_net, train

st = pytest.importorskip("safetensors.torch")
STEPS = (0, 5, 20, 100)


def save(state, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".safetensors":
        st.save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def series(model, folder, *, suffix=".safetensors", wrap=lambda state: state, steps=STEPS, lr=0.3):
    """Train and save now and then; return (T+1, K) snapshots, whose files do not sort by name."""
    x, y = examples()
    theta = []

    def each(step):
        if step + 1 in steps or step < 0:
            theta.append(flat(model).numpy().copy())
            save(wrap(copy.deepcopy(model.state_dict())), folder / f"net2-step{step + 1}{suffix}")

    each(-1)
    train(model, torch.optim.SGD(model.parameters(), lr=lr), x, y, max(steps), each=each)
    return np.array(theta)


SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


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


# ---- names in checkpoints --------------------------------------------------------------------------------------


def prefixed(*prefixes):
    return lambda state: {".".join((*prefixes, name)): value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        prefixed("module"),
        prefixed("_orig_mod"),
        prefixed("_orig_mod", "module"),
        lambda s: {name.replace("0.", "0._orig_mod."): value for name, value in s.items()},
    ],
)
def test_wrappers_in_names_are_looked_through(tmp_path, wrap):
    model = norm_net()
    theta = series(model, tmp_path / "all", wrap=wrap)
    np.testing.assert_array_equal(from_checkpoints(tmp_path / "all", model)["theta"], theta)
    wrapped = nn.DataParallel(model)
    assert_equal(
        from_checkpoints(tmp_path / "all", wrapped).assign_attrs(created_at=""),
        from_checkpoints(tmp_path / "all", model).assign_attrs(created_at=""),
    )


@pytest.mark.parametrize("key", checkpoints.WRAPPERS)
def test_the_state_may_lie_in_a_checkpoint_of_the_loop(tmp_path, key):
    model = dense()
    optimizer = torch.optim.Adam(model.parameters()).state_dict()
    theta = series(
        model,
        tmp_path / "all",
        suffix=".pt",
        wrap=lambda s: {"epoch": 3, key: s, "optimizer": optimizer, "x": torch.ones(1)},
    )
    np.testing.assert_array_equal(from_checkpoints(tmp_path / "all", model)["theta"], theta)


class Module(nn.Module):
    """A model with a part that is called as wrappers call theirs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.module = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.module(x)))


def test_a_part_that_is_really_called_module(tmp_path):
    model = Module()
    theta = series(model, tmp_path / "plain")
    ds = from_checkpoints(tmp_path / "plain", model)
    assert ds["tensor"].values[0] == "module.weight"
    np.testing.assert_array_equal(ds["theta"], theta)
    model.weight = nn.Parameter(torch.zeros(5, 6))
    with pytest.raises(TrajectoryError, match="differ only by 'module'"):
        from_checkpoints(tmp_path / "plain", model)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode = nn.Linear(6, 6, bias=False)
        self.decode = nn.Linear(6, 6, bias=False)
        self.decode.weight = self.encode.weight
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.decode(torch.tanh(self.encode(x))))


@pytest.mark.parametrize("dropped", ["", "encode.weight", "decode.weight"])
def test_tied_parameters_count_once_under_any_of_their_names(tmp_path, dropped):
    model = Tied()
    theta = series(model, tmp_path / "all", wrap=lambda s: {n: v for n, v in s.items() if n != dropped})
    ds = from_checkpoints(tmp_path / "all", model)
    np.testing.assert_array_equal(ds["theta"], theta)
    assert ds["tensor"].values.tolist() == ["encode.weight", "head.weight", "head.bias"]


def test_tied_parameters_that_differ_are_refused(tmp_path):
    model = Tied()
    series(model, tmp_path / "all", wrap=lambda s: s | {"decode.weight": s["decode.weight"] + 1})
    with pytest.raises(TrajectoryError, match=r"step0.*is a second 'encode.weight' with other values"):
        from_checkpoints(tmp_path / "all", model)


def frozen():
    model = dense()
    model[0].requires_grad_(False)
    return model


def test_frozen_parameters_are_left_out_but_must_be_those_of_the_objective(tmp_path):
    model = frozen()
    theta = series(model, tmp_path / "all")
    ds = from_checkpoints(tmp_path / "all", objective=lk.Objective(model, examples()), quiet=True)
    np.testing.assert_array_equal(ds["theta"], theta)
    assert ds["tensor"].values.tolist() == ["2.weight", "2.bias"]
    other = frozen()
    with torch.no_grad():
        other[0].weight.add_(1)
    assert set(from_checkpoints(tmp_path / "all", other).data_vars) == {"theta"}
    with pytest.raises(TrajectoryError, match=r"step0.*'0.weight', which the model does not train, has other values"):
        from_checkpoints(tmp_path / "all", objective=lk.Objective(other, examples()), quiet=True)


def test_without_a_model_the_names_tell(tmp_path):
    model = norm_net()
    series(model, tmp_path / "all", suffix=".pt", wrap=prefixed("module"))
    ds = from_checkpoints(tmp_path / "all")
    assert_equal(ds.drop_vars("layer_kind").assign_attrs(created_at=""), guessed(tmp_path / "all", model))
    assert ds["layer_kind"].values.tolist() == ["linear", "norm", "linear"]


def guessed(folder, model):
    ds = from_checkpoints(folder, model).drop_vars("layer_kind").assign_attrs(created_at="")
    assert "running_mean" not in " ".join(ds["tensor"].values)
    return ds


# ---- order -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "pattern", "order"),
    [
        (["step10.pt", "step9.pt", "step100.pt"], None, [9, 10, 100]),
        (["run2-epoch3-step0100.pt", "run2-epoch2-step0050.pt"], None, [50, 100]),
        (["model.7.safetensors", "model.12.safetensors"], None, [7, 12]),
        (["epoch=2-loss=0.25.ckpt", "epoch=1-loss=0.31.ckpt"], "epoch=([0-9]+)", [1, 2]),
        (["00.bin", "1.bin"], None, [0, 1]),
    ],
)
def test_checkpoints_are_ordered_by_their_number(names, pattern, order):
    found = numbered(names, pattern)
    assert list(found) == order
    assert all(re.search(rf"0*{n}\b", path.name) for n, path in found.items())


@pytest.mark.parametrize(
    ("names", "pattern", "says"),
    [
        (["a1.pt", "b1.pt"], None, "a1.pt and b1.pt have the same number 1"),
        (["shard-1-of-2.pt", "shard-2-of-2.pt"], None, "have the same number 2"),
        (["a1.pt", "last.pt"], None, r"last.pt: the name has no clear number\. Say with pattern"),
        (["epoch=1-loss=0.25.ckpt", "epoch=2-loss=0.21.ckpt"], None, r"no clear number \('0.25'\)"),
        (["a1.pt", "a2.pt"], "step([0-9]+)", "a1.pt: the name has no clear number"),
        (["a1.pt", "a2.pt"], "(a)", r"no clear number \('a'\)"),
        ([f"a{'9' * 30}.pt", "a2.pt"], None, "no clear number"),
        (["a1.pt", "a2.txt"], None, "a2.txt: no checkpoint, its name must end in .safetensors, .pt"),
        (["a1.pt"], None, "1 checkpoints in.*at least two"),
        ([], None, "0 checkpoints in"),
    ],
)
def test_unclear_numbers_are_refused(names, pattern, says):
    with pytest.raises(TrajectoryError, match=says):
        numbered(names, pattern)


def test_a_pattern_needs_a_group():
    with pytest.raises(ValueError, match="pattern needs one group"):
        numbered(["a1.pt", "a2.pt"], "a[0-9]+")


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
        (lambda s: {"weights": s}, "no tensors in it; it holds 'weights'"),
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
