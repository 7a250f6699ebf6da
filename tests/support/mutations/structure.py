"""Structures of HDF5 that netCDF libraries do not write, or not so: types, filters, links, references, dimensions."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.support.mutations.common import FILES, Mutation, Skip, mutated

TYPES: tuple[Any, ...] = (
    "f2", ">f4", ">f8", "u8", "i1", "S3", "f8", "c8", "?", h5py.ref_dtype, h5py.regionref_dtype, h5py.string_dtype(),
    h5py.vlen_dtype(np.dtype("i4")), h5py.enum_dtype({"a": 1, "b": 2}), np.dtype([("a", "i4"), ("b", "f8")]),
    np.dtype(("f4", (3,))), h5py.opaque_dtype(np.dtype("V8")), np.longdouble,
)  # fmt: skip

FILTERS: tuple[dict[str, Any], ...] = (
    {"compression": "lzf"},
    {"compression": "gzip", "fletcher32": True},
    {"compression": "gzip", "shuffle": True},
    {"fletcher32": True},
    {"scaleoffset": 3},
    {"shuffle": True},
    {"maxshape": True},
)

LIBRARY = (
    *("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties"),
    *("_nc3_strict", "_FillValue", "_QuantizeBitRoundNumberOfSignificantBits", "_Encoding", "_Unsigned"),
)


def _changed(
    rng: random.Random, truths: dict[str, Any], folder: Path, change: Callable[[Any, random.Random], str]
) -> Mutation:
    """Change a copy of a valid file with another HDF5 library than the one that reads it."""
    of, path = rng.choice(FILES), folder / "mutated.nc"
    path.write_bytes(truths[of].path.read_bytes())
    try:
        with h5py.File(path, "a", libver=("v108", "v108")) as file:
            what = change(file, rng)
    except (KeyError, ValueError, TypeError, OSError, RuntimeError, AttributeError):
        raise Skip from None
    return mutated(of, f"{of}: {what}", path)


def _dataset(file: Any, rng: random.Random) -> Any:
    return file[rng.choice([name for name in file if isinstance(file[name], h5py.Dataset)])]


def change_stored_type(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Store a variable anew, as another type or through other filters."""

    def change(file: Any, rng: random.Random) -> str:
        old = _dataset(file, rng)
        name, attributes, values = old.name, {k: v for k, v in old.attrs.items() if "LIST" not in k}, old[()]
        options: dict[str, Any] = dict(rng.choice(FILTERS)) if rng.random() < 0.4 and old.ndim else {}
        dtype = old.dtype if options or rng.random() < 0.2 else np.dtype(rng.choice(TYPES))
        if options.pop("maxshape", None):
            options["maxshape"] = (None,) * old.ndim
        dimensions = old.attrs.get("DIMENSION_LIST")
        del file[name]
        new = file.create_dataset(name, shape=values.shape, dtype=dtype, **options)
        if dtype.kind in "iufS?c" and values.dtype.kind in "iuf":
            new[...] = values.astype(dtype)
        for key, value in attributes.items():
            new.attrs[key] = value
        if dimensions is not None and rng.random() < 0.7:
            new.attrs.create("DIMENSION_LIST", dimensions, dtype=h5py.vlen_dtype(h5py.ref_dtype))
        return f"{name} stored as {dtype} {options}"

    return _changed(rng, truths, folder, change)


def change_link(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Rename, remove, or link anew."""

    def change(file: Any, rng: random.Random) -> str:
        name, other = rng.sample(list(file), 2)
        way = rng.choice(["soft", "external", "hard", "gone", "renamed", "group", "letter", "many"])
        if way == "many":
            for number in range(3000):
                file[f"{name}{number}"] = h5py.SoftLink(f"/{other}")
        elif way == "letter":
            new = name[:-1] + chr(ord(name[-1]) ^ 1)
            file.move(name, new)
            return f"{name} renamed to {new}"
        elif way in ("renamed", "group"):
            file.move(name, f"inside/{name}" if way == "group" else rng.choice(["lca_val", "x", "theta2", "_" + name]))
        else:
            target = {"soft": h5py.SoftLink(f"/{other}"), "external": h5py.ExternalLink("/etc/passwd", "/x")}
            kept = file[other] if way == "hard" else target.get(way)
            del file[name]
            if kept is not None:
                file[name] = kept
        return f"{name}: {way} {other}"

    return _changed(rng, truths, folder, change)


def change_library_attribute(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Give an attribute that the library interprets another value, type or extent."""

    def change(file: Any, rng: random.Random) -> str:
        owner = _dataset(file, rng) if rng.random() < 0.9 else file
        present = [key for key in LIBRARY if key in owner.attrs]
        name = rng.choice(present or list(LIBRARY)) if rng.random() < 0.7 else rng.choice(LIBRARY)
        some = file[rng.choice(list(file))].ref
        value, dtype = rng.choice(
            [
                (np.int32(rng.choice([0, 1, -1, 2**31 - 1, 5000, 70])), None),
                (np.zeros(rng.choice([0, 1, 2, 5, 1000]), "i4"), None),
                (np.float16(1), None), ("text" * rng.choice([0, 1, 5000]), None), (np.bytes_(b"NAME"), None),
                (1.5, None), (np.array([some] * rng.choice([1, 2, 7]), h5py.ref_dtype), h5py.ref_dtype),
                (some, h5py.ref_dtype), (np.array([(1, 2)], "i4,i8"), None), (np.array(["a", "b"], object), None),
            ]
        )  # fmt: skip
        if name in owner.attrs and rng.random() < 0.2:
            del owner.attrs[name]
            return f"{name} of {owner.name} removed"
        owner.attrs.create(name, value, dtype=dtype)
        return f"{name} of {owner.name} is {str(value)[:30]}"

    return _changed(rng, truths, folder, change)


def change_dimensions(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Let a variable point to other dimensions, or to more or fewer of them."""

    def change(file: Any, rng: random.Random) -> str:
        owned = [name for name in file if "DIMENSION_LIST" in file[name].attrs]
        dataset = file[rng.choice(owned)]
        count = max(0, dataset.ndim + rng.choice([0, 0, 0, 1, -1, 20]))
        lists = np.empty(count, object)
        for axis in range(count):
            refs = [file[rng.choice(list(file))].ref for _ in range(rng.choice([1, 1, 1, 2, 0]))]
            lists[axis] = np.array(refs, h5py.ref_dtype)
        del dataset.attrs["DIMENSION_LIST"]
        dataset.attrs.create("DIMENSION_LIST", lists, shape=(count,), dtype=h5py.vlen_dtype(h5py.ref_dtype))
        return f"DIMENSION_LIST of {dataset.name}: {count}"

    return _changed(rng, truths, folder, change)


def add_many(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Add very many variables or attributes."""

    def change(file: Any, rng: random.Random) -> str:
        count = rng.choice([500, 20_000])
        if rng.random() < 0.5:
            for number in range(count):
                file.create_dataset(f"v{number}", data=np.float32(number))
        else:
            for number in range(min(count, 12_000)):
                file.attrs[f"a{number}"] = number
        return f"{count} more"

    return _changed(rng, truths, folder, change)
