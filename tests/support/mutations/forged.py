"""Forged structures: blocks that were changed and have the right checksum all the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.support.mutations.common import Mutation, Skip, claims, file_of, is_data, mutated


def lookup3(data: bytes) -> int:
    """Return HDF5's checksum of metadata (Jenkins' lookup3)."""
    mask = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(data)) & mask

    def rotated(x: int, k: int) -> int:
        return ((x << k) | (x >> (32 - k))) & mask

    words = data + bytes(-len(data) % 12)
    for k in range(0, max(len(words), 12), 12):
        part = words[k : k + 12].ljust(12, b"\0")
        if k == 0 and not data:
            return c
        a = (a + int.from_bytes(part[:4], "little")) & mask
        b = (b + int.from_bytes(part[4:8], "little")) & mask
        c = (c + int.from_bytes(part[8:], "little")) & mask
        if k + 12 < len(data):
            for shift_a, shift_b, shift_c in ((4, 6, 8), (16, 19, 4)):
                a, c = (a - c) & mask ^ rotated(c, shift_a), (c + b) & mask
                b, a = (b - a) & mask ^ rotated(a, shift_b), (a + c) & mask
                c, b = (c - b) & mask ^ rotated(b, shift_c), (b + a) & mask
    for x, shift in (("c", 14), ("a", 11), ("b", 25), ("c", 16), ("a", 4), ("b", 14), ("c", 24)):
        if x == "c":
            c = ((c ^ b) - rotated(b, shift)) & mask
        elif x == "a":
            a = ((a ^ c) - rotated(c, shift)) & mask
        else:
            b = ((b ^ a) - rotated(a, shift)) & mask
    return c


def _checksum_place(block: bytes) -> tuple[int, int] | None:
    """Return where a block keeps its checksum, and how many bytes it is of; None if it has none."""
    if block[:4] == b"FHDB":
        for place in range(13, 24):
            blank = block[:place] + bytes(4) + block[place + 4 :]
            if lookup3(blank) == int.from_bytes(block[place : place + 4], "little"):
                return place, len(block)
    if block[:4] in (b"BTLF", b"BTIN"):
        for place in range(6, len(block) - 3):
            if block[place : place + 4] != bytes(4) and lookup3(block[:place]) == int.from_bytes(
                block[place : place + 4], "little"
            ):
                return place, place
        return None
    place = len(block) - 4
    return (place, place) if lookup3(block[:place]) == int.from_bytes(block[place:], "little") else None


def sealed(block: bytes, place: int, length: int) -> bytes:
    """Return a block with the right checksum."""
    blank = block[:place] + bytes(4) + block[place + 4 :] if length > place else block
    return block[:place] + lookup3(blank[:length]).to_bytes(4, "little") + block[place + 4 :]


def forge_block(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = file_of(rng, truths, folder)
    blocks = [(a, n) for a, (n, what) in claims(data).items() if not is_data(what) and n < 5000]
    address, length = rng.choice(blocks)
    block = data[address : address + length]
    where = _checksum_place(block)
    if where is None:
        raise Skip
    spoilt = bytearray(block)
    for _ in range(rng.choice([1, 1, 2, 3])):
        place, count = rng.randrange(4, where[0] if where[0] > 30 else length), rng.choice([1, 1, 2, 4, 8])
        count = min(count, length - place)
        spoilt[place : place + count] = rng.choice(
            [bytes(count), b"\xff" * count, rng.randbytes(count), b"\x01" + bytes(count - 1)]
        )
    path.write_bytes(data[:address] + sealed(bytes(spoilt), *where) + data[address + length :])
    return mutated(of, f"block at {address} of {of} ({block[:4]!r}), sealed", path)


def forge_sizes(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Declare other sizes in a header: find 8-byte numbers that are sizes, and change them."""
    of, data, path = file_of(rng, truths, folder)
    sizes = [n for n in truths[of].data.sizes.values() if n > 3]
    wanted = rng.choice(sizes)
    headers = [(a, n) for a, (n, what) in claims(data).items() if what.startswith("the header")]
    rng.shuffle(headers)
    for address, length in headers:
        block = data[address : address + length]
        place, where = block.find(wanted.to_bytes(8, "little")), _checksum_place(block)
        if place > 0 and where is not None:
            new = rng.choice([wanted + 1, wanted - 1, 2**31, 2**40, 2**62, 2**64 - 1, 10**9, 0])
            spoilt = block[:place] + new.to_bytes(8, "little") + block[place + 8 :]
            path.write_bytes(data[:address] + sealed(spoilt, *where) + data[address + length :])
            return mutated(of, f"{wanted} declared as {new} in the header at {address} of {of}", path)
    raise Skip
