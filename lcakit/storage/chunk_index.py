"""The index of a variable's chunks, written into a file of HDF5: a version-1 B-tree over chunks that are there already.

The library writes the index of the chunks that it writes itself. Those of a recording lie in the file before the
variable exists (:mod:`lcakit.storage.early_chunks`), so only their index is left to write when it is over.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from lcakit.storage.guard.blocks import UNDEFINED
from lcakit.storage.guard.sums import lookup3

__all__ = ["set_end", "write_index"]


def __dir__() -> list[str]:
    return __all__


_ENTRIES = 64  # of a node, in files by netCDF libraries
_SUPERBLOCK, _VERSIONS, _END_AT = 48, (2, 3), 28

_Place = tuple[int, ...]


@dataclass(frozen=True)
class _Child:
    """A chunk, or a node: its address, and the keys that it lies between."""

    address: int
    first: bytes
    end: bytes


def set_end(file: BinaryIO, end: int) -> None:
    """Say in the beginning of a file where it ends: what it holds up to there, the library does not write over.

    Raises
    ------
    ValueError
        If it does not begin as netCDF libraries write it.
    """
    file.seek(0)
    block = file.read(_SUPERBLOCK)
    if (
        len(block) < _SUPERBLOCK
        or block[8] not in _VERSIONS
        or lookup3(block[:-4]) != int.from_bytes(block[-4:], "little")
    ):
        raise ValueError("it does not begin with a superblock of version 2 or 3")
    block = block[:_END_AT] + struct.pack("<Q", end) + block[_END_AT + 8 : -4]
    file.seek(0)
    file.write(block + struct.pack("<I", lookup3(block)))


def write_index(
    file: BinaryIO, root: int, end: int, chunk: Sequence[int], itemsize: int, addresses: Mapping[_Place, int]
) -> int:
    """Write the index of chunks that are not packed; return where the file ends now.

    Parameters
    ----------
    file
        Open for writing.
    root
        Address of the root of an index that the library has made for the variable: that one is written anew.
    end
        Where the file ends; further nodes are written there.
    chunk
        Shape of a chunk.
    addresses
        Of all chunks, by their places in the grid.
    """
    sizes = (*chunk, itemsize)
    head = struct.pack("<2I", math.prod(sizes), 0)  # bytes, and which filters were left out

    def key(place: Sequence[int]) -> bytes:
        return head + struct.pack(f"<{len(sizes)}Q", *(n * size for n, size in zip(place, sizes, strict=True)))

    places = sorted(addresses)
    firsts = [key((*place, 0)) for place in places]
    last = key([n + 1 for n in (*places[-1], 0)])
    children = [
        _Child(addresses[place], first, following)
        for place, (first, following) in zip(places, pairwise([*firsts, last]), strict=True)
    ]
    level = 0
    while len(children) > _ENTRIES:
        groups = [children[start : start + _ENTRIES] for start in range(0, len(children), _ENTRIES)]
        children = []
        size = _node_bytes(len(head) + 8 * len(sizes))
        at = [UNDEFINED, *(end + number * size for number in range(len(groups))), UNDEFINED]
        for number, group in enumerate(groups, 1):
            _write(file, at[number], _node(level, group, at[number - 1], at[number + 1]))
            children.append(_Child(at[number], group[0].first, group[-1].end))
        end += len(groups) * size
        level += 1
    _write(file, root, _node(level, children, UNDEFINED, UNDEFINED))
    return end


def _node_bytes(key: int) -> int:
    return 24 + _ENTRIES * (key + 8) + key


def _node(level: int, children: Sequence[_Child], left: int, right: int) -> bytes:
    """Return a node: entries that are not used are there too, since the library reads nodes of one size."""
    head = b"TREE" + struct.pack("<2BH2Q", 1, level, len(children), left, right)
    body = b"".join(child.first + struct.pack("<Q", child.address) for child in children) + children[-1].end
    return (head + body).ljust(_node_bytes(len(children[0].first)), b"\0")


def _write(file: BinaryIO, address: int, data: bytes) -> None:
    file.seek(address)
    file.write(data)
