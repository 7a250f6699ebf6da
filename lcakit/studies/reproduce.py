"""The paper's tables, run again: every run is kept and resumed, measured figures stand beside the paper's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcakit import store
from lcakit.analysis import tails
from lcakit.analysis.account import account
from lcakit.analysis.layers import layer_lca
from lcakit.analysis.noise import help_hurt_zero
from lcakit.analysis.oscillation import iterations_per_crossing, iterations_per_turn
from lcakit.analysis.synchronization import synchronization_test
from lcakit.analysis.tails import excess_kurtosis
from lcakit.computing import compute
from lcakit.errors import RecordingError, TrajectoryError, unknown
from lcakit.studies.paper import FINDINGS, PAPER, Figures
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


PEAKS = 20
FINDING_TITLES = {
    "zero": "zero LCA, % of parameters in the mean iteration",
    "synchronized_per_class": "synchronized peaks of 20, mean over classes",
    "synchronized_shifted": "the same, layers shifted against each other",
    "synchronized_p": "p of that difference",
    "synchronized_all": "synchronized peaks of 20, all classes together",
    "excess_kurtosis": "excess kurtosis of LCA, mean over iterations",
    "weibull_helping": "Weibull shape k of helping LCA",
    "weibull_hurting": "Weibull shape k of hurting LCA",
}


@dataclass(frozen=True)
class Row:
    """One optimizer: the paper's figures, and of each of our runs the table's columns and the single findings."""

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


def findings(path: str | Path) -> dict[str, float]:
    """Return the figures of the single studies for one recorded run, by the names of ``FINDING_TITLES``.

    ``lca_NAME`` is the LCA of a layer over the run. Synchronization needs a file with classes.
    """
    ds = store.open_trajectory(path)
    k = min(PEAKS, ds.sizes["iteration"])  # a trial may be shorter
    outcomes, layers, per_class, together, kurtosis, histogram = compute(
        help_hurt_zero(ds).mean("iteration"),
        layer_lca(ds).sum("iteration"),
        synchronization_test(ds, k=k),
        synchronization_test(ds, k=k, classes=False),
        excess_kurtosis(ds)["excess_kurtosis"].mean("iteration"),
        tails.histogram(ds),
        quiet=True,
    )
    shape = tails.fit_tails(histogram)["shape"].sel(model="weibull")
    return {
        "zero": 100 * float(outcomes.sel(outcome="zero")),
        "synchronized_per_class": float(per_class["observed_mean"]),
        "synchronized_shifted": float(per_class["baseline_mean"]),
        "synchronized_p": float(per_class["p"]),
        "synchronized_all": float(together["observed_mean"]),
        "excess_kurtosis": float(kurtosis),
        "weibull_helping": float(shape.sel(outcome="helping")),
        "weibull_hurting": float(shape.sel(outcome="hurting")),
        **{f"lca_{name}": float(layers.sel(layer=name)) for name in layers["layer"].values},
    }


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
            runs.append(figures(path) | findings(path))
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


def findings_to_markdown(network: str, rows: Sequence[Row]) -> str:
    """Return the single findings as Markdown: ours (mean ± sd over seeds) for each optimizer, the paper's beside."""
    names = [name for name in rows[0].runs[0] if name not in COLUMNS]
    lines = [f"| {network} | " + " | ".join(row.optimizer for row in rows) + " | paper | independent |"]
    lines.append("|---" * (len(rows) + 3) + "|")
    known = {name: pair for row in rows for name, pair in FINDINGS.get((network, row.optimizer), {}).items()}
    of = [row.optimizer for row in rows if (network, row.optimizer) in FINDINGS]
    for name in names:
        title = FINDING_TITLES.get(name, f"LCA of {name.removeprefix('lca_')}, nats")
        ours = [f"{_number(row.mean(name))} ± {_number(row.sd(name), 2)}" for row in rows]
        theirs = [_number(value) for value in known.get(name, (None, None))]
        lines.append(f"| {title} | " + " | ".join([*ours, *theirs]) + " |")
    note = f"\nPaper and independent figures are of {', '.join(of)}." if of else ""
    return "\n".join(lines) + note


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}g}"
