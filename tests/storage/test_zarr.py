from __future__ import annotations

import errno
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings

import lcakit as lk
from lcakit.storage import atomic, blocks
from lcakit.testing import tiny_trajectory
from lcakit.trajectory import schema
from tests.support.laziness import any_chunks, nothing_computed, rechunked
from tests.support.same import assert_same
from tests.support.server import serving

zarr = pytest.importorskip("zarr")
zarrstore = pytest.importorskip("lcakit.storage.zarr_store")
zarr_guard = pytest.importorskip("lcakit.storage.zarr_guard")


@pytest.fixture
def ds() -> xr.Dataset:
    ds = tiny_trajectory(12, class_parameters=True)
    return ds.assign(config=((), "a text that\nis long"))


@pytest.fixture
def path(ds, tmp_path) -> Path:
    return lk.save(ds, tmp_path / "run.zarr")


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.slow
@settings(deadline=None, max_examples=5)
@given(any_chunks())
def test_round_trip(tmp_path_factory, chunks):
    ds = tiny_trajectory(12, class_parameters=True)
    path = tmp_path_factory.mktemp("zarr") / "run.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "WINDOW_BYTES", 2000)
        patch.setattr(schema, "CHUNK_ITERATIONS", 5)
        patch.setattr(schema, "CHUNK_PARAMETERS", 16)
        lk.save(rechunked(ds, chunks), path, compression="zlib" if chunks else None)
    assert zarr.open_group(path, mode="r")["lca_class"].chunks == (5, 1, 16)
    with lk.open_trajectory(path) as got:
        assert all(got[name].chunks for name in ("theta", "lca", "lca_class"))
        assert_same(got, ds)
        with nothing_computed():
            study = lk.layers.layer_lca(got, classes=True)
        np.testing.assert_array_equal(study, lk.layers.layer_lca(ds, classes=True))
        assert lk.validate(got).ok
    assert [p.name for p in path.parent.iterdir()] == ["run.zarr"]


@pytest.mark.slow
def test_to_netcdf_and_back(ds, path, tmp_path):
    with lk.open_trajectory(path) as got:
        assert_same(got, ds)
        lk.save(got, tmp_path / "run.nc")
    with lk.open_trajectory(tmp_path / "run.nc") as got:
        assert_same(got, ds)
        lk.save(got, tmp_path / "again.zarr")
    with lk.open_trajectory(tmp_path / "again.zarr") as got:
        assert_same(got, ds)
        assert str(got["config"].values) == "a text that\nis long"


@pytest.mark.slow
def test_stock_xarray_reads_and_writes_stores(ds, path, tmp_path):
    with xr.open_zarr(path) as stock:
        for name in ds.variables:
            np.testing.assert_array_equal(stock[name], ds[name])
        assert set(ds.coords) <= set(stock.coords)
        lk.save(stock, tmp_path / "saved.nc")
    with lk.open_trajectory(tmp_path / "saved.nc") as got:
        assert_same(got, ds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.to_zarr(tmp_path / "theirs.zarr")
        ds.assign(lca=ds["lca"] * 0).to_zarr(tmp_path / "zeros.zarr", zarr_format=2)
    with lk.open_trajectory(tmp_path / "theirs.zarr") as got:
        assert_same(got, ds)
    with lk.open_trajectory(tmp_path / "zeros.zarr") as got:
        assert not got["lca"].values.any()
        np.testing.assert_array_equal(got["theta"], ds["theta"])


@pytest.mark.slow
def test_several_stores_are_opened_as_runs(tmp_path):
    for seed in (0, 1):
        lk.save(tiny_trajectory(6, seed=seed), tmp_path / f"run{seed}.zarr")
    both = lk.open_trajectory(str(tmp_path / "run*.zarr"))
    assert both["run"].values.tolist() == ["run0", "run1"]
    np.testing.assert_array_equal(both["lca"].sel(run="run1"), tiny_trajectory(6, seed=1)["lca"])


def test_opened_stores_can_be_sent_to_other_processes(ds, path):
    with lk.open_trajectory(path) as got:
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(got["lca"])), ds["lca"])


# ---- lost and damaged ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lca", "tensor_index", "layer", "loss"])
def test_a_chunk_that_is_gone_is_an_error(path, name):
    lost = sorted(p for p in (path / name / "c").rglob("*") if p.is_file())[-1]
    lost.unlink()
    with pytest.raises(lk.TrajectoryError, match=rf"run\.zarr.*{name}/c"):
        lk.open_trajectory(path)[name].load()


def test_a_text_that_is_gone_is_an_error(path):
    (path / "config" / "c").unlink()
    with pytest.raises(lk.TrajectoryError, match=r"run\.zarr.*config/c"):
        lk.open_trajectory(path)["config"].load()


@pytest.mark.slow
def test_damaged_chunks_and_metadata(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.zarr", compression="zlib")
    chunk = path / "lca" / "c" / "0" / "0"
    whole = chunk.read_bytes()
    for data in (whole[: len(whole) // 2], b"", whole[:20] + bytes(8) + whole[28:]):
        chunk.write_bytes(data)
        with lk.open_trajectory(path) as got, pytest.raises(lk.TrajectoryError, match=r"run\.zarr"):
            got["lca"].load()
    for text in ("{", "{}", '{"zarr_format": 3, "node_type": "array"}'):
        (path / "zarr.json").write_text(text)
        with pytest.raises(lk.TrajectoryError, match=r"run\.zarr"):
            lk.open_trajectory(path)


def test_other_stores_and_folders(tmp_path):
    xr.Dataset({"x": ("y", [1.0])}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    with pytest.raises(lk.TrajectoryError, match="not an lcakit trajectory"):
        lk.open_trajectory(tmp_path / "other.zarr")
    with pytest.raises(lk.TrajectoryError, match="no such file"):
        lk.open_trajectory(tmp_path / "none.zarr")


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("how", ["filters", "compressor", "object"])
def test_nothing_is_unpickled(ds, tmp_path, how):
    trap, old = Trap(), tmp_path / "old.zarr"
    trap.path = str(tmp_path / "sprung")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.to_zarr(old, zarr_format=2, consolidated=False)
        described = json.loads((old / "tensor_layer" / ".zarray").read_text()) | {"filters": None, "compressor": None}
        codec = {"id": "pickle", "protocol": 5}
        described[how] = [codec] if how == "filters" else codec
        if how == "object":
            described |= {"dtype": "|O", "filters": [codec]}
        (old / "tensor_layer" / ".zarray").write_text(json.dumps(described))
        (old / "tensor_layer" / "0").write_bytes(pickle.dumps(trap))
        with pytest.raises(lk.TrajectoryError, match=r"old\.zarr.*pickle"):
            lk.open_trajectory(old)
    assert not (tmp_path / "sprung").exists()


def change(path: Path, array: str, **entries: object) -> None:
    for file in (path / "zarr.json", path / array / "zarr.json"):
        described = json.loads(file.read_text())
        place = described["consolidated_metadata"]["metadata"][array] if file.parent == path else described
        place.update(entries)
        file.write_text(json.dumps(described))


def test_unknown_codecs_are_refused(path):
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "numcodecs.bz2", "configuration": {}}]
    change(path, "lca", codecs=codecs)
    with pytest.raises(lk.TrajectoryError, match=r"run\.zarr.*bz2"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lk.open_trajectory(path)
    assert list(zarr_guard.codec_names([{"name": "sharding_indexed", "configuration": {"codecs": codecs}}])) == [
        "sharding_indexed",
        "bytes",
        "numcodecs.bz2",
    ]


def test_huge_declared_sizes_are_refused_before_anything_is_allocated(path):
    grid = {"name": "regular", "configuration": {"chunk_shape": [10**12]}}
    change(path, "tensor_index", shape=[10**12], chunk_grid=grid)
    with pytest.raises(lk.TrajectoryError, match=r"tensor_index.*declares"):
        lk.open_trajectory(path)


def test_huge_chunks_are_refused(path):
    change(path, "lca", chunk_grid={"name": "regular", "configuration": {"chunk_shape": [10**6, 10**6]}})
    with pytest.raises(lk.TrajectoryError, match=r"'lca' declares .* in chunks"):
        lk.open_trajectory(path)


# ---- writing ---------------------------------------------------------------------------------------------------


def test_what_is_all_nothing_is_written_too(ds, tmp_path):
    ds = ds.assign(gradient=ds["gradient"] * np.nan, lca=ds["lca"] * 0)
    with lk.open_trajectory(lk.save(ds, tmp_path / "run.zarr")) as got:
        for name in ("gradient", "lca"):
            np.testing.assert_array_equal(got[name], ds[name])


@pytest.mark.slow
def test_overwrite_only_on_request_and_only_stores(ds, path, tmp_path):
    with pytest.raises(lk.RecordingError, match="overwrite=True"):
        lk.save(ds, path)
    lk.save(ds.isel(snapshot=slice(0, 4), iteration=slice(0, 3)), path, overwrite=True)
    with lk.open_trajectory(path) as got:
        assert got.sizes["iteration"] == 3
    notes = tmp_path / "notes.zarr"
    notes.mkdir()
    (notes / "precious.txt").write_text("mine")
    with pytest.raises(lk.RecordingError, match="is not a Zarr store"):
        lk.save(ds, notes, overwrite=True)
    assert (notes / "precious.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.zarr", "run.zarr"]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["_write_small", "_create_array", "sync"])
def test_full_disk_leaves_the_older_store(ds, path, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarrstore, step, full)
    with pytest.raises(lk.RecordingError, match="No space left"):
        lk.save(ds.isel(snapshot=slice(0, 4), iteration=slice(0, 3)), path, overwrite=True)
    assert [p.name for p in path.parent.iterdir()] == ["run.zarr"]
    with lk.open_trajectory(path) as got:
        assert_same(got, ds)


@pytest.mark.slow
def test_a_store_that_cannot_be_renamed_leaves_the_older_one(ds, path, monkeypatch):
    real = Path.rename

    def rename(self, target):
        if ".tmp-" in self.name:
            raise OSError(errno.EMLINK, "Too many links")
        return real(self, target)

    monkeypatch.setattr(atomic, "_exchanged", lambda *_: False)  # as on systems that cannot exchange two names
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(lk.RecordingError, match="Too many links"):
        lk.save(ds.isel(snapshot=slice(0, 4), iteration=slice(0, 3)), path, overwrite=True)
    monkeypatch.undo()
    with lk.open_trajectory(path) as got:
        assert_same(got, ds)


def test_without_zarr_the_remedy_is_named(ds, path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    for use in (lambda: lk.open_trajectory(path), lambda: lk.save(ds, path, overwrite=True)):
        with pytest.raises(lk.LcakitError, match=r"pip install 'lcakit\[share\]'"):
            use()


# ---- from a web server -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stores_are_read_from_a_web_server(ds, path):
    with serving(path.parent) as server:
        got = lk.open_trajectory(server.url("run.zarr"))
        fetched = {name for name, _ in server.requests}
        assert not any("/lca/c/" in name or "/theta/c/" in name for name in fetched)
        assert_same(got, ds)
        (path / "lca" / "c" / "0" / "0").unlink()
        with pytest.raises(lk.TrajectoryError, match="lca/c/0/0"):
            lk.open_trajectory(server.url("run.zarr"))["lca"].load()
        with pytest.raises(lk.TrajectoryError, match=r"http.*none\.zarr"):
            lk.open_trajectory(server.url("none.zarr"))
