"""Servers that lie about a valid file, and registries that name it: what they send, and what is said of it."""

from __future__ import annotations

import functools
import hashlib
import random
from pathlib import Path
from typing import Any

from tests.support.mutations.common import Mutation, mutated
from tests.support.server import MODES, Server, serving

HEADERS: tuple[dict[str, str], ...] = (
    {"Content-Length": "10"},
    {"Content-Length": "99999999999999"},
    {"Content-Length": "-1"},
    {"Content-Length": "x"},
    {"Content-Range": "bytes 5-9/3"},
    {"Content-Range": "bytes 0-99999999999/99999999999"},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "br"},
    {"Transfer-Encoding": "chunked"},
    {"Location": "file:///etc/passwd"},
    {"Location": "/plain.nc"},
    {"ETag": "x" * 6000},
    {f"X-{number}": "y" * 500 for number in range(200)},
)
STATUSES = (200, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 410, 416, 429, 500, 503, 999)


class Address(str):
    """A URL that knows its last part, as paths do."""

    @property
    def name(self) -> str:
        return self.rpartition("/")[2]


@functools.cache
def _server(folder: Path) -> Server:
    """Start a server of a folder, which lives as long as this process; a client gives up on it soon."""
    from lcakit.storage import remote

    remote.TIMEOUT, remote.PATIENCE, remote.MOST_UNANNOUNCED = 0.5, 3, 2**24
    context = serving(folder)
    server = context.__enter__()
    server.context = context
    return server


def lie(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Serve a valid file or store in one of the ways of a bad server."""
    of = rng.choice(["plain", "packed", "store"])
    server = _server(truths[of].path.parent)
    server.requests.clear()
    server.sent, server.most, server.kept, server.odd = 0, 2**28, rng.randrange(1, 8), {}
    server.lie(rng.choice(["honest", *MODES]))
    if server.mode == "honest":
        server.odd = rng.choice(HEADERS) | ({"status": str(rng.choice(STATUSES))} if rng.random() < 0.5 else {})
    what = f"{of}: {server.mode} after {server.kept}, {str(server.odd)[:60]}"
    path: Any = Address(server.url(truths[of].path.name))
    return mutated(of, what, path, data_too=server.mode == "wrong")


def change_registry(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Write a registry of valid files with something changed in it."""
    server = _server(truths["plain"].path.parent)
    server.lie(rng.choice(["honest", "cut", "wrong", "whole", "silent", "failing", "redirecting"]))
    server.odd = {}
    path, file = folder / "registry.txt", truths["plain"].path
    hashed = hashlib.sha256(file.read_bytes()).hexdigest()
    words = ["plain.nc", rng.choice([server.url("plain.nc"), "plain.nc"]), hashed]
    (folder / "plain.nc").write_bytes(file.read_bytes())
    odd = ["../x", "/etc/passwd", "file:///etc/passwd", "", "\x1b[2J", "a" * 10**5, "0" * 64, "http://[::1", "s3://"]
    way = rng.randrange(6)
    if way == 0:
        words[rng.randrange(3)] = rng.choice(odd)
    elif way == 1:
        words = rng.sample(words, 3)
    elif way == 2:
        words *= 2
    text = " ".join(words).encode("utf-8", "surrogateescape") + b"\n"
    if way == 3:
        text *= rng.choice([2, 200_000])
    elif way == 4:
        place = rng.randrange(len(text))
        text = text[:place] + rng.randbytes(3) + text[place:]
    path.write_bytes(text)
    return mutated("plain", f"registry, way {way}, server {server.mode}", path)


def judge_registry(path: Path, original: Path) -> str:
    """Fetch all that a registry names; return an outcome."""
    from lcakit.errors import LcakitError
    from lcakit.sharing.fetching import fetch, read_registry

    cache = path.parent / "cache"
    try:
        found = [fetch(name, path, cache, timeout=0.5, quiet=True) for name in read_registry(path)]
    except LcakitError as error:
        named = path.name in str(error) or "plain.nc" in str(error) or "127.0.0.1" in str(error)
        return "refused" if named else f"refused without a name: {error}"
    if any(file.read_bytes() != original.read_bytes() for file in found):
        return "SILENT: another file was fetched"
    return "unchanged"
