"""The walk through an HDF5 file knows what netCDF libraries write, and refuses what leads out of the file."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.storage.guard.blocks import CorruptError
from lcakit.storage.guard.hdf5 import MOST_TEXTS
from lcakit.storage.guard.sums import lookup3
from lcakit.testing import tiny_trajectory
from tests.support.hdf5_files import walked, write
from tests.support.mutations.common import claims
from tests.support.mutations.forged import lookup3 as slow_lookup3
from tests.support.mutations.forged import sealed

# ---- what netCDF libraries write ------------------------------------------------------------------------------------


@pytest.mark.slow
@given(st.data())
def test_the_walk_finds_what_netcdf_shows(tmp_path_factory, data):
    sizes = data.draw(st.dictionaries(st.sampled_from("xyz"), st.integers(1, 90), min_size=1))
    names = st.text("abcdefghij_", min_size=1, max_size=12).filter(lambda n: n not in "xyz" and n[0] != "_")
    types = ["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u8", ">f4", "S1", str]
    wanted = data.draw(st.dictionaries(names, st.tuples(st.sampled_from(types), st.booleans()), max_size=12))
    path = tmp_path_factory.mktemp("walk") / "any.nc"
    with netCDF4.Dataset(path, "w") as file:
        for dim, size in sizes.items():
            file.createDimension(dim, size)
        for name, (kind, packed) in wanted.items():
            dims = tuple(data.draw(st.lists(st.sampled_from(sorted(sizes)), unique=True, max_size=3)))
            options = {"compression": "zlib", "fletcher32": True} if packed and dims and kind is not str else {}
            if dims and kind is not str and data.draw(st.booleans()):
                options["chunksizes"] = [data.draw(st.integers(1, sizes[dim])) for dim in dims]
            options |= {"endian": "big"} if kind == ">f4" else {}
            variable = file.createVariable(name, kind, dims, **options)
            shape = tuple(sizes[dim] for dim in dims)
            values = np.full(shape, "name", object) if kind is str else np.ones(shape, kind)
            variable[...] = values if dims or kind is not str else "name"
            variable.units = "m" * data.draw(st.integers(0, 300))
        for k in range(data.draw(st.sampled_from([0, 1, 40]))):
            file.setncattr(f"a{k}", data.draw(st.sampled_from(["text", 1.5, np.arange(9), "x" * 70_000])))
    with netCDF4.Dataset(path) as file:
        most_texts = max((v.size for v in file.variables.values() if v.dtype is str), default=0)
    if most_texts > MOST_TEXTS:  # more names than any network has
        with pytest.raises(CorruptError, match="at most 100,000 are read"):
            walked(path)
        return
    found = walked(path)
    with netCDF4.Dataset(path) as file:
        for name, variable in file.variables.items():
            assert found[name].shape == variable.shape
            assert found[name].complete
            if variable.dtype is not str:
                assert found[name].nbytes == variable.size * np.dtype(variable.dtype).itemsize


def many_chunks(file):
    file.createDimension("x", 400)
    file.createDimension("y", 900)
    file.createDimension("u", None)
    file.createVariable("v", "f4", ("x", "y"), chunksizes=(10, 10))[:] = 1  # an index of three levels
    file.createVariable("u", "f8", ("u",))[:] = np.arange(5000)


def many_attributes(file):
    for k in range(3000):
        file.setncattr(f"a{k}", "x" * (k % 200))
    file.setncattr("long", "y" * 200_000)
    file.setncattr_string("texts", ["a", "bb", "ccc"])
    file.setncattr("numbers", np.arange(50_000.0))


def many_variables(file):
    file.createDimension("x", 3)
    for k in range(1500):
        file.createVariable(f"v{k}", "f4", ("x",))[:] = k


def groups(file):
    group = file.createGroup("a/b")
    group.createDimension("x", 3)
    group.createVariable("v", "f4", ("x",))[:] = 1


@pytest.mark.sampled
@pytest.mark.parametrize("make", [many_chunks, many_attributes, many_variables, groups, lambda file: None])
def test_the_walk_goes_through_large_structures(make, tmp_path):
    found = walked(write(tmp_path / "large.nc", make))
    assert all(stored.complete for name, stored in found.items() if name not in "xyz" and not name.endswith("/x"))


def test_files_by_other_writers_open(ds, tmp_path):
    pytest.importorskip("h5netcdf")
    ds.to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with lk.open_trajectory(tmp_path / "other.nc") as got:
        assert np.array_equal(got["lca"], ds["lca"])


def test_what_was_not_written_is_not_shown_as_numbers(ds, path):
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("lca_val", "f4", ("iteration", "parameter"), chunksizes=(4, 20))[:5] = 1
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc: 'lca_val' declares .* not all of it"):
        lk.open_trajectory(path)


# ---- what is refused ------------------------------------------------------------------------------------------------


def links(kind):
    def make(path):
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w", libver="v108") as file:
            file["a"] = np.arange(5.0)
            if kind == "soft":
                file["b"] = h5py.SoftLink("/a")
            elif kind == "external":
                file["b"] = h5py.ExternalLink("/etc/hostname", "/a")
            elif kind == "twice":
                file["b"] = file["a"]
            elif kind == "outside":
                file.create_dataset("b", shape=(10,), dtype="u1", external=[("/etc/hostname", 0, 10)])
            elif kind == "virtual":
                layout = h5py.VirtualLayout(shape=(5,), dtype="f8")
                layout[:] = h5py.VirtualSource("/etc/hostname", "a", shape=(5,))
                file.create_virtual_dataset("b", layout)
            elif kind == "lzf":
                file.create_dataset("b", data=np.arange(50.0), chunks=(10,), compression="lzf")

    return make


def latest(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("b", data=np.ones((100, 100)), chunks=(10, 10))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (links("soft"), "another file or name"),
        (links("external"), "another file or name"),
        (links("outside"), "other files; nothing in a file is used as a path"),
        (links("virtual"), "version 4|other files"),
        (links("twice"), "second name"),
        (links("lzf"), "filter 32000; known are deflate, shuffle, fletcher32"),
        (latest, "version"),
        (lambda p: write(p, lambda f: f.createDimension("x", 3), format="NETCDF3_CLASSIC"), "does not begin like"),
        (lambda p: write(p, lambda f: f.createEnumType("u1", "e", {"a": 1})), "class 8"),
        (lambda p: p.write_bytes(b""), "does not begin like"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\x07" * 100), "superblock has version 7"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n\x02\x08\x08" + b"\xff" * 100), "do not count from its beginning"),
    ],
)
def test_what_is_refused(make, message, tmp_path):
    path = tmp_path / "astray.nc"
    make(path)
    with pytest.raises(CorruptError, match=message):
        walked(path)
    with pytest.raises(lk.TrajectoryError, match=rf"astray\.nc: .*({message})"):
        lk.open_trajectory(path)


@pytest.mark.slow
def test_every_changed_bit_of_a_structure_is_noticed(tmp_path):
    """Names, shapes, types and attributes have checksums: they are those that were written, or the file is refused."""
    path = lk.save(tiny_trajectory(3), tmp_path / "run.nc")
    written, truth = path.read_bytes(), lk.open_trajectory(path)
    refused = 0
    for place in range(48, len(written), 61):
        changed = bytearray(written)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            found = lk.open_trajectory(path, check=False)
        except lk.TrajectoryError:
            refused += 1
            continue
        assert found.attrs == truth.attrs
        assert {n: (v.dims, v.shape, v.dtype, v.attrs) for n, v in found.variables.items()} == {
            n: (v.dims, v.shape, v.dtype, v.attrs) for n, v in truth.variables.items()
        }
        found.close()
    assert refused > 20


@given(st.binary(max_size=60))
def test_the_checksum_against_a_slow_one(data):
    assert lookup3(data) == slow_lookup3(data)


@pytest.mark.parametrize(("kind", "place", "value"), [("float", 0, 0), ("float", 1, 63), ("whole", 0, 0x0A)])
def test_numbers_of_another_form_are_refused(tmp_path, kind, place, value):
    """Bits of a type that mean other numbers, behind the right checksum."""
    path = lk.save(tiny_trajectory(3), tmp_path / "run.nc")
    data = path.read_bytes()
    begin = {"float": b"\x11\x20\x1f\x00\x04\0\0\0", "whole": b"\x10\x08\x00\x00\x04\0\0\0"}[kind]
    headers = [(a, n) for a, (n, what) in claims(data).items() if what.startswith("the header")]
    address, length = next((a, n) for a, n in headers if begin in data[a : a + n])
    block = bytearray(data[address : address + length])
    block[block.find(begin) + 1 + place] = value
    path.write_bytes(data[:address] + sealed(bytes(block), length - 4, length - 4) + data[address + length :])
    with pytest.raises(lk.TrajectoryError, match=r"IEEE|padded"):
        lk.open_trajectory(path)
