"""Unpacking the chunks of netCDF-4 files: deflate, shuffle, fletcher32. No lock is held, nothing grows too large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

zlib: Any
try:  # two to three times as fast, checksums more than ten times
    from isal import isal_zlib as zlib
except ImportError:  # it has wheels for the usual processors
    import zlib

__all__ = ["DEFLATE", "FLETCHER32", "SHUFFLE", "crc32", "fletcher32", "unpacked"]


def __dir__() -> list[str]:
    return __all__


DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # numbers of the HDF5 filters
crc32 = zlib.crc32


def unpacked(data: np.ndarray, filters: Sequence[int], size: int, itemsize: int) -> np.ndarray:
    """Return the bytes of a chunk, (size / itemsize, itemsize): a view where bytes of elements are stored apart.

    Parameters
    ----------
    data
        As stored, uint8.
    filters
        Numbers of the HDF5 filters, in the order in which they were applied.
    size
        Bytes of the chunk.

    Raises
    ------
    ValueError
        Where it is damaged, or has another size.
    """
    for number in reversed(filters[1:] if filters[:1] == (SHUFFLE,) else filters):
        if number == FLETCHER32:
            data = _summed(data)
        elif number == DEFLATE:
            data = np.frombuffer(_inflated(data, size + 4 * filters.count(FLETCHER32)), np.uint8)
        else:
            whole = data.size - data.size % itemsize  # a checksum may be behind it
            data = np.append(data[:whole].reshape(itemsize, -1).T, data[whole:])
    if data.size != size:
        raise ValueError(f"it has {data.size:,} bytes, not {size:,}")
    return data.reshape(itemsize, -1).T if filters[0] == SHUFFLE else data.reshape(-1, itemsize)


def _inflated(data: np.ndarray, most: int) -> bytes:
    inflate: Any = zlib.decompressobj()
    try:
        out: bytes = inflate.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(f"what is packed is damaged: {error}") from error
    if not inflate.eof:
        raise ValueError("what is packed does not end where it should")
    return out


def _summed(data: np.ndarray) -> np.ndarray:
    """Compare data with the checksum behind it, and return it without."""
    if data.size < 4:
        raise ValueError("it has no checksum")
    found, expected = fletcher32(data[:-4]), int.from_bytes(data[-4:].tobytes(), "little")
    if found != expected:
        raise ValueError(f"its checksum is {found:08x}, and should be {expected:08x}")
    return data[:-4]


def fletcher32(data: np.ndarray) -> int:
    """Return the checksum of bytes as HDF5 has it: over big-endian words of 16 bits, of which the last may be half.

    The low half is the sum of the words modulo 65 535, the high half that of the sums after each word.

    Examples
    --------
    >>> hex(fletcher32(np.frombuffer(b"abcde", np.uint8)))
    '0x4ff029c7'
    """
    words = np.zeros(-(-data.size // 2), ">u2")
    words.view(np.uint8)[: data.size] = data
    first = second = 0
    for start in range(0, words.size, _WORDS):
        part = words[start : start + _WORDS].astype(np.uint64)
        second += part.size * first + int(np.arange(part.size, 0, -1, dtype=np.uint64) @ part)
        first += int(part.sum())
    return _reduced(second) << 16 | _reduced(first)


_WORDS = 2**16


def _reduced(total: int) -> int:
    """Return a sum modulo 65 535 as carries added again and again give it: 0 only for 0."""
    return (total - 1) % 0xFFFF + 1 if total else 0
