"""What is there when a recording begins: a file is refused, an unfinished recording replaced or continued."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcakit.errors import RecordingError
from lcakit.record.allocation.continuing import check_continued, refuse_other_settings
from lcakit.storage import continuing, opening, segments
from lcakit.storage.atomic import Lock, writable_parent
from lcakit.storage.paths import allocation_partial, partial_path
from lcakit.trajectory import provenance

__all__ = ["clear", "refuse_existing", "resumed_state"]


def __dir__() -> list[str]:
    return __all__


def refuse_existing(path: Path, *, resume: bool, overwrite: bool, later: bool) -> None:
    """Refuse a place that cannot be written, or where something is that may be neither continued nor replaced.

    Parameters
    ----------
    path
        The file that is to be written.
    resume, overwrite
        As for :class:`lcakit.Recorder`.
    later
        Loss changes are allocated after training.

    Raises
    ------
    RecordingError
        The message says what is there, and what to do.
    """
    writable_parent(path)
    partial = partial_path(path)
    if overwrite:
        for old in _unfinished(path):
            Lock(old).release()  # raises while another recorder writes it
    elif path.exists():
        raise RecordingError(_why_finished(path, resume, later))
    elif partial.is_dir() and not resume:
        raise RecordingError(
            f"{partial} holds an unfinished recording. Pass resume=True to continue it, or overwrite=True to replace "
            "it."
        )


def resumed_state(partial: Path, attrs: dict[str, Any], config: Mapping[str, Any], kept: bool) -> bytes | None:
    """Return the state of the loop to go on from; None to begin anew.

    Parameters
    ----------
    partial
        The folder of the unfinished recording, there or not.
    attrs, config
        Settings that it must have been begun with.
    kept
        Whether this loop's state can be saved and put back.

    Raises
    ------
    RecordingError
        If it was begun with other settings, or is being written.
    """
    if not partial.is_dir():
        return None
    if (partial / segments.HEADER).exists():
        header = segments.read_header(partial)
        check_continued(header.attrs, attrs, partial)
        refuse_other_settings(provenance.config_of(header), dict(config), partial)
    if not kept and segments.has_rows(partial):
        raise RecordingError(
            f"{partial} cannot be continued, since the state of this loop cannot be saved and put back. Make it a file "
            "with lk.finish, or replace it with overwrite=True."
        )
    with Lock(partial):
        state = None if segments.is_rest(partial) else continuing.go_back_to_state(partial)
    if state is None:  # killed before the first block was whole: begin anew
        segments.remove(partial)
    return state


def clear(path: Path) -> None:
    """Remove a file, its unfinished recording, and unfinished allocations of it."""
    for old in _unfinished(path):
        Lock(old).release()
        segments.remove(old)
    path.unlink(missing_ok=True)


def _unfinished(path: Path) -> list[Path]:
    further = path.parent.glob(f"{glob.escape(path.name)}.*.allocation.partial")
    return [old for old in (partial_path(path), allocation_partial(path), *further) if old.is_dir()]


def _why_finished(path: Path, resume: bool, later: bool) -> str:
    if not resume:
        return f"{path} exists already. Choose another name, or pass overwrite=True to replace it."
    if later and "lca" not in opening.open_trajectory(path):
        return (
            f"{path} holds the whole training already, but no allocation. Continue that with "
            "lk.allocate(path, objective), or lcakit allocate."
        )
    return f"{path} is finished, there is nothing to resume. overwrite=True would replace it."
