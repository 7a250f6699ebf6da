"""Files read by ourselves and by the netCDF library: the same variables, attributes, encodings and numbers."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.storage.engine import TrajectoryBackend
from lcakit.storage.netcdf_reading import open_local
from lcakit.testing import tiny_trajectory
from tests.support.descriptors import descriptors
from tests.support.hdf5_files import block_of, patched
from tests.support.same import assert_same

DATA = Path(__file__).parents[2] / "data"


def assert_the_same_attributes(got: dict[Any, Any], expected: dict[Any, Any]) -> None:
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert type(got[name]) is type(value), name
        assert repr(got[name]) == repr(value), name


def assert_as_the_library_reads(path: Path) -> None:
    with open_local(path)[0] as got, xr.open_dataset(path, engine="netcdf4", decode_cf=False) as expected:
        assert list(got.variables) == list(expected.variables)
        assert_the_same_attributes(got.attrs, expected.attrs)
        assert got.encoding == expected.encoding
        for name, variable in expected.variables.items():
            ours = got.variables[name]
            assert (ours.dims, ours.dtype) == (variable.dims, variable.dtype)
            assert ours.dtype.metadata == variable.dtype.metadata
            assert_the_same_attributes(ours.attrs, variable.attrs)
            assert ours.encoding == variable.encoding
            assert ours.values.dtype == variable.values.dtype
            np.testing.assert_array_equal(ours.values, variable.values)


def growing(file: netCDF4.Dataset) -> None:
    file.createDimension("t", None)
    file.createDimension("x", 3)
    file.createVariable("a", "f4", ("t", "x"))[:5] = 1.5
    file.createVariable("t", "i8", ("t",))[:] = range(5)
    file.createVariable("s", str, ("t",))[:] = np.array(["a", "", "b", "cc", "d"], object)


def characters(file: netCDF4.Dataset) -> None:
    file.createDimension("x", 3)
    file.createDimension("letters", 5)
    words = np.array(["ab", "cde", "fghij"], "S5")
    file.createVariable("c", "S1", ("x", "letters"), fill_value=b"!")[:] = netCDF4.stringtochar(words)


def texts(file: netCDF4.Dataset) -> None:
    file.createDimension("x", 3)
    file.createVariable("s", str, ("x",))[:] = np.array(["a", "", "äöü"], object)
    file.createVariable("one", str, ())[...] = "hello"
    file.createVariable("some", str, ("x",))[0] = "x"


def attributes(file: netCDF4.Dataset) -> None:
    file.setncatts({"a": 1.5, "b": np.array([1, 2, 3], "i2"), "c": "", "g": "äöü\n", "h": np.int8(3)})
    file.setncattr_string("d", "x")
    file.setncattr_string("e", ["x", "yy"])
    file.setncattr("f", np.array([], "f4"))
    file.createDimension("x", 2)
    packed = file.createVariable("v", "i2", ("x",), fill_value=-9)
    packed.set_auto_maskandscale(False)
    packed[:] = [1, 2]
    packed.setncatts({"scale_factor": 0.1, "add_offset": 3.0, "valid_range": np.array([0, 9], "i2")})
    packed.setncatts({f"z{19 - k}": k for k in range(20)})  # so many that they are kept elsewhere
    packed.least_significant_digit = 3


def orders_of_bytes(file: netCDF4.Dataset) -> None:
    file.createDimension("x", 3)
    for kind in ("f4", "f8", "i2", "i4", "i8", "u2", "u8", "i1", "u1"):
        file.createVariable(f"v_{kind}", kind, ("x",), endian="big")[:] = [1, 2, 3]


def coordinates(file: netCDF4.Dataset) -> None:
    file.createDimension("y", 2)
    file.createDimension("x", 3)
    file.createVariable("x", "f4", ("x", "y"))[:] = 1
    file.createVariable("y", "f4", ("x",))[:] = 2


def single(file: netCDF4.Dataset) -> None:
    file.createVariable("s", "f8", ())[...] = 3
    file.createVariable("c", "S1", ())[...] = b"q"


def unwritten(file: netCDF4.Dataset) -> None:
    file.createDimension("x", 7)
    file.createVariable("a", "f4", ("x",))
    file.createVariable("b", "f4", ("x",), fill_value=5.0)
    file.createVariable("c", "i4", ("x",), chunksizes=(2,), zlib=True)[0] = 1


def many(file: netCDF4.Dataset) -> None:
    for k in range(60):
        file.createDimension(f"d{59 - k}", k + 1)
        file.createVariable(f"v{k * 7 % 60}", "f4", (f"d{59 - k}",))[:] = k


def groups(file: netCDF4.Dataset) -> None:
    file.createDimension("x", 7)
    file.createGroup("g").createVariable("a", "f4", ("x",))[:] = 1
    file.createVariable("b", "f4", ("x",))[:] = 2


def filters(file: netCDF4.Dataset) -> None:
    file.createDimension("x", 7)
    file.createDimension("y", 9)
    options: list[dict[str, Any]] = [
        {"zlib": True, "complevel": 7},
        {"zlib": True, "shuffle": False},
        {"fletcher32": True},
        {"zlib": True, "fletcher32": True},
        {"chunksizes": (3, 4)},
        {"contiguous": True},
    ]
    for k, how in enumerate(options):
        file.createVariable(f"v{k}", "f4", ("x", "y"), **how)[:] = np.random.default_rng(k).random((7, 9))


KINDS = [
    *(growing, characters, texts, attributes, orders_of_bytes, coordinates, single, unwritten, many, groups),
    filters,
]


@pytest.mark.filterwarnings("ignore:endian-ness of dtype")
@pytest.mark.parametrize("fill", KINDS, ids=lambda fill: fill.__name__)
def test_any_kind_of_variable_is_read_as_the_library_reads_it(tmp_path, fill: Callable[[netCDF4.Dataset], None]):
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        fill(file)
    assert_as_the_library_reads(tmp_path / "x.nc")


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_files_that_xarray_writes_are_read_as_the_library_reads_them(tmp_path, engine):
    pytest.importorskip(engine.replace("netcdf4", "netCDF4"))
    times = np.array(["2020-01-01", "2021-01-01"], "M8[ns]")
    ds = xr.Dataset(
        {"flag": ("x", [True, False]), "time": ("x", times), "f": ("x", [1.0, np.nan]), "text": ((), "x")},
        coords={"x": ["p", "q"]},
        attrs={"r": "t", "n": [1, 2]},
    )
    ds.to_netcdf(tmp_path / "x.nc", engine=engine)
    assert_as_the_library_reads(tmp_path / "x.nc")


@pytest.mark.parametrize("name", ["digits-fc", "digits-resnet8w8-plain-0", "mnist-fc-adam-0", "mnist-fc-sgd-mom0-2"])
def test_recorded_files_are_read_as_the_library_reads_them(name):
    assert_as_the_library_reads(DATA / f"{name}.nc")


def test_variables_of_uneven_length_are_refused(tmp_path):
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        growing(file)
        file.createVariable("b", "f4", ("t",))[:3] = 1
        file.createVariable("c", "f4", ("t",))[:5] = 1
    with pytest.raises(lk.TrajectoryError, match=r"x\.nc: .*'b' declares shape \(5,\), but shape \(3,\) is stored"):
        open_local(tmp_path / "x.nc")


def test_data_without_dimensions_of_netcdf_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.nc", "w", libver="latest", track_order=True) as file:
        file["a"] = np.arange(3)
    with pytest.raises(lk.TrajectoryError, match=r"x\.nc: .*'a' does not say what its dimensions are"):
        open_local(tmp_path / "x.nc")
    assert descriptors(tmp_path / "x.nc") == 0


# ---- plain xarray --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return Path(lk.save(tiny_trajectory(7), tmp_path_factory.mktemp("engine") / "run.nc"))


def test_plain_xarray_opens_a_trajectory_with_its_labels(path):
    with xr.open_dataset(path, engine=TrajectoryBackend) as got, lk.open_trajectory(path) as expected:
        assert got["lca"].chunks is None
        assert set(got.coords) == set(expected.coords)
        assert_same(got, expected)
        np.testing.assert_array_equal(got["lca"][::-2, [5, 0]], expected["lca"].values[::-2][:, [5, 0]])
    assert descriptors(path) == 0


def test_the_engine_brings_the_accessor(path, monkeypatch):
    """Also where lcakit was imported before xarray, and nothing of it used since."""
    monkeypatch.delattr(xr.Dataset, "lk")
    monkeypatch.delitem(sys.modules, "lcakit.analysis.accessor")
    with xr.open_dataset(path, engine=TrajectoryBackend) as got:
        assert got.lk.sel(layer=str(got["layer"].values[0])).sizes["parameter"] > 0


def test_xarray_finds_the_engine_by_its_name():
    about = tomllib.loads((DATA.parent / "pyproject.toml").read_text())
    place = about["project"]["entry-points"]["xarray.backends"]["lcakit"]
    assert place == f"{TrajectoryBackend.__module__}:{TrajectoryBackend.__name__}"


def test_plain_xarray_takes_its_own_options(path):
    with xr.open_dataset(path, engine=TrajectoryBackend, chunks={}, drop_variables=["theta"]) as got:
        assert got["lca"].chunks
        assert "theta" not in got
    with xr.open_dataset(path, engine=TrajectoryBackend, decode_cf=False) as got:
        assert "lca" in got


def test_plain_xarray_is_told_what_is_wrong(path, tmp_path):
    (tmp_path / "folder").mkdir()
    damaged = Path(lk.save(tiny_trajectory(7), tmp_path / "damaged.nc", compression="zlib"))
    address, length = block_of(damaged, "a chunk of 'lca'")
    patched(damaged, address + length // 2, bytes(50))
    for source, message in (
        (tmp_path / "none.nc", "no such file"),
        (tmp_path / "folder", "is a folder"),
        (path.open("rb"), "opens a path or a URL, got"),
    ):
        with pytest.raises(lk.TrajectoryError, match=message):
            xr.open_dataset(source, engine=TrajectoryBackend)
    with (
        xr.open_dataset(damaged, engine=TrajectoryBackend) as got,
        pytest.raises(lk.TrajectoryError, match=r"damaged\.nc, 'lca': damaged: chunk \(0, 0\)"),
    ):
        got["lca"].load()
