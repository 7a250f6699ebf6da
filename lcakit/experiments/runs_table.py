"""The tables of the paper's figures and ours, side by side, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcakit.experiments.paper import FINDINGS, Figures
from lcakit.text import with_error

__all__ = ["COLUMNS", "COSTS", "Row", "costs_to_markdown", "findings_to_markdown", "to_markdown"]


def __dir__() -> list[str]:
    return __all__


COLUMNS = (
    "helping",
    "total_error_rk4",
    "total_error_first_order",
    "mean_error_rk4",
    "mean_error_first_order",
    "iterations_per_turn",
    "iterations_per_crossing",
)
_TITLES = (
    "helping %",
    "total error rk4 %",
    "total error first order %",
    "mean abs error rk4",
    "mean abs error first order",
    "iterations per turn",
    "iterations per crossing",
)

_FINDING_TITLES = {
    "zero": "zero LCA, % of parameters in the mean iteration",
    "synchronized_per_class": "synchronized peaks of 20, mean over classes",
    "synchronized_shifted": "the same, layers shifted against each other",
    "synchronized_p": "p of that difference",
    "synchronized_all": "synchronized peaks of 20, all classes together",
    "excess_kurtosis": "excess kurtosis of LCA, mean over iterations",
    "weibull_helping": "Weibull shape k of helping LCA",
    "weibull_hurting": "Weibull shape k of hurting LCA",
}
COSTS = {
    "seconds_per_gradient": "seconds per full-set gradient",
    "gradients_per_iteration": "gradients per iteration",
    "bytes_per_iteration": "MB per iteration",
    "hours": "hours of gradients in a run",
}


@dataclass(frozen=True)
class Row:
    """One optimizer: the paper's figures, and of each of our runs the table's columns, single findings and costs.

    ``scaled_down`` says in what our runs are smaller than the paper's; empty where they are not.
    """

    optimizer: str
    paper: Figures
    runs: list[dict[str, float]]
    scaled_down: str = ""

    def mean(self, column: str) -> float:
        """Mean over runs."""
        return float(np.mean([run[column] for run in self.runs]))

    def sd(self, column: str) -> float:
        """Standard deviation over runs (of the sample); NaN for one run."""
        return float(np.std([run[column] for run in self.runs], ddof=1)) if len(self.runs) > 1 else float("nan")

    def measured(self, column: str) -> str:
        """Mean over runs as text, with the standard deviation where there are several."""
        return with_error(self.mean(column), self.sd(column))


def to_markdown(network: str, rows: Sequence[Row]) -> str:
    """Return the table as Markdown: the paper's figure, ours (mean ± sd over seeds); and what was scaled down."""
    count = len(rows[0].runs)
    lines = _head([f"{network}, {count} run{'s' if count > 1 else ''}", *_TITLES])
    for row in rows:
        lines.append(_line([f"{row.optimizer}, paper", *(_number(getattr(row.paper, column)) for column in COLUMNS)]))
        lines.append(_line([f"{row.optimizer}, measured", *map(row.measured, COLUMNS)]))
    notes = [f"\nScaled down: {row.scaled_down}" for row in rows[:1] if row.scaled_down]
    return "\n".join([*lines, *notes])


def findings_to_markdown(network: str, rows: Sequence[Row]) -> str:
    """Return the single findings as Markdown: ours (mean ± sd over seeds) for each optimizer, the paper's beside."""
    names = [name for name in rows[0].runs[0] if name not in (*COLUMNS, *COSTS)]
    lines = _head([network, *(row.optimizer for row in rows), "paper", "independent"])
    known = {name: pair for row in rows for name, pair in FINDINGS.get((network, row.optimizer), {}).items()}
    of = [row.optimizer for row in rows if (network, row.optimizer) in FINDINGS]
    for name in names:
        title = _FINDING_TITLES.get(name, f"LCA of {name.removeprefix('lca_')}, nats")
        theirs = [_number(value) for value in known.get(name, (None, None))]
        lines.append(_line([title, *(row.measured(name) for row in rows), *theirs]))
    note = f"\nPaper and independent figures are of {', '.join(of)}." if of else ""
    return "\n".join(lines) + note


def costs_to_markdown(network: str, rows: Sequence[Row]) -> str:
    """Return what a run cost, as Markdown; one line for each optimizer.

    Hours are those of the full-set gradients, which are nearly all of a recording.
    """
    lines = _head([f"{network}, cost", *COSTS.values()])
    for row in rows:
        costs = {name: row.mean(name) for name in COSTS}
        costs["bytes_per_iteration"] /= 1e6
        lines.append(_line([row.optimizer, *(_number(value, 3) for value in costs.values())]))
    return "\n".join(lines)


def _head(titles: Sequence[str]) -> list[str]:
    return [_line(titles), "|---" * len(titles) + "|"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}g}"
