"""The index of a variable's chunks: every chunk there, once, in order, inside the file, of the right size."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from lcakit.storage.guard.blocks import UNDEFINED, Blocks, CorruptError, Cursor

__all__ = ["ChunkIndex"]


def __dir__() -> list[str]:
    return __all__


_MOST_CHUNK_BYTES = 2**27
_MOST_ENTRIES = 64  # of a node, in files by netCDF libraries
_DEFLATE_RATIO = 1032
"""Nothing is packed tighter by deflate."""

_Place = tuple[int, ...]
"""Where a chunk begins, in elements; a last 0 counts bytes inside an element."""


class ChunkIndex:
    """A version-1 B-tree, which has no checksum: a changed byte would silently lead to other numbers, or to none."""

    def __init__(self, blocks: Blocks, shape: _Place, chunk: _Place, packed: bool, name: str) -> None:
        self._blocks, self._chunk, self._packed = blocks, chunk, packed
        self._what, self._owner = f"the chunk index of {name!r}", f"a chunk of {name!r}"
        self._bytes = math.prod(chunk)
        self._grid = tuple(-(-n // c) for n, c in zip(shape, chunk[:-1], strict=True))
        self.ranges: dict[_Place, tuple[int, int]] = {}
        """Where each chunk lies in the file, from byte to byte, by its place in the grid."""
        self._entry = np.dtype([("size", "<u4"), ("mask", "<u4"), ("at", "<u8", (len(chunk),)), ("child", "<u8")])
        if packed and self._bytes > _MOST_CHUNK_BYTES:
            raise CorruptError(f"{name!r} is packed in chunks of {self._bytes:,} bytes, over {_MOST_CHUNK_BYTES:,}")

    def visit(self, root: int) -> bool:
        """Check every entry; return whether every chunk of the variable is there."""
        if root != UNDEFINED:
            self._node(root, None, (0,) * len(self._chunk), (2**64,) * len(self._chunk))
        return len(self.ranges) == math.prod(self._grid)

    def _node(self, address: int, level: int | None, low: _Place, high: _Place) -> None:
        """Check a node and all below it: the reader finds chunks by their order, so they lie in [low, high)."""
        head = Cursor(self._blocks.peek(address, 24), self._what)
        if head.take(4) != b"TREE":
            raise CorruptError(f"{self._what} does not begin with TREE")
        kind, own_level, used, _, _ = head.uints(1, 1, 2, 8, 8)
        if kind != 1 or own_level > 8 or not 0 < used <= _MOST_ENTRIES or level not in (None, own_level):
            raise CorruptError(f"{self._what} is not readable")
        item = self._entry.itemsize
        cursor = self._blocks.read(address, 24 + (used + 1) * item - 8, self._what)
        cursor.take(24)
        entries = np.frombuffer(cursor.take(cursor.left) + bytes(8), self._entry)  # the last one has no child
        places = [tuple(place) for place in entries["at"].tolist()]
        uneven = (entries["at"] % np.array(self._chunk, np.uint64)).any()
        if uneven or any(a >= b for a, b in pairwise(places)) or places[-2] >= high or places[1] <= low:
            raise CorruptError(f"{self._what} is not in order")
        for entry, (place, end) in zip(entries[:-1], pairwise(places), strict=True):
            if own_level:
                self._node(int(entry["child"]), own_level - 1, max(place, low), min(end, high))
            elif place < low:
                raise CorruptError(f"{self._what} is not in order")
            else:
                self._leaf(int(entry["size"]), int(entry["mask"]), place, int(entry["child"]))

    def _leaf(self, size: int, mask: int, place: _Place, address: int) -> None:
        steps = [n // c for n, c in zip(place, self._chunk, strict=True)]
        if place[-1] or any(step >= n for step, n in zip(steps, self._grid, strict=False)):
            raise CorruptError(f"{self._what} names a chunk that the variable does not have")
        fits = self._bytes <= _DEFLATE_RATIO * size + 4096 if self._packed else size == self._bytes
        if mask or not fits:
            raise CorruptError(f"{self._owner} has {size:,} bytes, for {self._bytes:,} of data")
        self.ranges[tuple(steps[:-1])] = (address, address + size)
        self._blocks.claim(address, size, self._owner)
