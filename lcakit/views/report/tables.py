"""Tables of a report: the account, the checks, and how the file was made, as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import xarray as xr

from lcakit.analysis.account import Account
from lcakit.sharing.citation import cite
from lcakit.sharing.describe import Description
from lcakit.sharing.validation import MARKS, Report

__all__ = ["account_table", "checks_table", "citation", "made_table", "text"]


def __dir__() -> list[str]:
    return __all__


def text(value: Any) -> str:
    """Return a value as text of a page, with all markup escaped."""
    return html.escape(str(value), quote=True)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table of cells that are HTML; the first cell of a row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{c}</td>" for c in row[1:])}</tr>' for row in rows)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def account_table(accounts: dict[str, Account]) -> str:
    """Return the numbers of each account in a column, and the explanation of each number."""
    rows = {name: {label: (value, meaning) for label, value, meaning in one.rows()} for name, one in accounts.items()}
    labels = dict.fromkeys(label for one in rows.values() for label in one)
    body = []
    for label in labels:
        cells = [one.get(label, ("–", "")) for one in rows.values()]
        meaning = next((said for _, said in cells if said), "")
        values = [f'<span class="number">{text(value)}</span>' for value, _ in cells]
        body.append([text(label.strip()), *values, text(meaning)])
    return _table(["number", *map(text, rows), "what it says"], body, "account")


def checks_table(report: Report) -> str:
    """Return the checks; those that did not pass come with a remedy."""
    rows = []
    for check in report.checks:
        told = check.meaning if check.status == "pass" else f"{check.meaning} {check.remedy}"
        mark = f'<span class="mark {check.status}">{MARKS[check.status]}</span>'
        rows.append([text(check.name), mark, text(check.figure), text(told)])
    return _table(["check", "", "found", "what it means"], rows, "checks")


def made_table(found: Description) -> str:
    """Return how a file was made, and what is in it."""
    facts = _table(["", "how it was made"], [[text(key), text(value)] for key, value in found.facts.items()], "facts")
    if found.config:
        settings = [[text(key), text(value)] for key, value in found.settings().items()]
        facts += _table(["", "configuration of the run"], settings, "facts")
    sizes = _table(["", "sizes"], [[text(key), f"{size:,}"] for key, size in found.sizes.items()], "facts")
    held = [[text(key), text(shape)] for key, shape, _ in found.variables]
    return facts + sizes + _table(["variable", "dimensions and type"], held, "facts")


def citation(ds: xr.Dataset) -> str:
    """Return the citation, with its paragraphs."""
    return "".join(f"<p>{text(part)}</p>" for part in cite(ds).split("\n\n"))
