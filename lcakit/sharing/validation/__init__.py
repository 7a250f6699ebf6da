"""Is a file sound? Named checks of structure, content and conservation, gathered in a report.

Nothing here raises an error because of what a file holds: every finding is a check that says what was found, what it
means and what to do. All sums come from one pass over the data in blocks, so memory stays bounded whatever its size.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.errors import TrajectoryError, unknown
from lcakit.sharing.validation import conservation, content, path_pass, running, snapshots, structure
from lcakit.sharing.validation.checks import Check
from lcakit.storage.opening import open_trajectory
from lcakit.storage.paths import partial_path
from lcakit.text import printable
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["GROUPS", "MARKS", "Report", "validate"]


def __dir__() -> list[str]:
    return __all__


GROUPS = ("structure", "content", "conservation")
MARKS = {"pass": "ok", "warn": "WARN", "fail": "FAIL"}


@dataclass(frozen=True)
class Report:
    """What :func:`validate` found. ``ok`` says that no check failed; warnings do not count."""

    source: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True if no check failed."""
        return all(check.status != "fail" for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        """Return the check of that name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; this report has {', '.join(c.name for c in self.checks)}")

    def summary(self) -> str:
        """Return one line: the verdict and the numbers of passes, warnings and failures."""
        count = {status: sum(c.status == status for c in self.checks) for status in MARKS}
        verdict = "sound" if self.ok else "NOT SOUND"
        return f"{self.source}: {verdict} ({count['pass']} ok, {count['warn']} warned, {count['fail']} failed)"

    def to_text(self) -> str:
        """Return the report as text: a line per check, in groups, and below those that did not pass what to do."""
        return "\n".join([self.summary(), *self._lines()])

    def _lines(self) -> Iterator[str]:
        width = max((len(check.name) for check in self.checks), default=0)
        group = ""
        for check in self.checks:
            if check.group != group:
                yield f" {check.group}"
            group = check.group
            yield f"  {MARKS[check.status]:<4}  {check.name:<{width}}  {check.figure}"
            if check.status != "pass":
                yield f"        {check.told}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {"source": self.source, "ok": self.ok, "checks": [check.to_dict() for check in self.checks]}

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        """Return a table; everything that comes from the file is escaped."""
        rows = "".join(_html_row(check) for check in self.checks)
        head = "<tr><th></th><th>check</th><th>found</th><th>meaning</th></tr>"
        return f"<p><b>{html.escape(self.summary())}</b></p><table>{head}{rows}</table>"


def _html_row(check: Check) -> str:
    cells = (MARKS[check.status], check.name, check.figure, check.told)
    return "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


@checks_arguments
def validate(
    source: str | os.PathLike[str] | xr.Dataset, *, groups: Sequence[str] = GROUPS, quiet: bool = False
) -> Report:
    """Check a trajectory: its structure, its content, and that its allocations add up to its loss.

    Parameters
    ----------
    source
        A file, an unfinished recording, or an open dataset (of one run, or with a ``run`` dimension).
    groups
        Of ``structure`` (reads only labels and tables: milliseconds), ``content`` and ``conservation`` (one pass over
        the data together).
    quiet
        No progress bar.

    Returns
    -------
    Report
        Every check with its finding. Content and conservation are looked at where the structure allows.

    Raises
    ------
    TrajectoryError
        If a path cannot be opened as a trajectory at all.
    ValueError
        For an unknown group.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> validate(tiny_trajectory()).ok
    True
    """
    for group in groups:
        if group not in GROUPS:
            raise unknown("group of checks", group, GROUPS)
    if isinstance(source, xr.Dataset):
        return _report(source, str(source.encoding.get("source", "dataset")), groups, quiet)
    with open_trajectory(source, check=False) as ds:
        report = _report(ds, os.fspath(source), groups, quiet)
    if "content" in groups and ds.attrs.get("partial"):
        checksums = content.segment_check(partial_path(Path(source)))
        return Report(report.source, tuple(sorted((*report.checks, checksums), key=lambda c: GROUPS.index(c.group))))
    return report


def _report(ds: xr.Dataset, name: str, groups: Sequence[str], quiet: bool) -> Report:
    checks = list(structure.checks(ds))
    broken = [check.name for check in checks if check.status == "fail" and check.name in structure.ESSENTIAL]
    if broken and set(groups) != {"structure"}:
        figure = f"not looked at, because of: {', '.join(broken)}"
        meaning = "The numbers cannot be checked while the structure is broken."
        checks.append(
            Check("numbers", "content", "warn", figure, meaning, "Repair the structure, then validate again.")
        )
    elif set(groups) != {"structure"}:
        checks += _numbers(ds, quiet)
    return Report(name, tuple(check for check in checks if check.group in groups))


def _numbers(ds: xr.Dataset, quiet: bool) -> list[Check]:
    """Return the checks of content and conservation; where some data cannot be read, the one that says so."""
    try:
        return list(_judged(ds, quiet))
    except TrajectoryError as error:
        meaning = "Some of the data cannot be read, so none of it can be judged."
        return [Check("reading", "content", "fail", printable(error, 400), meaning, content.DAMAGED)]


def _judged(ds: xr.Dataset, quiet: bool) -> Iterator[Check]:
    """Yield the checks of content and conservation, from one pass over the data."""
    lazy = {suffix: conservation.sums(ds, suffix) for suffix in conservation.objectives(ds)}
    running_lazy = {suffix: running.sums(ds, suffix) for suffix in running.objectives(ds)}
    sums, moves, counted, probes = compute(lazy, path_pass.moves(ds), running_lazy, snapshots.probes(ds), quiet=quiet)
    yield from content.checks(ds, moves, sums)
    yield from snapshots.checks(ds, probes)
    if (rounding := conservation.rounding_check(ds)) is not None:
        yield rounding
    for suffix, values in sums.items():
        yield from conservation.checks(ds, suffix, values, moves)
    for suffix, values in counted.items():
        yield from running.checks(ds, suffix, values)
