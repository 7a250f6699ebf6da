"""``lk.report``: everything known about a trajectory, on one page that opens anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.account import NO_LCA, Account, account
from lcakit.errors import TrajectoryError
from lcakit.sharing.describe import describe
from lcakit.sharing.validation import Report, validate
from lcakit.storage.atomic import written
from lcakit.storage.opening import open_trajectory
from lcakit.storage.paths import writable_now, writable_path
from lcakit.text import printable
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.class_kind import class_kind
from lcakit.trajectory.schema import creator, now, split_name
from lcakit.trajectory.select import with_class_dimension
from lcakit.views.report import findings, noise, over_time, page, tables, units
from lcakit.views.report.beside import by_configuration, section
from lcakit.views.report.context import MOST_CHOICES, Section, Subject, chosen, get, kernel_layers
from lcakit.views.report.drawing import draw

__all__ = ["MOST_RUNS", "report"]


def __dir__() -> list[str]:
    return __all__


_Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | xr.Dataset
_APART = "Each has its own findings and figures; means and intervals are over the runs of one."
MOST_RUNS = 12
"""Most runs with an account of their own, of one configuration."""


@checks_arguments
def report(
    trajectory: _Source,
    out: str | os.PathLike[str],
    layers: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    quiet: bool = False,
) -> Path:
    """Write everything known about a trajectory onto one page: account, checks, origin, and the figures of all studies.

    The page opens from disk and loads nothing from the network. A figure that the file does not allow is
    replaced by the reason. The file is read a few times, not once for each figure.

    Parameters
    ----------
    trajectory
        A dataset, or whatever :func:`lcakit.open_trajectory` opens. Of several runs, pictures that can show means with
        intervals over runs; the others show the first run, and say so. Runs of up to four configurations have figures
        of their own each: they are told apart by what is stored of their making, or else by their names.
    out
        File to write, ending in ``.html`` or ``.htm``; an existing file is replaced once the new page is complete.
    layers, classes
        Names of the layers and classes with figures of their own, which the reader chooses among; ``[]`` for none. By
        default all of up to twelve; in a larger network the twelve with the largest LCA.
    quiet
        No progress bars.

    Returns
    -------
    Path
        The file: a few megabytes.

    Raises
    ------
    TrajectoryError
        If a path cannot be opened as a trajectory, the recording has no iteration yet, or the runs are of more than
        four configurations.
    ValueError
        For another suffix, or a layer or class that is not in the file.
    LcakitError
        If the page cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from lcakit.testing import tiny_trajectory
    >>> folder = tempfile.mkdtemp()
    >>> report(tiny_trajectory(), f"{folder}/tiny.html", layers=[], classes=[], quiet=True).name
    'tiny.html'
    """
    path = writable_path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a report is a page: its file name ends in .html, got {path.name!r}")
    if isinstance(trajectory, xr.Dataset):
        text = _page(trajectory, path, path.stem, layers, classes, quiet)
    else:
        with open_trajectory(trajectory) as ds:
            text = _page(ds, path, _name(trajectory), layers, classes, quiet)
    return _write(path, text)


def _name(source: Any) -> str:
    single = isinstance(source, str | os.PathLike)
    return os.path.basename(os.fspath(source)) if single else "several runs"


def _write(path: Path, text: str) -> Path:
    """Replace a file as a whole: nobody sees half of the new page."""
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _page(
    ds: xr.Dataset,
    path: Path,
    name: str,
    layers: Sequence[str] | None,
    classes: Sequence[str] | None,
    quiet: bool,
) -> str:
    if not ds.sizes.get("iteration"):
        raise TrajectoryError(f"{printable(name)} has no iteration yet, so there is nothing to report; record some")
    writable_now(path)
    ds = with_class_dimension(ds)
    checks = validate(ds, quiet=quiet)
    parts = by_configuration(ds)
    accounts = {} if _broken(checks) else {text: _accounts(part, quiet) for text, part in parts.items()}
    runs = [(run, one) for of_one in accounts.values() for run, one in of_one.items()]
    listed = dict(zip(_unique(run for run, _ in runs), (one for _, one in runs), strict=True))
    found = [
        ("account", "Account", _account(listed, ds.sizes.get("run", 1), len(parts))),
        ("checks", "Checks", _checks(checks)),
    ]
    controls, opening = "", list[_Part]()
    if listed:
        subjects = _subjects(parts, accounts, layers, classes)
        first = next(iter(subjects.values()))
        controls = page.controls(first.layers, first.classes, first.kind())
        together = [] if len(parts) == 1 else _drawn([section(parts, first.unit)], first, quiet)
        drawn = {text: _figures(subject, quiet) for text, subject in subjects.items()}
        opening = together + [part for text, (opens, _) in drawn.items() for part in _of(text, opens)]
        found += [part for text, (_, studies) in drawn.items() for part in _of(text, studies)]
    found.append(("origin", "How it was made", _origin(ds)))
    return page.page(f"Report of {printable(name, 80)}", _lead(ds, listed, parts), controls, [*opening, *found])


_Part = tuple[str, str, str]
"""Anchor, title and content of a section."""


def _of(configuration: str, parts: list[_Part]) -> list[_Part]:
    """Return sections that say of which configuration they are."""
    if not configuration:
        return parts
    anchor = "-".join(f"{ord(letter):x}" for letter in configuration)
    return [(f"of-{anchor}-{at}", f"{printable(configuration, 40)}: {title}", text) for at, title, text in parts]


# ---- account and checks ----------------------------------------------------------------------------------------


def _broken(checks: Report) -> bool:
    """Return whether nothing can be computed from the file."""
    return any(
        check.status == "fail" and (check.group == "structure" or check.name == "reading") for check in checks.checks
    )


def _accounts(ds: xr.Dataset, quiet: bool = True) -> dict[str, Account]:
    """Return the account of each run, or of each objective of one run."""
    if "run" in ds.dims:
        runs = _unique(ds["run"].values[:MOST_RUNS])
        return {name: account(ds.isel(run=n, drop=True), quiet=quiet) for n, name in enumerate(runs)}
    objectives = dict.fromkeys(split_name(str(name))[1] for name in ds.data_vars)
    suffixes = [suffix for suffix in objectives if suffix and f"loss_{suffix}" in ds]
    names = _unique(["value", *suffixes])
    return {name: account(ds, suffix or None, quiet) for name, suffix in zip(names, ["", *suffixes], strict=True)}


def _unique(names: Iterable[Any]) -> list[str]:
    """Return names from a file as headings of columns; a repeated name gets a number."""
    out: list[str] = []
    for n, name in enumerate(names):
        text = printable(name, 40)
        while text in out:
            text = f"{text} ({n})"
        out.append(text)
    return out


def _account(accounts: dict[str, Account], runs: int, configurations: int = 1) -> str:
    if not accounts:
        return "<p>The file is damaged, so its numbers are not added up; the checks say what is wrong.</p>"
    note = (
        "LCA allocates every change of the loss to the parameters that caused it: negative helps (the loss falls), "
        "positive hurts. The allocations should add up to the change of the loss; the errors say by how much they fail."
    )
    if runs > len(accounts):
        first = f"{len(accounts)} of {runs} runs" if configurations == 1 else f"{MOST_RUNS} runs of each configuration"
        note += f" The first {first} are listed; pictures of several runs are of all of them."
    return f'<p class="question">{note}</p>{tables.account_table(accounts)}'


def _checks(checks: Report) -> str:
    count = {status: sum(check.status == status for check in checks.checks) for status in ("pass", "warn", "fail")}
    verdict = "sound" if checks.ok else "not sound"
    kind = "pass" if checks.ok else "fail"
    line = f"{count['pass']} checks passed, {count['warn']} warned, {count['fail']} failed"
    wrong = " open" if count["warn"] or count["fail"] else ""
    return (
        f'<p class="verdict">This file is <span class="{kind}">{verdict}</span>: {line}.</p>'
        f"<details{wrong}><summary>All checks</summary>{tables.checks_table(checks)}</details>"
    )


# ---- figures ---------------------------------------------------------------------------------------------------


def _subjects(
    parts: Mapping[str, xr.Dataset],
    accounts: Mapping[str, Mapping[str, Account]],
    layers: Sequence[str] | None,
    classes: Sequence[str] | None,
) -> dict[str, Subject]:
    """Return what is shown of each configuration: the same layers and classes of all."""
    out: dict[str, Subject] = {}
    for text, part in parts.items():
        out[text] = _subject(part, next(iter(accounts[text].values())), layers, classes)
        layers, classes = out[text].layers, out[text].classes
    return out


def _subject(ds: xr.Dataset, numbers: Account, layers: Sequence[str] | None, classes: Sequence[str] | None) -> Subject:
    named = [str(name) for name in ds["class"].values] if "class" in ds.coords else []
    return Subject(
        ds,
        numbers,
        chosen("layer with a kernel", layers, kernel_layers(ds), numbers.layers),
        chosen(class_kind(ds), classes, named, _class_sizes(ds, named) if classes is None else {}),
    )


def _class_sizes(ds: xr.Dataset, names: list[str]) -> dict[str, float]:
    """Return the sum of the magnitudes of LCA of each class; empty if all have figures anyway."""
    if len(names) <= MOST_CHOICES or "lca_unit_class" not in ds:
        return {}
    magnitudes = abs(ds["lca_unit_class"])
    sums = get(magnitudes.sum([dim for dim in magnitudes.dims if dim != "class"], dtype=np.float64))
    return dict(zip(names, sums.values.tolist(), strict=True))


def _sections(s: Subject) -> list[Section]:
    return [
        findings.section(s),
        over_time.loss(s),
        over_time.layers(s),
        *noise.sections(s),
        *units.sections(s),
        over_time.unseen(s),
    ]


def _figures(s: Subject, quiet: bool) -> tuple[list[_Part], list[_Part]]:
    """Return the findings, if there are any, and the studies."""
    sections = _sections(s)
    parts = _drawn(sections, s, quiet)
    first = 1 if any(group.figures for group in sections[0].groups) else 0
    return [("findings", *part[1:]) for part in parts[:first]], parts[first:]


def _drawn(sections: list[Section], s: Subject, quiet: bool) -> list[_Part]:
    """Return the sections that have figures, drawn."""
    groups = [group for section in sections for group in section.groups]
    drawn = iter(draw([figure for group in groups for figure in group.figures], quiet))
    by_group = {id(group): [next(drawn) for _ in group.figures] for group in groups}
    shown = [one for one in sections if any(group.figures for group in one.groups)]
    return [(f"study-{n}", one.title, page.section(one, by_group, s.kind())) for n, one in enumerate(shown)]


# ---- origin ----------------------------------------------------------------------------------------------------


def _lead(ds: xr.Dataset, accounts: dict[str, Account], parts: Mapping[str, xr.Dataset]) -> str:
    parameters = f" of {ds.sizes['parameter']:,} parameters" if "parameter" in ds.sizes else ""
    runs = f"{ds.sizes['run']} runs: " if "run" in ds.sizes else ""
    objective = printable(ds.attrs.get("loss_name", "loss"), 60)
    text = f"{runs}{ds.sizes['iteration']:,} iterations{parameters}, loss {objective}."
    lead = f'<p class="lead">{tables.text(text)} Written by {creator()} on {now()[:10]}.</p>'
    if len(parts) > 1:
        several = ", ".join(f"{printable(text, 40)} ({part.sizes['run']})" for text, part in parts.items())
        lead += (
            f'<p class="notice">{tables.text(f"The runs are of {len(parts)} configurations: {several}. {_APART}")}</p>'
        )
    if ds.attrs.get("partial"):
        lead += '<p class="notice">This recording is not finished: the report is of what is on disk so far.</p>'
    if accounts and not any(one.has_lca for one in accounts.values()):
        missing = "Most of a report is of LCA, so most of this one is missing."
        lead += f'<p class="notice">{tables.text(NO_LCA)} {missing}</p>'
    return lead


def _origin(ds: xr.Dataset) -> str:
    found = describe(ds)
    fingerprint = f"<p>Fingerprint of this trajectory: <code>{tables.text(found.fingerprint)}</code></p>"
    details = f"<details open><summary>Attributes, sizes and variables</summary>{tables.made_table(found)}</details>"
    return f"{fingerprint}<h3>How to cite it</h3>{tables.citation(ds)}{details}"
