"""netCDF files that would end the process, fill the memory, or lose a variable without a word."""

from __future__ import annotations

import zlib
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.storage.guard.attributes import check_attribute
from lcakit.storage.guard.blocks import CorruptError
from lcakit.storage.guard.hdf5 import _Walker
from lcakit.storage.guard.messages import Attribute, Type
from lcakit.testing import tiny_trajectory
from lcakit.trajectory import schema
from tests.support.hdf5_files import block_of, patched, walked
from tests.support.unchecked import save_unchecked

h5py = pytest.importorskip("h5py")


def refused(path: Path, message: str) -> str:
    with pytest.raises(lk.TrajectoryError, match=rf"{path.name}.*({message})") as error:
        lk.open_trajectory(path)
    return str(error.value)


# ---- other formats are called what they are -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "name"),
    [("NETCDF3_CLASSIC", "netCDF-3"), ("NETCDF3_64BIT", "netCDF-3"), ("NETCDF4_CLASSIC", "NETCDF4_CLASSIC")],
)
def test_a_copy_in_an_older_format_is_called_so_and_the_remedy_helps(ds, tmp_path, format, name):
    old, new = tmp_path / "old.nc", tmp_path / "new.nc"
    ds.to_netcdf(old, format=format)
    said = refused(old, name)
    assert "damaged" not in said
    code = "xarray.open_dataset(old, decode_times=False).drop_encoding().to_netcdf(new)"
    assert code in said
    eval(code, {"xarray": xr, "old": old, "new": new})  # what the message says
    with lk.open_trajectory(new) as got:
        np.testing.assert_array_equal(got["lca"], ds["lca"])
        assert lk.validate(got).ok


@pytest.mark.parametrize(
    ("begin", "name"),
    [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "zip"), (b"<!DOCTYPE html>", "web page")],
)
def test_a_file_that_is_packed_as_a_whole_is_called_so(tmp_path, begin, name):
    (tmp_path / "run.nc").write_bytes(begin + bytes(1000))
    assert "damaged" not in refused(tmp_path / "run.nc", name)


def test_zstd_inside_a_file_is_called_so(ds, tmp_path):
    if not netCDF4.__has_zstandard_support__:
        pytest.skip("this netCDF library has no zstd")
    ds.to_netcdf(tmp_path / "run.nc", encoding={"theta": {"compression": "zstd"}})
    assert "damaged" not in refused(tmp_path / "run.nc", "zstd.*nccopy")


# ---- types and attributes -------------------------------------------------------------------------------------------


def test_half_precision_is_refused(ds, tmp_path):
    ds.assign(gradient=ds["gradient"].astype("f2")).to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    refused(tmp_path / "run.nc", "half precision.*float32")


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        (h5py.ref_dtype, "neither numbers nor text"),
        (h5py.vlen_dtype(np.dtype("i4")), "neither numbers nor text"),
        (np.dtype([("a", "i4"), ("b", "f8")]), "neither numbers nor text"),
    ],
)
def test_types_that_netcdf_does_not_show_are_refused(tmp_path, dtype, says):
    with h5py.File(tmp_path / "run.nc", "w", track_order=True, libver=("v108", "v108")) as file:
        file.create_dataset("loss", shape=(3,), dtype=dtype)
    with pytest.raises(CorruptError, match=says):
        walked(tmp_path / "run.nc")


_TEXT, _INT, _FLOAT = Type(3, 16), Type(0, 4, number="<i4"), Type(1, 4, number="<f4")
_POINTERS = Type(9, 16, 8, 7)


@pytest.mark.parametrize(
    ("attribute", "fits"),
    [
        (Attribute("DIMENSION_LIST", _POINTERS, (2,), bytes(32)), True),
        (Attribute("DIMENSION_LIST", _POINTERS, (3,), bytes(48)), False),  # more dimensions than the variable has
        (Attribute("DIMENSION_LIST", Type(7, 8), (2,), bytes(16)), False),  # plain references
        (Attribute("DIMENSION_LIST", _INT, (2,), bytes(8)), False),
        (Attribute("_Netcdf4Dimid", _INT, (), bytes(4)), True),
        (Attribute("_Netcdf4Dimid", _INT, (), b"\xff\xff\xff\x7f"), False),
        (Attribute("_Netcdf4Dimid", _INT, (), b"\xff\xff\xff\xff"), False),
        (Attribute("_Netcdf4Dimid", _FLOAT, (), bytes(4)), False),
        (Attribute("_Netcdf4Dimid", _TEXT, (), bytes(16)), False),
        (Attribute("_Netcdf4Coordinates", _INT, (2,), bytes(8)), True),
        (Attribute("_Netcdf4Coordinates", _INT, (9,), bytes(36)), False),
        (Attribute("NAME", _TEXT, (), bytes(16)), True),
        (Attribute("NAME", _INT, (), bytes(4)), False),
        (Attribute("CLASS", _TEXT, (2,), bytes(32)), False),
        (Attribute("NAME", Type(3, 10**6), (), bytes(10**6)), False),
        (Attribute("_QuantizeBitRoundNumberOfSignificantBits", _TEXT, (), bytes(16)), False),
        (Attribute("units", Type(7, 8), (), bytes(8)), False),
        (Attribute("units", _TEXT, (), bytes(16)), True),
        (Attribute("seed", _FLOAT, (5,), bytes(20)), True),
    ],
    ids=str,
)
def test_attributes_that_the_library_interprets_have_the_types_it_expects(attribute, fits):
    if fits:
        check_attribute(attribute, 2, "it")
    else:
        with pytest.raises(CorruptError, match="not of the type or extent"):
            check_attribute(attribute, 2, "it")


def test_a_header_says_nothing_twice(monkeypatch, path):
    """A reader that takes the first and one that takes the last would see different files."""
    real = _Walker._messages

    def doubled(self, address, what):
        for kind, made, cursor in list(real(self, address, what)):
            yield kind, made, cursor
            if kind == 8:
                cursor.at = 0
                yield kind, made, cursor

    monkeypatch.setattr(_Walker, "_messages", doubled)
    with pytest.raises(CorruptError, match="says something twice"):
        walked(path)


def test_a_superblock_with_an_extension_is_refused(path):
    version = path.read_bytes()[8]
    patched(path, 20 if version >= 2 else 24 + 24, bytes(8))
    with pytest.raises(CorruptError):
        walked(path)


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["loss", "accuracy", "residual", "lca_unit_class"])
def test_a_variable_whose_name_was_changed_is_named(ds, tmp_path, name):
    path, changed = lk.save(ds, tmp_path / "run.nc"), name.replace("s", "r").replace("cc", "cb")
    with netCDF4.Dataset(path, "a") as file:
        file.renameVariable(name, changed)
    refused(path, f"'{name}' was written and is not there; instead there is '{changed}'")


def test_strange_variables_are_named_in_a_warning_and_own_notes_are_not(ds, tmp_path):
    noted = ds.assign(config="a note", remark=3.0)
    with lk.open_trajectory(lk.save(noted, tmp_path / "noted.nc")) as got:
        assert float(got["remark"]) == 3.0
    with pytest.warns(LcakitWarning, match=r"strange\.nc: holds 'lots', which the format does not have"):
        lk.open_trajectory(lk.save(ds.assign(lots=ds["loss"] * 2), tmp_path / "strange.nc")).close()


def test_a_variable_that_was_left_out_with_another_tool_is_named_in_a_warning(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc")
    xr.load_dataset(path).drop_vars("accuracy").to_netcdf(tmp_path / "less.nc")
    with pytest.warns(LcakitWarning, match=r"less\.nc: 'accuracy' was written and is not there"):
        lk.open_trajectory(tmp_path / "less.nc").close()


@pytest.mark.slow
def test_datasets_in_memory_do_not_say_what_a_file_holds(ds, tmp_path):
    for name in ("run.nc", "run.zarr"):
        with lk.open_trajectory(lk.save(ds, tmp_path / name)) as got:
            assert schema.STORED not in got.attrs
            lk.save(got.drop_vars("accuracy"), tmp_path / f"less-{name}")
        with lk.open_trajectory(tmp_path / f"less-{name}") as less:
            assert "accuracy" not in less


# ---- too much -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_very_many_variables_are_refused_at_once(tmp_path):
    with h5py.File(tmp_path / "run.nc", "w", libver=("v108", "v108"), track_order=True) as file:
        for number in range(2_010):
            file.create_dataset(f"v{number}", data=1.0)
    with pytest.raises(CorruptError, match="over 2,000 names"):
        walked(tmp_path / "run.nc")


def test_a_chunk_inflates_to_no_more_than_it_holds(tmp_path):
    """The HDF5 library inflates whatever there is: here a hundred times what the variable has."""
    path = lk.save(tiny_trajectory(200), tmp_path / "run.nc", compression="zlib")
    address, length = block_of(path, "a chunk of 'theta'")
    bomb = zlib.compress(bytes(2**22), 9)
    assert len(bomb) < length
    patched(path, address, bomb + bytes(length - len(bomb)))
    with lk.open_trajectory(path) as got, pytest.raises(lk.TrajectoryError, match=r"run\.nc, 'theta'.*does not end"):
        got["theta"].load()


@pytest.mark.parametrize("checked", [False, True], ids=["", "fletcher32"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["", "shuffle"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_packed_variables_are_read_as_the_library_reads_them(ds, tmp_path, checked, shuffle, endian):
    path = lk.save(ds.drop_vars(["lca", "splits", "first_order"]), tmp_path / "run.nc")
    options = {"compression": "zlib", "fletcher32": checked, "shuffle": shuffle, "endian": endian}
    names = ["lca", "splits", "first_order"]
    with netCDF4.Dataset(path, "a") as file:
        file.setncattr(schema.STORED, " ".join(map(str, ds.variables)))
        for name in names:
            chunks = [max(1, size // 3) for size in ds[name].shape]
            file.createVariable(name, ds[name].dtype, ds[name].dims, chunksizes=chunks, **options)[:] = ds[name].values
    with lk.open_trajectory(path) as got:
        for name in names:
            np.testing.assert_array_equal(got[name].values, ds[name].values)
            assert got[name].dtype.newbyteorder("=") == ds[name].dtype
            np.testing.assert_array_equal(got[name][3:7].values, ds[name][3:7].values)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i8"])
def test_labels_of_another_width_are_those_of_the_format(ds, tmp_path, dtype):
    """Products and differences of narrow ones overflow; what does not fit is refused."""
    narrow = ds.assign_coords(tap_index=ds["tap_index"].clip(0).astype(dtype))
    save_unchecked(narrow, tmp_path / "run.nc")
    with lk.open_trajectory(tmp_path / "run.nc", check=False) as got:
        assert got["tap_index"].dtype == np.dtype(schema.COORDINATES["tap_index"].dtype)
        np.testing.assert_array_equal(got["tap_index"], narrow["tap_index"])


def test_labels_that_do_not_fit_are_refused(ds, tmp_path):
    save_unchecked(ds.assign_coords(tap_index=ds["tap_index"].astype("i8") + 2**40), tmp_path / "run.nc")
    refused(tmp_path / "run.nc", "'tap_index' holds numbers that do not fit into i4")
