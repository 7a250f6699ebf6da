"""One Zarr store, written by the workers of a Dask cluster.

The client writes the metadata of every array to the temporary folder. Each task then reads one window, which is made of
whole chunks, and writes it: no two tasks touch one chunk, and a task that runs twice writes the same twice. Only when
all chunks are there does the folder get its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dask.base
from distributed import Client, get_worker
from distributed.protocol.pickle import dumps, loads

from lcakit.errors import LcakitError, RecordingError
from lcakit.packages import package
from lcakit.storage.workers import results, wait_for_worker

if TYPE_CHECKING:  # zarr is imported late: a worker without it must be able to say so
    from lcakit.storage.zarr_store import Piece

__all__ = ["check_workers", "write_pieces"]


def __dir__() -> list[str]:
    return __all__


_UNFINISHED = "*.partial"
"""Files of chunks whose writer was killed."""


def check_workers(client: Client) -> None:
    """Ask all workers for what writing a Zarr store needs.

    Raises
    ------
    RecordingError
        If there is no worker, or one lacks a package; the message says which worker and what.
    """
    wait_for_worker(client)
    for worker, answer in client.run(_ready, on_error="return").items():
        if isinstance(answer, Exception):
            raise RecordingError(f"worker {worker} cannot write a Zarr store: {_message(answer)}") from answer


def write_pieces(client: Client, folder: Path, pieces: Iterable[Piece], done: Callable[[int], object]) -> None:
    """Have workers write pieces of the arrays in ``folder``; ``done`` gets the bytes of each.

    Pieces in this process's memory are written by it.

    Raises
    ------
    RecordingError
        If a worker does not see the folder or cannot read or write a piece, or a chunk that it wrote is not there.
    """
    folder, written = folder.absolute(), []
    with contextlib.closing(results(client, _write, _tasks(folder, pieces, done))) as answers:
        for worker, files, size in answers:
            written.append((worker, files))
            done(size)
    for worker, files in written:
        _check(worker, files)
    for rest in folder.rglob(_UNFINISHED):
        rest.unlink()


def _tasks(folder: Path, pieces: Iterable[Piece], done: Callable[[int], object]) -> Iterator[tuple[str, bytes]]:
    from lcakit.storage.zarr_store import write_piece

    for piece in pieces:
        if piece.block.chunks is None:
            done(write_piece(piece))
        else:
            yield str(folder), _packed(piece)


def _packed(piece: Piece) -> bytes:
    """Return a piece as bytes, with nothing of the graph but what it needs: the cluster must not take that apart."""
    (block,) = dask.base.optimize(piece.block)
    try:
        return bytes(dumps(piece._replace(block=block)))
    except Exception as error:  # whatever the objects in it raise
        raise RecordingError(
            f"{piece.stored.basename!r} cannot be sent to workers: {error}. Save it without a cluster, or open it from "
            "a file."
        ) from error


def _check(worker: str, files: Iterable[str]) -> None:
    for file in files:
        if not Path(file).is_file():
            raise RecordingError(
                f"worker {worker} wrote {file}, which this process does not see: they do not share that "
                "folder. Choose one that this process and all workers see under the same path."
            )


def _message(error: BaseException) -> str:
    return str(error) if isinstance(error, LcakitError) else f"{type(error).__name__}: {error}"


# ---- on the workers --------------------------------------------------------------------------------------------


def _ready() -> None:
    package("zarr", "writing a Zarr store")


def _write(folder: str, packed: bytes) -> tuple[str, list[str], int]:
    """Write a piece; return this worker's address, the files of the piece, and its bytes."""
    worker = get_worker().address
    try:
        _ready()
        from lcakit.storage.zarr_store import chunk_files, write_piece

        if not Path(folder).is_dir():
            raise RecordingError(
                f"it does not see {folder}. Choose a folder that this process and all workers see under the same path."
            )
        piece = loads(packed)
        # this is a task already: what it reads must not become tasks of the cluster
        size = write_piece(piece, scheduler="synchronous")
    except Exception as error:
        raise RecordingError(f"worker {worker} cannot write its part of a Zarr store: {_message(error)}") from error
    return worker, [str(Path(folder, file)) for file in chunk_files(piece)], size
