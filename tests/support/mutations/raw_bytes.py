"""Changes of bytes, wherever they are: bits, blocks, indexes of chunks, text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.support.mutations.common import Mutation, claims, file_of, is_data, metadata, mutated, touches_data


def flip_bit(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = file_of(rng, truths, folder)
    place = rng.randrange(len(data)) if rng.random() < 0.3 else metadata(rng, data)[0]
    spoilt = bytearray(data)
    spoilt[place] ^= 1 << rng.randrange(8)
    path.write_bytes(spoilt)
    return mutated(of, f"a bit of byte {place} of {of}", path, data_too=touches_data(data, place, place + 1))


def change_bytes(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = file_of(rng, truths, folder)
    place = rng.randrange(len(data)) if rng.random() < 0.3 else metadata(rng, data)[0]
    count = min(rng.choice([1, 2, 4, 8, 16, 64, 512]), len(data) - place)
    new = rng.choice(
        [
            bytes(count),
            b"\xff" * count,
            rng.randbytes(count),
            (rng.randrange(len(data))).to_bytes(count, "little") if count > 3 else b"\x01" * count,
        ]
    )
    path.write_bytes(data[:place] + new + data[place + count :])
    return mutated(of, f"{count} bytes at {place} of {of}", path, data_too=touches_data(data, place, place + count))


def cut_short(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = file_of(rng, truths, folder)
    stop = rng.choice([rng.randrange(len(data)), len(data) - rng.randrange(1, 64), rng.randrange(200)])
    path.write_bytes(data[:stop])
    return mutated(of, f"{of} cut after {stop} bytes", path, spoilt=True)


def move_bytes(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = file_of(rng, truths, folder)
    start, count = rng.randrange(len(data)), rng.choice([1, 7, 8, 64, 1000])
    if rng.random() < 0.5:
        path.write_bytes(data[:start] + rng.randbytes(count) + data[start:])
        return mutated(of, f"{count} bytes put in at {start} of {of}", path, data_too=True)
    path.write_bytes(data[:start] + data[start + count :])
    return mutated(of, f"{count} bytes taken out at {start} of {of}", path, data_too=True)


def swap_blocks(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = file_of(rng, truths, folder)
    blocks = [(a, n) for a, (n, what) in claims(data).items() if not is_data(what)]
    (a, n), (b, m) = rng.sample(blocks, 2)
    count = min(n, m)
    spoilt = bytearray(data)
    spoilt[a : a + count] = data[b : b + count]
    if rng.random() < 0.5:
        spoilt[b : b + count] = data[a : a + count]
    path.write_bytes(spoilt)
    return mutated(of, f"{count} bytes from {b} to {a} of {of}", path)


def change_index(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = file_of(rng, truths, folder)
    place, end = metadata(rng, data, "the chunk index")
    place, count = place & ~7, rng.choice([1, 2, 4, 8])
    count = min(count, end - place)
    other = rng.choice(list(claims(data)))
    new = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8), other.to_bytes(8, "little"), b"\x05" + bytes(7)])[:count]
    path.write_bytes(data[:place] + new + data[place + count :])
    # an address may now lead into free space beside its chunk: sums notice that, but those of a selection say nothing
    return mutated(of, f"{count} bytes at {place} of a chunk index of {of}", path, data_too=of == "selected")


def change_text(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = file_of(rng, truths, folder)
    place, end = metadata(rng, data, "the text")
    count = min(rng.choice([1, 2, 4, 8]), end - place)
    new = rng.choice([bytes(count), b"\xff" * count, rng.randbytes(count)])
    path.write_bytes(data[:place] + new + data[place + count :])
    return mutated(of, f"{count} bytes at {place} of the text of {of}", path)
