from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.storage import remote, urls
from lcakit.storage.chunked import ChunkArray, chunks_of
from lcakit.storage.guard import check_file
from lcakit.storage.range_file import RangeFile
from tests.support.laziness import nothing_computed
from tests.support.served import HANGING, patience, same, small_run, write_both
from tests.support.server import Server, serving

for needed in ("pooch", "aiohttp"):
    pytest.importorskip(needed)

pytestmark = pytest.mark.timeout(60)  # a server that hangs must not hang us


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return small_run()


@pytest.fixture(scope="module")
def folder(ds, tmp_path_factory) -> Path:
    return write_both(ds, tmp_path_factory.mktemp("served"))


@pytest.fixture
def server(folder) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


@pytest.mark.parametrize("name", ["run.nc", "small%20copy.nc"])
def test_a_url_is_opened_in_place(ds, server, monkeypatch, name):
    monkeypatch.setattr(remote, "BLOCK_BYTES", 2**15)
    with nothing_computed():
        got = lk.open_trajectory(server.url(name))
        study = lk.layers.layer_lca(got)
    size = (server.folder / name.replace("%20", " ")).stat().st_size
    assert server.sent < size / 2  # tables and labels
    assert all(part for _, part in server.requests if part is not None)
    opened = server.sent
    got["lca"][0, :5].load()
    assert server.sent < opened + size / 3
    np.testing.assert_allclose(study, lk.layers.layer_lca(ds))
    assert same(got, ds)
    assert got["lca"].dims == ("iteration", "parameter")
    assert lk.validate(got).ok


def test_a_remote_dataset_can_be_sent_to_other_processes(ds, server):
    got = lk.open_trajectory(server.url("run.nc"))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(got["lca"])), ds["lca"])


def test_several_urls_are_opened_as_runs(ds, server):
    both = lk.open_trajectory([server.url("run.nc"), str(server.folder / "small copy.nc")])
    assert both["run"].values.tolist() == ["run", "small copy"]
    np.testing.assert_array_equal(both["lca"][0], both["lca"][1])


def test_other_protocols_of_fsspec(ds, folder):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe_file("/deep/run.nc", (folder / "run.nc").read_bytes())
    assert same(lk.open_trajectory("memory://deep/run.nc"), ds)
    assert same(lk.open_trajectory((folder / "run.nc").as_uri()), ds)
    assert same(lk.open_trajectory((folder / "small copy.nc").as_uri()), ds)  # %20


@pytest.mark.parametrize("mode", ["whole", "refusing"])
def test_servers_without_parts_are_read_whole(ds, server, monkeypatch, mode, tmp_path):
    monkeypatch.setattr(remote, "BLOCK_BYTES", 2**15)
    monkeypatch.setattr(remote.tempfile, "tempdir", str(tmp_path))
    server.lie(mode)
    with pytest.warns(LcakitWarning, match=r"cannot be read in parts.*lk\.fetch"):
        got = lk.open_trajectory(server.url("run.nc"))
    assert same(got, ds)
    server.lie("failing")
    with pytest.raises(lk.TrajectoryError, match=r"http.*run\.nc"):
        lk.open_trajectory(server.url("run.nc"))


@pytest.mark.parametrize("mode", ["wrong", "cut", "cut parts", "too much", "failing", *HANGING])
def test_lying_servers_are_errors_on_opening(server, monkeypatch, mode):
    for name, value in (("TIMEOUT", patience(mode)), ("PATIENCE", 2)):
        monkeypatch.setattr(remote, name, value)
    monkeypatch.setattr(remote, "BLOCK_BYTES", 2**15)
    server.lie(mode)
    with pytest.raises(lk.TrajectoryError, match=r"^http://127\.0\.0\.1.*run\.nc") as error:
        lk.open_trajectory(server.url("run.nc"))
    assert ("in time" in str(error.value)) == (mode in HANGING)


LIES = ["wrong", "cut", "cut parts", "too much", "whole", "failing"]


@pytest.mark.parametrize(
    ("mode", "block"),
    [(m, b) for m in LIES for b in (2**15, 2**19)] + [pytest.param(m, 2**15, marks=pytest.mark.slow) for m in HANGING],
)
def test_lying_servers_are_errors_on_reading(server, monkeypatch, mode, block):
    for name, value in (("BLOCK_BYTES", block), ("TIMEOUT", 1.5), ("PATIENCE", 1)):
        monkeypatch.setattr(remote, name, value)
    got = lk.open_trajectory(server.url("small%20copy.nc"))
    server.lie(mode)
    with pytest.raises(lk.TrajectoryError, match=r"^http://127\.0\.0\.1.*small%20copy\.nc"):
        lk.compute([got["theta"], got["gradient"], got["lca"]], quiet=True)


def test_addresses_that_lead_nowhere(server):
    with pytest.raises(lk.TrajectoryError, match="no such file"):
        lk.open_trajectory(server.url("none.nc"))
    with pytest.raises(lk.TrajectoryError, match=r"127\.0\.0\.1:9/run\.nc: cannot be read"):
        lk.open_trajectory("http://127.0.0.1:9/run.nc")
    with pytest.raises(lk.TrajectoryError, match="nosuch"):
        lk.open_trajectory("nosuch://somewhere/run.nc")
    (server.folder / "page.nc").write_text("<html>log in first</html>")
    with pytest.raises(lk.TrajectoryError, match=r"page\.nc"):
        lk.open_trajectory(server.url("page.nc"))


def test_what_must_be_installed_is_named(server, monkeypatch):
    for name in ("s3://bucket/run.nc", "gs://bucket/run.nc"):
        package = {"s3": "s3fs", "gs": "gcsfs"}[name[:2]]
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(lk.LcakitError, match=rf"{name}.*{package}"):
            lk.open_trajectory(name)
    for package in ("fsspec.core", "aiohttp"):
        with monkeypatch.context() as patch, pytest.raises(lk.LcakitError, match=r"pip install 'lcakit\[share\]'"):
            patch.setitem(sys.modules, package, None)
            lk.open_trajectory(server.url("run.nc"))


@pytest.mark.parametrize(
    ("source", "url", "name"),
    [
        ("https://h/a/run%201.nc?x=1#y", True, "run 1.nc"),
        ("s3://bucket/run.nc", True, "run.nc"),
        ("simplecache::https://h/run.zarr/", True, "run.zarr"),
        ("zip://inner.nc::https://h/all.zip", True, "all.zip"),
        ("C:/data/run.nc", False, None),
        ("c:\\data\\run.nc", False, None),
        ("data/run.nc", False, None),
        ("run:1.nc", False, None),
    ],
)
def test_urls_are_told_from_paths(source, url, name):
    assert urls.is_url(source) is url
    if url:
        assert urls.url_name(source) == name


def test_remote_files_are_files(server, monkeypatch):
    monkeypatch.setattr(remote, "BLOCK_BYTES", 100)
    data = (server.folder / "run.nc").read_bytes()
    source = pickle.loads(pickle.dumps(remote.Remote(server.url("run.nc"))))
    assert (source.size, source.in_parts) == (len(data), True)
    assert source.parts([(0, 3), (50, 51)]) == [data[:3], data[50:51]]
    with RangeFile(source) as file:
        for start, count in ((0, 10), (95, 10), (1000, 1000), (len(data) - 3, 10), (len(data) + 5, 10)):
            file.seek(start)
            assert file.read(count) == data[start : start + count]
        assert file.seek(-4, os.SEEK_END) == len(data) - 4
        assert file.seek(2, os.SEEK_CUR) == len(data) - 2
        assert file.read() == data[-2:]


class FromDisk(remote.Remote):
    """Instead of a server: parts of a file on the disk."""

    def __init__(self, path: Path) -> None:
        self.data, self.asked = path.read_bytes(), []

    def parts(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        self.asked += ranges
        return [self.data[a:b] for a, b in ranges]


def keys(size: int) -> st.SearchStrategy[int | slice]:
    bound = st.none() | st.integers(-size - 2, size + 2)
    step = st.none() | st.sampled_from([1, 2, 3, -1, -2])
    return st.integers(0, size - 1) | st.builds(slice, bound, bound, step)


@pytest.mark.slow
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)).flatmap(
        lambda shape: st.tuples(
            st.just(shape), st.tuples(*map(keys, shape)), st.tuples(*(st.integers(1, n) for n in shape))
        )
    ),
    st.sampled_from([{}, {"zlib": True}, {"zlib": True, "shuffle": False}, {"contiguous": True}]),
    st.sampled_from(["f4", "f8", "i2", ">f4"]),
    st.sampled_from([0, 2**16]),
)
def test_chunks_are_read_as_the_library_reads_them(tmp_path_factory, case, options, dtype, gap):
    shape, key, chunk = case
    values = np.random.default_rng(0).integers(-1000, 1000, shape).astype(dtype)
    path = tmp_path_factory.mktemp("chunks") / "x.nc"
    with netCDF4.Dataset(path, "w") as file:
        for name, size in zip("abc", shape, strict=True):
            file.createDimension(name, size)
        where = {} if "contiguous" in options else {"chunksizes": chunk}
        endian = {"endian": "big"} if dtype.startswith(">") else {}
        file.createVariable("x", values.dtype, tuple("abc"), **endian, **options, **where)[:] = values
    chunks = chunks_of(check_file(path)["x"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "GAP_BYTES", gap)
        source = FromDisk(path)
        got = ChunkArray(source, chunks, "x").read(key)
    np.testing.assert_array_equal(got, values[key])
    assert got.shape == values[key].shape
    wanted = {tuple(np.array(place) // chunks.chunk) for place in np.argwhere(np.ones(shape))[_box(shape, key)]}
    asked, most = sum(b - a for a, b in source.asked), sum(b - a for a, b in (chunks.ranges[w] for w in wanted))
    assert asked >= got.nbytes or chunks.filters
    if not gap:
        assert asked == most if chunks.filters else asked <= most


def _box(shape: tuple[int, ...], key: tuple[int | slice, ...]) -> np.ndarray:
    """Mask, over flat places, of the box around a key."""
    mask = np.zeros(shape, bool)
    picked = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(shape, key, strict=True)]
    if all(p.size for p in picked):
        mask[tuple(slice(p.min(), p.max() + 1) for p in picked)] = True
    return mask.ravel()


def test_any_layout_is_read_in_parts(ds, server):
    with netCDF4.Dataset(lk.save(ds, server.folder / "sums.nc", overwrite=True), "a") as file:
        checked = file.createVariable("lca_val", "f4", ("iteration", "parameter"), zlib=True, fletcher32=True)
        checked[:] = ds["lca"].values
    got = lk.open_trajectory(server.url("sums.nc"))
    np.testing.assert_array_equal(got["lca_val"], ds["lca"])
    assert all(part for _, part in server.requests if part is not None)


def test_of_chunks_that_are_not_packed_a_server_sends_the_rows_that_are_wanted(tmp_path):
    path, values = tmp_path / "x.nc", np.arange(64 * 30_000.0).reshape(64, 30_000)
    with netCDF4.Dataset(path, "w") as file:
        for name, size in zip("ab", values.shape, strict=True):
            file.createDimension(name, size)
        file.createVariable("x", "f8", ("a", "b"), chunksizes=(64, 30_000))[:] = values
    source = FromDisk(path)
    array = ChunkArray(source, chunks_of(check_file(path)["x"]), "x")
    np.testing.assert_array_equal(array.read((7, slice(None))), values[7])
    assert sum(b - a for a, b in source.asked) == values[7].nbytes
