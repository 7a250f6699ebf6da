"""Checksums of the structures of HDF5 files: no changed byte of a name, a shape or a type may pass for another."""

from __future__ import annotations

import struct

__all__ = ["lookup3"]


def __dir__() -> list[str]:
    return __all__


_ALL = 0xFFFFFFFF
_BLOCK = struct.Struct("<3I")


def lookup3(data: bytes) -> int:
    """Return the checksum that HDF5 keeps behind its structures: Bob Jenkins' hash "lookup3" with the initial value 0.

    Examples
    --------
    >>> hex(lookup3(b"Four score and seven years ago"))
    '0x17770551'
    """
    a = b = c = 0xDEADBEEF + len(data) & _ALL
    if not data:
        return c
    last = (len(data) - 1) // 12 * 12  # of 1 to 12 bytes
    for x, y, z in _BLOCK.iter_unpack(data[:last]):
        a, b, c = a + x & _ALL, b + y & _ALL, c + z & _ALL
        a = a - c & _ALL ^ (c << 4 & _ALL | c >> 28)
        c = c + b & _ALL
        b = b - a & _ALL ^ (a << 6 & _ALL | a >> 26)
        a = a + c & _ALL
        c = c - b & _ALL ^ (b << 8 & _ALL | b >> 24)
        b = b + a & _ALL
        a = a - c & _ALL ^ (c << 16 & _ALL | c >> 16)
        c = c + b & _ALL
        b = b - a & _ALL ^ (a << 19 & _ALL | a >> 13)
        a = a + c & _ALL
        c = c - b & _ALL ^ (b << 4 & _ALL | b >> 28)
        b = b + a & _ALL
    x, y, z = _BLOCK.unpack(data[last:].ljust(12, b"\0"))
    a, b, c = a + x & _ALL, b + y & _ALL, c + z & _ALL
    c = (c ^ b) - _turned(b, 14) & _ALL
    a = (a ^ c) - _turned(c, 11) & _ALL
    b = (b ^ a) - _turned(a, 25) & _ALL
    c = (c ^ b) - _turned(b, 16) & _ALL
    a = (a ^ c) - _turned(c, 4) & _ALL
    b = (b ^ a) - _turned(a, 14) & _ALL
    found: int = (c ^ b) - _turned(b, 24) & _ALL
    return found


def _turned(number: int, bits: int) -> int:
    """Rotate 32 bits to the left."""
    return number << bits & _ALL | number >> 32 - bits
