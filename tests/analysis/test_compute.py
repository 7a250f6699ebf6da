from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.testing import tiny_trajectory


class Reads:
    """An array on disk, as far as Dask can tell; counts how often a block is read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.count = values, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, key: object) -> np.ndarray:
        self.count += 1
        return self.values[key]


def test_studies_together_read_every_block_once():
    ds = tiny_trajectory(64, chunks={"iteration": 16, "parameter": 20})
    reads = Reads(ds["lca"].values)
    blocks = da.from_array(reads, chunks=(16, 20), name="on-disk", meta=np.empty((0, 0), np.float32))
    ds["lca"] = ds["lca"].dims, blocks
    studies = {
        "helping": lk.noise.fraction_helping(ds),
        "counts": lk.noise.iterations_helped(ds),
        "layers": lk.layers.layer_lca(ds),
        "argmin": lk.layers.argmin_iteration(ds, "parameter"),
        "windows": lk.aggregate.window_lca(ds, 5, "unit"),
        "rms": lk.aggregate.rms_lca(ds),
        "histogram": lk.tails.histogram(ds),
    }
    assert reads.count == 0
    together = lk.compute(studies, quiet=True)
    assert reads.count == blocks.npartitions
    for name, study in studies.items():
        assert together[name].identical(study.compute())


def test_what_comes_back():
    ds = tiny_trajectory(8, chunks=3)
    one = lk.compute(lk.layers.layer_lca(ds))
    assert one.chunks is None
    pair = lk.compute(one, [lk.noise.help_hurt_zero(ds)])
    assert pair[0].identical(one)
    assert pair[1][0].chunks is None


def test_a_dataset_whose_variables_are_made_from_each_other():
    array = lk.layers.layer_lca(tiny_trajectory(8, chunks=3))
    both = xr.Dataset({"a": array.T, "b": array.T + 1}).assign_coords(late=("iteration", array.sum("layer").data))
    got = lk.compute(both, quiet=True)
    assert all(v.chunks is None for v in got.variables.values())
    assert got.identical(both.compute())
    assert lk.compute(both["a"], quiet=True).identical(both["a"].compute())


def test_a_bar_appears_for_long_work_only(monkeypatch, capsys):
    lk.compute(lk.layers.layer_lca(tiny_trajectory(8, chunks=3)))
    assert "computing" not in capsys.readouterr().err
    monkeypatch.setattr("lcakit.analysis.computing.BAR_AFTER", -1.0)
    lk.compute(lk.layers.layer_lca(tiny_trajectory(8, chunks=3)))
    assert "100%" in capsys.readouterr().err
    lk.compute(lk.layers.layer_lca(tiny_trajectory(8, chunks=3)), quiet=True)
    assert capsys.readouterr().err == ""


def test_errors_of_the_work_come_through():
    bad = da.ones(4, chunks=2).map_blocks(lambda block: 1 / 0, dtype=float, meta=np.empty(0))
    with pytest.raises(ZeroDivisionError):
        lk.compute(bad)


@pytest.mark.slow
def test_the_same_on_a_cluster():
    distributed = pytest.importorskip("distributed")
    ds = tiny_trajectory(8, chunks=3)
    alone = lk.compute(lk.layers.layer_lca(ds), lk.noise.fraction_helping(ds))
    with distributed.Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None):
        there = lk.compute(lk.layers.layer_lca(ds), lk.noise.fraction_helping(ds), quiet=True)
    for a, b in zip(alone, there, strict=True):
        assert a.identical(b)
