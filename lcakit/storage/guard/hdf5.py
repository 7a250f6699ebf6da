"""A walk through the structure of an HDF5 file in Python, before the C library sees it.

HDF5's own reader trusts much of what a file says: one changed byte in a heap of text makes it loop for ever, and one in
an index of chunks, which has no checksum, makes it read other numbers without a word. This walk visits every structure
that the reader will follow (headers, links, attributes, types, text, the index of every chunk) and checks that each
lies inside the file, that no two share bytes, that what is declared is what is stored, and that nothing leads out of
the file. It reads no numbers, so it takes milliseconds whatever the size of the file.

Only what netCDF-4 libraries write is known here; anything else is refused. For files of other programs
(``older=True``) also what h5py writes (:mod:`lcakit.storage.guard.older`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from lcakit.storage.guard import messages as read
from lcakit.storage.guard import older as old
from lcakit.storage.guard.attributes import check_attribute, is_variable
from lcakit.storage.guard.blocks import UNDEFINED, Blocks, CorruptError, Cursor, OtherFormatError
from lcakit.storage.guard.chunks import ChunkIndex
from lcakit.storage.guard.formats import CLASSIC
from lcakit.storage.guard.heaps import FractalHeap, Texts, records
from lcakit.storage.guard.superblock import NOT_REPEATED, Cached, read_superblock
from lcakit.storage.guard.text import MOST_LETTERS
from lcakit.storage.packed import unpacked

__all__ = ["MOST_TEXTS", "Stored", "Structure", "walk"]


def __dir__() -> list[str]:
    return __all__


_MOST_OBJECTS = 2_000  # a trajectory of three objectives has some 90
_MOST_ATTRIBUTES = 10_000
MOST_TEXTS = 100_000
_MOST_CONTINUATIONS = 10_000

_REPEATED = {0, 6, 0xC, 0x10}
"""Those of which a header may hold several: padding, links, attributes, continuations."""

_KNOWN = {0, 1, 2, 3, 4, 5, 6, 8, 0xA, 0xB, 0xC, 0xD, 0x10, 0x12, 0x15, 0x16}
"""Kinds of messages in object headers that netCDF-4 files hold."""


@dataclass(frozen=True)
class Stored:
    """A variable as it is stored: its shape, bytes per element, and whether all of it is there."""

    shape: tuple[int, ...]
    dtype: read.Type
    complete: bool
    filters: tuple[read.Filter, ...] = ()
    chunk: tuple[int, ...] = ()
    ranges: Mapping[tuple[int, ...], tuple[int, int]] = field(default_factory=dict)
    """Where the chunks lie in the file, from byte to byte, by their places in the grid; data in one piece is one."""

    data: bytes | None = None
    """All of it, where it is stored with what describes it."""

    texts: tuple[bytes, ...] = ()
    """Of a variable of text of any length."""

    fill: bytes = b""
    """What stands where nothing was written."""

    layout: str = "contiguous"
    """In one piece, in chunks, or compact: with what describes it."""

    limits: tuple[int, ...] = ()
    """How far each axis may grow; () where that is its length."""

    attributes: Mapping[str, read.Attribute] = field(default_factory=dict)
    address: int = 0
    """Of what describes it: how others point to it."""

    index: int = UNDEFINED
    """Address of the root of the index of its chunks."""

    @property
    def packed(self) -> bool:
        """Whether numbers are stored in another form than in memory."""
        return bool(self.filters)

    @property
    def is_variable(self) -> bool:
        """False for a dimension without a variable of its name."""
        return is_variable(self.attributes)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole variable, unpacked."""
        return math.prod(self.shape) * self.dtype.size


class Structure(dict[str, Stored]):
    """What a file holds: variables by their names, in the order in which they were made, and its own attributes."""

    attributes: Mapping[str, read.Attribute] = MappingProxyType({})


def walk(handle: BinaryIO, size: int, older: bool = False) -> Structure:
    """Check the structure of a file; return what it holds.

    Parameters
    ----------
    older
        Also know the oldest structures of HDF5, which netCDF-4 files do not have.

    Raises
    ------
    CorruptError
        With the first thing that is wrong.
    """
    blocks = Blocks(handle, size)
    walker = _Walker(blocks, Texts(blocks), older)
    walker.visit_all(*read_superblock(blocks, older))
    blocks.check_overlaps()
    blocks.check_sums()
    walker.check_pointers()
    return walker.found


class _Walker:
    def __init__(self, blocks: Blocks, texts: Texts, older: bool) -> None:
        self._blocks, self._texts, self._older = blocks, texts, older
        self._objects: set[int] = set()
        self._pointers: list[tuple[int, str]] = []
        self._datasets: set[int] = set()
        self.found = Structure()

    def visit_all(self, root: int, repeated: Cached) -> None:
        """Visit the root group and everything below it."""
        waiting = [(root, "", repeated)]
        while waiting:
            address, name, repeated = waiting.pop()
            if address in self._objects or len(self._objects) >= _MOST_OBJECTS:
                raise CorruptError(f"{name!r} is a second name of something, or one of over {_MOST_OBJECTS:,} names")
            self._objects.add(address)
            header = self._header(address, name or "the root group")
            found = self._dense(header.attributes, header.dense_attributes, 8, f"{name} attributes")
            found.sort(key=lambda pair: pair[0])
            attributes = self._attributes([read.read_attribute(data) for _, data in found], header.shape, name)
            if not name and "_nc3_strict" in attributes:
                raise OtherFormatError(CLASSIC)
            if not name:
                self.found.attributes = attributes
            links = self._links(header, name, repeated)
            waiting += [(target, f"{name}/{link}".lstrip("/"), cached) for link, target, cached in links]
            if header.layout is not None:
                self._datasets.add(address)
                self.found[name] = replace(
                    self._dataset(header, name), address=address, attributes=attributes, limits=header.limits
                )

    def _links(self, header: read.Header, name: str, repeated: Cached) -> list[tuple[str, int, Cached]]:
        """Return the names of a group, where they lead, and what is repeated of each: the last that was made first."""
        made = self._dense(header.links, header.dense_links, 7, f"{name} names")
        links = [(link, target, NOT_REPEATED) for _, link, target in sorted(read.read_link(data) for _, data in made)]
        if self._older:
            old.check_cached(*repeated, header.symbol_table, f"the entry of {name or 'the root group'!r}")
            links += old.links(self._blocks, header.symbol_table, repr(name)) if header.symbol_table else ()
        return links[::-1]

    def check_pointers(self) -> None:
        """Check that pointers to objects (of a variable to its dimensions) lead to objects."""
        for address, what in self._pointers:
            if address not in self._datasets:
                raise CorruptError(f"{what} points to something that is not a dimension in the file")

    # ---- object headers ----------------------------------------------------------------------------------------

    def _header(self, address: int, what: str) -> read.Header:
        header, seen = read.Header(), set()
        for kind, made, cursor in self._messages(address, f"the header of {what}"):
            if kind in seen and kind not in _REPEATED:
                raise CorruptError(f"the header of {what} says something twice (kind {kind}), so readers may differ")
            seen.add(kind)
            if kind == 1:
                header.shape, header.limits = read.read_extent(cursor)
            elif kind == 2:
                header.dense_links = read.read_pointers(cursor, 8)
            elif kind == 3:
                header.dtype = read.read_type(cursor)
            elif kind == 5:
                header.fill = read.read_fill(cursor)
            elif kind == 6:
                header.links.append((made, cursor.take(cursor.left)))
            elif kind == 8:
                header.layout = read.read_layout(cursor)
            elif kind == 0xB:
                header.filters = read.read_filters(cursor)
            elif kind == 0xC:
                header.attributes.append((made, cursor.take(cursor.left)))
            elif kind == old.SYMBOL_TABLE:
                header.symbol_table = cursor.uint(8), cursor.uint(8)
            elif kind == 0x15:
                header.dense_attributes = read.read_pointers(cursor, 2)
        return header

    def _messages(self, address: int, what: str) -> Iterator[tuple[int, int, Cursor]]:
        """Yield kind, order and content of each message of an object header, through all its continuations."""
        if self._older and self._blocks.peek(address, 1) == old.FIRST_BYTE:
            yield from ((kind, 0, content) for kind, content in old.messages(self._blocks, address, what))
            return
        prefix = Cursor(self._blocks.peek(address, 34), what)
        prefix.expect(b"OHDR", 2)
        flags = prefix.uint(1)
        prefix.take((16 if flags & 32 else 0) + (4 if flags & 16 else 0))
        size = prefix.uint(1 << (flags & 3))
        first = self._blocks.read_summed(address, prefix.at + size + 4, what)
        first.take(prefix.at)
        waiting = [first]
        for visited, cursor in enumerate(waiting):
            if visited > _MOST_CONTINUATIONS:
                raise CorruptError(f"{what} goes on without an end")
            head = 6 if flags & 4 else 4
            while cursor.left - 4 >= head:  # a checksum of 4 bytes ends each block
                kind, length, shared = cursor.uints(1, 2, 1)
                made = cursor.uint(head - 4)
                if kind == 7:
                    raise CorruptError(read.ELSEWHERE)
                if length > cursor.left - 4 or kind not in _KNOWN or (shared & 2 and kind):
                    raise CorruptError(f"{what} holds a message (kind {kind}) that trajectories do not have")
                content = Cursor(cursor.take(length), what)
                if kind == 0x10:
                    waiting.append(self._continuation(content, what))
                else:
                    yield kind, made, content

    def _continuation(self, content: Cursor, what: str) -> Cursor:
        address, length = content.uints(8, 8)
        cursor = self._blocks.read_summed(address, length, what)
        if cursor.take(4) != b"OCHK":
            raise CorruptError(f"{what} does not go on where it says")
        return cursor

    def _dense(
        self, direct: list[tuple[int, bytes]], addresses: list[int], key: int, what: str
    ) -> list[tuple[int, bytes]]:
        """Return, with their order, what a header holds itself and what it keeps in a heap, which all indexes name."""
        if not addresses:
            return direct
        heap_address, *indexes = addresses
        heap = FractalHeap(self._blocks, heap_address, what)
        found = [list(records(self._blocks, index, what)) for index in indexes]
        named = [[_heap_id(record, key) for record in index] for index in found]
        if not named or any(sorted(keys) != sorted(set(named[0])) for keys in named):
            raise CorruptError(f"the indexes of {what} disagree")
        made = [int.from_bytes(record[9:13], "little") for record in found[0]]  # of attributes; links say it themselves
        return direct + [(order, heap.get(identity)) for order, identity in zip(made, named[0], strict=True)]

    def _attributes(
        self, found: list[read.Attribute], shape: tuple[int, ...] | None, owner: str
    ) -> dict[str, read.Attribute]:
        named = {attribute.name: attribute for attribute in found}
        if len(named) < len(found) or len(found) > _MOST_ATTRIBUTES:
            raise CorruptError(f"{owner or 'the root group'!r} has two attributes of one name, or too many")
        for attribute in found:
            what = f"attribute {attribute.name!r} of {owner!r}"
            check_attribute(attribute, len(shape or ()), what)
            if attribute.dtype.kind == read.SEQUENCE:
                named[attribute.name] = replace(attribute, held=self._sequence(attribute, what))
        return named

    def _sequence(self, attribute: read.Attribute, what: str) -> tuple[bytes, ...]:
        held = self._texts.check(attribute.value, attribute.dtype.member, what)
        if attribute.dtype.holds == read.POINTER:
            if not all(len(pointers) == 8 for pointers in held):  # the library would follow one that is not there
                raise CorruptError(f"{what} does not point to one dimension each")
            self._pointers += [(target, what) for target in np.frombuffer(b"".join(held), "<u8").tolist()]
        return tuple(held)

    # ---- data --------------------------------------------------------------------------------------------------

    def _dataset(self, header: read.Header, name: str) -> Stored:
        if header.shape is None or header.dtype is None or header.layout is None:
            raise CorruptError(f"{name!r} has no extent, no type or no layout")
        if header.dtype.kind not in (*read.NUMBERS, read.TEXT) and not header.dtype.text:
            raise CorruptError(f"{name!r} holds neither numbers nor text, so netCDF would not show it")
        layout, rank, size = header.layout, len(header.shape), header.dtype.size
        if header.fill and len(header.fill) != size:
            raise CorruptError(f"{name!r} is filled with a value of {len(header.fill)} bytes, and has {size} for each")
        stored = Stored(
            header.shape,
            header.dtype,
            layout.kind != "contiguous" or layout.address != UNDEFINED or 0 in header.shape,
            header.filters,
            header.shape,
            layout=layout.kind,
            fill=header.fill,
        )
        if layout.kind == "chunked":
            chunk = layout.chunk
            if len(chunk) != rank + 1 or 0 in chunk or chunk[-1] != size:
                raise CorruptError(f"{name!r} is cut into chunks {chunk[:-1]} that do not fit its shape {stored.shape}")
            index = ChunkIndex(self._blocks, stored.shape, chunk, stored.packed, name)
            complete = index.visit(layout.address)
            stored = replace(stored, complete=complete, chunk=chunk[:-1], ranges=index.ranges, index=layout.address)
            return replace(stored, texts=self._text(stored, name)) if stored.dtype.kind == read.SEQUENCE else stored
        if layout.size != stored.nbytes and (stored.complete or layout.kind == "compact"):
            raise CorruptError(f"{name!r} declares {stored.nbytes:,} bytes and stores {layout.size:,}")
        if layout.kind == "compact":
            return replace(stored, data=layout.data)
        if stored.complete and layout.size:
            self._blocks.claim(layout.address, layout.size, f"the data of {name!r}")
            stored = replace(stored, ranges={(0,) * rank: (layout.address, layout.address + layout.size)})
            return replace(stored, texts=self._text(stored, name)) if stored.dtype.kind == read.SEQUENCE else stored
        return stored

    def _text(self, stored: Stored, name: str) -> tuple[bytes, ...]:
        texts = math.prod(stored.shape)
        if stored.dtype.holds == read.POINTER or texts > MOST_TEXTS:
            raise CorruptError(f"{name!r} holds {texts:,} texts; at most {MOST_TEXTS:,} are read")
        held = self._texts.check(self._references(stored), stored.dtype.member, repr(name))
        longest = max(map(len, held), default=0)
        if stored.shape and longest > 4 * MOST_LETTERS:  # in a table, each takes as much memory as the longest
            raise CorruptError(f"{name!r} has a name of {longest:,} bytes; at most {MOST_LETTERS:,} letters are read")
        return tuple(held)

    def _references(self, stored: Stored) -> bytes:
        """Return where the texts of a variable lie, in their order; zeros where none was written."""
        found: Any = np.zeros(stored.shape, f"V{stored.dtype.size}")
        filters, size = tuple(step.number for step in stored.filters), math.prod(stored.chunk) * stored.dtype.size
        for place, (start, end) in stored.ranges.items():
            data = np.frombuffer(self._blocks.peek(start, end - start), np.uint8)
            if filters:
                data = np.ascontiguousarray(unpacked(data, filters, size, stored.dtype.size))
            target = found[(..., *(slice(n * c, (n + 1) * c) for n, c in zip(place, stored.chunk, strict=True)))]
            target[...] = data.view(found.dtype).reshape(stored.chunk)[tuple(map(slice, target.shape))]
        return bytes(found.tobytes())


def _heap_id(record: bytes, length: int) -> bytes:
    """Take the heap ID from an index record: behind a hash or an order for links, at the beginning for attributes."""
    return record[:length] if length == 8 else record[-length:]
