"""The beginning of an HDF5 file: what it is, how long it should be, and where its root group lies."""

from __future__ import annotations

from lcakit.storage.guard.blocks import UNDEFINED, Blocks, CorruptError, OtherFormatError
from lcakit.storage.guard.formats import other_format

__all__ = ["NOT_REPEATED", "Cached", "read_superblock"]


def __dir__() -> list[str]:
    return __all__


_SIGNATURE = b"\x89HDF\r\n\x1a\n"

Cached = tuple[int, bytes]
"""A kind and what is repeated of a group outside its header."""

NOT_REPEATED: Cached = (0, bytes(16))


def read_superblock(blocks: Blocks, older: bool) -> tuple[int, Cached]:
    """Check the superblock; return the address of the root group's header, and what is repeated of it."""
    begin = blocks.peek(0, 8) if blocks.size else b""
    if blocks.size < 48 or begin != _SIGNATURE:
        begun = "it does not begin like a netCDF-4 (HDF5) file"
        if found := other_format(begin):
            raise OtherFormatError(f"{begun}: {found}")
        raise CorruptError(begun if blocks.size else f"{begun}: it is empty (0 bytes)")
    version, repeated = blocks.peek(8, 1)[0], NOT_REPEATED
    if version in (2, 3):
        cursor = blocks.read_summed(0, 48, "the superblock")
        cursor.take(9)
        offsets, lengths, _, base, extension, end, root = cursor.uints(1, 1, 1, 8, 8, 8, 8)
        hidden = extension != UNDEFINED
    elif version in (0, 1):
        cursor = blocks.read(0, 96 + 4 * version, "the superblock")
        offsets, lengths = cursor.take(15)[13:]
        cursor.take(9 + 4 * version)
        base, _, end, driver, _, root, cached = cursor.uints(8, 8, 8, 8, 8, 8, 4)
        hidden = driver != UNDEFINED or (cached != 0 and not older)
        repeated = (cached, cursor.take(20)[4:])
    else:
        raise CorruptError(f"its superblock has version {version}, which lcakit does not know")
    if (offsets, lengths, base) != (8, 8, 0) or hidden:
        raise CorruptError(
            "its addresses do not have 8 bytes, or do not count from its beginning, or are kept elsewhere"
        )
    if end > blocks.size:
        raise CorruptError(f"it was cut short: it says it has {end:,} bytes, and has {blocks.size:,}")
    return root, repeated
