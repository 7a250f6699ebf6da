"""Disks without room, without inodes, that cannot be written, and folders that go away: what work on them leaves.

``python -m tests.support.full_disk`` mounts small disks in memory (which takes the rights for it, as in a container),
and records, allocates, finishes, shares and saves on them until they end. Each must end with an error of lcakit that
names the file, what was whole must stay whole, and the same work must succeed once there is room.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask

import lcakit as lk
from lcakit.storage.segments import segment_paths
from lcakit.testing import tiny_trajectory
from tests.support.killed_work import loaded, same_numbers
from tests.support.networks import dense, examples
from tests.support.recordings import record

ROOM, NODES = 12 * 2**20, 10_000
LONG = tiny_trajectory(700)  # about 0.8 MB of numbers


@contextlib.contextmanager
def small_disk(room: int = ROOM, nodes: int = NODES) -> Iterator[Path]:
    """Give an empty disk of that many bytes and files; OSError where it cannot be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="lcakit-disk-"))
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={room},nr_inodes={nodes}", "tmpfs", str(folder))
        try:
            yield folder
        finally:
            _run("umount", "--lazy", str(folder))
    finally:
        folder.rmdir()


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None or subprocess.run(command, capture_output=True, check=False).returncode:
        raise OSError(f"cannot run {' '.join(command)}")


def fill(disk: Path) -> None:
    """Leave next to no room."""
    with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    (disk / "filling").open("r+b").truncate(max(0, (disk / "filling").stat().st_size - 40_000))


def use_nodes(disk: Path) -> None:
    """Leave room for no further file."""
    (disk / "files").mkdir()
    with contextlib.suppress(OSError):
        for number in range(10**6):
            (disk / "files" / str(number)).touch()


def read_only(disk: Path) -> None:
    """Let the disk be read only."""
    _run("mount", "-o", "remount,ro", str(disk))


def remove(disk: Path) -> None:
    """Put a file where the folder of the work was."""
    shutil.rmtree(disk / "work")
    (disk / "work").write_bytes(b"")


def make_room(disk: Path) -> None:
    """Undo any of these."""
    with contextlib.suppress(OSError):
        _run("mount", "-o", "remount,rw", str(disk))
    (disk / "filling").unlink(missing_ok=True)
    shutil.rmtree(disk / "files", ignore_errors=True)
    if (disk / "work").is_file():
        (disk / "work").unlink()


TROUBLES: dict[str, Callable[[Path], None]] = {
    "full": fill,
    "no inodes": use_nodes,
    "read only": read_only,
    "removed": remove,
}


def _record(folder: Path) -> Any:
    record(LONG, folder / "run.nc", block_rows=50).close()
    return lk.finish(folder / "run.nc")


def _allocate(folder: Path) -> Any:
    return lk.allocate(folder / "path.nc", lk.Objective(dense(), examples(), workers=1), name="val", quiet=True)


WORK: dict[str, Callable[[Path], Any]] = {
    "record": _record,
    "allocate": _allocate,
    "finish": lambda folder: lk.finish(folder / "begun.nc"),
    "share": lambda folder: lk.share(LONG, folder / "copy.nc", keepbits=23, overwrite=True),
    "save": lambda folder: lk.save(LONG, folder / "copy.nc", overwrite=True),
    "zarr": lambda folder: lk.save(LONG, folder / "copy.zarr", overwrite=True),
}


def begin(folder: Path) -> dict[str, Any]:
    """Write what is there before the trouble; return it."""
    folder.mkdir(parents=True)
    short = tiny_trajectory(20)
    theta = short["theta"].values[:, :53]
    lk.save(short, folder / "copy.nc")
    lk.save(short, folder / "copy.zarr")
    lk.save(lk.allocate(theta, lk.Objective(dense(), examples(), workers=1), quiet=True), folder / "path.nc")
    record(tiny_trajectory(250), folder / "begun.nc", block_rows=50).close()
    return {name: loaded(folder / name) for name in ("copy.nc", "copy.zarr", "path.nc", "begun.nc")}


def trial(disk: Path, work: str, trouble: str) -> str:
    """Do one kind of work in one kind of trouble; return what it said.

    Raises
    ------
    AssertionError
        If it did not end with an error that names a file of the work, lost what was whole, or cannot be done later.
    """
    folder = disk / "work"
    before = begin(folder)
    TROUBLES[trouble](disk)
    try:
        WORK[work](folder)
        said = ""
    except lk.LcakitError as error:
        said = str(error)
    assert said or trouble == "full", f"{work}, {trouble}: no error"
    assert not said or str(folder) in said, f"{work}, {trouble}: the error names no file: {said}"
    if trouble != "removed" and said:
        for name, ds in before.items():
            same_numbers(loaded(folder / name), ds)
    make_room(disk)
    if trouble == "removed":
        begin(folder)
    if work == "record" and (folder / "run.nc.partial").exists():
        _finished_or_none(folder / "run.nc")
        shutil.rmtree(folder / "run.nc.partial", ignore_errors=True)
    if said or trouble == "removed":
        WORK[work](folder)
    left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert not left, f"{work}, {trouble}: left {left}"
    return said


def _finished_or_none(path: Path) -> None:
    """The blocks that were written hold the first rows; there may be none."""
    partial = path.with_name(path.name + ".partial")
    if (partial / "header.nc").exists() and segment_paths(partial):
        same_numbers(loaded(path), LONG, rows=True)


def main() -> int:
    """Run the command line."""
    warnings.simplefilter("ignore")
    dask.config.set(scheduler="synchronous")
    failed = 0
    for work in WORK:
        for trouble in TROUBLES:
            try:
                with small_disk() as disk:
                    print(f"{work:9} {trouble:10} {trial(disk, work, trouble)[:120] or 'fitted'}", flush=True)
            except Exception as error:  # noqa: BLE001  a foreign one is what is looked for
                failed += 1
                print(f"FAILED    {work}, {trouble}: {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
