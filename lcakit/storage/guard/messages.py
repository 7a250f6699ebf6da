"""What an HDF5 object header says: extents, types, layouts, filters, attributes, links."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lcakit.storage.guard.blocks import UNDEFINED, CorruptError, Cursor, OtherFormatError

__all__ = [
    "COMPOUND",
    "ELSEWHERE",
    "NUMBERS",
    "POINTER",
    "SEQUENCE",
    "TEXT",
    "Attribute",
    "Filter",
    "Header",
    "Layout",
    "Type",
    "read_attribute",
    "read_extent",
    "read_fill",
    "read_filters",
    "read_layout",
    "read_link",
    "read_pointers",
    "read_type",
]


def __dir__() -> list[str]:
    return __all__


_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
_OTHERS = {4: "szip", 307: "bzip2", 32000: "lzf", 32001: "blosc", 32004: "lz4", 32013: "zfp", 32015: "zstd"}
NUMBERS, TEXT, COMPOUND, POINTER, SEQUENCE = (0, 1), 3, 6, 7, 9
_MOST_RANK = 32
ELSEWHERE = "some of its data should be read from other files; nothing in a file is used as a path"


@dataclass(frozen=True)
class Type:
    """A datatype: its class, bytes per element, and for sequences (text of any length) the bytes of one member."""

    kind: int
    size: int
    member: int = 0
    holds: int = -1
    """Class of a sequence's members."""

    text: bool = False
    """A sequence that is text."""

    number: str = ""
    """Of numbers, how NumPy calls them: ``"<f4"``."""


@dataclass(frozen=True)
class Filter:
    """A step of packing: its number, and its settings."""

    number: int
    settings: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How data is stored: its kind, address, size in bytes, the chunk shape with the size of an element, or itself."""

    kind: str
    address: int = 0
    size: int = 0
    chunk: tuple[int, ...] = ()
    data: bytes = b""


@dataclass
class Header:
    """The messages of one object that matter here."""

    shape: tuple[int, ...] | None = None
    dtype: Type | None = None
    layout: Layout | None = None
    fill: bytes = b""
    limits: tuple[int, ...] = ()
    filters: tuple[Filter, ...] = ()
    attributes: list[tuple[int, bytes]] = field(default_factory=list)
    links: list[tuple[int, bytes]] = field(default_factory=list)
    dense_attributes: list[int] = field(default_factory=list)  # addresses of the heap and of its indexes
    dense_links: list[int] = field(default_factory=list)
    symbol_table: tuple[int, int] | None = None


def read_extent(cursor: Cursor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Read a dataspace message: the shape, () for a scalar, (0,) for none at all; and how far it may grow, or ()."""
    version, rank, flags, kind = cursor.uints(1, 1, 1, 1)
    if version == 1:
        cursor.take(4)
    elif version != 2:
        raise CorruptError(f"an extent has version {version}")
    if rank > _MOST_RANK or flags & ~1 or (version == 2 and kind > 2):
        raise CorruptError(f"an extent is of an unknown kind (rank {rank})")
    shape = tuple(cursor.uint(8) for _ in range(rank))
    limits: tuple[int, ...] = ()
    if flags & 1:
        limits = tuple(cursor.uint(8) for _ in range(rank))
        if any(n > limit for n, limit in zip(shape, limits, strict=True)):
            raise CorruptError("an extent is larger than its own limit")
    return ((0,), ()) if version == 2 and kind == 2 else (shape, limits)


def read_type(cursor: Cursor, depth: int = 0) -> Type:
    """Read a datatype message."""
    head, size = cursor.uint(4), cursor.uint(4)
    kind, version = head & 15, (head >> 4) & 15
    if not 1 <= version <= 4 or not size or depth > 3:
        raise CorruptError("a type is not readable")
    if kind in NUMBERS:
        if size not in (1, 2, 4, 8):
            raise CorruptError(f"a number has {size} bytes")
        _check_number(cursor.take(4 if kind == 0 else 12), kind, size, head >> 8)
        return Type(kind, size, number=_number(kind, head >> 8, size))
    elif kind == SEQUENCE:
        member = read_type(cursor, depth + 1)
        if size != 16 or member.kind not in (*NUMBERS, TEXT, POINTER):
            raise CorruptError("a type of variable length is not readable")
        return Type(kind, size, member.size, member.kind, (head >> 8) & 15 == 1)
    elif kind == COMPOUND:
        _check_compound(cursor, version, size, (head >> 8) & 0xFFFF, depth)
    elif kind not in (TEXT, POINTER):
        raise CorruptError(f"a type of class {kind} does not occur in trajectories")
    return Type(kind, size)


def _check_number(properties: bytes, kind: int, size: int, bits: int) -> None:
    """Refuse numbers that do not fill their bytes, which would have to be converted bit by bit."""
    offset, precision = (int.from_bytes(properties[k : k + 2], "little") for k in (0, 2))
    if offset or precision != 8 * size:
        raise CorruptError(f"a number has {precision} bits in {size} bytes")
    if kind == 1 and size == 2:
        raise OtherFormatError(
            "it holds numbers of half precision, which netCDF does not have (its library would end the process). Write "
            'them as float32, with ds.astype("float32")'
        )
    ieee = {4: (23, 8, 0, 23), 8: (52, 11, 0, 52)}
    if kind == 1 and (tuple(properties[4:8]) != ieee.get(size) or bits & ~1 != (8 * size - 1) << 8 | _LEADING_BIT):
        raise CorruptError("a floating-point number is not that of IEEE")
    if kind == 0 and bits & ~_ORDER_AND_SIGN:
        raise CorruptError("a whole number is padded")


_ORDER_AND_SIGN, _LEADING_BIT = 0b1001, 0x20
"""Bits of a type: of whole numbers, whether the highest byte is first, and their sign; that a leading 1 is implied."""


def _number(kind: int, bits: int, size: int) -> str:
    order = ">" if bits & 1 else "<"
    return f"{order}{'f' if kind == 1 else 'i' if bits & 8 else 'u'}{size}"


def _check_compound(cursor: Cursor, version: int, size: int, members: int, depth: int) -> None:
    if not 1 <= members <= 16 or size > 1024:
        raise CorruptError(f"a compound type has {members} members")
    for _ in range(members):
        name = bytearray()
        while (letter := cursor.uint(1)) != 0:
            name.append(letter)
        if version < 3:
            cursor.take(-(len(name) + 1) % 8)
        offset = cursor.uint(4 if version < 3 else (size.bit_length() + 7) // 8)
        if version == 1:
            cursor.take(28)
        member = read_type(cursor, depth + 1)
        if member.kind == SEQUENCE or offset + member.size > size:
            raise CorruptError("a compound type has a member outside it")


def read_layout(cursor: Cursor) -> Layout:
    """Read a layout message."""
    version, kind = cursor.uints(1, 1)
    if version == 4 and kind == 3:
        raise CorruptError(ELSEWHERE)
    if version != 3:
        raise CorruptError(f"data is laid out in a way (version {version}) that lcakit does not check")
    if kind == 0:
        size = cursor.uint(2)
        return Layout("compact", size=size, data=cursor.take(size))
    if kind == 1:
        return Layout("contiguous", cursor.uint(8), cursor.uint(8))
    if kind == 2:
        rank = cursor.uint(1)
        address = cursor.uint(8)
        return Layout("chunked", address, chunk=tuple(cursor.uint(4) for _ in range(rank)))
    raise CorruptError(ELSEWHERE)


def read_fill(cursor: Cursor) -> bytes:
    """Read a message on what stands where nothing was written; nothing where it does not say."""
    version = cursor.uint(1)
    if version not in (1, 2, 3):
        raise CorruptError(f"a fill value has version {version}")
    defined = cursor.uint(1) & 32 if version == 3 else cursor.uints(1, 1, 1)[2]
    return cursor.take(cursor.uint(4)) if defined else b""


def read_filters(cursor: Cursor) -> tuple[Filter, ...]:
    """Read a filter message."""
    version, count = cursor.uints(1, 1)
    if version == 1:
        cursor.take(6)
    found = []
    for _ in range(count):
        number = cursor.uint(2)
        length = cursor.uint(2) if version == 1 or number >= 256 else 0
        values = cursor.uints(2, 2)[1]
        cursor.take(length + (-length % 8 if version == 1 else 0))
        settings = tuple(cursor.uint(4) for _ in range(values))
        if version == 1 and values % 2:
            cursor.take(4)
        if number not in _FILTERS:
            raise OtherFormatError(
                f"data is packed by filter {number}; known are {', '.join(_FILTERS.values())}. "
                f"{'That one is ' + _OTHERS[number] + '. ' if number in _OTHERS else ''}Unpack it where the filter is "
                "known: nccopy -F none old.nc new.nc"
            )
        found.append(Filter(number, settings))
    return tuple(found)


def read_link(data: bytes) -> tuple[int, str, int]:
    """Read a link message: when it was made, 0 where that is not noted, a name, and where it points in this file."""
    cursor = Cursor(data, "a name in the file")
    version, flags = cursor.uints(1, 1)
    kind = cursor.uint(1) if flags & 8 else 0
    if version != 1 or kind != 0:
        raise CorruptError("it points to another file or name (a soft or external link); such links are not followed")
    made = cursor.uint(8) if flags & 4 else 0
    cursor.take(1 if flags & 16 else 0)
    name = cursor.take(cursor.uint(1 << (flags & 3)))
    return made, name.decode("utf-8"), cursor.uint(8)


@dataclass(frozen=True)
class Attribute:
    """An attribute: its name, type, extent and bytes; where these are references to sequences, also what they hold."""

    name: str
    dtype: Type
    shape: tuple[int, ...]
    value: bytes
    held: tuple[bytes, ...] = ()


def read_attribute(data: bytes) -> Attribute:
    """Read an attribute message."""
    cursor = Cursor(data, "an attribute")
    version, flags = cursor.uints(1, 1)
    if version not in (1, 2, 3) or flags:
        raise CorruptError(f"an attribute has version {version}, or shares its type with others")
    sizes = cursor.uints(2, 2, 2)
    if version == 3:
        cursor.take(1)
    parts = []
    for size in sizes:
        parts.append(cursor.take(size))
        cursor.take(-size % 8 if version == 1 else 0)
    name = parts[0].split(b"\0")[0].decode("utf-8")
    dtype = read_type(Cursor(parts[1], f"the type of attribute {name!r}"))
    shape, _ = read_extent(Cursor(parts[2], f"the extent of attribute {name!r}"))
    return Attribute(name, dtype, shape, cursor.take(math.prod(shape) * dtype.size))


def read_pointers(cursor: Cursor, count_bytes: int) -> list[int]:
    """Read a link-info or attribute-info message: addresses of a heap and its indexes; none where all is in place."""
    version, flags = cursor.uints(1, 1)
    if version != 0:
        raise CorruptError("an index has an unknown version")
    cursor.take(count_bytes if flags & 1 else 0)
    heap, *indexes = [cursor.uint(8) for _ in range(3 if flags & 2 else 2)]
    return [] if heap == UNDEFINED else [heap, *(index for index in indexes if index != UNDEFINED)]
