"""The paper's tables, run again: every run is kept and resumed, measured figures stand beside the paper's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcakit import store
from lcakit.analysis.account import account
from lcakit.analysis.oscillation import iterations_per_crossing, iterations_per_turn
from lcakit.errors import RecordingError, TrajectoryError, unknown
from lcakit.studies.paper import PAPER, Figures
from lcakit.studies.training import Run, record_run, run_of

COLUMNS = (
    "helping",
    "total_error_rk4",
    "total_error_first_order",
    "mean_error_rk4",
    "mean_error_first_order",
    "iterations_per_turn",
    "iterations_per_crossing",
)
TITLES = (
    "helping %",
    "total error rk4 %",
    "total error first order %",
    "mean abs error rk4",
    "mean abs error first order",
    "iterations per turn",
    "iterations per crossing",
)


@dataclass(frozen=True)
class Row:
    """One optimizer: the paper's figures, and those of each of our runs by column."""

    optimizer: str
    paper: Figures
    runs: list[dict[str, float]]

    def mean(self, column: str) -> float:
        """Mean over runs."""
        return float(np.mean([run[column] for run in self.runs]))

    def sd(self, column: str) -> float:
        """Standard deviation over runs (of the sample); NaN for one run."""
        return float(np.std([run[column] for run in self.runs], ddof=1)) if len(self.runs) > 1 else float("nan")


def figures(path: str | Path) -> dict[str, float]:
    """Return the figures of Tables 1, S1 and S2 for one recorded run, by column name."""
    ds = store.open_trajectory(path)
    numbers = account(ds)
    wanted = {
        "helping": numbers.helping_percent,
        "total_error_rk4": numbers.error_percent,
        "total_error_first_order": numbers.first_order_error_percent,
        "mean_error_rk4": numbers.mean_abs_error,
        "mean_error_first_order": numbers.first_order_mean_abs_error,
        "iterations_per_turn": float(iterations_per_turn(ds)),
        "iterations_per_crossing": float(iterations_per_crossing(ds)),
    }
    missing = [name for name, value in wanted.items() if value is None]
    if missing:
        raise TrajectoryError(f"{path} does not hold what {', '.join(missing)} need; record it anew")
    return {name: float(value) for name, value in wanted.items() if value is not None}


def reproduce(
    network: str,
    directory: str | Path,
    *,
    optimizers: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    data_root: str | None = None,
    device: str | None = None,
    precision: str = "float32",
    iterations: int | None = None,
) -> list[Row]:
    """Record what is missing of a network's runs, and return the table.

    Finished runs in ``directory`` are kept, unfinished ones continue.

    Raises
    ------
    ValueError
        If the paper has no figures for this network.
    """
    known = [opt for name, opt in PAPER if name == network]
    if not known:
        raise unknown("network of the paper", network, sorted({name for name, _ in PAPER}))
    rows = []
    for optimizer in optimizers or known:
        if optimizer not in known:
            raise unknown(f"optimizer of the paper for {network}", optimizer, known)
        runs = []
        for seed in seeds:
            path = Path(directory) / f"{network}-{optimizer}-{seed}.nc"
            run = Run(network, optimizer, seed, iterations=iterations, data_root=data_root).resolved()
            if path.exists():
                _refuse_other_run(path, run, precision)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                record_run(run, path, device=device, precision=precision, resume=True)
            runs.append(figures(path))
        rows.append(Row(optimizer, PAPER[network, optimizer], runs))
    return rows


def _refuse_other_run(path: Path, wanted: Run, precision: str) -> None:
    ds = store.open_trajectory(path)
    found = dataclasses.replace(run_of(ds), data_root=wanted.data_root)
    if found != wanted or ds.attrs.get("precision") != precision:
        raise RecordingError(
            f"{path} is of another run ({found}, precision {ds.attrs.get('precision')}; wanted {wanted}, {precision}). "
            "Choose another folder, or remove the file."
        )


def to_markdown(network: str, rows: Sequence[Row]) -> str:
    """Return the table as Markdown: the paper's figure, ours (mean ± sd over seeds)."""
    count = len(rows[0].runs)
    lines = [
        f"| {network}, {count} run{'s' if count > 1 else ''} | " + " | ".join(TITLES) + " |",
        "|---" * (len(TITLES) + 1) + "|",
    ]
    for row in rows:
        paper = [_number(getattr(row.paper, column)) for column in COLUMNS]
        ours = [f"{_number(row.mean(c))} ± {_number(row.sd(c), 2)}" for c in COLUMNS]
        lines.append(f"| {row.optimizer}, paper | " + " | ".join(paper) + " |")
        lines.append(f"| {row.optimizer}, measured | " + " | ".join(ours) + " |")
    return "\n".join(lines)


def _number(value: float, digits: int = 4) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}g}"
