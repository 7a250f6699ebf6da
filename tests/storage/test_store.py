from __future__ import annotations

import errno
import time
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.storage import blocks, netcdf, npz, segments
from lcakit.storage.paths import partial_path
from lcakit.testing import tiny_trajectory
from lcakit.trajectory import schema
from lcakit.trajectory.labels import TensorSpec
from lcakit.trajectory.schema import VARIABLES


def assert_same(got: xr.Dataset, expected: xr.Dataset) -> None:
    """Same numbers, types, labels and attributes (strings may come back as objects)."""
    assert set(got.data_vars) == set(expected.data_vars)
    assert set(expected.coords) <= set(got.coords)
    for name in expected.variables:
        assert got[name].dims == expected[name].dims
        assert np.array_equal(got[name].values, expected[name].values), name
        if expected[name].dtype.kind != "U":
            assert got[name].dtype == expected[name].dtype, name
        assert expected[name].attrs.items() <= got[name].attrs.items()
    assert got.attrs == expected.attrs


@pytest.fixture
def ds() -> xr.Dataset:
    return tiny_trajectory(12, class_parameters=True)


# ---- round trips -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("chunks", [None, {"parameter": 7, "iteration": 5}])
def test_round_trip(ds, tmp_path, compression, chunks):
    path = lk.save(ds if chunks is None else ds.chunk(chunks), tmp_path / "deep" / "run.nc", compression=compression)
    with lk.open_trajectory(path) as got:
        assert all(got[name].chunks for name in ("theta", "lca", "lca_class"))
        assert_same(got, ds)
    assert [p.name for p in path.parent.iterdir()] == ["run.nc"]


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 5),
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1), min_size=1, max_size=3
    ),
)
def test_round_trip_of_any_network(tmp_path_factory, iterations, shapes, classes):
    layers = tuple(TensorSpec(f"l{n}.w", tuple(s), "other", f"l{n}") for n, s in enumerate(shapes))
    ds = tiny_trajectory(iterations, layers=layers, classes=list(dict.fromkeys(classes)))
    path = lk.save(ds, tmp_path_factory.mktemp("any") / "run.nc")
    with lk.open_trajectory(path) as got:
        assert_same(got, ds)
        assert lk.validate(got).ok


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


def test_stock_readers_understand_the_file(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc")
    with netCDF4.Dataset(path) as file:
        assert file.data_model == "NETCDF4"
        assert file.Conventions == "lcakit-1.1"
        assert np.array_equal(file["theta"][:], ds["theta"])
        assert list(file["layer"][:]) == ["conv1", "norm1", "fc"]
        assert {"tensor_index", "layer_index", "unit_index"} <= set(file["lca"].coordinates.split())
        for name in ds.data_vars:
            assert file[name].dimensions == VARIABLES[name].dims
            assert file[name].long_name
            assert file[name].units
    with xr.open_dataset(path) as stock:
        assert np.array_equal(stock["lca"], ds["lca"])
        assert "tensor_index" in stock.coords


def test_a_selection_can_be_saved(ds, tmp_path):
    part = ds.lk.sel(layer="fc", iteration=slice(2, 5))
    with lk.open_trajectory(lk.save(part, tmp_path / "fc.nc")) as got:
        assert np.array_equal(got["parameter"], np.arange(33, 61))
        assert np.array_equal(got.lk.unflatten("fc.weight"), ds.lk.unflatten("fc.weight").sel(iteration=slice(2, 5)))


# ---- refusals --------------------------------------------------------------------------------------------------


def test_overwrite_only_on_request(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc")
    before = path.read_bytes()
    with pytest.raises(lk.RecordingError, match="overwrite=True"):
        lk.save(ds, path)
    assert path.read_bytes() == before
    lk.save(ds.isel(snapshot=slice(0, 4), iteration=slice(0, 3)), path, overwrite=True)
    with lk.open_trajectory(path) as got:
        assert got.sizes["iteration"] == 3


def test_save_refuses_what_is_no_trajectory(ds, tmp_path):
    with pytest.raises(lk.TrajectoryError, match="schema_version"):
        lk.save(ds.drop_attrs(deep=False), tmp_path / "run.nc")
    with pytest.raises(ValueError, match="zlib"):
        lk.save(ds, tmp_path / "run.nc", compression="zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["_create", "write_window"])
def test_full_disk_leaves_the_older_file(ds, tmp_path, monkeypatch, step):
    path = lk.save(ds, tmp_path / "run.nc")
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(netcdf, step, full)
    with pytest.raises(lk.RecordingError, match="No space left"):
        lk.save(ds, path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_damaged_files(ds, tmp_path, keep):
    path = lk.save(ds, tmp_path / "run.nc")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc"):
        lk.open_trajectory(path)


def test_other_netcdf_files_and_missing_ones(tmp_path):
    xr.Dataset({"x": ("y", [1.0])}).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(lk.TrajectoryError, match="not an lcakit trajectory"):
        lk.open_trajectory(tmp_path / "other.nc")
    with pytest.raises(lk.TrajectoryError, match="no such file"):
        lk.open_trajectory(tmp_path / "none.nc")


def set_version(path: Path, version: str) -> None:
    with netCDF4.Dataset(path, "a") as file:
        file.schema_version = version


def test_versions(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc")
    set_version(path, "1.0")
    lk.open_trajectory(path).close()  # without a word: warnings are errors
    set_version(path, "1.9")
    with pytest.warns(LcakitWarning, match=r"1\.9.*1\.1"):
        got = lk.open_trajectory(path)
    assert np.array_equal(got["lca"], ds["lca"])
    got.close()
    set_version(path, "2.0")
    with pytest.raises(lk.TrajectoryError, match=r"2\.0.*1\.1"):
        lk.open_trajectory(path)


# ---- several runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [lk.save(tiny_trajectory(6, seed=seed), tmp_path / f"run{seed}.nc") for seed in (0, 1)]


def test_open_runs_by_list_and_by_pattern(runs):
    for source in (runs, str(runs[0].parent / "run*.nc")):
        both = lk.open_trajectory(source)
        assert both["run"].values.tolist() == ["run0", "run1"]
        assert both["lca"].dims == ("run", "iteration", "parameter")
        assert both["layer_index"].dims == ("parameter",)
        assert both["lca"].chunks
        assert lk.layers.layer_lca(both).dims == ("run", "iteration", "layer")
        assert np.array_equal(both["lca"].sel(run="run1"), tiny_trajectory(6, seed=1)["lca"])
    with pytest.raises(lk.TrajectoryError, match="no file matches"):
        lk.open_trajectory(str(runs[0].parent / "x*.nc"))
    with pytest.raises(lk.TrajectoryError, match="empty"):
        lk.open_runs([])


def test_open_runs_alignment(runs, tmp_path):
    short = lk.save(tiny_trajectory(4, seed=2).assign_attrs(created_at="yesterday"), tmp_path / "short.nc")
    with pytest.raises(lk.TrajectoryError, match="shortest"):
        lk.open_runs([runs[0], short])
    both = lk.open_runs([runs[0], short], align="shortest")
    assert both.sizes["iteration"] == 4
    assert both.sizes["snapshot"] == 5
    assert "created_at" not in both.attrs  # the runs differ in it
    assert lk.validate(both).ok
    assert not lk.validate(both.assign_attrs(schema_version="none")).ok
    with pytest.raises(ValueError, match="exact"):
        lk.open_runs(runs, align="longest")


def test_open_runs_refuses_other_networks(runs, tmp_path):
    other = tiny_trajectory(6, layers=(TensorSpec("fc.weight", (2, 2), "kernel", "fc"),))
    path = lk.save(other, tmp_path / "other.nc")
    with pytest.raises(lk.TrajectoryError, match="other parameters"):
        lk.open_runs([runs[0], path])


# ---- unfinished recordings -------------------------------------------------------------------------------------

SNAPSHOT = ("snapshot", "theta", "gradient", "loss", "loss_class", "accuracy")
ITERATION = ("iteration", "lca", "lca_unit_class", "lca_class", "first_order", "residual", "splits")


def record(ds: xr.Dataset, path: Path, stop: int | None = None, **options) -> segments.SegmentWriter:
    """Write a trajectory row by row, as a recording does."""
    header = ds.drop_dims(["snapshot", "iteration"])
    writer = segments.SegmentWriter(partial_path(path), header, **options)
    row = {name: [ds[name].values[t] for t in range(ds[name].shape[0])] for name in (*SNAPSHOT, *ITERATION)}
    writer.append({name: row[name][0] for name in SNAPSHOT}, {})
    for t in range(ds.sizes["iteration"] if stop is None else stop):
        writer.append({n: row[n][t + 1] for n in SNAPSHOT}, {n: row[n][t] for n in ITERATION})
    return writer


@pytest.fixture
def written(ds) -> xr.Dataset:
    return ds.drop_vars([name for name in ds.data_vars if name not in (*SNAPSHOT, *ITERATION)])


@pytest.mark.parametrize("rows", [1, 5, 12, 64])
def test_partial_recordings_open_and_finish(written, tmp_path, rows):
    path = tmp_path / "run.nc"
    record(written, path, block_rows=rows).close()
    for source in (path, partial_path(path)):
        got = lk.open_trajectory(source)
        assert got.attrs["partial"] == 1
        assert_same(got.assign_attrs(written.attrs).drop_attrs(deep=False).assign_attrs(written.attrs), written)
        assert lk.validate(source).ok
    assert lk.finish(path) == path
    assert list(tmp_path.iterdir()) == [path]
    with lk.open_trajectory(path) as got:
        assert "partial" not in got.attrs
        assert_same(got, written)


KEYS = st.one_of(
    st.integers(-9, 8),
    st.slices(9),
    st.lists(st.integers(-9, 8), min_size=1, max_size=4),
    st.tuples(st.slices(9), st.slices(5)),
    st.tuples(st.integers(-9, 8), st.slices(5)),
    st.tuples(st.lists(st.integers(-9, 8), min_size=1, max_size=4), st.slices(5)),
)


@settings(deadline=None, max_examples=150)
@given(KEYS, st.booleans(), st.sampled_from([(9,), (4, 5), (1, 3, 5), (0, 9)]))
def test_blocks_are_read_as_one_array(tmp_path_factory, key, once, lengths):
    folder, values = tmp_path_factory.getbasetemp(), np.arange(45.0).reshape(9, 5)
    blocks, start = [], 0
    for number, length in enumerate(lengths):
        path = folder / f"{number}-{length}-{start}.npz"
        if not path.exists():
            npz.write_arrays(path, [("values", values[start : start + length])])
        blocks.append(npz.open_segment(path)["values"])
        start += length
    got = npz.JoinedArray(blocks, once)[key]
    np.testing.assert_array_equal(got, values[key])
    assert got.flags.writeable


def test_what_is_gone_is_said(written, tmp_path):
    path = tmp_path / "run.nc"
    record(written, path).close()
    held = lk.open_trajectory(path)
    lk.finish(path)
    with pytest.raises(lk.TrajectoryError, match="Open it again"):
        held["lca"].load()


def test_segments_hold_whole_blocks_while_recording_goes_on(written, tmp_path):
    path = tmp_path / "run.nc"
    writer = record(written, path, stop=11, block_rows=5)
    while not (partial_path(path) / "000001.npz").exists():
        time.sleep(0.01)
    got = lk.open_trajectory(path)
    assert got.sizes["iteration"] == 10
    assert np.array_equal(got["lca"], written["lca"][:10])
    writer.close()


def test_damaged_recordings(written, tmp_path):
    path = tmp_path / "run.nc"
    record(written, path, block_rows=3).close()
    partial = partial_path(path)
    (partial / "000002.npz").write_bytes((partial / "000002.npz").read_bytes()[:200])
    with pytest.raises(lk.TrajectoryError, match=r"000002\.npz"):
        lk.open_trajectory(path)
    (partial / "000001.npz").unlink()
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz is missing"):
        lk.open_trajectory(path)
    for segment in partial.glob("*.npz"):
        segment.unlink()
    with pytest.raises(lk.TrajectoryError, match="before its first segment"):
        lk.open_trajectory(path)
    (partial / "header.nc").unlink()
    with pytest.raises(lk.TrajectoryError, match="header"):
        lk.open_trajectory(path)


def test_finish_keeps_the_segments_when_the_disk_is_full(written, tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    record(written, path).close()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(netcdf, "write_window", full)
        with pytest.raises(lk.RecordingError, match="No space left"):
            lk.finish(path)
    assert not path.exists()
    assert_same(lk.open_trajectory(lk.finish(path)), written)


def test_full_disk_while_recording_keeps_finished_segments(written, tmp_path, monkeypatch):
    path, real = tmp_path / "run.nc", segments.write_arrays

    def full_after_two(file, arrays):
        if "000002" in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, arrays)

    monkeypatch.setattr(segments, "write_arrays", full_after_two)
    with pytest.raises(lk.RecordingError, match="last finished segment"):
        record(written, path, block_rows=3).close()
    got = lk.open_trajectory(path)
    assert np.array_equal(got["lca"], written["lca"][:6])
    assert not list(partial_path(path).glob(".*tmp*"))


def test_states_are_kept_for_the_last_two_segments(written, tmp_path):
    count = iter(range(100))
    path = tmp_path / "run.nc"
    record(written, path, block_rows=3, state=lambda: str(next(count)).encode()).close()
    partial = partial_path(path)
    assert segments.go_back_to_state(partial) == b"3"
    assert sorted(p.name for p in partial.glob("*.state")) == ["000002.state", "000003.state"]
