"""Ways to spoil a valid trajectory file, for :mod:`tests.support.fuzz`: bytes, forged structures, attributes, tables,
sizes.

Each way takes a random generator and leaves a mutated file; it says whether the file now contradicts itself (then it
must be refused or reported), and whether bytes of the data themselves were touched (then numbers may differ).
"""

from __future__ import annotations

import io
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from lcakit.storage.guard.blocks import Blocks
from lcakit.storage.guard.hdf5 import _root, _Walker
from lcakit.storage.guard.heaps import Texts

FILES = ("plain", "packed", "selected")


@dataclass
class Mutation:
    """A mutated file: what was done to which original."""

    kind: str
    what: str
    path: Path
    of: str
    spoilt: bool = False
    data_too: bool = False


class Skip(Exception):
    """This way changes nothing here: try another."""


def mutate(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Make one mutation in an empty folder."""
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        way = rng.choices(list(WAYS), list(WAYS.values()))[0]
        try:
            mutation = way(rng, truths, folder)
        except Skip:
            continue
        mutation.kind = way.__name__.strip("_")
        return mutation


def _new(of: str, what: str, path: Path, **how: bool) -> Mutation:
    return Mutation("", what, path, of, **how)


# ---- the map of a file -----------------------------------------------------------------------------------------


def claims(data: bytes) -> dict[int, tuple[int, str]]:
    """Return what lies where in a valid file: address -> (length, what)."""
    blocks = Blocks(io.BytesIO(data), len(data))
    _Walker(blocks, Texts(blocks)).visit_all(_root(blocks))
    return blocks._claims


def _is_data(what: str) -> bool:
    return what.startswith(("the data of", "a chunk of"))


def _metadata(rng: random.Random, data: bytes, kinds: str = "") -> tuple[int, int]:
    """Return a random place in the metadata, and the end of its block."""
    blocks = [(a, n) for a, (n, what) in claims(data).items() if not _is_data(what) and kinds in what]
    address, length = rng.choice(blocks)
    return address + rng.randrange(length), address + length


def _touches_data(data: bytes, start: int, stop: int) -> bool:
    return any(a < stop and start < a + n for a, (n, what) in claims(data).items() if _is_data(what))


def _file(rng: random.Random, truths: dict[str, Any], folder: Path) -> tuple[str, bytes, Path]:
    of = rng.choice(FILES)
    return of, truths[of].path.read_bytes(), folder / "mutated.nc"


# ---- bytes -----------------------------------------------------------------------------------------------------


def _bits(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = _file(rng, truths, folder)
    place = rng.randrange(len(data)) if rng.random() < 0.3 else _metadata(rng, data)[0]
    spoilt = bytearray(data)
    spoilt[place] ^= 1 << rng.randrange(8)
    path.write_bytes(spoilt)
    return _new(of, f"a bit of byte {place} of {of}", path, data_too=_touches_data(data, place, place + 1))


def _bytes(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = _file(rng, truths, folder)
    place = rng.randrange(len(data)) if rng.random() < 0.3 else _metadata(rng, data)[0]
    count = min(rng.choice([1, 2, 4, 8, 16, 64, 512]), len(data) - place)
    new = rng.choice(
        [
            bytes(count),
            b"\xff" * count,
            rng.randbytes(count),
            (rng.randrange(len(data))).to_bytes(count, "little") if count > 3 else b"\x01" * count,
        ]
    )
    path.write_bytes(data[:place] + new + data[place + count :])
    return _new(of, f"{count} bytes at {place} of {of}", path, data_too=_touches_data(data, place, place + count))


def _cut(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = _file(rng, truths, folder)
    stop = rng.choice([rng.randrange(len(data)), len(data) - rng.randrange(1, 64), rng.randrange(200)])
    path.write_bytes(data[:stop])
    return _new(of, f"{of} cut after {stop} bytes", path, spoilt=True)


def _moved(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = _file(rng, truths, folder)
    start, count = rng.randrange(len(data)), rng.choice([1, 7, 8, 64, 1000])
    if rng.random() < 0.5:
        path.write_bytes(data[:start] + rng.randbytes(count) + data[start:])
        return _new(of, f"{count} bytes put in at {start} of {of}", path, data_too=True)
    path.write_bytes(data[:start] + data[start + count :])
    return _new(of, f"{count} bytes taken out at {start} of {of}", path, data_too=True)


def _swapped(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = _file(rng, truths, folder)
    blocks = [(a, n) for a, (n, what) in claims(data).items() if not _is_data(what)]
    (a, n), (b, m) = rng.sample(blocks, 2)
    count = min(n, m)
    spoilt = bytearray(data)
    spoilt[a : a + count] = data[b : b + count]
    if rng.random() < 0.5:
        spoilt[b : b + count] = data[a : a + count]
    path.write_bytes(spoilt)
    return _new(of, f"{count} bytes from {b} to {a} of {of}", path)


# ---- forged structures: the checksums are right ----------------------------------------------------------------


def lookup3(data: bytes) -> int:
    """Return HDF5's checksum of metadata (Jenkins' lookup3)."""
    mask = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(data)) & mask

    def rotated(x: int, k: int) -> int:
        return ((x << k) | (x >> (32 - k))) & mask

    words = data + bytes(-len(data) % 12)
    for k in range(0, max(len(words), 12), 12):
        part = words[k : k + 12].ljust(12, b"\0")
        if k == 0 and not data:
            return c
        a = (a + int.from_bytes(part[:4], "little")) & mask
        b = (b + int.from_bytes(part[4:8], "little")) & mask
        c = (c + int.from_bytes(part[8:], "little")) & mask
        if k + 12 < len(data):
            for shift_a, shift_b, shift_c in ((4, 6, 8), (16, 19, 4)):
                a, c = (a - c) & mask ^ rotated(c, shift_a), (c + b) & mask
                b, a = (b - a) & mask ^ rotated(a, shift_b), (a + c) & mask
                c, b = (c - b) & mask ^ rotated(b, shift_c), (b + a) & mask
    for x, shift in (("c", 14), ("a", 11), ("b", 25), ("c", 16), ("a", 4), ("b", 14), ("c", 24)):
        if x == "c":
            c = ((c ^ b) - rotated(b, shift)) & mask
        elif x == "a":
            a = ((a ^ c) - rotated(c, shift)) & mask
        else:
            b = ((b ^ a) - rotated(a, shift)) & mask
    return c


def _checksum_place(block: bytes) -> tuple[int, int] | None:
    """Return where a block keeps its checksum, and how many bytes it is of; None if it has none."""
    if block[:4] == b"FHDB":
        for place in range(13, 24):
            blank = block[:place] + bytes(4) + block[place + 4 :]
            if lookup3(blank) == int.from_bytes(block[place : place + 4], "little"):
                return place, len(block)
    if block[:4] in (b"BTLF", b"BTIN"):
        for place in range(6, len(block) - 3):
            if block[place : place + 4] != bytes(4) and lookup3(block[:place]) == int.from_bytes(
                block[place : place + 4], "little"
            ):
                return place, place
        return None
    place = len(block) - 4
    return (place, place) if lookup3(block[:place]) == int.from_bytes(block[place:], "little") else None


def sealed(block: bytes, place: int, length: int) -> bytes:
    """Return a block with the right checksum."""
    blank = block[:place] + bytes(4) + block[place + 4 :] if length > place else block
    return block[:place] + lookup3(blank[:length]).to_bytes(4, "little") + block[place + 4 :]


def _forged(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = _file(rng, truths, folder)
    blocks = [(a, n) for a, (n, what) in claims(data).items() if not _is_data(what) and n < 5000]
    address, length = rng.choice(blocks)
    block = data[address : address + length]
    where = _checksum_place(block)
    if where is None:
        raise Skip
    spoilt = bytearray(block)
    for _ in range(rng.choice([1, 1, 2, 3])):
        place, count = rng.randrange(4, where[0] if where[0] > 30 else length), rng.choice([1, 1, 2, 4, 8])
        count = min(count, length - place)
        spoilt[place : place + count] = rng.choice(
            [bytes(count), b"\xff" * count, rng.randbytes(count), b"\x01" + bytes(count - 1)]
        )
    path.write_bytes(data[:address] + sealed(bytes(spoilt), *where) + data[address + length :])
    return _new(of, f"block at {address} of {of} ({block[:4]!r}), sealed", path)


def _forged_sizes(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Declare other sizes in a header: find 8-byte numbers that are sizes, and change them."""
    of, data, path = _file(rng, truths, folder)
    sizes = [n for n in truths[of].data.sizes.values() if n > 3]
    wanted = rng.choice(sizes)
    headers = [(a, n) for a, (n, what) in claims(data).items() if what.startswith("the header")]
    rng.shuffle(headers)
    for address, length in headers:
        block = data[address : address + length]
        place, where = block.find(wanted.to_bytes(8, "little")), _checksum_place(block)
        if place > 0 and where is not None:
            new = rng.choice([wanted + 1, wanted - 1, 2**31, 2**40, 2**62, 2**64 - 1, 10**9, 0])
            spoilt = block[:place] + new.to_bytes(8, "little") + block[place + 8 :]
            path.write_bytes(data[:address] + sealed(spoilt, *where) + data[address + length :])
            return _new(of, f"{wanted} declared as {new} in the header at {address} of {of}", path)
    raise Skip


def _index(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = _file(rng, truths, folder)
    place, end = _metadata(rng, data, "the chunk index")
    place, count = place & ~7, rng.choice([1, 2, 4, 8])
    count = min(count, end - place)
    other = rng.choice(list(claims(data)))
    new = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8), other.to_bytes(8, "little"), b"\x05" + bytes(7)])[:count]
    path.write_bytes(data[:place] + new + data[place + count :])
    # an address may now lead into free space beside its chunk: sums notice that, but those of a selection say nothing
    return _new(of, f"{count} bytes at {place} of a chunk index of {of}", path, data_too=of == "selected")


def _text(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = _file(rng, truths, folder)
    place, end = _metadata(rng, data, "the text")
    count = min(rng.choice([1, 2, 4, 8]), end - place)
    new = rng.choice([bytes(count), b"\xff" * count, rng.randbytes(count)])
    path.write_bytes(data[:place] + new + data[place + count :])
    return _new(of, f"{count} bytes at {place} of the text of {of}", path)


# ---- attributes and names --------------------------------------------------------------------------------------

TEXTS = (
    "<script>alert(1)</script>",
    "\x1b[2J\x1b]0;gone\x07",
    "fc1\n\nall checks passed",
    "\u202egnp.exe",
    "../../../etc/passwd",
    "a" * 10_000,
    "b" * 10_000_000,
    "",
    "nan",
    "{}[%s]%n\\",
    "🙂\u200d漢字",
)
VALUES = (0, -1, 2**62, 1e308, float("nan"), float("inf"), np.arange(5), np.zeros(3, "f4"), ["a", "b"], *TEXTS)


def _attribute(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = _file(rng, truths, folder)
    path.write_bytes(data)
    with netCDF4.Dataset(path, "a") as file:
        owner = file if rng.random() < 0.8 else file[rng.choice(list(file.variables))]
        name = rng.choice([*owner.ncattrs(), "extra"])
        value = rng.choice(VALUES)
        if rng.random() < 0.2 and name in owner.ncattrs():
            owner.delncattr(name)
        elif isinstance(value, str) and rng.random() < 0.5:
            owner.setncattr_string(name, value)
        else:
            owner.setncattr(name, value)
    return _new(of, f"attribute {name} of {of}: {str(value)[:30]!r}", path)


def _rewritten(truths: dict[str, Any], of: str, ds: xr.Dataset, folder: Path, what: str, **how: bool) -> Mutation:
    path = folder / "mutated.nc"
    try:
        ds.to_netcdf(path, engine="netcdf4")
    except (ValueError, RuntimeError, TypeError, OSError, OverflowError):
        raise Skip from None
    return _new(of, what, path, **how)


def _name(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data.copy(deep=True)
    table = rng.choice(["tensor", "layer", "class", "layer_kind", "tensor_role", "config"])
    if table not in ds.variables:
        raise Skip
    values = ds[table].values.astype(object)
    text = rng.choice(TEXTS)
    if values.ndim:
        values[rng.randrange(values.size)] = text
    else:
        values = np.array(text, object)
    ds = ds.assign_coords({table: (ds[table].dims, values)}) if values.ndim else ds.assign({table: text})
    return _rewritten(truths, of, ds, folder, f"{table} of {of}: {text[:30]!r}")


# ---- tables, sizes, types --------------------------------------------------------------------------------------

LABELS = ("tensor_index", "layer_index", "unit_index", "input_index", "tap_index")
ROWS = ("tensor_layer", "tensor_offset", "tensor_size", "tensor_shape", "unit", "unit_layer", "unit_channel")


def _table(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data.copy(deep=True)
    name = rng.choice([*LABELS, *ROWS, "kernel_layer", "snapshot", "iteration", "parameter"])
    if name not in ds.coords or (of == "selected" and name in ("tensor_layer", "tensor_shape")):
        raise Skip  # a selection has no parameters of the other tensors, to compare them with
    values = ds[name].values.copy()
    place = tuple(rng.randrange(n) for n in values.shape)
    old = values[place]
    largest = np.iinfo(values.dtype).max
    values[place] = rng.choice([0, -1, 1, int(old) + 1, int(old) - 1, int(largest), int(rng.choice(list(values.flat)))])
    if values[place] == old:
        raise Skip
    ds = ds.assign_coords({name: (ds[name].dims, values)})
    partial = of == "selected" and name in ("input_index", "tap_index")  # of a part of a tensor anything may be left
    return _rewritten(
        truths,
        of,
        ds,
        folder,
        f"{name}{list(place)} of {of}: {old} -> {values[place]}",
        spoilt=name != "kernel_layer" and not partial,
    )


def _shortened(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Give one variable other sizes than the rest: a dimension of its own, shorter or longer."""
    of = rng.choice(FILES)
    ds = truths[of].data.copy(deep=True)
    name = rng.choice([n for n in ds.variables if ds[n].ndim])
    dim = rng.choice(ds[name].dims)
    variable = ds[name].variable
    variable = variable.isel({dim: slice(0, variable.sizes[dim] - 1)}) if rng.random() < 0.5 else variable
    ds = ds.drop_vars(name).assign(
        {name: xr.Variable([d if d != dim else f"{dim}2" for d in variable.dims], variable.values)}
    )
    return _rewritten(truths, of, ds, folder, f"{name} of {of} along {dim}2", spoilt=True)


def _sizes(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data
    dim = rng.choice(["snapshot", "iteration", "parameter", "tensor", "layer", "unit"])
    if dim == "parameter" and of == "selected":
        raise Skip
    keep = slice(1, None) if rng.random() < 0.5 else slice(0, ds.sizes[dim] - 1)
    return _rewritten(truths, of, ds.isel({dim: keep}), folder, f"{dim} of {of} kept {keep}", spoilt=True)


def _missing(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data
    names = rng.sample(list(ds.coords), rng.choice([1, 1, 2]))
    names = [n for n in names if n not in ("parameter",)]
    if not names:
        raise Skip
    return _rewritten(
        truths, of, ds.drop_vars(names), folder, f"{of} without {', '.join(map(str, names))}", spoilt=True
    )


def _type(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data
    name = rng.choice([n for n in ds.variables if ds[n].dtype.kind in "if" and n != "parameter"])
    dtype = rng.choice(["f8", "f4", "i8", "i2", "u1", "S1", "str"])
    if np.dtype(dtype) == ds[name].dtype or (dtype in ("i8", "i2", "i4") and ds[name].dtype.kind == "i"):
        raise Skip
    with np.errstate(invalid="ignore"):
        values = ds[name].values.astype(str).astype(object) if dtype == "str" else ds[name].values.astype(dtype)
    changed = (
        ds.assign_coords({name: (ds[name].dims, values)})
        if name in ds.coords
        else ds.assign({name: (ds[name].dims, values)})
    )
    return _rewritten(truths, of, changed, folder, f"{name} of {of} as {dtype}", spoilt=True)


def _huge(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Declare far more than there is: sizes that were never written, a table with very many names."""
    of, path = "plain", folder / "mutated.nc"
    ds = truths[of].data
    small = ds.drop_dims("parameter")
    if rng.random() < 0.2:
        names = np.array([f"l{k}" for k in range(70_000)], object)
        many = small.drop_dims("layer").assign_coords(layer=names)
        return _rewritten(truths, of, many, folder, "70 000 layers", spoilt=True)
    small.to_netcdf(path, engine="netcdf4")
    size = rng.choice([10**7, 10**9, 10**12, 2**40])
    options: dict[str, Any] = {"compression": "zlib"} if rng.random() < 0.5 else {}
    wanted = (("tensor_index", "i4"), ("snapshot theta", "f4"), ("iteration lca", "f4"))
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("parameter", size)
        for text, kind in rng.sample(wanted, rng.choice([1, 2, 3])):
            *dims, name = text.split()
            chunk = [1] * len(dims) + [min(size, 10**6)]
            file.createVariable(name, kind, (*dims, "parameter"), chunksizes=chunk, **options)
    return _new(of, f"{size:,} parameters declared", path, spoilt=True)


# ---- segments of an unfinished recording -----------------------------------------------------------------------


class Trap:
    """An object that leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _segment(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    path = folder / "mutated.nc.partial"
    shutil.copytree(truths["partial"].path, path)
    segment = rng.choice(sorted(path.glob("*.npz")))
    data = segment.read_bytes()
    place = rng.randrange(len(data))
    way = rng.randrange(7)
    if way == 0:
        segment.write_bytes(data[:place])
    elif way == 1:
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << rng.randrange(8)
        segment.write_bytes(spoilt)
    elif way == 2:
        count = rng.choice([4, 64, 1000])
        segment.write_bytes(data[:place] + rng.randbytes(count) + data[place + count :])
    elif way == 3:
        if segment == max(path.glob("*.npz")):
            raise Skip  # a recording that ended earlier is whole
        segment.unlink()
    elif way == 4:
        other = rng.choice([p for p in path.glob("*.npz") if p != segment])
        segment.write_bytes(other.read_bytes())
    elif way == 5:
        _with_member(segment, rng, folder)
    else:
        header = path / "header.nc"
        spoilt = bytearray(header.read_bytes())
        place = _metadata(rng, bytes(spoilt))[0]
        spoilt[place] ^= 1 << rng.randrange(8)
        header.write_bytes(spoilt)
        return _new("partial", f"header.nc: a bit of byte {place}", path)
    return _new("partial", f"{segment.name}, way {way}, at {place}", path, spoilt=way in (0, 3, 4, 5), data_too=True)


def _with_member(segment: Path, rng: random.Random, folder: Path) -> None:
    """Put another array into a segment: pickled, of a huge shape, of another type, of an unknown name."""
    with np.load(segment) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(list(arrays))
    way = rng.randrange(4)
    if way == 0:
        arrays[name] = np.array([Trap(folder / "trapped")] * 3, object)
    elif way == 1:
        arrays[name] = arrays[name].astype("f2")
    elif way == 2:
        arrays["../evil"] = np.arange(3)
    np.savez(segment, **arrays)
    if way == 3:
        header = b"\x93NUMPY\x01\x00"
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**12}, 61), }}".encode()
        text += b" " * (-(len(header) + 2 + len(text) + 1) % 64) + b"\n"
        with zipfile.ZipFile(segment, "w") as archive:
            for key, values in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, values)
                archive.writestr(f"{key}.npy", buffer.getvalue())
            archive.writestr("theta_val.npy", header + len(text).to_bytes(2, "little") + text)


def trapped(folder: Path) -> bool:
    """Say whether something was unpickled."""
    return (folder / "trapped").exists()


Way = Callable[[random.Random, dict[str, Any], Path], Mutation]
WAYS: dict[Way, int] = {
    _bits: 12,
    _bytes: 12,
    _cut: 4,
    _moved: 4,
    _swapped: 6,
    _forged: 20,
    _forged_sizes: 8,
    _index: 12,
    _text: 6,
    _attribute: 10,
    _name: 6,
    _table: 12,
    _shortened: 6,
    _sizes: 4,
    _missing: 4,
    _type: 6,
    _huge: 4,
    _segment: 12,
}
