"""Rows that are still on their way from a GPU: taken over late, and never lost. Stand-ins take the place of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.storage import npz, segments
from lcakit.storage.paths import partial_path
from lcakit.testing import tiny_trajectory

torch = pytest.importorskip("torch")

from lcakit.record import host_copy  # noqa: E402


class Late:
    """Numbers that are there once somebody has waited for them."""

    arrives = True

    def __init__(self, values, asked):
        self.values, self.asked, self.nbytes = values, asked, values.nbytes

    def __array__(self, dtype=None, copy=None):
        self.asked.append(self.values)
        return np.array(self.values, dtype)


def rows(ds, asked):
    """Yield the rows of a trajectory, its large variables late."""
    names = {dim: [str(n) for n in ds.variables if ds[n].dims[:1] == (dim,)] for dim in ("snapshot", "iteration")}
    for t in range(ds.sizes["snapshot"]):
        found = []
        for dim, place in (("snapshot", t), ("iteration", t - 1)):
            row = {name: ds[name].values[place] for name in names[dim]} if place >= 0 else {}
            found.append({name: Late(v, asked) if np.ndim(v) else v for name, v in row.items()})
        yield found


@pytest.fixture
def ds() -> xr.Dataset:
    return tiny_trajectory(12)


@pytest.fixture
def labels(ds) -> xr.Dataset:
    return ds.drop_vars([*ds.data_vars, "snapshot", "iteration"])


def test_nobody_waits_for_a_row_before_the_next_one(ds, labels, tmp_path):
    asked: list[np.ndarray] = []
    writer = segments.SegmentWriter(tmp_path / "run.nc.partial", labels)
    waited = []
    for pair in rows(ds, asked):
        writer.append(*pair)
        waited.append(len(asked))
    writer.close()
    steps = np.diff(waited)
    assert waited[0] == 0  # the first row is on its way
    assert steps[0] > 0  # the second comes, so the first is taken over
    assert len(asked) - waited[-1] == steps[-1]  # and the last one when the file is closed


@pytest.mark.parametrize("block_rows", [1, 5, 64])
def test_all_rows_are_in_the_file(ds, labels, tmp_path, block_rows):
    path = tmp_path / "run.nc"
    writer = segments.SegmentWriter(partial_path(path), labels, block_rows=block_rows)
    for pair in rows(ds, []):
        writer.append(*pair)
    writer.close()
    assert len(segments.segment_paths(partial_path(path))) == -(-12 // block_rows)
    lk.finish(path)
    with lk.open_trajectory(path) as got:
        for name in ("theta", "gradient", "lca", "lca_unit_class", "loss"):
            np.testing.assert_array_equal(got[name], ds[name])


def test_a_loop_that_fails_keeps_the_row_that_is_on_its_way(ds, labels, tmp_path):
    writer = segments.SegmentWriter(tmp_path / "run.nc.partial", labels)
    pairs = rows(ds, [])
    for _ in range(4):
        writer.append(*next(pairs))
    writer.close(with_state=False)
    (segment,) = segments.segment_paths(tmp_path / "run.nc.partial")
    stored = npz.open_segment(segment)
    np.testing.assert_array_equal(stored["lca"][:], ds["lca"][:3])
    np.testing.assert_array_equal(stored["theta"][:], ds["theta"][:4])


class Lost(Late):
    """Numbers of a device that has failed."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("device-side assert triggered")


def test_a_device_that_fails_costs_only_the_row_on_its_way(ds, labels, tmp_path):
    writer = segments.SegmentWriter(tmp_path / "run.nc.partial", labels)
    pairs = rows(ds, [])
    for _ in range(4):
        writer.append(*next(pairs))
    snapshot, iteration = next(pairs)
    writer.append(snapshot, iteration | {"lca": Lost(iteration["lca"].values, [])})
    writer.close(with_state=False)
    (segment,) = segments.segment_paths(tmp_path / "run.nc.partial")
    stored = npz.open_segment(segment)
    assert {name: len(stored[name][:]) for name in ("lca", "theta", "loss")} == {"lca": 3, "theta": 4, "loss": 4}


def test_tensors_of_a_cpu_are_there_at_once():
    tensor = torch.arange(3, dtype=torch.float64)
    found = host_copy.to_host(tensor)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [0, 1, 2])
