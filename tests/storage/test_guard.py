from __future__ import annotations

import doctest
import importlib
import io
import os
import pickle
import time
import zipfile
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.storage import guard, segments
from lcakit.storage.guard.blocks import Blocks, CorruptError, Cursor
from lcakit.storage.guard.chunks import ChunkIndex
from lcakit.storage.guard.hdf5 import MOST_TEXTS, Stored, walk
from lcakit.storage.guard.heaps import REFERENCE, Texts
from lcakit.storage.guard.messages import Type, read_type
from lcakit.storage.guard.text import clean_attributes, clean_names
from lcakit.storage.paths import partial_path
from lcakit.testing import tiny_trajectory
from lcakit.text import printable
from lcakit.trajectory import schema
from lcakit.trajectory.labels import TensorSpec
from tests.support.laziness import nothing_computed
from tests.support.mutations import Trap, claims


def walked(path: Path) -> dict[str, Stored]:
    with path.open("rb") as file:
        return walk(file, path.stat().st_size)


def write(path: Path, make, **options) -> Path:
    with netCDF4.Dataset(path, "w", **options) as file:
        make(file)
    return path


@pytest.fixture
def ds() -> xr.Dataset:
    return tiny_trajectory(12, class_parameters=True)


@pytest.fixture
def path(ds, tmp_path) -> Path:
    return lk.save(ds, tmp_path / "run.nc")


# ---- the walk knows what netCDF libraries write ----------------------------------------------------------------


@settings(deadline=None, max_examples=30)
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


# ---- the walk refuses what leads astray ------------------------------------------------------------------------


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


def block_of(path: Path, what: str) -> tuple[int, int]:
    """Return address and length of a block by what it is."""
    return next((a, n) for a, (n, told) in claims(path.read_bytes()).items() if what in told)


def patched(path: Path, place: int, new: bytes) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:place] + new + data[place + len(new) :])


def test_text_whose_free_space_has_no_size_would_hang_the_library(path):
    address, length = block_of(path, "the text")
    data = path.read_bytes()[address : address + length]
    at = 16
    while int.from_bytes(data[at : at + 2], "little"):  # over the texts to the free space
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    patched(path, address + at + 8, bytes(8))
    began = time.monotonic()
    with pytest.raises(lk.TrajectoryError, match="free space"):
        lk.open_trajectory(path)
    assert time.monotonic() - began < 10


def test_texts_do_not_share_bytes(path):
    """A small file with very many references to one long text would fill the memory."""
    address, _ = block_of(path, "the data of 'tensor_role'")
    reference = path.read_bytes()[address : address + 16]
    patched(path, address + 16, reference)
    with pytest.raises(lk.TrajectoryError, match="belong to another"):
        lk.open_trajectory(path)


@pytest.mark.parametrize(
    ("field", "new", "message"),
    [
        (24, 1, "for .* of data"),  # bytes of a chunk
        (28, 1, "for .* of data"),  # a filter left out
        (32, 5, "not in order|does not have"),  # where the first chunk begins
        (56, 0, "same bytes|does not"),  # where its bytes are
        (56, 10**9, "but the file has"),
        (5, 1, "not readable|TREE"),  # the level
        (6, 0, "not readable"),  # the number of entries
        (6, 65, "not readable"),
    ],
)
def test_an_index_of_chunks_that_is_wrong(path, field, new, message):
    address, _ = block_of(path, "the chunk index of 'theta'")
    width = 8 if field >= 32 else 1
    patched(path, address + field, int(new).to_bytes(width, "little"))
    with pytest.raises(lk.TrajectoryError, match=rf"run\.nc.*({message})"):
        lk.open_trajectory(path)


def test_two_chunks_in_one_place(tmp_path, monkeypatch, ds):
    monkeypatch.setattr(schema, "CHUNK_ITERATIONS", 5)
    path = lk.save(ds, tmp_path / "run.nc")
    address, _ = block_of(path, "the chunk index of 'theta'")
    child = path.read_bytes()[address + 56 : address + 64]
    patched(path, address + 56 + 40, child)  # the second entry is 40 bytes behind the first
    with pytest.raises(lk.TrajectoryError, match="lie on the same bytes"):
        lk.open_trajectory(path)


@pytest.fixture
def blank() -> Blocks:
    return Blocks(io.BytesIO(bytes(100)), 100)


def test_chunks_that_unpack_to_too_much(blank):
    with pytest.raises(CorruptError, match="packed in chunks of 1,073,741,824 bytes"):
        ChunkIndex(blank, (10,), (2**28, 4), True, "v")
    ChunkIndex(blank, (10,), (2**28, 4), False, "v")
    with pytest.raises(CorruptError, match="10 bytes, for 4,000,000 of data"):
        ChunkIndex(blank, (10**6,), (10**6, 4), True, "v")._leaf(10, 0, (0, 0), 0)


def test_a_chunk_with_a_filter_left_out(blank):
    with pytest.raises(CorruptError, match="40 bytes, for 40 of data"):
        ChunkIndex(blank, (10,), (10, 4), True, "v")._leaf(40, 1, (0, 0), 0)


def test_blocks_that_overlap_in_part(blank):
    for address in (20, 0, 10):
        blank.claim(address, 10, f"block {address}")
    blank.check_overlaps()
    blank.claim(29, 5, "another")
    with pytest.raises(CorruptError, match=r"block 20 and another lie on the same bytes \(29\)"):
        blank.check_overlaps()


def test_numbers_are_those_of_ieee():
    def cursor(*bits):
        head = (0x11).to_bytes(4, "little") + (4).to_bytes(4, "little")
        return Cursor(head + bytes([0, 0, 32, 0, *bits]) + (127).to_bytes(4, "little"), "a type")

    assert read_type(cursor(23, 8, 0, 23)).size == 4
    with pytest.raises(CorruptError, match="IEEE"):
        read_type(cursor(24, 7, 0, 24))


@pytest.mark.parametrize(("length", "fine"), [(6, True), (8, True), (9, False)])
def test_a_text_is_no_longer_than_what_is_stored(length, fine):
    def entry(index, size):
        return index.to_bytes(2, "little") + bytes(6) + size.to_bytes(8, "little")

    body = entry(1, 8) + b"kernel\0\0"
    heap = b"GCOL\x01" + bytes(3) + (128).to_bytes(8, "little") + body
    heap += entry(0, 128 - len(heap))
    file = bytes(8) + heap.ljust(128, b"\0")
    texts, reference = Texts(Blocks(io.BytesIO(file), len(file))), np.array([(length, 8, 1)], REFERENCE).tobytes()
    if fine:
        assert texts.check(reference, 1, "'role'") == [b"kernel\0\0"[:length]]
    else:
        with pytest.raises(CorruptError, match="'role' points to text that is not there"):
            texts.check(reference, 1, "'role'")


def test_more_declared_than_stored():
    ds = xr.Dataset({"loss": ("snapshot", np.zeros(5))})
    guard.check_declared(ds, {"loss": Stored((5,), Type(1, 8), True, False)}, "run.nc")
    with pytest.raises(lk.TrajectoryError, match=r"'loss' declares shape \(5,\), but shape \(3,\) is stored"):
        guard.check_declared(ds, {"loss": Stored((3,), Type(1, 8), True, False)}, "run.nc")


def test_sizes_are_checked_before_anything_is_loaded(tmp_path):
    path = tmp_path / "bomb.nc"
    tiny_trajectory(3).drop_dims("parameter").to_netcdf(path, engine="netcdf4")
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("parameter", 10**10)
        file.createVariable("tensor_index", "i4", ("parameter",), compression="zlib", chunksizes=(10**6,))
    with pytest.raises(lk.TrajectoryError, match=r"'(tensor_index|parameter)' would take 40,000,000,000 bytes"):
        lk.open_trajectory(path)


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_every_cut_is_told(path, size):
    path.write_bytes(path.read_bytes()[:-size])
    with pytest.raises(lk.TrajectoryError, match="cut short"):
        lk.open_trajectory(path)


def test_remote_files_are_walked_through_their_handle(path):
    assert guard.check_file("https://x/run.nc", io.BytesIO(path.read_bytes())).keys() == guard.check_file(path).keys()
    with pytest.raises(lk.TrajectoryError, match=r"https://x/run\.nc"):
        guard.check_file("https://x/run.nc", io.BytesIO(path.read_bytes()[:-9]))


# ---- text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "room", ["lcakit.storage.guard.text", "lcakit.trajectory.provenance", "lcakit.sharing.validation"]
)
def test_examples_in_docstrings(room):
    assert doctest.testmod(importlib.import_module(room)).failed == 0


@given(st.text(), st.integers(10, 300))
def test_printable_is_one_short_line(text, most):
    got = printable(text, most)
    assert "\n" not in got
    assert all(c.isprintable() or c.isspace() or ord(c) > 126 for c in got)
    assert not any(c in got for c in "\x1b\x07\x7f\x9b\u2028\u2029\u202e\u2066")
    assert len(got) <= 10 * most
    if text.isprintable() and len(text) <= most:
        assert got == text


def test_names_are_made_visible_on_opening(ds, tmp_path):
    names = np.array(["\x1b[2Ja", "<b>b</b>", "c\nd"], object)
    path = lk.save(ds.assign_coords({"class": names}), tmp_path / "run.nc")
    with lk.open_trajectory(path) as got:
        assert got["class"].values.tolist() == ["\\x1b[2Ja", "<b>b</b>", "c\\nd"]
        assert got["lca_class"].dims == ("iteration", "class", "parameter")
        assert got.lk.sel(cls="<b>b</b>")["lca_class"].dims == ("iteration", "parameter")


def test_attributes_are_made_visible_on_opening(ds, tmp_path):
    ds = ds.assign_attrs(note="\x1b]0;x\x07 two\nlines", loss_name="\x9b31m")
    ds["lca"].attrs["units"] = "na\x1bts"
    with lk.open_trajectory(lk.save(ds, tmp_path / "run.nc")) as got:
        assert got.attrs["note"] == "\\x1b]0;x\\x07 two\nlines"
        assert got.attrs["loss_name"] == "\\x9b31m"
        assert got["lca"].attrs["units"] == "na\\x1bts"


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"tolerance": "0.001"}, "'tolerance' is '0.001'; a number is expected"),
        ({"tolerance": [1.0, 2.0]}, "a number is expected"),
        ({"n_examples": np.inf}, "a number is expected"),
        ({"rule": 4}, "'rule' is .*; text is expected"),
        ({"rule": "x" * 1001}, "1,001 letters; at most 1,000"),
        ({"tolerance_val": "0.001"}, "tolerance_val"),
        ({"note": "x" * (2**20 + 1)}, "'note' has 1,048,577 letters"),
        ({"note": ["x" * 2**19] * 3}, "'note' has 1,572,864 letters"),
    ],
)
def test_attributes_of_the_wrong_kind(ds, attrs, message, tmp_path):
    ds = ds.assign(lca_val=ds["lca"]).assign_attrs(attrs)
    with pytest.raises(lk.TrajectoryError, match=rf"run\.nc: .*{message}"):
        lk.open_trajectory(lk.save(ds, tmp_path / "run.nc"))


def test_attributes_that_are_fine_stay_as_they_are():
    attrs = {"tolerance": np.float32(1e-3), "seed": 2**40, "note": "a\tb", "list": ["a", "b"], "array": np.arange(3)}
    got = clean_attributes(attrs, ["val"])
    assert got.pop("array") is attrs.pop("array")
    assert got == attrs


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b" * 1001], "name of 1,001 letters; at most 1,000"),
        ([f"{k}" for k in range(32_769)], "32,769 names; at most 32,768"),
        ([1, 2], "holds int where names"),
    ],
)
def test_names_that_are_refused(names, message):
    with pytest.raises(CorruptError, match=message):
        clean_names(np.array(names, object), "layer")


def test_a_file_of_very_many_or_very_long_names(ds, tmp_path):
    layers = np.array([f"l{k}" for k in range(33_000)], object)
    many = ds.drop_dims(["parameter", "layer"]).assign_coords(layer=layers)
    many.to_netcdf(tmp_path / "many.nc")
    with pytest.raises(lk.TrajectoryError, match=r"many\.nc: .*33,000 names"):
        lk.open_trajectory(tmp_path / "many.nc")
    long = ds.assign_coords({"class": np.array(["a", "b", "c" * 10_000_000], object)})
    with pytest.raises(lk.TrajectoryError, match=r"long\.nc: .*10,000,000"):
        lk.open_trajectory(lk.save(long, tmp_path / "long.nc"))


# ---- tables ----------------------------------------------------------------------------------------------------

CONTRADICTIONS = [
    lambda ds: ds.isel(snapshot=slice(1, None)),
    lambda ds: ds.assign(lca=ds["lca"].rename(parameter="weight")),
    lambda ds: ds.assign_coords(tensor_index=ds["tensor_index"].astype("f4")),
    lambda ds: ds.assign_coords(tensor_layer=("tensor", np.array([0, 0, 1, 1, 2, 3]))),
    lambda ds: ds.assign_coords(tensor_offset=ds["tensor_offset"] + 1),
    lambda ds: ds.assign_coords(layer_index=ds["layer_index"][::-1].values),
    lambda ds: ds.assign_coords(unit_index=("parameter", np.roll(ds["unit_index"].values, 1))),
    lambda ds: ds.assign_coords(layer=("layer", np.array(["a", "a", "b"], object))),
    lambda ds: ds.isel(parameter=slice(10)),
    lambda ds: ds.drop_vars("kernel_layer"),
    lambda ds: ds.drop_vars("tap_index"),
]


@pytest.mark.parametrize("change", CONTRADICTIONS, ids=range(len(CONTRADICTIONS)))
def test_tables_that_contradict_each_other(ds, change, tmp_path):
    path = tmp_path / "run.nc"
    change(ds).to_netcdf(path)
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc: its parts contradict each other: .*lk\.validate"):
        lk.open_trajectory(path)
    with lk.open_trajectory(path, check=False) as got:
        assert "lca" in got
    report = lk.validate(path, quiet=True)  # tells all, and raises nothing
    assert not report.ok
    assert {check.group for check in report.checks if check.status == "fail"} == {"structure"}


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds,
        lambda ds: ds.lk.sel(layer="fc", cls="a"),
        lambda ds: ds.lk.sel(role="bias", iteration=slice(2, 5)),
        lambda ds: ds.lk.sel(layer="conv1", unit=[0, 2]),
        lambda ds: ds.drop_dims("parameter"),
        lambda ds: ds.drop_dims(["parameter", "tensor"]),
        lambda ds: ds.drop_dims(["parameter", "tensor", "unit"]),
        lambda ds: ds.drop_dims("class"),
        lambda ds: ds.assign(theta=ds["theta"].astype("f8")),
    ],
)
def test_parts_of_a_trajectory_are_no_contradiction(ds, change, tmp_path):
    change(ds).to_netcdf(tmp_path / "run.nc")
    lk.open_trajectory(tmp_path / "run.nc").close()


def test_a_selection_beyond_the_network(ds):
    part = ds.lk.sel(layer="fc")
    assert lk.validate(part, quiet=True)["parameter labels"].status == "pass"
    beyond = part.assign_coords(parameter=[*range(33, 60), 61])
    assert lk.validate(beyond, quiet=True)["parameter labels"].status == "fail"


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=4), st.data())
def test_labels_of_any_network_are_no_contradiction(shapes, data):
    layers = tuple(
        TensorSpec(f"l{n}.w", tuple(shape), "kernel", f"l{n}", "convtranspose2d" if turned else "linear", "", turned)
        for n, shape in enumerate(shapes)
        for turned in [data.draw(st.booleans())]
    )
    guard.check_tables(tiny_trajectory(2, layers=layers), "any")


# ---- reading later ---------------------------------------------------------------------------------------------


def test_opening_reads_no_numbers(path):
    with nothing_computed(), lk.open_trajectory(path) as got:
        assert got["lca"].chunks


def test_what_cannot_be_read_names_the_file_and_the_variable(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc", compression="zlib")
    address, length = block_of(path, "a chunk of 'gradient'")
    patched(path, address + length // 2, bytes(50))
    with (
        lk.open_trajectory(path) as got,
        pytest.raises(lk.TrajectoryError, match=r"run\.nc, 'gradient': damaged.* again"),
    ):
        got["gradient"].values.sum()
    with lk.open_trajectory(path) as got:
        assert np.array_equal(got["lca"], ds["lca"])  # the rest is as it was


def test_open_files_travel_to_other_processes(ds, path):
    with lk.open_trajectory(path) as got:
        there = pickle.loads(pickle.dumps(got[["lca"]]))
        assert np.array_equal(there["lca"], ds["lca"])


def test_fancy_selections_of_open_files(ds, path):
    with lk.open_trajectory(path) as got:
        rows, columns = [7, 2, 2], [60, 0, 5]
        assert np.array_equal(got["lca"][rows][:, columns], ds["lca"].values[rows][:, columns])
        assert np.array_equal(got["lca"][::-2, 3], ds["lca"].values[::-2, 3])


# ---- segments --------------------------------------------------------------------------------------------------


@pytest.fixture
def partial(ds, tmp_path) -> Path:
    directory = partial_path(tmp_path / "run.nc")
    writer = segments.SegmentWriter(directory, ds.drop_dims(["snapshot", "iteration"]), block_rows=5)
    names = {dim: [n for n in ds.variables if ds[n].dims[:1] == (dim,)] for dim in ("snapshot", "iteration")}
    for t in range(13):
        iteration = {n: ds[n].values[t - 1] for n in names["iteration"]} if t else {}
        writer.append({n: ds[n].values[t] for n in names["snapshot"]}, iteration)
    writer.close()
    return directory


def rewritten(segment: Path, **arrays) -> None:
    with np.load(segment) as archive:
        old = {name: archive[name] for name in archive.files}
    np.savez(segment, **{**old, **arrays})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"theta_val_": np.zeros(3)}, "no plain variable"),
        ({"config": np.zeros(3)}, "no plain variable"),
        ({"theta": np.zeros((5, 61))}, "type float64"),
        ({"theta": np.zeros((5, 60), "f4")}, r"shape \(5, 60\)"),
        ({"theta": np.asfortranarray(np.zeros((5, 61), "f4"))}, "shape"),
        ({"theta": np.zeros(61, "f4")}, "shape"),
        ({"loss": np.zeros(4)}, "contradict|conflicting"),
    ],
)
def test_segments_hold_what_a_recording_writes(partial, arrays, message):
    rewritten(partial / "000001.npz", **arrays)
    with pytest.raises(lk.TrajectoryError, match=rf"run\.nc\.partial.*({message})"):
        lk.open_trajectory(partial)


def test_a_segment_that_declares_more_than_it_holds(tmp_path):
    buffer, path = io.BytesIO(), tmp_path / "000000.npz"
    np.save(buffer, np.zeros(4))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("loss.npy", buffer.getvalue().replace(b"(4,), ", b"(9,), "))
        archive.writestr("residual.npy", bytes(1000))
    with pytest.raises(lk.TrajectoryError, match=r"000000\.npz.*declares shape \(9,\)"):
        guard.check_segment(path, {})


def test_nothing_is_unpickled(partial, tmp_path):
    rewritten(partial / "000001.npz", theta=np.array([Trap(tmp_path / "trapped")] * 5, object))
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz"):
        lk.open_trajectory(partial)
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz"):
        lk.validate(partial)
    assert not (tmp_path / "trapped").exists()


def test_a_header_that_is_damaged(partial):
    header = partial / "header.nc"
    patched(header, 200, os.urandom(200))
    with pytest.raises(lk.TrajectoryError, match=r"header\.nc"):
        lk.open_trajectory(partial)
