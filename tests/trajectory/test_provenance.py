from __future__ import annotations

import json
import platform
import sys

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.sharing.citation import cite
from lcakit.sharing.describe import describe, fingerprint
from lcakit.testing import tiny_trajectory
from lcakit.trajectory import provenance
from lcakit.trajectory.labels import TensorSpec
from lcakit.trajectory.provenance import made_by
from tests.support.laziness import nothing_computed, two_runs

OWNER = {"author": "A. Student", "title": "A run", "year": 2024, "doi": "10.5281/zenodo.1", "license": "CC-BY-4.0"}


@pytest.fixture
def ds() -> xr.Dataset:
    return tiny_trajectory(12, class_parameters=True)


# ---- written while recording -----------------------------------------------------------------------------------


def test_the_call_and_its_options():
    made = made_by("lk.Recorder", rule="rk4", tolerance=np.float64(1e-3), keep=("theta",), seed=None)
    assert made["created_by"] == "lk.Recorder(rule='rk4', tolerance=0.001, keep=('theta',))"
    assert made["versions"].startswith(f"python {platform.python_version()}, numpy {np.__version__}")
    assert f"lcakit {lk.__version__}" in made["versions"]


def test_the_typed_command_stands_for_the_call(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lcakit", "record", "mnist-fc", "--out", "my run.nc"])
    assert made_by("lk.Recorder")["created_by"] == "lcakit record mnist-fc --out 'my run.nc'"
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "1"])
    assert provenance.command_line() == ""
    monkeypatch.setattr(sys, "argv", ["/site-packages/lcakit/cli/__main__.py", "record", "mnist-fc"])
    assert provenance.command_line() == "lcakit record mnist-fc"  # python -m lcakit.cli
    monkeypatch.setattr(sys, "argv", ["/home/me/cli/__main__.py", "record"])
    assert provenance.command_line() == ""


def test_recordings_and_allocations_say_how_they_were_made(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    x, y = torch.randn(20, 3), torch.randint(0, 2, (20,))
    objective = lk.Objective(model, (x, y), class_names=["a", "b"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    path = tmp_path / "run.nc"
    with lk.Recorder(path, objective, optimizer, seed=5, every=2, quiet=True):
        for _ in range(4):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    with lk.open_trajectory(path) as ds:
        assert ds.attrs["created_by"].startswith("lk.Recorder(rule='rk4', tolerance=0.001")
        assert "every=2" in ds.attrs["created_by"]
        assert "seed=5" in ds.attrs["created_by"]
        assert f"torch {torch.__version__}" in ds.attrs["versions"]
        assert "allocated_by" not in ds.attrs
    lk.allocate(path, objective, rule="trapezoid", tolerance=None, name="val", quiet=True)
    with lk.open_trajectory(path) as ds:
        assert ds.attrs["allocated_by_val"].startswith("lk.allocate(rule='trapezoid', tolerance=-1.0")
        assert ds.attrs["created_by"].startswith("lk.Recorder(")
        assert lk.validate(ds, quiet=True).ok
    told = str(describe(path))
    assert "lk.Recorder(" in told
    assert "allocated_by_val" in told


# ---- description -----------------------------------------------------------------------------------------------


def test_a_description_reads_no_large_variable(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc")
    with lk.open_trajectory(path) as got:
        large = [name for name in got.data_vars if got[name].ndim > 1]
        for name in large:
            got[name] = got[name].copy(data=got[name].data.map_blocks(refuse, dtype=got[name].dtype))
        found = describe(got)
    assert found.sizes["parameter"] == 61
    loss = ds["loss"].values
    assert found.numbers["loss at the start"] == loss[0]
    assert found.numbers["loss at the end"] == loss[-1]
    assert found.numbers["sum of LCA"] == pytest.approx(float(ds["lca"].astype(float).sum()), rel=1e-6)
    assert found.numbers["largest residual"] == np.abs(ds["residual"].values).max()
    assert found.numbers["full-set gradients"] == 25
    assert {name: size for name, _, size in found.variables}["lca_class"] == 12 * 3 * 61 * 4


def refuse(block):
    raise AssertionError("read a large variable")


def test_a_description_in_every_form(ds):
    found = describe(ds.assign_attrs(OWNER))
    text = found.to_text()
    for piece in ("A. Student", "creator", "lcakit 0", "iteration 12 × parameter 61, float32", "loss at the end"):
        assert piece in text
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["facts"]["author"] == "A. Student"
    assert {"name": "lca", "shape": "iteration 12 × parameter 61, float32", "bytes": 2928} in plain["variables"]
    assert plain["fingerprint"] == fingerprint(ds)


def test_a_long_configuration_is_told_whole(ds):
    config = {"batches": list(range(300)), "optimizer": {"name": "sgd", "lr": 0.1}, "note": "\x1b[2J\u202e" + "a" * 500}
    found = describe(ds.assign(config=json.dumps(config)))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["config"] == config
    assert "config" not in plain["facts"]
    text = found.to_text()
    assert json.dumps(config["batches"]) in text
    assert '"lr": 0.1' in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    for broken in ("no json", "[1]", "[" * 100_000):
        assert "config" in describe(ds.assign(config=broken)).facts


def test_a_description_of_runs_and_objectives(ds):
    both = two_runs(ds, tiny_trajectory(12, seed=1, class_parameters=True))
    numbers = describe(both).numbers
    assert numbers["x: loss at the start"] == ds["loss"].values[0]
    assert numbers["y: loss at the start"] != numbers["x: loss at the start"]
    val = describe(ds.assign(loss_val=2 * ds["loss"], residual_val=ds["residual"])).numbers
    assert val["loss at the end (val)"] == 2 * val["loss at the end"]


def test_a_description_of_little_or_of_odd_things(ds):
    found = describe(xr.Dataset({"x": ("y", [1.0])}))
    assert found.numbers == {}
    odd = ds.assign_attrs(author="\x1b[2J" + "b" * 10_000, **{f"a{k}": k for k in range(500)})
    text = describe(odd).to_text()
    assert "\x1b" not in text
    assert "in all)" in text
    assert len(text) < 20_000
    flat = ds.assign(loss=xr.full_like(ds["loss"], 2.0))
    assert "total error, percent" not in describe(flat).numbers


def test_a_partial_recording_is_described(tmp_path, ds):
    with pytest.raises(lk.TrajectoryError, match="no such file"):
        describe(tmp_path / "none.nc")
    path = lk.save(ds, tmp_path / "run.nc")
    assert describe(path).source == str(path)


# ---- citation --------------------------------------------------------------------------------------------------


def test_a_citation_with_everything(ds):
    first, second = cite(ds.assign_attrs(OWNER)).split("\n\n")
    mark = fingerprint(ds)
    assert first == (
        f"A. Student (2024). A run [Data set: trajectory, lcakit format 1.1, written by lcakit {lk.__version__}]. "
        f"https://doi.org/10.5281/zenodo.1. Fingerprint sha256:{mark[:16]}."
    )
    assert second.startswith(
        "Data availability: The training trajectory (12 iterations of 61 parameters; loss quadratic"
    )
    assert "over 100 examples" in second
    assert "https://doi.org/10.5281/zenodo.1, under CC-BY-4.0" in second
    assert mark in second


def test_a_citation_of_a_file_says_what_to_fill_in(ds, tmp_path):
    path = lk.save(
        ds.assign(config=json.dumps({"network": "mnist-fc", "optimizer": "sgd", "seed": 3})), tmp_path / "r.nc"
    )
    text = cite(path)
    year = ds.attrs["created_at"][:4]
    assert text.startswith(f"[author] ({year}). Training trajectory of mnist-fc (optimizer sgd, seed 3) [Data set")
    assert "[address]" in text


def test_a_citation_of_odd_things():
    text = cite(xr.Dataset({"x": ("y", [1.0])}, attrs={"author": "\x1b[2J\nA", "created_at": "\u202e"}))
    assert "\x1b" not in text
    assert text.count("\n") == 2
    assert "an unknown number of parameters" in text


@pytest.mark.parametrize("config", ["", "no json", "[1]", '{"network": 3}', "[" * 100_000])
def test_a_configuration_that_is_none(ds, config):
    assert "61 parameters" in cite(ds.assign(config=config))


def test_a_fingerprint_recognizes_copies(ds, tmp_path):
    mark = fingerprint(ds)
    assert len(mark) == 64
    packed = lk.save(ds.drop_vars(["theta", "lca_class"]), tmp_path / "copy.nc", compression="zlib")
    with lk.open_trajectory(packed) as got:
        assert fingerprint(got) == mark
    assert fingerprint(ds.chunk(iteration=3)) == mark
    assert fingerprint(tiny_trajectory(12, seed=1)) != mark
    assert fingerprint(ds.isel(snapshot=slice(5), iteration=slice(4))) != mark
    assert fingerprint(ds.assign_attrs(data_fingerprint="1" * 64)) != mark


def test_a_fingerprint_reads_only_short_variables():
    wide = tiny_trajectory(4, layers=(TensorSpec("w", (50,), "bias", "w"),)).chunk(parameter=5)
    short = ("snapshot", "iteration", "loss", "residual")
    loaded = wide.assign({name: wide[name].compute() for name in short if name in wide.data_vars})
    with nothing_computed():
        fingerprint(loaded)


# ---- the run of a file -----------------------------------------------------------------------------------------

RUN = {
    "network": "mnist-fc",
    "optimizer": "sgd",
    "seed": 0,
    "learning_rate": 0.1,
    "momentum": None,
    "batch_size": 10,
    "iterations": 5,
}


def run_of(config, data_root=None):
    pytest.importorskip("torch")
    from lcakit.experiments.training import run_of

    return run_of(
        tiny_trajectory(2).assign(config=config if isinstance(config, str) else json.dumps(config)), data_root
    )


def test_the_run_that_a_file_names():
    assert run_of(RUN).network == "mnist-fc"
    assert run_of(RUN, "somewhere").data_root == "somewhere"


@pytest.mark.parametrize("name", ["/etc/secret.npz", "../../secret.npz", "C:\\data\\secret.npz", "secret.npz"])
def test_a_path_in_a_file_is_not_followed(name, tmp_path):
    config = RUN | {"network": f"{name}-fc"}
    with pytest.raises(lk.TrajectoryError, match=r"'secret\.npz'.*data_root"):
        run_of(config)
    assert run_of(config, str(tmp_path)).network == f"{tmp_path / 'secret.npz'}-fc"


@pytest.mark.parametrize(
    "config",
    [
        "no json",
        "[]",
        "{}",
        {"network": "mnist-fc"},
        RUN | {"network": 3},
        RUN | {"seed": "x"},
        RUN | {"momentum": [1]},
    ],
)
def test_a_file_that_names_no_run(config):
    with pytest.raises(lk.TrajectoryError, match="the file"):
        run_of(config)
