"""What all ways to change a file share: the change that was made, and the map of a valid file."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from lcakit.storage.guard.blocks import Blocks
from lcakit.storage.guard.hdf5 import _Walker
from lcakit.storage.guard.heaps import Texts
from lcakit.storage.guard.superblock import read_superblock

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
    texts_too: bool = False
    """Attributes were changed: what is told of the same numbers may differ."""


class Skip(Exception):
    """This way changes nothing here: try another."""


def mutated(of: str, what: str, path: Path, **how: bool) -> Mutation:
    return Mutation("", what, path, of, **how)


def claims(data: bytes) -> dict[int, tuple[int, str]]:
    """Return what lies where in a valid file: address -> (length, what)."""
    blocks = Blocks(io.BytesIO(data), len(data))
    _Walker(blocks, Texts(blocks), False).visit_all(*read_superblock(blocks, False))
    return blocks._claims


def is_data(what: str) -> bool:
    return what.startswith(("the data of", "a chunk of"))


def metadata(rng: random.Random, data: bytes, kinds: str = "") -> tuple[int, int]:
    """Return a random place in the metadata, and the end of its block."""
    blocks = [(a, n) for a, (n, what) in claims(data).items() if not is_data(what) and kinds in what]
    address, length = rng.choice(blocks)
    return address + rng.randrange(length), address + length


def touches_data(data: bytes, start: int, stop: int) -> bool:
    return any(a < stop and start < a + n for a, (n, what) in claims(data).items() if is_data(what))


def file_of(rng: random.Random, truths: dict[str, Any], folder: Path) -> tuple[str, bytes, Path]:
    of = rng.choice(FILES)
    return of, truths[of].path.read_bytes(), folder / "mutated.nc"


def rewritten(truths: dict[str, Any], of: str, ds: xr.Dataset, folder: Path, what: str, **how: bool) -> Mutation:
    path = folder / "mutated.nc"
    try:
        ds.to_netcdf(path, engine="netcdf4")
    except (ValueError, RuntimeError, TypeError, OSError, OverflowError):
        raise Skip from None
    return mutated(of, what, path, **how)
