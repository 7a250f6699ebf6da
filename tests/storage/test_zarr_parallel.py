"""Zarr stores written by real worker processes, and studies on them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import xarray as xr
from distributed import Client, LocalCluster

import lcakit as lk
from lcakit.storage import blocks
from lcakit.testing import LAYERS, tiny_trajectory
from lcakit.trajectory import schema
from lcakit.trajectory.labels import TensorSpec
from tests.support.forked import dask_workers
from tests.support.recordings import record
from tests.support.server import serving

zarr = pytest.importorskip("zarr")
pytest.importorskip("torch")
from tests.support.allocations import SPEC, record_path  # noqa: E402  (needs torch)

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]


@pytest.fixture(scope="module")
def client():
    with (
        dask_workers(),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def recorded_path(tmp_path_factory) -> Path:
    return record_path(tmp_path_factory.mktemp("path") / "path.nc", steps=20)


@pytest.fixture
def run(recorded_path, tmp_path) -> Path:
    """A copy, for allocations that write beside it."""
    return Path(shutil.copy(recorded_path, tmp_path / "path.nc"))


@pytest.fixture
def small_pieces(monkeypatch):
    """Chunks and windows so small that a tiny trajectory has hundreds."""
    monkeypatch.setattr(blocks, "WINDOW_BYTES", 2000)
    monkeypatch.setattr(schema, "CHUNK_ITERATIONS", 5)
    monkeypatch.setattr(schema, "CHUNK_PARAMETERS", 16)


@pytest.fixture
def source(tmp_path, small_pieces) -> Path:
    ds = tiny_trajectory(24, class_parameters=True)
    ds["lca"][5:20] = 0  # chunks of zeros only, which Zarr would leave out
    return lk.save(ds.assign(config=((), "a text")), tmp_path / "run.nc")


def contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def same_stores(a: Path, b: Path) -> bool:
    """Whether two stores are the same, byte by byte; all values, attributes and chunks."""
    one, two = contents(a), contents(b)
    assert one.keys() == two.keys()
    return all(one[name] == two[name] for name in one)


def arrays(path: Path) -> dict[str, bytes]:
    """Everything but the root attributes, which have times."""
    return {name: data for name, data in contents(path).items() if name != "zarr.json"}


def without_times(attrs: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in attrs.items() if name not in ("created_at", "allocated_by")}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- save ------------------------------------------------------------------------------------------------------


def test_the_same_store_as_from_one_process(client, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # workers stand elsewhere
    with lk.open_trajectory("run.nc") as ds:
        mixed = ds.assign(gradient=ds["gradient"].load(), lca=-ds["lca"])
        for name, cluster in (("alone", None), ("shared", client)):
            lk.save(mixed, f"{name}.zarr", cluster=cluster)
            with lk.open_trajectory(f"{name}.zarr") as stored:
                lk.save(stored, f"{name}-packed.zarr", compression="zlib", cluster=cluster)
                lk.save(stored.drop_vars("theta"), f"{name}.zarr", overwrite=True, cluster=cluster)  # onto its source
    for kind in (".zarr", "-packed.zarr"):
        assert same_stores(tmp_path / f"alone{kind}", tmp_path / f"shared{kind}")
    assert zarr.open_group("shared.zarr", mode="r").attrs["all_chunks_written"]
    assert len(names(tmp_path)) == 5


def test_an_unfinished_recording_becomes_a_store(client, source, tmp_path, monkeypatch):
    ds = tiny_trajectory(23, layers=(*LAYERS, TensorSpec("w", (40,), "bias", "w")))
    record(ds, tmp_path / "new.zarr", block_rows=7).close()
    monkeypatch.chdir(tmp_path)
    assert lk.finish("new.zarr", cluster=client) == Path("new.zarr")
    with lk.open_trajectory("new.zarr") as got:
        assert all(got[name].equals(ds[name]) for name in ds.variables)
    assert names(tmp_path) == {"run.nc", "new.zarr"}


def test_a_worker_that_is_killed(client, source, tmp_path):
    """The other one writes its pieces again; chunks that it left half written are not in the store."""
    before = set(client.run(os.getpid).values())
    killed = []

    def kill_one() -> None:
        while not list(tmp_path.glob(".shared.zarr.tmp-*/lca/c/0/*")):
            time.sleep(0.001)
        killed.append(min(before))
        (folder,) = tmp_path.glob(".shared.zarr.tmp-*/lca/c/0")
        (folder / "0.1234.partial").write_bytes(b"half")
        assert not (tmp_path / "shared.zarr").exists()
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with lk.open_trajectory(source) as ds:
        lk.save(ds, tmp_path / "shared.zarr", cluster=client)
        killer.join()
        lk.save(ds, tmp_path / "alone.zarr")
    assert killed
    assert same_stores(tmp_path / "alone.zarr", tmp_path / "shared.zarr")


# ---- allocate --------------------------------------------------------------------------------------------------


def test_allocation_into_a_store_and_in_place(client, run, tmp_path, small_pieces):
    for name, options in (("alone", {}), ("shared", {"cluster": client, "block": 7})):
        lk.allocate(run, SPEC, out=tmp_path / f"{name}.zarr", quiet=True, **options)
        with lk.open_trajectory(run) as ds:
            lk.save(ds, tmp_path / f"{name}-place.zarr")
        lk.allocate(tmp_path / f"{name}-place.zarr", SPEC, quiet=True, **options)
    for kind in (".zarr", "-place.zarr"):
        alone, shared = tmp_path / f"alone{kind}", tmp_path / f"shared{kind}"
        assert arrays(shared) == arrays(alone)
        with lk.open_trajectory(alone) as one, lk.open_trajectory(shared) as two:
            assert without_times(one.attrs) == without_times(two.attrs)
            assert lk.validate(two).ok
    stores = {f"{name}{kind}" for name in ("alone", "shared") for kind in (".zarr", "-place.zarr")}
    assert names(tmp_path) == stores | {run.name}


def test_urls_are_read_by_workers_and_not_written(client, run, tmp_path):
    with serving(run.parent) as server:
        url = server.url(run.name)
        shared = lk.allocate(url, SPEC, out=tmp_path / "shared.zarr", quiet=True, cluster=client)
        alone = lk.allocate(run, SPEC, out=tmp_path / "alone.nc", quiet=True)
        assert all(shared[name].equals(alone[name]) for name in alone.variables)
        with pytest.raises(lk.RecordingError, match=r"http.*read, not written"):
            lk.allocate(url, SPEC, quiet=True, cluster=client)
        with pytest.raises(lk.RecordingError, match=r"s3://b/run\.zarr: .*read, not written"):
            lk.save(alone, "s3://b/run.zarr", cluster=client)


# ---- what cannot be --------------------------------------------------------------------------------------------


def hide_zarr(dask_worker) -> None:
    sys.modules["zarr"] = None


def show_zarr(dask_worker) -> None:
    sys.modules.pop("zarr")


def write_elsewhere(dask_worker) -> None:
    """Have this worker's chunks go to a disk of its own: here, to nowhere."""
    from lcakit.storage import zarr_store

    zarr_store.kept = zarr_store.write_piece
    zarr_store.write_piece = lambda piece, **_: piece.block.nbytes


def write_here(dask_worker) -> None:
    from lcakit.storage import zarr_store

    zarr_store.write_piece = zarr_store.kept


def see_nothing(dask_worker) -> None:
    Path.kept, Path.is_dir = Path.is_dir, lambda path: ".tmp-" not in path.name and Path.kept(path)


def see_all(dask_worker) -> None:
    Path.is_dir = Path.kept


@pytest.mark.parametrize(
    ("wrong", "right", "told"),
    [
        (hide_zarr, show_zarr, r"worker {} cannot write a Zarr store: .*pip install 'lcakit\[share\]'"),
        (write_elsewhere, write_here, r"worker {} wrote .*/c/.*, which this process does not see"),
        (see_nothing, see_all, r"worker {} cannot write its part .* does not see .*shared\.zarr"),
    ],
)
def test_workers_that_cannot(client, source, tmp_path, wrong, right, told):
    worker = next(iter(client.scheduler_info(n_workers=-1)["workers"]))
    client.run(wrong, workers=[worker])
    try:
        with lk.open_trajectory(source) as ds, pytest.raises(lk.RecordingError, match=told.format(worker)):
            lk.save(ds, tmp_path / "shared.zarr", cluster=client)
    finally:
        client.run(right, workers=[worker])
    assert names(tmp_path) == {"run.nc"}


def test_what_is_there_stays(client, source, tmp_path):
    """A file that cannot be read fails on the workers, with its name, and leaves an older store as it was."""
    path = lk.save(tiny_trajectory(6), tmp_path / "old.zarr")
    before = contents(path)
    with lk.open_trajectory(source) as ds:
        with pytest.raises(lk.RecordingError, match="overwrite=True"):
            lk.save(ds, path, cluster=client)
        with pytest.raises(ValueError, match="one writer"):
            lk.save(ds, tmp_path / "other.nc", cluster=client)
        source.rename(tmp_path / "gone.nc")
        with pytest.raises(lk.RecordingError, match=r"worker tcp.*run\.nc"):
            lk.save(ds, path, overwrite=True, cluster=client)
    assert contents(path) == before
    assert names(tmp_path) == {"gone.nc", "old.zarr"}


# ---- studies ---------------------------------------------------------------------------------------------------


def studies(ds: xr.Dataset) -> list[xr.DataArray | xr.Dataset]:
    return [
        lk.noise.help_hurt_zero(ds),
        lk.layers.layer_lca(ds, by="kernel_layer", classes=True),
        lk.layers.argmin_iteration(ds, "parameter"),
        lk.oscillation.weight_turns(ds),
        lk.tails.histogram(ds),
        lk.tails.excess_kurtosis(ds),
        lk.ranking.extremes(ds, "parameter"),
        lk.aggregate.rms_lca(ds),
        lk.synchronization.synchronization_test(ds, classes=False, trials=10),
    ]


@pytest.mark.parametrize("name", ["run.nc", "run.zarr"])
def test_studies_run_unchanged_on_a_client(client, source, tmp_path, name):
    with lk.open_trajectory(source) as ds:
        path = lk.save(ds, tmp_path / name, overwrite=True)
    with lk.open_trajectory(path) as ds:
        expected, checked = lk.compute(studies(ds), quiet=True), str(lk.validate(ds))
        with client.as_current():
            got = lk.compute(studies(ds), quiet=True)
            assert str(lk.validate(ds)) == checked
            copy = lk.save(ds, tmp_path / f"copy-{name}")
            assert lk.noise.help_hurt_zero(ds).identical(lk.noise.help_hurt_zero(ds.load()))
    for mine, theirs in zip(got, expected, strict=True):
        xr.testing.assert_identical(mine, theirs)
    with lk.open_trajectory(copy) as got_copy:
        assert all(got_copy[n].equals(ds[n]) for n in ds.variables)
