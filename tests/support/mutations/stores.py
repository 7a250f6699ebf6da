"""Changes of a Zarr store: what its metadata declare, and what lies where its chunks should."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numcodecs

from tests.support.mutations.common import Mutation, Skip, mutated

NUMBERS = (0, 1, -1, 2, 7, 2**31, 10**9, 10**12, 2**62, 2**70, 1.5, None, "1", [], {}, True)


def _copy(truths: dict[str, Any], folder: Path) -> Path:
    path = folder / "mutated.zarr"
    shutil.copytree(truths["store"].path, path)
    return path


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inside = [place for key, inner in items for place in _leaves(inner, (*path, key))]
    return [*([path] if path else []), *inside]


def change_store_metadata(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Change, remove or double a value somewhere in the metadata."""
    path = _copy(truths, folder)
    file = path / "zarr.json"
    described = json.loads(file.read_text())
    place = rng.choice(_leaves(described))
    inner: Any = described
    for key in place[:-1]:
        inner = inner[key]
    old = inner[place[-1]]
    way = rng.randrange(5)
    if way == 0:
        del inner[place[-1]]
    elif way == 1 and isinstance(inner, list):
        inner.extend([old] * rng.choice([1, 5, 100_000]))
    elif way == 2 and isinstance(inner, dict):
        new = str(place[-1])
        inner[new[:-1] + chr(ord(new[-1]) ^ 1)] = inner.pop(new)
    elif isinstance(old, str):
        inner[place[-1]] = rng.choice([old[:-1] + chr(ord(old[-1:] or "a") ^ 1), "x" * 10**6, "", "gzip", "\x1b[2J", 3])
    else:
        inner[place[-1]] = rng.choice(NUMBERS)
    file.write_text(json.dumps(described))
    if ("attributes" in place or "dimension_names" in place) and way not in (0, 2):
        return mutated("store", f"{place} of zarr.json, way {way}", path, texts_too=True)
    return mutated("store", f"{place} of zarr.json, way {way}", path)


def change_store_file(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Put something else where a file of the store should be."""
    path = _copy(truths, folder)
    victim = rng.choice(sorted(p for p in path.rglob("*") if p.is_file()))
    data, name = victim.read_bytes(), str(victim.relative_to(path))
    way = rng.choice(
        ["pipe", "device", "link", "cut", "other", "bomb", "zstd", "gone", "long", "flip", "folder", "json"]
    )
    if way in ("pipe", "device", "link", "gone", "folder"):
        victim.unlink()
    if way == "pipe":
        os.mkfifo(victim)
    elif way in ("device", "link"):
        (folder / "elsewhere").write_bytes(data)
        victim.symlink_to("/dev/zero" if way == "device" else folder / "elsewhere")
    elif way == "folder":
        victim.mkdir()
    elif way == "json" and name.endswith("zarr.json"):
        victim.write_text(rng.choice(["[" * 10**5, "{" * 10, "1", '{"node_type": "group", "zarr_format": 3}', "\x00"]))
    elif way == "long":
        os.truncate(victim, 5 * 2**30)
    else:
        place = rng.randrange(max(1, len(data)))
        other = rng.choice(sorted(p for p in path.rglob("*") if p.is_file())).read_bytes()
        contents = {
            "cut": data[:place],
            "other": other,
            "bomb": gzip.compress(bytes(2**25)),
            "zstd": numcodecs.Zstd().encode(bytes(2**27)) if way == "zstd" else b"",
            "flip": data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] if data else b"",
        }
        if way not in contents or contents[way] == data:
            raise Skip
        victim.write_bytes(contents[way])
    return mutated("store", f"{name}: {way}", path, data_too="/c" in name and way in ("other", "flip"))
