"""HDF5 structures as libraries write them that keep to the oldest form: object headers of version 1, symbol tables.

netCDF-4 files do not have them; files of h5py, and so those of the original LCA code, do. What is checked is what the
reader follows: messages inside their header, names inside their heap and in order, since names are searched for, and
the same addresses wherever they are repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from lcakit.storage.guard.blocks import Blocks, CorruptError, Cursor
from lcakit.storage.guard.messages import ELSEWHERE

__all__ = ["FIRST_BYTE", "SYMBOL_TABLE", "Table", "check_cached", "links", "messages"]


def __dir__() -> list[str]:
    return __all__


FIRST_BYTE = b"\x01"
"""With which an object header of version 1 begins; later ones begin with OHDR."""

SYMBOL_TABLE = 0x11
"""The kind of message that says where the names of a group lie."""

_KNOWN = {0, 1, 2, 3, 4, 5, 6, 8, 0xA, 0xB, 0xC, 0xD, 0x10, SYMBOL_TABLE, 0x12, 0x15, 0x16}
_CONTINUED = 0x10
_MOST_BLOCKS = 10_000
_MOST_NODE, _MOST_LEVEL = 1024, 8
_NOTHING, _GROUP = 0, 1  # what an entry of a symbol table repeats of the object
_LAST = 1  # in place of the address of a free block that follows

Table = tuple[int, int]
"""Addresses of a group's index of names and of the heap that holds them."""


# ---- object headers ------------------------------------------------------------------------------------------------


def messages(blocks: Blocks, address: int, what: str) -> Iterator[tuple[int, Cursor]]:
    """Yield kind and content of each message of a header of version 1, through all its continuations."""
    prefix = Cursor(blocks.peek(address, 16), what)
    version, _, count, _, size = prefix.uints(1, 1, 2, 4, 4)
    if version != 1:
        raise CorruptError(f"{what} has version {version}, expected 1")
    first = blocks.read(address, 16 + size, what)
    first.take(16)
    waiting, found = [first], 0
    for visited, cursor in enumerate(waiting):
        if visited > _MOST_BLOCKS:
            raise CorruptError(f"{what} goes on without an end")
        while cursor.left >= 8:
            kind, length, flags = cursor.uints(2, 2, 1)
            cursor.take(3)
            found += 1
            if kind == 7:
                raise CorruptError(ELSEWHERE)
            if length > cursor.left or length % 8 or kind not in _KNOWN or (flags & 2 and kind):
                raise CorruptError(f"{what} holds a message (kind {kind}) that lcakit does not know")
            content = Cursor(cursor.take(length), what)
            if kind == _CONTINUED:
                place, size = content.uints(8, 8)
                waiting.append(blocks.read(place, size, what))
            else:
                yield kind, content
    if found != count:
        raise CorruptError(f"{what} declares {count} messages and holds {found}")


# ---- names of a group ----------------------------------------------------------------------------------------------


def check_cached(kind: int, scratch: bytes, table: Table | None, what: str) -> None:
    """Refuse an entry that repeats other addresses of a group than its header has: readers may take either."""
    repeated = Cursor(scratch, what).uints(8, 8)
    if kind not in (_NOTHING, _GROUP) or (kind == _GROUP and (table is None or tuple(repeated) != table)):
        raise CorruptError(f"{what} is a link by name, or repeats other addresses than its header has")


def links(blocks: Blocks, table: Table, what: str) -> Iterator[tuple[str, int, tuple[int, bytes]]]:
    """Yield each name of a group, the address that it leads to, and what its entry repeats of the object there."""
    names = _heap(blocks, table[1], what)
    last = None
    for name, address, cached in _node(blocks, names, table[0], None, what):
        if last is not None and name <= last:
            raise CorruptError(f"the names of {what} are not in order")
        last = name
        yield name.decode("utf-8"), address, cached


def _heap(blocks: Blocks, address: int, what: str) -> bytes:
    """Return the names of a group as they lie in its heap. Free blocks that lead back would make readers hang."""
    head = blocks.read(address, 32, f"the heap of {what}")
    head.expect(b"HEAP", 0)
    head.take(3)
    size, free, place = head.uints(8, 8, 8)
    data = blocks.read(place, size, f"the names of {what}").take(size)
    left = size
    while free != _LAST:
        entry = Cursor(data[free : free + 16], f"the heap of {what}")
        free, length = entry.uints(8, 8)
        left -= length
        if length < 16 or left < 0:
            raise CorruptError(f"the free blocks of the heap of {what} do not end")
    return data


def _name(names: bytes, offset: int, what: str) -> bytes:
    end = names.find(b"\0", offset)
    if not 0 <= offset <= end:
        raise CorruptError(f"a name of {what} lies outside its heap")
    return names[offset:end]


def _node(
    blocks: Blocks, names: bytes, address: int, level: int | None, what: str
) -> Iterator[tuple[bytes, int, tuple[int, bytes]]]:
    """Yield the entries below a node of the index: names of a child lie between the keys on both sides of it."""
    head = Cursor(blocks.peek(address, 24), f"the index of {what}")
    if head.take(4) != b"TREE":
        raise CorruptError(f"the index of {what} does not begin with TREE")
    kind, own_level, used, _, _ = head.uints(1, 1, 2, 8, 8)
    if kind != 0 or own_level > _MOST_LEVEL or used > _MOST_NODE or level not in (None, own_level):
        raise CorruptError(f"the index of {what} is not readable")
    cursor = blocks.read(address, 24 + 16 * used + 8, f"the index of {what}")
    cursor.take(24)
    numbers = cursor.uints(*[8] * (2 * used + 1))
    keys = [_name(names, offset, what) for offset in numbers[::2]]
    for child, (low, high) in zip(numbers[1::2], pairwise(keys), strict=True):
        below = _node(blocks, names, child, own_level - 1, what) if own_level else _entries(blocks, names, child, what)
        for entry in below:
            if not low < entry[0] <= high:
                raise CorruptError(f"the names of {what} are not in order")
            yield entry


def _entries(blocks: Blocks, names: bytes, address: int, what: str) -> Iterator[tuple[bytes, int, tuple[int, bytes]]]:
    head = Cursor(blocks.peek(address, 8), f"the table of {what}")
    head.expect(b"SNOD", 1)
    head.take(1)
    used = head.uint(2)
    cursor = blocks.read(address, 8 + 40 * used, f"the table of {what}")
    cursor.take(8)
    for _ in range(used):
        offset, header, cached, _ = cursor.uints(8, 8, 4, 4)
        yield _name(names, offset, what), header, (cached, cursor.take(16))
