from __future__ import annotations

import dataclasses
import errno
import math

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.sharing import copies as room
from lcakit.sharing.copies import KEEPBITS, layout, share
from lcakit.storage import saving
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.laziness import any_chunks, nothing_computed, rechunked, two_runs
from tests.support.recordings import record
from tests.support.rounding import slow_error, slow_rounded

# ---- copies of all parameters ----------------------------------------------------------------------------------


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(any_chunks(), st.integers(1, 23), st.integers(1, 12), st.sampled_from([(3, 64, 32), (8, 256, 4096)]))
def test_copy_against_a_loop(tmp_path_factory, chunks, keepbits, iterations, sizes):
    ds = tiny_trajectory(iterations, class_parameters=True)
    path = tmp_path_factory.mktemp("share") / "copy.nc"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(("CHUNK_ROWS", "CHUNK_ENTRIES", "WINDOW_ENTRIES"), sizes, strict=True):
            patch.setattr(room, name, value)
        report = share(rechunked(ds, chunks), path, keepbits=keepbits)
    with lk.open_trajectory(path) as got:
        assert set(got.variables) == set(ds.variables)
        for name in ds.variables:
            assert got[name].dims == ds[name].dims
            assert ds[name].attrs.items() <= got[name].attrs.items()
            exact, stored = ds[name].values, got[name].values
            if name in ("gradient", "lca", "lca_class", "lca_unit_class"):
                exact = np.array([slow_rounded(x, keepbits) for x in exact.ravel().tolist()]).reshape(exact.shape)
                assert report.largest_relative_error[name] == pytest.approx(slow_error(ds[name].values, stored))
                assert stored.dtype == np.float32
            np.testing.assert_array_equal(stored, exact)
        assert report.largest_relative_error["theta"] == 0
        assert got.attrs["largest_relative_error"] == max(report.largest_relative_error.values())
        assert got.attrs["keepbits"] == keepbits
        assert lk.validate(got).ok


@given(
    st.sampled_from(
        [
            ("iteration", "parameter"),
            ("snapshot", "parameter"),
            ("iteration", "unit", "class"),
            ("iteration", "class", "parameter"),
        ]
    ),
    st.integers(1, 5000),
    st.integers(1, 3_000_000),
    st.integers(1, 5000),
    st.integers(1, 1000),
)
def test_layout(dims, iterations, parameters, units, classes):
    sizes = {"iteration": iterations, "snapshot": iterations + 1, "parameter": parameters, "unit": units}
    order, chunk = layout(dims, sizes | {"class": classes})
    assert set(order) == set(dims)
    assert order[-1] == dims[0]  # time
    assert all(1 <= n <= (sizes | {"class": classes})[dim] for dim, n in zip(order, chunk, strict=True))
    assert math.prod(chunk) <= room.CHUNK_ENTRIES
    assert chunk[-1] <= room.CHUNK_ROWS
    if parameters >= 2**18 and "parameter" in dims:
        assert math.prod(chunk) >= room.CHUNK_ENTRIES / 4


def test_iterations_and_snapshots_have_chunks_of_one_height():
    sizes = {"iteration": 880, "snapshot": 881, "parameter": 84_060}
    assert layout(("iteration", "parameter"), sizes) == (("parameter", "iteration"), (1024, 221))
    assert layout(("snapshot", "parameter"), sizes) == (("parameter", "snapshot"), (1024, 221))


@pytest.fixture
def smooth() -> xr.Dataset:
    """Series like those of training with momentum: slow, over many orders of magnitude."""
    ds = tiny_trajectory(300, layers=(TensorSpec("w", (1500,), "bias", "w"),), classes=("a",))
    rng = np.random.default_rng(0)
    strength = 10.0 ** rng.uniform(-6, -3, 1500)
    noise = rng.normal(size=(340, 1500)) * strength
    moves = np.stack([noise[t : t + 40].mean(axis=0) for t in range(301)])
    theta = (rng.normal(size=1500) * 0.1 + np.cumsum(moves, axis=0)).astype(np.float32)
    data = {"theta": theta, "gradient": moves * 20, "lca": -(moves[:-1] ** 2)}
    return ds.assign({name: (ds[name].dims, values.astype(np.float32)) for name, values in data.items()})


@pytest.mark.slow
def test_copies_are_half_the_size_and_in_portable_form(smooth, tmp_path):
    report = share(smooth, tmp_path / "copy.nc")
    assert report.bytes_after == (tmp_path / "copy.nc").stat().st_size
    assert report.ratio > 2
    assert max(report.largest_relative_error.values()) < 1e-3
    with netCDF4.Dataset(tmp_path / "copy.nc") as file:
        for name in ("theta", "gradient", "lca"):
            assert file[name].dimensions[0] == "parameter"
            filters = file[name].filters()
            assert filters["zlib"]
            assert filters["shuffle"]
            assert not any(filters[other] for other in ("szip", "zstd", "bzip2", "blosc"))
            assert "_FillValue" not in file[name].ncattrs()
    share(smooth, tmp_path / "exact.nc", keepbits=23)
    lk.save(smooth, tmp_path / "as_recorded.nc", compression="zlib")
    size = {path.stem: path.stat().st_size for path in tmp_path.iterdir()}
    assert size["copy"] < size["exact"] < size["as_recorded"]
    with lk.open_trajectory(tmp_path / "exact.nc") as got:
        assert all(np.array_equal(got[name], smooth[name]) for name in smooth.variables)


def test_stock_readers_read_copies(tmp_path):
    ds = tiny_trajectory(20, class_parameters=True)
    share(ds, tmp_path / "copy.nc")
    with xr.open_dataset(tmp_path / "copy.nc") as stock, lk.open_trajectory(tmp_path / "copy.nc") as got:
        for name in ds.data_vars:
            np.testing.assert_array_equal(stock[name].transpose(*ds[name].dims), got[name])
        assert set(ds.coords) <= set(stock.coords)
        for study in (lk.layers.layer_lca, lk.noise.fraction_helping, lk.oscillation.weight_turns):
            np.testing.assert_allclose(study(stock), study(got), rtol=1e-5)


def test_signs_and_zeros_are_what_they_were(tmp_path):
    ds = tiny_trajectory(30)
    share(ds, tmp_path / "copy.nc", keepbits=1)
    with lk.open_trajectory(tmp_path / "copy.nc") as got:
        np.testing.assert_array_equal(lk.noise.help_hurt_zero(got), lk.noise.help_hurt_zero(ds))
        np.testing.assert_array_equal(lk.oscillation.weight_turns(got), lk.oscillation.weight_turns(ds))


def test_opened_copies_read_no_more_than_asked(tmp_path, monkeypatch):
    ds = tiny_trajectory(30, class_parameters=True)
    share(ds, tmp_path / "copy.nc")
    read = []
    with lk.open_trajectory(tmp_path / "copy.nc") as got:
        plain = xr.Variable.__getitem__
        monkeypatch.setattr(
            xr.Variable, "__getitem__", lambda self, key: (read.append(plain(self, key).size), plain(self, key))[1]
        )
        with nothing_computed():
            part = got["lca"][3:5, 10:20]
            one, some = got["lca"][3], got["lca_class"][:, 1, [5, 2]]
        assert part.values.shape == (2, 10)
        assert max(read) <= 61 * 30
        np.testing.assert_allclose(part, ds["lca"][3:5, 10:20], rtol=1e-3)
        np.testing.assert_allclose(one, ds["lca"][3], rtol=1e-3)
        np.testing.assert_allclose(some, ds["lca_class"][:, 1, [5, 2]], rtol=1e-3)


# ---- what is left out ------------------------------------------------------------------------------------------


def test_iterations_and_variables(tmp_path):
    ds = tiny_trajectory(20)
    report = share(ds, tmp_path / "copy.nc", iterations=slice(5, 9), drop=("theta",))
    assert report.dropped == ("theta",)
    assert "theta" in report.to_text()
    with lk.open_trajectory(tmp_path / "copy.nc") as got:
        assert "theta" not in got
        assert got["iteration"].values.tolist() == [5, 6, 7, 8, 9]
        assert got["snapshot"].values.tolist() == [5, 6, 7, 8, 9, 10]
        np.testing.assert_allclose(got["lca"], ds["lca"][5:10], rtol=1e-3)
        np.testing.assert_array_equal(got["loss"], ds["loss"][5:11])


def test_report_and_attributes(tmp_path):
    ds = tiny_trajectory(10)
    report = share(ds, tmp_path / "copy.nc")
    assert report.bytes_before == ds.nbytes
    assert report.ratio == report.bytes_before / report.bytes_after
    for piece in (
        "copy.nc",
        f"{1 / report.ratio:.2f} times larger: labels and tables outweigh",
        "lca ",
        "largest relative error 0.00",
        "lossless",
        "parameter resolution",
    ):
        assert piece in repr(report)
    assert "2.00 times smaller" in repr(dataclasses.replace(report, bytes_before=2 * report.bytes_after))
    with lk.open_trajectory(tmp_path / "copy.nc") as got:
        assert got.attrs["keepbits"] == KEEPBITS
        assert got.attrs["resolution"] == "parameter"
        assert ds.attrs["created_at"] in got.attrs["shared_from"]
        assert ds.attrs["model_fingerprint"] in got.attrs["shared_from"]
        kept = ("data_fingerprint", "model_fingerprint", "loss_name", "rule", "seed")
        assert all(got.attrs[name] == ds.attrs[name] for name in kept)


@pytest.mark.slow
def test_a_copy_of_a_copy_counts_both_errors_and_names_the_original(tmp_path):
    ds = tiny_trajectory(10).assign_attrs(created_at="2020-02-02T02:02:02+00:00")  # not the second of the copies
    share(ds, tmp_path / "a.nc", keepbits=12)
    share(tmp_path / "a.nc", tmp_path / "b.nc", keepbits=6)
    share(tmp_path / "b.nc", tmp_path / "c.nc", keepbits=20)
    with (
        lk.open_trajectory(tmp_path / "a.nc") as a,
        lk.open_trajectory(tmp_path / "b.nc") as b,
        lk.open_trajectory(tmp_path / "c.nc") as c,
    ):
        assert [x.attrs["keepbits"] for x in (a, b, c)] == [12, 6, 6]
        assert {x.attrs["shared_from"] for x in (a, b, c)} == {a.attrs["shared_from"]}
        np.testing.assert_array_equal(b["lca"], c["lca"])
        assert c.attrs["largest_relative_error"] == b.attrs["largest_relative_error"]
        for x in (a, b):
            true = max(slow_error(ds[name].values, x[name].values) for name in ("lca", "gradient", "lca_unit_class"))
            assert true <= x.attrs["largest_relative_error"] * (1 + 1e-6)


def test_a_recording_that_is_not_finished_can_be_shared(tmp_path):
    ds = tiny_trajectory(12, class_parameters=True)
    ds = ds.drop_vars([name for name in ds.data_vars if not {"snapshot", "iteration"} & {*ds[name].dims}])
    record(ds, tmp_path / "run.nc", stop=8, block_rows=3).close()
    share(tmp_path / "run.nc", tmp_path / "copy.nc", keepbits=23)
    with lk.open_trajectory(tmp_path / "copy.nc") as got:
        assert "partial" not in got.attrs
        np.testing.assert_array_equal(got["lca_class"], ds["lca_class"][:8])


# ---- refusals --------------------------------------------------------------------------------------------------


def test_wrong_arguments(tmp_path):
    ds, out = tiny_trajectory(5), tmp_path / "copy.nc"
    with pytest.raises(ValueError, match=r"resolution 'layers'.*'layer'"):
        share(ds, out, resolution="layers")
    for bits in (0, 24, 2.5):
        with pytest.raises(ValueError, match="1 to 23"):
            share(ds, out, keepbits=bits)
    with pytest.raises(ValueError, match=r"leave out 'thta'.*'theta'"):
        share(ds, out, drop=("thta",))
    with pytest.raises(ValueError, match="iteration 9 is not in the run"):
        share(ds, out, iterations=slice(0, 9))
    with pytest.raises(ValueError, match=r"\.zarr"):
        share(ds, tmp_path / "copy.zarr")
    with pytest.raises(lk.TrajectoryError, match="one run"):
        share(two_runs(ds, ds), out)
    with pytest.raises(lk.TrajectoryError, match="schema_version"):
        share(ds.drop_attrs(deep=False), out)
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_goes_only_on_request_and_the_original_never(tmp_path):
    ds = tiny_trajectory(5)
    original = lk.save(ds, tmp_path / "run.nc")
    share(original, tmp_path / "copy.nc")
    with pytest.raises(lk.RecordingError, match="overwrite=True"):
        share(original, tmp_path / "copy.nc")
    share(original, tmp_path / "copy.nc", overwrite=True)
    before = original.read_bytes()
    with lk.open_trajectory(original) as opened:
        for source in (original, str(original), opened):
            with pytest.raises(lk.RecordingError, match="is the original"):
                share(source, tmp_path / "run.nc", overwrite=True)
    assert original.read_bytes() == before


@pytest.mark.parametrize("step", ["_create", "relative_error"])
def test_full_disk_leaves_the_older_file(tmp_path, monkeypatch, step):
    path = tmp_path / "copy.nc"
    share(tiny_trajectory(5), path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(room, step, full)
    with pytest.raises(lk.RecordingError, match="No space left"):
        share(tiny_trajectory(6), path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_opened_copy_can_be_saved_as_recorded(tmp_path):
    share(tiny_trajectory(6), tmp_path / "copy.nc")
    with lk.open_trajectory(tmp_path / "copy.nc") as got:
        path = saving.save(got, tmp_path / "plain.nc")
        with lk.open_trajectory(path) as plain, netCDF4.Dataset(path) as file:
            assert file["lca"].dimensions == ("iteration", "parameter")
            assert all(np.array_equal(plain[name], got[name]) for name in got.variables)
            assert plain.attrs == got.attrs


@pytest.mark.slow
def test_the_benchmark_runs(smooth, tmp_path):
    from lcakit.bench import share as bench
    from lcakit.errors import DataError

    result = bench.run(lk.save(smooth, tmp_path / "run.nc"))
    assert (result["iterations"], result["parameters"]) == (300, 1496)
    assert result["forms"]["time last (lk.share)"]["ratio"]["all"] > result["forms"]["as recorded"]["ratio"]["all"] > 1
    assert "time last (lk.share)" in bench.to_text(result)
    assert bench.run(scale=0.05, directory=str(tmp_path))["iterations"] == 50
    with pytest.raises(DataError, match="scale"):
        bench.run(scale=0)
    with pytest.raises(DataError, match="none of theta"):
        bench.run(lk.save(smooth.drop_vars(["theta", "gradient", "lca"]), tmp_path / "none.nc"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["none.nc", "run.nc"]
