"""What is there when a recording begins: a file that is refused, an unfinished one that is cleared or continued."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcakit.errors import RecordingError
from lcakit.record.allocation.continuing import check_continued, refuse_other_settings
from lcakit.storage import opening, segments
from lcakit.storage.atomic import Lock, writable_parent
from lcakit.storage.paths import allocation_partial
from lcakit.trajectory import provenance


def found_state(
    path: Path,
    partial: Path,
    *,
    resume: bool,
    overwrite: bool,
    later: bool,
    attrs: dict[str, Any],
    config: Mapping[str, Any],
) -> bytes | None:
    """Refuse or clear what is there; return the state of the loop to go on from, None to begin anew.

    Parameters
    ----------
    path, partial
        The file, and the folder of its unfinished recording.
    resume, overwrite
        As for :class:`lcakit.Recorder`.
    later
        The recording holds no allocation yet.
    attrs, config
        Settings that a recording to continue must have.

    Raises
    ------
    RecordingError
        For what is there without ``resume`` or ``overwrite``, or begun with other settings.
    """
    writable_parent(path)
    if overwrite:
        _clear(path, partial)
        return None
    if path.exists():
        raise RecordingError(_why_finished(path, resume, later))
    if not partial.is_dir():
        return None
    if not resume:
        raise RecordingError(
            f"{partial} holds an unfinished recording. Pass resume=True to continue it, or overwrite=True to replace "
            "it."
        )
    if (partial / segments.HEADER).exists():
        header = segments.read_header(partial)
        check_continued(header.attrs, attrs, partial)
        refuse_other_settings(provenance.config_of(header), dict(config), partial)
    with Lock(partial):
        state = segments.go_back_to_state(partial)
    if state is None:  # killed before the first block was whole: begin anew
        segments.remove(partial)
    return state


def _clear(path: Path, partial: Path) -> None:
    further = path.parent.glob(f"{glob.escape(path.name)}.*.allocation.partial")
    for old in (partial, allocation_partial(path), *further):
        if old.is_dir():
            Lock(old).release()  # raises while another recorder writes it
            segments.remove(old)
    path.unlink(missing_ok=True)


def _why_finished(path: Path, resume: bool, later: bool) -> str:
    if not resume:
        return f"{path} exists already. Choose another name, or pass overwrite=True to replace it."
    if later and "lca" not in opening.open_trajectory(path):
        return (
            f"{path} holds the whole training already, but no allocation. Continue that with "
            "lk.allocate(path, objective), or lcakit allocate."
        )
    return f"{path} is finished, there is nothing to resume. overwrite=True would replace it."
