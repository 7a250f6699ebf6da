"""Changes of the segments and the header of an unfinished recording."""

from __future__ import annotations

import io
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.mutations.common import Mutation, Skip, metadata, mutated


class Trap:
    """An object that leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def change_segment(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    path = folder / "mutated.nc.partial"
    shutil.copytree(truths["partial"].path, path)
    segment = rng.choice(sorted(path.glob("*.npz")))
    data = segment.read_bytes()
    place = rng.randrange(len(data))
    way = rng.randrange(7)
    if way == 0:
        segment.write_bytes(data[:place])
    elif way == 1:
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << rng.randrange(8)
        segment.write_bytes(spoilt)
    elif way == 2:
        count = rng.choice([4, 64, 1000])
        segment.write_bytes(data[:place] + rng.randbytes(count) + data[place + count :])
    elif way == 3:
        if segment == max(path.glob("*.npz")):
            raise Skip  # a recording that ended earlier is whole
        segment.unlink()
    elif way == 4:
        other = rng.choice([p for p in path.glob("*.npz") if p != segment])
        segment.write_bytes(other.read_bytes())
    elif way == 5:
        _with_member(segment, rng, folder)
    else:
        header = path / "header.nc"
        spoilt = bytearray(header.read_bytes())
        place = metadata(rng, bytes(spoilt))[0]
        spoilt[place] ^= 1 << rng.randrange(8)
        header.write_bytes(spoilt)
        return mutated("partial", f"header.nc: a bit of byte {place}", path)
    return mutated("partial", f"{segment.name}, way {way}, at {place}", path, spoilt=way in (0, 3, 4, 5), data_too=True)


def _with_member(segment: Path, rng: random.Random, folder: Path) -> None:
    """Put another array into a segment: pickled, of a huge shape, of another type, of an unknown name."""
    with np.load(segment) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(list(arrays))
    way = rng.randrange(4)
    if way == 0:
        arrays[name] = np.array([Trap(folder / "trapped")] * 3, object)
    elif way == 1:
        arrays[name] = arrays[name].astype("f2")
    elif way == 2:
        arrays["../evil"] = np.arange(3)
    np.savez(segment, **arrays)
    if way == 3:
        header = b"\x93NUMPY\x01\x00"
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**12}, 61), }}".encode()
        text += b" " * (-(len(header) + 2 + len(text) + 1) % 64) + b"\n"
        with zipfile.ZipFile(segment, "w") as archive:
            for key, values in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, values)
                archive.writestr(f"{key}.npy", buffer.getvalue())
            archive.writestr("theta_val.npy", header + len(text).to_bytes(2, "little") + text)


def trapped(folder: Path) -> bool:
    """Say whether something was unpickled."""
    return (folder / "trapped").exists()
