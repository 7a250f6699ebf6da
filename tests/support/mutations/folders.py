"""Changes of a recording's folder: links, pipes and lying headers where segments should be."""

from __future__ import annotations

import os
import random
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

from tests.support.mutations.common import Mutation, mutated

DEEP = (b"(" * 3000, b"{'descr': " + b"[" * 3000, b"{'descr': '<f4', 'fortran_order': False, 'shape': (1" + b"0" * 3000)


def change_folder(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    path = folder / "mutated.nc.partial"
    shutil.copytree(truths["partial"].path, path)
    victim = rng.choice([p for p in sorted(path.iterdir()) if p.suffix in (".npz", ".nc")])
    way = rng.choice(["pipe", "device", "link", "folder", "twice", "deep", "many", "long", "packed"])
    if way in ("twice", "deep", "many", "packed") and victim.suffix == ".nc":
        victim = path / "000000.npz"
    if way in ("pipe", "device", "link", "folder"):
        data = victim.read_bytes()
        victim.unlink()
        (folder / "elsewhere").write_bytes(data)
    if way == "pipe":
        os.mkfifo(victim)
    elif way == "folder":
        victim.mkdir()
    elif way in ("device", "link"):
        victim.symlink_to("/dev/zero" if way == "device" else folder / "elsewhere")
    elif way == "long":
        os.truncate(victim, 3 * 2**30)
    else:
        _change_archive(victim, way, rng)
    return mutated("partial", f"{victim.name}: {way}", path, spoilt=way != "long")


def _change_archive(segment: Path, way: str, rng: random.Random) -> None:
    with zipfile.ZipFile(segment) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    name = rng.choice(sorted(members))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packing = zipfile.ZIP_DEFLATED if way == "packed" else zipfile.ZIP_STORED
        with zipfile.ZipFile(segment, "w", packing) as archive:
            for member, data in members.items():
                header = rng.choice(DEEP)
                lying = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
                archive.writestr(member, lying if way == "deep" and member == name else data)
            if way == "twice":
                archive.writestr(name, members[name])
            for number in range(30_000 if way == "many" else 0):
                archive.writestr(f"{number}.npy", b"")
