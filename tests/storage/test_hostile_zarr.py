"""Zarr stores that would hang, fill the memory, or read something else than the store."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import lcakit as lk
from lcakit.testing import tiny_trajectory
from tests.storage.test_zarr import change

numcodecs = pytest.importorskip("numcodecs")
zarr_guard = pytest.importorskip("lcakit.storage.zarr_guard")

CHUNK, LITTLE = "lca/c/0/0", {"name": "bytes", "configuration": {"endian": "little"}}


@pytest.fixture
def path(ds, tmp_path) -> Path:
    return lk.save(ds, tmp_path / "run.zarr")


def refused(path: Path, message: str) -> None:
    with pytest.raises(lk.TrajectoryError, match=rf"run\.zarr.*({message})"):
        lk.open_trajectory(path)["lca"].load()


def outside(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.suffix == ".zarr").with_name("moved")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def link(path: Path) -> None:
    path.symlink_to(path.rename(outside(path)))


def folder_link(path: Path) -> None:
    path.parent.symlink_to(path.parent.rename(outside(path)), target_is_directory=True)


def sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(5 * 2**30)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are those of Unix")
@pytest.mark.parametrize("spoil", [pipe, device, link, folder_link, sparse])
@pytest.mark.parametrize("file", [CHUNK, "tensor_index/c/0", "config/c"])
def test_only_plain_files_of_the_store_are_read(ds, tmp_path, spoil, file):
    path = lk.save(ds.assign(config="a note"), tmp_path / "run.zarr")
    if file == "config/c" and spoil is folder_link:
        pytest.skip("no folder of its own")
    spoil(path / file)
    with pytest.raises(lk.TrajectoryError, match=rf"run\.zarr.*{file}.*(only plain files|at most)"):
        lk.open_trajectory(path).load()


def test_a_store_behind_a_link_is_read(ds, path, tmp_path):
    (tmp_path / "link.zarr").symlink_to(path, target_is_directory=True)
    np.testing.assert_array_equal(lk.open_trajectory(tmp_path / "link.zarr")["lca"], ds["lca"])


@pytest.mark.parametrize(
    ("codec", "bomb"),
    [
        ({"name": "gzip", "configuration": {"level": 5}}, gzip.compress(bytes(2**24))),
        ({"name": "zstd", "configuration": {"level": 0, "checksum": False}}, numcodecs.Zstd().encode(bytes(2**24))),
        (
            {
                "name": "blosc",
                "configuration": {"cname": "zstd", "clevel": 9, "shuffle": "shuffle", "typesize": 4, "blocksize": 0},
            },
            numcodecs.Blosc("zstd", 9).encode(bytes(2**24)),
        ),
    ],
    ids=["gzip", "zstd", "blosc"],
)
def test_chunks_inflate_to_no_more_than_they_hold(path, codec, bomb):
    change(path, "lca", codecs=[LITTLE, codec])
    (path / CHUNK).write_bytes(bomb)
    refused(path, f"{CHUNK} would inflate to")


@pytest.mark.parametrize(
    ("kind", "packed"),
    [
        ("zlib", numcodecs.Zlib().encode(bytes(5000))),
        ("gzip", gzip.compress(bytes(2000)) + gzip.compress(bytes(3000))),
        ("zstd", numcodecs.Zstd().encode(bytes(5000))),
        ("zstd", numcodecs.Zstd().encode(bytes(200))),
        ("numcodecs.blosc", numcodecs.Blosc().encode(bytes(5000))),
        ("lz4", numcodecs.LZ4().encode(bytes(5000))),
    ],
    ids=["zlib", "gzip", "zstd", "short zstd", "blosc", "lz4"],
)
def test_the_size_of_what_is_packed_is_known_before_it_is_all_inflated(kind, packed):
    size = 200 if len(packed) < 25 and kind == "zstd" and zarr_guard._inflated(kind, packed, 10**6) == 200 else 5000
    assert zarr_guard._inflated(kind, packed, 10**6) == size
    if kind in ("zlib", "gzip"):
        assert 10 < zarr_guard._inflated(kind, packed, 10) <= size
    assert zarr_guard._inflated(kind, packed[:3], 10**6) is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"codecs": [LITTLE] + [{"name": "crc32c"}] * 100_000}, "very many codecs"),
        ({"codecs": [LITTLE, *[{"name": "gzip", "configuration": {"level": 1}}] * 2]}, "2 of which pack"),
        ({"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1], "codecs": [LITTLE]}}]}, ""),
        ({"shape": [10**9, 10**6]}, "declares the shape"),
        ({"shape": [1] * 5000}, "very many codecs or dimensions"),
    ],
    ids=["codecs", "packed twice", "shards", "chunks", "dimensions"],
)
def test_what_a_store_declares_is_bounded(path, entries, message):
    change(path, "lca", **entries)
    refused(path, message)


def test_labels_that_are_not_there_take_no_memory(path):
    """Chunks that are missing would be read as fill values."""
    for name in ("tensor_index", "layer_index"):
        grid = {"name": "regular", "configuration": {"chunk_shape": [2**22]}}
        change(path, name, shape=[2**24], chunk_grid=grid)
    refused(path, "labels would take")


@pytest.mark.slow
def test_very_many_arrays_are_refused(path):
    described = json.loads((path / "zarr.json").read_text())
    arrays = described["consolidated_metadata"]["metadata"]
    arrays |= {f"v{k}": arrays["loss"] for k in range(5000)}
    (path / "zarr.json").write_text(json.dumps(described))
    refused(path, "over 500 arrays")
    described.pop("consolidated_metadata")
    (path / "zarr.json").write_text(json.dumps(described))
    for number in range(510):
        (path / f"v{number}").mkdir()
    refused(path, "over 500 arrays")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1", "[]", '{"consolidated_metadata": 3}', ""])
def test_metadata_that_are_no_metadata(path, text):
    (path / "zarr.json").write_text(text)
    refused(path, "")


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore")
def test_stores_of_other_writers_raise_no_alarm(tmp_path, version):
    ds = tiny_trajectory(12)
    for number, codec in enumerate((None, "default")):
        options = {} if codec else {"encoding": {"lca": {"compressors": None}}}
        ds.to_zarr(tmp_path / f"{number}.zarr", zarr_format=version, **options)
        got = lk.open_trajectory(tmp_path / f"{number}.zarr")
        np.testing.assert_array_equal(got["lca"], ds["lca"])


def test_a_store_that_was_damaged_by_removing_a_folder(path):
    shutil.rmtree(path / "lca")
    refused(path, "")


@pytest.mark.parametrize("encoding", [{"name": "default", "separator": "."}, {"name": "v2", "separator": "/"}])
def test_chunks_that_lie_under_other_names_are_missing(path, encoding):
    """Not a block of fill values: a name of chunks that was changed would otherwise give other numbers."""
    described = json.loads((path / "zarr.json").read_text())
    array = described["consolidated_metadata"]["metadata"]["lca"]
    array["chunk_key_encoding"] = {"name": encoding["name"], "configuration": {"separator": encoding["separator"]}}
    (path / "zarr.json").write_text(json.dumps(described))
    refused(path, "is missing")
