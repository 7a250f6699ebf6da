from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import lcakit as lk
from lcakit.cli.files import iterations
from lcakit.cli.main import _parser, main
from lcakit.cli.words import in_options, options_of


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run.nc"
    assert main(["record", "digits-fc", "--iterations", "12", "--out", str(path)]) == 0
    return path


@pytest.mark.slow
def test_demo_explains_its_numbers(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    ds = lk.open_trajectory(tmp_path / "digits-fc.nc")
    assert f"{float(ds['loss'][-1]):.6g} nats" in out
    assert "they should equal the change of the loss" in out
    total = float(ds["lca"].astype(float).sum())
    assert total == pytest.approx(float(ds["loss"][-1] - ds["loss"][0]), rel=0.01)
    assert float(ds["accuracy"][-1]) > 0.9


def test_record_info_validate(recorded, capsys):
    capsys.readouterr()
    assert main(["info", str(recorded)]) == 0
    text = capsys.readouterr().out
    assert "rk4" in text
    assert "lcakit record digits-fc" in text or "command" in text
    assert main(["info", str(recorded), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sizes"]["iteration"] == 12
    assert main(["account", str(recorded)]) == 0
    assert "LCA of fc1" in capsys.readouterr().out
    assert main(["account", str(recorded), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iterations"] == 12
    assert main(["cite", str(recorded)]) == 0
    assert str(lk.open_trajectory(recorded).attrs["data_fingerprint"])[:8] in capsys.readouterr().out
    assert main(["validate", str(recorded)]) == 0
    assert main(["validate", str(recorded), "--json"]) == 0
    assert main(["validate", str(recorded), "--groups", "shape"]) == 2
    capsys.readouterr()
    assert main(["validate", str(recorded), "--groups", "structure"]) == 0
    assert "conservation" not in capsys.readouterr().out


def test_share_and_import(recorded, tmp_path, capsys):
    small = tmp_path / "small.nc"
    assert main(["share", str(recorded), "-o", str(small), "--resolution", "unit", "--iterations", "0:5"]) == 0
    assert small.stat().st_size < recorded.stat().st_size
    assert lk.open_trajectory(small).sizes["iteration"] == 6
    assert main(["share", str(recorded), "-o", str(small)]) == 2
    assert "exists already" in capsys.readouterr().err
    last = tmp_path / "last.nc"
    assert main(["share", str(recorded), "-o", str(last), "--layers", "fc3", "--drop", "lca_unit_class"]) == 0
    assert lk.open_trajectory(last).sizes["parameter"] == 50 * 10 + 10
    assert main(["validate", str(last)]) == 0
    assert main(["share", str(recorded), "-o", str(last), "--layers", "fc4", "--overwrite"]) == 2
    assert "fc3" in capsys.readouterr().err
    for step in (0, 10):
        torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / f"step{step}.pt")
    checkpoints = [str(tmp_path / f"step{step}.pt") for step in (0, 10)]
    assert main(["import", "checkpoints", *checkpoints, "-o", str(tmp_path / "run.nc")]) == 0
    assert lk.open_trajectory(tmp_path / "run.nc")["snapshot"].values.tolist() == [0, 10]
    assert main(["import", "lca-hdf5", str(tmp_path), "-o", str(tmp_path / "other.nc")]) == 2


def test_landscape(tmp_path, capsys):
    assert main(["landscape", "nqm"]) == 0
    assert "steps" in capsys.readouterr().out
    assert main(["landscape", "nqm", "walk"]) == 2
    assert "steps" in capsys.readouterr().err
    assert main(["landscape", "hills"]) == 2
    assert "wedges" in capsys.readouterr().err


def test_validate_exit_statuses(recorded, tmp_path):
    ds = lk.open_trajectory(recorded).load()
    ds["lca"][3] += 0.1
    bad = lk.save(ds, tmp_path / "bad.nc")
    assert main(["validate", str(bad)]) == 1
    (tmp_path / "junk.nc").write_bytes(b"no netCDF")
    assert main(["validate", str(tmp_path / "junk.nc")]) == 2
    assert main(["validate", str(tmp_path / "missing.nc")]) == 2


@pytest.mark.slow
def test_runs_of_one_seed_are_identical_and_of_two_are_not(recorded, tmp_path):
    common = ["record", "digits-fc", "--iterations", "12"]
    assert main([*common, "--seeds", "0,1", "--out", str(tmp_path / "run.nc")]) == 0
    first, again, other = (lk.open_trajectory(p) for p in (recorded, tmp_path / "run-0.nc", tmp_path / "run-1.nc"))
    np.testing.assert_array_equal(first["lca"], again["lca"])
    assert not np.array_equal(first["theta"][0], other["theta"][0])
    assert lk.open_trajectory(str(tmp_path / "run-*.nc")).sizes["run"] == 2


def test_allocate_adds_the_test_set(tmp_path):
    path = tmp_path / "run.nc"
    assert main(["record", "digits-fc", "--iterations", "6", "--out", str(path)]) == 0
    assert main(["allocate", str(path), "--set", "test"]) == 0
    ds = lk.open_trajectory(path)
    assert ds.attrs["n_examples_val"] == 297
    np.testing.assert_allclose(ds["lca_val"].sum("parameter") - ds["residual_val"], np.diff(ds["loss_val"]), atol=1e-6)


def test_existing_file_is_refused_and_a_finished_one_not_resumed(recorded, capsys):
    arguments = ["record", "digits-fc", "--iterations", "12", "--out", str(recorded)]
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 2
    assert "is finished" in capsys.readouterr().err


def test_estimate_says_size_and_time(capsys):
    assert main(["estimate", "digits-fc", "--iterations", "100"]) == 0
    out = capsys.readouterr().out
    assert "100 iterations × 12,060 parameters" in out
    assert "201 full-set gradients, about" in out
    assert main(["estimate", "digits-fc", "--budget", "1 MB"]) == 2
    assert "the budget is 1 MB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["record", "mnist-fcc"], "Did you mean 'mnist-fc'"),
        (["record", "digits-fc", "--optimizer", "adamw"], "Did you mean 'adam'"),
        (["record", "digits-fc", "--rule", "rk5"], "rk4"),
        (["record", "digits-fc", "--precision", "half"], "float32"),
        (["record", "digits-fc", "--batch-size", "0"], "batch_size must be positive"),
        (["record", "nothere.npz-fc"], "nothere.npz"),
        (["record", "digits-fc", "--device", "cuda:99"], "cannot be used"),
        (["record", "digits-fc", "--budget", "1 MB", "--out", "new/run.nc"], "the budget is 1 MB"),
        (["record", "digits-fc", "--seeds", "0", "--keep", "weights"], "theta"),
        (["info", "nothere.nc"], "no such file"),
        (["finish", "nothere.nc"], "nothere.nc"),
        (["account", "nothere.nc"], "no such file"),
        (["share", "nothere.nc", "-o", "out.nc"], "nothere.nc"),
        (["cite", "nothere.nc"], "nothere.nc"),
        (["landscape", "nqm", "steps", "--set", "batch"], "NAME=VALUE"),
        (["reproduce", "digits-fc"], "mnist-fc"),
    ],
)
def test_bad_input_is_named_without_a_traceback(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("Pass overwrite=True to replace it.", "--overwrite", "Pass --overwrite to replace it."),
        ("Pass overwrite=True to replace it.", "", "Pass overwrite=True to replace it."),
        ("Continue it with resume=True, which", "--resume --overwrite", "Continue it with --resume, which"),
        ("Thin it (every=20), or classes=None", "--every --classes", "Thin it (--every 20), or --classes none"),
        ('coarser (classes="unit" or None).', "--classes", "coarser (--classes unit or none)."),
        ('keep=("lca", …) and keep=()', "--keep", "--keep lca … and --keep"),
        ("max_splits=64, statistics=False", "--max-splits --no-statistics", "--max-splits 64, --no-statistics"),
        ("use device='cpu'; tolerance=None", "--device --tolerance", "use --device cpu; --tolerance 0"),
        ('lk.Recorder(…, keep=("lca", …)) stores it', "--keep", 'lk.Recorder(…, keep=("lca", …)) stores it'),
        ("/data/every=20/run.nc and seed.every=20", "--every", "/data/every=20/run.nc and seed.every=20"),
        ("seeds=None is not allowed", "--seeds", "seeds=None is not allowed"),
    ],
)
def test_errors_name_options_of_the_command(text, options, says):
    assert in_options(text, options_of(f"usage: lcakit record [-h] [{options}]")) == says


def test_errors_of_commands_speak_of_options(recorded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for step in (0, 10):
        torch.save(torch.nn.Linear(3, 2).state_dict(), f"step{step}.pt")
    (tmp_path / "new.nc.partial").mkdir()
    for arguments, says in (
        (["record", "digits-fc", "--out", str(recorded)], "pass --overwrite"),
        (["record", "digits-fc", "--out", "new.nc"], "Pass --resume to continue it, or --overwrite"),
        (["record", "digits-fc", "--iterations", "200", "--budget", "1 MB"], "--every"),
        (["share", str(recorded), "-o", str(recorded)], "pass --overwrite"),
        (["allocate", str(recorded)], "Pass --overwrite to replace them, or --name"),
        (["import", "checkpoints", "step0.pt", "step10.pt", "-o", str(recorded)], "pass --overwrite"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert says in error
        assert "=True" not in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["share", "a.nc", "-o", "b.nc", "--iterations", "5:3"], "FIRST at most LAST; got '5:3'"),
        (["animate", "a.nc", "-o", "b.gif", "--iterations", "5:2"], "FIRST at most LAST; got '5:2'"),
        (["view", "a.nc", "--port", "99999"], "0 to 65535, got '99999'"),
        (["view", "a.nc", "--port=-1"], "0 to 65535, got '-1'"),
        (["lab", "--port", "65536"], "0 to 65535, got '65536'"),
    ],
)
def test_what_no_command_can_do_is_refused_when_it_is_read(arguments, says, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert says in capsys.readouterr().err


def test_iterations_and_names_are_read():
    assert iterations("3:3") == slice(3, 3)
    assert (iterations(":3"), iterations("3:")) == (slice(None, 3), slice(3, None))
    for text, names in (("lca,theta", ["lca", "theta"]), ("lca, theta", ["lca", "theta"]), ("none", []), ("", [])):
        assert _parser().parse_args(["record", "digits-fc", "--keep", *text.split()]).keep == names


def test_a_demo_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert "file is a file" in capsys.readouterr().err
    assert main(["demo", "--out", str(tmp_path / "file" / "below")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_json_has_no_numbers_that_json_has_not(recorded, tmp_path, capsys):
    ds = lk.open_trajectory(recorded).load()
    ds["loss"][-1], ds["residual"][3] = np.inf, np.nan
    path = lk.save(ds, tmp_path / "run.nc")

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    for command in ("account", "info", "validate"):
        capsys.readouterr()
        main([command, str(path), "--json"])
        found = json.loads(capsys.readouterr().out, parse_constant=refuse)
        assert command != "account" or found["loss_last"] is None


def test_checkpoints_alone_say_what_is_missing(tmp_path, capsys):
    for step in (0, 10):
        torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / f"step{step}.pt")
    out = str(tmp_path / "run.nc")
    assert main(["import", "checkpoints", *(str(tmp_path / f"step{n}.pt") for n in (0, 10)), "-o", out]) == 0
    said = capsys.readouterr()
    assert said.out.split() == [out]
    assert "no LCA" in said.err
    assert "lk.allocate(" in said.err
    assert main(["account", out]) == 0
    assert "There is no LCA" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.mnist
def test_real_mnist_records_and_conserves(mnist_root, tmp_path):
    path = tmp_path / "mnist.nc"
    arguments = ["record", "mnist-fc", "--optimizer", "sgd", "--iterations", "4", "--out", str(path)]
    assert main([*arguments, "--data-root", str(mnist_root)]) == 0
    ds = lk.open_trajectory(path)
    assert ds.sizes["parameter"] == 84_060
    assert ds.attrs["n_examples"] == 55_000
    assert float(ds["loss"][-1]) < float(ds["loss"][0])
    assert np.abs(ds["residual"]).max() < 1e-3
    assert lk.validate(path).ok


@pytest.mark.slow
def test_resuming_several_seeds_skips_the_finished_ones(tmp_path, capsys):
    arguments = ["record", "digits-fc", "--iterations", "3", "--out", str(tmp_path / "run.nc"), "--resume"]
    assert main([*arguments, "--seeds", "0,1"]) == 0
    assert main([*arguments, "--seeds", "0:3"]) == 0
    assert "run-1.nc is finished" in capsys.readouterr().out
    assert (tmp_path / "run-2.nc").exists()


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--seeds", "0,1"], "run-1.nc exists already"),
        (["--seeds", "0,1", "--resume", "--batch-size", "20"], "batch_size is 50, not 20"),
        (["--seeds", "0,1", "--resume", "--tolerance", "0.1"], "tolerance is 0.001, not 0.1"),
        (["--seeds", "0,1", "--resume", "--rule", "trapezoid"], "rule is 'rk4', not 'trapezoid'"),
        (["--seeds", "0,1", "--resume", "--keep", "lca"], "keep is 'theta gradient lca', not 'lca'"),
        (["--seeds", "0,1", "--resume", "--precision", "float64"], "precision is 'float32', not 'float64'"),
        (["--seeds", "1,0", "--overwrite", "--freeze-argmin", "last=run-{seed}.nc"], "run-0.nc: there is no such file"),
    ],
)
def test_several_seeds_are_checked_before_the_first_is_trained(options, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["record", "digits-fc", "--iterations", "3"]
    assert main([*arguments, "--seeds", "1", "--out", "run-1.nc"]) == 0
    written = (tmp_path / "run-1.nc").stat().st_mtime_ns
    assert main([*arguments, "--out", "run.nc", *options]) == 2
    assert says in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [written]


@pytest.mark.slow
@pytest.mark.mnist
def test_reproduce_makes_a_table_and_keeps_the_runs(mnist_root, tmp_path, capsys):
    arguments = ["reproduce", "mnist-fc", "--out", str(tmp_path), "--optimizers", "sgd", "--seeds", "0"]
    arguments += ["--iterations", "4", "--data-root", str(mnist_root)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "57.79" in out
    assert "| LCA of fc3, nats | " in out
    assert "| synchronized peaks of 20, mean over classes |" in out
    written = (tmp_path / "mnist-fc-sgd-0.nc").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (tmp_path / "mnist-fc-sgd-0.nc").stat().st_mtime_ns == written
    arguments[arguments.index("4")] = "5"
    assert main(arguments) == 2
    assert "is of another run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_a_command_quietly(tmp_path):
    path = lk.save(lk.testing.tiny_trajectory(), tmp_path / "run.nc")
    command = f"{sys.executable} -m lcakit.cli info {path} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
