"""Windows to write and blocks to read, made of whole chunks of the file."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

import lcakit as lk
from lcakit.storage import blocks
from lcakit.testing import tiny_trajectory
from lcakit.trajectory import schema
from lcakit.trajectory.labels import TensorSpec
from tests.support.same import assert_same


def test_windows_cover_every_entry_once(ds, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", 100)
    monkeypatch.setattr(schema, "CHUNK_ITERATIONS", 5)
    monkeypatch.setattr(schema, "CHUNK_PARAMETERS", 16)
    for name in ("theta", "lca_class", "lca_unit_class"):
        seen = np.zeros(ds[name].shape, int)
        for window in blocks.windows(ds[name]):
            seen[window] += 1
        assert (seen == 1).all()
    path = lk.save(ds, tmp_path / "run.nc")
    with netCDF4.Dataset(path) as file:
        assert file["lca"].chunking() == [5, 16]
        assert file["lca_class"].chunking() == [5, 1, 16]
    with lk.open_trajectory(path) as got:
        assert_same(got, ds)


@pytest.mark.parametrize("chunks", [(7, 24), (10, 20), (5, 32)])
def test_windows_are_of_whole_chunks_whatever_the_blocks(monkeypatch, chunks):
    monkeypatch.setattr(schema, "CHUNK_ITERATIONS", 5)
    monkeypatch.setattr(schema, "CHUNK_PARAMETERS", 16)
    lca = tiny_trajectory(20)["lca"].chunk(dict(zip(("iteration", "parameter"), chunks, strict=True)))
    for window in blocks.windows(lca):
        assert all(part.start % size == 0 for part, size in zip(window, (5, 16), strict=True))


def test_dask_chunks_are_multiples_of_the_files(tmp_path):
    wide = tiny_trajectory(70, layers=(TensorSpec("w", (20_000,), "bias", "w"),), classes=("a",))
    with lk.open_trajectory(lk.save(wide, tmp_path / "run.nc")) as got:
        assert all(n % 64 == 0 for n in got["lca"].chunks[0][:-1])
        assert all(n % 16_384 == 0 for n in got["lca"].chunks[1][:-1])
