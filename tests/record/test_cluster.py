"""Allocation on real worker processes, one of which is killed."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster

import lcakit as lk
from lcakit.record.allocation.cluster import _differences, _identity, device_of_worker
from lcakit.storage import saving
from lcakit.storage.paths import allocation_partial
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.forked import dask_workers
from tests.support.networks import dense, examples, train

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
SPEC = lk.ObjectiveSpec("tests.record.test_cluster:objective")
STEPS = 40


def objective(slow: float = 0.0, seed: int = 1) -> lk.Objective:
    """What the workers build; ``slow`` seconds for each evaluation."""
    out = lk.Objective(dense(), examples(seed=seed), workers=1)
    evaluate = out.evaluate

    def slowly(*args, **options):
        time.sleep(slow)
        return evaluate(*args, **options)

    out.evaluate = slowly
    return out


def numbered() -> lk.Objective:
    """What workers with a device each build."""
    assert device_of_worker(["cpu"]) == "cpu"
    return objective()


def moody(path: str) -> lk.Objective:
    """An objective whose data is what a file says at the moment."""
    return objective(seed=int(Path(path).read_text()))


def no_objective() -> str:
    return "nothing"


def elsewhere() -> lk.Objective:
    """An objective that differs from process to process."""
    return objective(seed=os.getpid())


@pytest.fixture(scope="module")
def client():
    with (
        dask_workers(),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A short training run, its parameters only."""
    folder = tmp_path_factory.mktemp("recorded")
    model, (x, y) = dense(), examples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    target = lk.Objective(model, (x, y), workers=1)
    with lk.Recorder(folder / "run.nc", target, optimizer, n_iterations=STEPS, allocate="later", quiet=True):
        train(model, optimizer, x, y, STEPS)
    with lk.open_trajectory(folder / "run.nc") as ds:
        lk.save(ds.drop_vars([name for name in ds.data_vars if name != "theta"]).load(), folder / "path.nc")
    return folder / "path.nc"


@pytest.fixture
def run(recorded, tmp_path) -> Path:
    """A copy, for allocations that write to it or beside it."""
    return Path(shutil.copy(recorded, tmp_path / "path.nc"))


def same(a: Path, b: Path) -> bool:
    with lk.open_trajectory(a) as one, lk.open_trajectory(b) as two:
        assert set(one.variables) == set(two.variables)
        return all(one[name].equals(two[name]) for name in one.variables)


def test_the_same_bits_as_one_process(client, run, tmp_path):
    alone, shared = tmp_path / "alone.nc", tmp_path / "shared.nc"
    lk.allocate(run, SPEC, out=alone, quiet=True)
    lk.allocate(run, SPEC, out=shared, quiet=True, cluster=client, block=7)
    assert same(alone, shared)
    with lk.open_trajectory(shared) as ds:
        assert lk.validate(ds).ok
        assert "block_iterations" not in ds.attrs
        assert client.compute(lk.layers.layer_lca(ds).sum()).result() == lk.layers.layer_lca(ds).sum().compute()
    assert not allocation_partial(shared).exists()


def test_each_worker_has_its_device(client, run):
    ds = lk.allocate(run, lk.ObjectiveSpec("tests.record.test_cluster:numbered"), quiet=True, cluster=client)
    assert np.abs(ds["residual"]).max() < 1e-3


def test_data_that_changed_is_read_again(client, run, tmp_path):
    (tmp_path / "seed").write_text("1")
    spec = lk.ObjectiveSpec("tests.record.test_cluster:moody", {"path": str(tmp_path / "seed")})
    first = lk.allocate(run, spec, out=tmp_path / "first.nc", quiet=True, cluster=client)
    (tmp_path / "seed").write_text("2")
    second = lk.allocate(run, spec, out=tmp_path / "second.nc", quiet=True, cluster=client)
    assert first.attrs["data_fingerprint"] != second.attrs["data_fingerprint"]
    alone = lk.allocate(
        run, lk.ObjectiveSpec("tests.record.test_cluster:objective", {"seed": 2}), out=tmp_path / "a.nc", quiet=True
    )
    assert alone["lca"].equals(second["lca"])


def test_another_objective_beside_the_first(client, run):
    lk.allocate(run, SPEC, quiet=True, cluster=client)
    other = lk.ObjectiveSpec("tests.record.test_cluster:objective", {"seed": 2})
    ds = lk.allocate(run, other, quiet=True, cluster=client, name="val")
    assert np.abs(ds["residual_val"]).max() < 1e-3
    assert not np.array_equal(ds["lca"], ds["lca_val"])


def test_a_killed_worker_loses_nothing(client, run, tmp_path):
    spec = lk.ObjectiveSpec("tests.record.test_cluster:objective", {"slow": 0.01})
    partial = allocation_partial(tmp_path / "shared.nc")
    killed = []

    def kill_one() -> None:
        while len(list(partial.glob("*.npz"))) < 3:
            time.sleep(0.01)
        killed.append(next(iter(client.run(os.getpid).values())))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    lk.allocate(run, spec, out=tmp_path / "shared.nc", quiet=True, cluster=client, block=2)
    killer.join()
    assert killed
    lk.allocate(run, SPEC, out=tmp_path / "alone.nc", quiet=True)
    assert same(tmp_path / "alone.nc", tmp_path / "shared.nc")


def test_an_interrupted_call_goes_on(client, run, tmp_path, monkeypatch):
    out = tmp_path / "shared.nc"
    partial = allocation_partial(out)
    monkeypatch.setattr(saving, "save", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lk.allocate(run, SPEC, out=out, quiet=True, cluster=client, block=9)
    monkeypatch.undo()
    (partial / "000002.npz").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.npz")}
    assert len(times) == 4
    with pytest.raises(lk.RecordingError, match="block_iterations: stored 9, now 5"):
        lk.allocate(run, SPEC, out=out, quiet=True, cluster=client, block=5)
    with pytest.raises(lk.RecordingError, match=r"tolerance: stored 0\.001"):
        lk.allocate(run, SPEC, out=out, quiet=True, cluster=client, tolerance=1e-5)
    with pytest.raises(lk.RecordingError, match="begun on a cluster"):
        lk.allocate(run, SPEC, out=out, quiet=True)
    monkeypatch.setattr(saving, "save", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lk.allocate(run, SPEC, out=out, quiet=True, cluster=client)
    monkeypatch.undo()
    now = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.npz")}
    assert len(now) == 5
    assert all(now[name] == stamp for name, stamp in times.items())
    lk.allocate(run, SPEC, out=out, quiet=True, cluster=client)
    lk.allocate(run, SPEC, out=tmp_path / "alone.nc", quiet=True)
    assert same(tmp_path / "alone.nc", out)


def test_running_statistics_of_blocks_are_joined(client, run, tmp_path, monkeypatch):
    alone = lk.allocate(run, SPEC, out=tmp_path / "alone.nc", quiet=True, keep=())
    out = tmp_path / "shared.nc"
    monkeypatch.setattr(saving, "save", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lk.allocate(run, SPEC, out=out, quiet=True, cluster=client, block=9, keep=())
    monkeypatch.undo()
    for lost in ("000001", "000004"):  # one in the middle, and the last, which held those of all
        (allocation_partial(out) / f"{lost}.npz").unlink()
    shared = lk.allocate(run, SPEC, out=out, quiet=True, cluster=client, keep=())
    for name in ("helped_count", "hurt_count", "crossing_count", "layer_helped", "residual", "lca_unit_class"):
        assert shared[name].equals(alone[name]), name
    for name in ("total_lca", "total_square_lca"):  # other sums of the same numbers
        np.testing.assert_allclose(shared[name], alone[name], rtol=1e-12, atol=1e-15)
    assert lk.validate(shared, quiet=True).ok


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("no_such_module:f", r"worker tcp://127\.0\.0\.1:\d+ cannot build .*No module named 'no_such_module'"),
        ("tests.record.test_cluster:nothing", r"worker tcp.*has no attribute 'nothing'"),
        ("tests.record.test_cluster:no_objective", r"worker tcp.*must return an lk\.Objective, it returned str"),
        ("tests.record.test_cluster:elsewhere", r"workers tcp.* and tcp.* have different objectives: data_fingerprint"),
    ],
)
def test_workers_that_cannot(client, run, factory, told):
    with pytest.raises(lk.RecordingError, match=told) as error:
        lk.allocate(run, lk.ObjectiveSpec(factory), quiet=True, cluster=client)
    assert ".. " not in str(error.value)
    assert not allocation_partial(run).exists()


def test_workers_of_another_version_are_named():
    own = _identity(objective())
    assert "lcakit 0.0 and" in _differences(own | {"lcakit": "0.0"}, own)


def test_what_cannot_be_shared(client, run):
    with pytest.raises(lk.RecordingError, match=r"ObjectiveSpec.*not Objective"):
        lk.allocate(run, objective(), quiet=True, cluster=client)
    with pytest.raises(lk.RecordingError, match="path of its file"):
        lk.allocate(np.zeros((3, 53)), SPEC, quiet=True, cluster=client)
    with pytest.raises(ValueError, match="block must be"):
        lk.allocate(run, SPEC, quiet=True, cluster=client, block=0)
    for factory in ("objective", "__main__:objective", "a.b:c()"):
        with pytest.raises(lk.RecordingError, match=r"package\.module:function"):
            lk.ObjectiveSpec(factory)
    other = tiny_trajectory(4, layers=(TensorSpec("w", (3,), "bias", "w"),))
    lk.save(other, run, overwrite=True)
    with pytest.raises(lk.TrajectoryError, match=r"not those of the objective.*the file has w \(3,\), the model "):
        lk.allocate(run, SPEC, quiet=True, cluster=client, overwrite=True)


def test_a_cluster_without_workers(run, monkeypatch):
    from lcakit.record.allocation import cluster

    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as empty,
        Client(empty) as client,
        pytest.raises(lk.RecordingError, match="no worker after"),
    ):
        lk.allocate(run, SPEC, quiet=True, cluster=client)


def test_the_command(recorded_digits, capsys, monkeypatch):
    from lcakit.cli.main import main
    from lcakit.record.allocation import cluster

    monkeypatch.setattr(cluster, "CONNECTING", 0.5)
    path = str(recorded_digits)
    assert main(["allocate", path, "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "no scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err
    assert main(["allocate", path, "--set", "test", "--workers", "1"]) == 0
    with lk.open_trajectory(path) as ds:
        assert np.abs(ds["residual_val"]).max() < 1e-3


@pytest.fixture
def recorded_digits(tmp_path) -> Path:
    from lcakit.experiments.training import Run, record_run

    path = tmp_path / "digits.nc"
    record_run(Run("digits-fc", iterations=4, train_examples=50, validation_examples=40), path, quiet=True)
    return path
