"""Where HDF5 keeps many links, many attributes and text: fractal heaps, version-2 B-trees, global heaps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from lcakit.storage.guard.blocks import UNDEFINED, Blocks, CorruptError, Cursor

__all__ = ["REFERENCE", "FractalHeap", "Texts", "records"]


def __dir__() -> list[str]:
    return __all__


_MOST_RECORDS = 200_000
REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
"""How a variable-length text is stored where it is used; the text itself lies in a global heap."""


def _bytes_for(number: int) -> int:
    return (max(number, 1).bit_length() - 1) // 8 + 1


# ---- version-2 B-trees -----------------------------------------------------------------------------------------


def records(blocks: Blocks, address: int, what: str) -> Iterator[bytes]:
    """Yield the records of a version-2 B-tree in order."""
    head = blocks.read_summed(address, 38, f"the index of {what}")
    head.expect(b"BTHD", 0)
    kind, node, size, depth, _, _, root, count, total = head.uints(1, 4, 2, 2, 1, 1, 8, 2, 8)
    if total > _MOST_RECORDS or depth > 8 or size < 1 or node < 32:
        raise CorruptError(f"the index of {what} declares {total:,} entries in {depth} levels")
    if total == 0:
        return
    found = 0
    for record in _node_records(blocks, root, count, depth, _Shape(kind, node, size), what):
        found += 1
        yield record
    if found != total:
        raise CorruptError(f"the index of {what} holds {found:,} entries and declares {total:,}")


class _Shape:
    """Sizes of the nodes of one tree, level by level: they follow from the sizes of a node and a record."""

    def __init__(self, kind: int, node: int, record: int) -> None:
        self.kind, self.node, self.record = kind, node, record
        self.most = [(node - 10) // record]
        self.below = [self.most[0]]  # most records in a whole subtree
        self.count_bytes = _bytes_for(self.most[0])

    def pointer(self, level: int) -> tuple[int, int]:
        """Return the bytes of the number of records in a child, and in its whole subtree (0 above a leaf)."""
        while len(self.most) < level + 1:
            size = 8 + self.count_bytes + (_bytes_for(self.below[-1]) if len(self.most) > 1 else 0)
            self.most.append((self.node - 10 - size) // (self.record + size))
            self.below.append((self.most[-1] + 1) * self.below[-1] + self.most[-1])
        return self.count_bytes, _bytes_for(self.below[level - 1]) if level > 1 else 0


def _node_records(blocks: Blocks, address: int, count: int, level: int, shape: _Shape, what: str) -> Iterator[bytes]:
    cursor = blocks.read(address, shape.node, f"the index of {what}")
    cursor.expect(b"BTIN" if level else b"BTLF", 0)
    if cursor.uint(1) != shape.kind:
        raise CorruptError(f"the index of {what} mixes kinds of entries")
    own = [cursor.take(shape.record) for _ in range(count)]
    few, all_below = shape.pointer(level) if level else (0, 0)
    children = [(cursor.uint(8), cursor.uint(few), cursor.uint(all_below)) for _ in range(count + 1 if level else 0)]
    blocks.compare(cursor.data[: cursor.at + 4], f"the index of {what}")
    if level == 0:
        yield from own
        return
    for place, (child, held, _) in enumerate(children):
        yield from _node_records(blocks, child, held, level - 1, shape, what)
        yield from own[place : place + 1]


# ---- fractal heaps ---------------------------------------------------------------------------------------------


class FractalHeap:
    """Objects of up to some KB, in blocks whose sizes double."""

    def __init__(self, blocks: Blocks, address: int, what: str) -> None:
        self._blocks, self._what = blocks, f"the heap of {what}"
        head = blocks.read_summed(address, 146, self._what)
        head.expect(b"FRHP", 0)
        self._id_bytes, filters, flags, most, _, huge = head.uints(2, 2, 1, 4, 8, 8)
        head.take(10 * 8)
        self._width, self._start, largest, bits, _, root, rows = head.uints(2, 8, 8, 2, 2, 8, 2)
        if filters or not self._width or not _power(self._start) or not _power(largest) or bits > 64:
            raise CorruptError(f"{self._what} has an impossible header")
        self._checksums = bool(flags & 2)
        self._offset_bytes = -(-bits // 8)
        self._length_bytes = min(_bytes_for(largest), _bytes_for(most))
        self._direct_rows = largest.bit_length() - self._start.bit_length() + 2
        self._held: dict[int, tuple[int, bytes]] = {}
        if root != UNDEFINED:
            self._load(root, 0, rows, 0)
        self._offsets = sorted(self._held)
        self._huge = self._huge_objects(huge) if huge != UNDEFINED else {}

    def _huge_objects(self, address: int) -> dict[int, tuple[int, int]]:
        found = {}
        for record in records(self._blocks, address, self._what):
            cursor = Cursor(record, self._what)
            place, length, key = cursor.uints(8, 8, 8)
            found[key] = (place, length)
        return found

    def _load(self, address: int, offset: int, rows: int, depth: int) -> None:
        """Load the direct blocks below an indirect block of so many rows (0: the block is a direct one)."""
        if not rows:
            self._load_direct(address, offset, self._start)
            return
        direct = min(rows, self._direct_rows)
        size = 4 + 1 + 8 + self._offset_bytes + 8 * self._width * rows + 4
        cursor = self._blocks.read_summed(address, size, self._what)
        cursor.expect(b"FHIB", 0)
        cursor.take(8 + self._offset_bytes)
        if depth > 8 or rows > 64:
            raise CorruptError(f"{self._what} is nested too deep")
        for row in range(rows):
            block = self._start << max(row - 1, 0)
            for _ in range(self._width):
                child = cursor.uint(8)
                if child != UNDEFINED and row < direct:
                    self._load_direct(child, offset, block)
                elif child != UNDEFINED:
                    below = block.bit_length() - (self._start * self._width).bit_length() + 1
                    self._load(child, offset, max(below, 1), depth + 1)
                offset += block

    def _load_direct(self, address: int, offset: int, size: int) -> None:
        cursor = self._blocks.read(address, size, self._what)
        cursor.expect(b"FHDB", 0)
        head = 4 + 1 + 8 + self._offset_bytes + (4 if self._checksums else 0)
        cursor.take(head - 5)
        if self._checksums:  # it lies before the objects, and counts as zeros itself
            data = cursor.data
            self._blocks.compare(data[: head - 4] + bytes(4) + data[head:] + data[head - 4 : head], self._what)
        self._held[offset] = (head, cursor.take(size - head))

    def get(self, key: bytes) -> bytes:
        """Return the object with this heap ID."""
        cursor = Cursor(key[: self._id_bytes], self._what)
        kind = cursor.uint(1)
        if kind >> 6 or (kind >> 4) & 3 not in (0, 1):
            raise CorruptError(f"{self._what} names an object of an unknown kind")
        if (kind >> 4) & 3 == 1:
            place, length = self._huge.pop(cursor.uint(cursor.left), (UNDEFINED, 0))
            return self._blocks.read(place, length, self._what).take(length)
        offset, length = cursor.uint(self._offset_bytes), cursor.uint(self._length_bytes)
        block = bisect_right(self._offsets, offset) - 1
        if block < 0:
            raise CorruptError(f"{self._what} names an object that it does not hold")
        head, data = self._held[self._offsets[block]]
        inside = offset - self._offsets[block] - head
        if inside < 0 or inside + length > len(data):
            raise CorruptError(f"{self._what} names an object that it does not hold")
        return data[inside : inside + length]


def _power(number: int) -> bool:
    """Say whether a block size is possible: a power of two of at most 16 MB."""
    return 0 < number <= 2**24 and number & (number - 1) == 0


# ---- global heaps: text ----------------------------------------------------------------------------------------


class Texts:
    """Checks references to variable-length text: each must have bytes of its own, so nothing grows when it is read."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._heaps: dict[int, dict[int, bytes]] = {}
        self._used: set[tuple[int, int]] = set()

    def check(self, data: bytes, unit: int, what: str) -> list[bytes]:
        """Check the references in ``data`` to sequences of ``unit`` bytes each; return what they point to."""
        out = []
        for length, address, index in np.frombuffer(data, REFERENCE).tolist():
            if length == 0 or address in (0, UNDEFINED):
                out.append(b"")
                continue
            if len(self._used) > _MOST_RECORDS:
                raise CorruptError(f"it holds more than {_MOST_RECORDS:,} pieces of text")
            if (address, index) in self._used:
                raise CorruptError(f"{what} uses bytes of text that belong to another")
            self._used.add((address, index))
            held = self._heap(address, what).get(index)
            if held is None or len(held) < length * unit:
                raise CorruptError(f"{what} points to text that is not there")
            out.append(held[: length * unit])
        return out

    def _heap(self, address: int, what: str) -> dict[int, bytes]:
        if address not in self._heaps:
            head = Cursor(self._blocks.peek(address, 16), f"the text of {what}")
            head.expect(b"GCOL", 1)
            head.take(3)
            self._heaps[address] = _heap_objects(self._blocks.read(address, head.uint(8), f"the text of {what}"))
        return self._heaps[address]


def _heap_objects(cursor: Cursor) -> dict[int, bytes]:
    """Return the objects of a global heap by index. A size of 0 in free space makes HDF5's own reader hang."""
    cursor.take(16)
    objects: dict[int, bytes] = {}
    while cursor.left >= 16:
        index, _, _, size = cursor.uints(2, 2, 4, 8)
        if index == 0:
            if size != cursor.left + 16:
                raise CorruptError("the free space of its text has an impossible size")
            break
        if index in objects:
            raise CorruptError("two texts have one number")
        objects[index] = cursor.take(size)
        cursor.take(min(-size % 8, cursor.left))
    return objects
