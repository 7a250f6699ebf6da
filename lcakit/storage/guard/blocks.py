"""A file as blocks of bytes: every read is bounded, and no two things in the file may lie on the same bytes."""

from __future__ import annotations

from typing import BinaryIO

from lcakit.storage.guard.sums import lookup3

__all__ = ["UNDEFINED", "Blocks", "CorruptError", "Cursor", "OtherFormatError"]


def __dir__() -> list[str]:
    return __all__


UNDEFINED = 2**64 - 1
"""The address of what was never written."""

_MOST_METADATA = 256 * 2**20
_MOST_BLOCKS = 4_000_000
_MOST_SUMMED = 32 * 2**20  # a few seconds


class CorruptError(Exception):
    """What is wrong with a file, without its name: :func:`lcakit.storage.guard.check_file` adds that."""


class OtherFormatError(CorruptError):
    """A file that may be sound, but is not of the form that lcakit reads: the message says the way to one."""


class Cursor:
    """Takes little-endian numbers from bytes, and never more than there are."""

    __slots__ = ("_end", "_what", "at", "data")  # a file has thousands

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self._what = data, what
        self.at, self._end = 0, len(data)

    @property
    def left(self) -> int:
        """Number of bytes not taken yet."""
        return self._end - self.at

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        start = self.at
        if count > self._end - start:
            raise CorruptError(f"{self._what} ends too early")
        self.at = start + count
        return self.data[start : self.at]

    def uint(self, count: int) -> int:
        """Return the next unsigned integer of ``count`` bytes."""
        return int.from_bytes(self.take(count), "little")

    def uints(self, *counts: int) -> list[int]:
        """Return several unsigned integers."""
        return [self.uint(count) for count in counts]

    def expect(self, signature: bytes, *version: int) -> int:
        """Take a signature and a version byte; return the version."""
        if self.take(len(signature)) != signature:
            raise CorruptError(f"{self._what} does not begin with {signature.decode()}")
        found = self.uint(1)
        if found not in version:
            raise CorruptError(f"{self._what} has version {found}, expected {' or '.join(map(str, version))}")
        return found


class Blocks:
    """The bytes of a file; remembers what lies where."""

    def __init__(self, handle: BinaryIO, size: int) -> None:
        self._handle, self.size = handle, size
        self._claims: dict[int, tuple[int, str]] = {}
        self._metadata = self._summed = 0
        self._damaged: list[str] = []

    def peek(self, address: int, length: int) -> bytes:
        """Return bytes without claiming them; fewer at the end of the file."""
        if not 0 <= address < self.size:
            raise CorruptError(f"it was cut short, or points to byte {address:,} of {self.size:,}")
        self._handle.seek(address)
        return self._handle.read(min(length, self.size - address))

    def read(self, address: int, length: int, what: str) -> Cursor:
        """Claim a block of metadata and return a cursor at its beginning."""
        self.claim(address, length, what)
        self._metadata += length
        if self._metadata > _MOST_METADATA:
            raise CorruptError(f"its tables and attributes take more than {_MOST_METADATA // 2**20} MB")
        return Cursor(self.peek(address, length), what)

    def read_summed(self, address: int, length: int, what: str) -> Cursor:
        """Claim a block that ends with its checksum, which is compared, and return a cursor at its beginning."""
        cursor = self.read(address, length, what)
        self.compare(cursor.data, what)
        return cursor

    def compare(self, data: bytes, what: str) -> None:
        """Compare the checksum at the end of ``data`` with the bytes before it."""
        self._summed += len(data)
        if self._summed > _MOST_SUMMED:
            raise CorruptError(f"its tables and attributes take more than {_MOST_SUMMED // 2**20} MB")
        if lookup3(data[:-4]) != int.from_bytes(data[-4:], "little"):
            self._damaged.append(what)

    def check_sums(self) -> None:
        """Raise if a checksum was another one: last, since most other faults are told more exactly."""
        if self._damaged:
            raise CorruptError(f"the checksum of {self._damaged[0]} does not fit: bytes of it were changed")

    def claim(self, address: int, length: int, what: str) -> None:
        """Say that a block belongs to something."""
        if address < 0 or length < 0 or address + length > self.size:
            raise CorruptError(
                f"{what} should lie at bytes {address:,} to {address + length:,}, but the file has {self.size:,}"
            )
        if length and address in self._claims:
            raise CorruptError(f"{what} and {self._claims[address][1]} lie on the same bytes ({address:,})")
        if len(self._claims) >= _MOST_BLOCKS:
            raise CorruptError(f"it is cut into more than {_MOST_BLOCKS:,} blocks")
        if length:
            self._claims[address] = (length, what)

    def check_overlaps(self) -> None:
        """Raise if two claimed blocks share bytes."""
        end, last = 0, ""
        for address in sorted(self._claims):
            length, what = self._claims[address]
            if address < end:
                raise CorruptError(f"{last} and {what} lie on the same bytes ({address:,})")
            end, last = address + length, what
