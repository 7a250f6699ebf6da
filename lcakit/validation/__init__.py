"""Is a file what it says? Named checks of structure, content and conservation, gathered in a report.

Nothing here raises because of what a file holds: every finding is a check that says what was found, what it means
and what to do. Sums are lazy reductions, so memory stays bounded whatever the size of the file.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from lcakit.store import open_trajectory
from lcakit.validation import conservation, structure
from lcakit.validation.checks import Check

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
        """Return the report as text: a line per check, and below those that did not pass what to do."""
        return "\n".join([self.summary(), *self._lines()])

    def _lines(self) -> Iterator[str]:
        width = max((len(check.name) for check in self.checks), default=0)
        for check in self.checks:
            yield f"  {MARKS[check.status]:<4}  {check.name:<{width}}  {check.figure}"
            if check.status != "pass":
                yield f"        {check.meaning} {check.remedy}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {"source": self.source, "ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        """Return a table; everything that comes from the file is escaped."""
        rows = "".join(_html_row(check) for check in self.checks)
        head = "<tr><th></th><th>check</th><th>found</th><th>meaning</th></tr>"
        return f"<p><b>{html.escape(self.summary())}</b></p><table>{head}{rows}</table>"


def _html_row(check: Check) -> str:
    told = check.meaning if check.status == "pass" else f"{check.meaning} {check.remedy}"
    cells = (MARKS[check.status], check.name, check.figure, told)
    return "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def validate(source: str | os.PathLike[str] | xr.Dataset) -> Report:
    """Check a trajectory: its structure, its content, and that its allocations add up to its loss.

    Parameters
    ----------
    source
        A file, an unfinished recording, or an open dataset (of one run, or with a ``run`` dimension).

    Returns
    -------
    Report
        Every check with its finding. Content and conservation are looked at where the structure allows.

    Raises
    ------
    TrajectoryError
        If a path cannot be opened as a trajectory at all.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> validate(tiny_trajectory()).ok
    True
    """
    if isinstance(source, xr.Dataset):
        return _report(source, str(source.encoding.get("source", "dataset")))
    with open_trajectory(Path(source)) as ds:
        return _report(ds, os.fspath(source))


def _report(ds: xr.Dataset, name: str) -> Report:
    checks = list(structure.checks(ds))
    broken = [check.name for check in checks if check.status == "fail" and check.name in structure.ESSENTIAL]
    if broken:
        figure = f"not looked at, because of: {', '.join(broken)}"
        meaning = "The numbers cannot be judged while the structure is broken."
        checks.append(Check("numbers", "content", "warn", figure, meaning, "Mend the structure, then validate again."))
        return Report(name, tuple(checks))
    return Report(name, (*checks, *conservation.checks(ds)))
