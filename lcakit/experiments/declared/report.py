"""The result of an experiment for people: tables as text, paper beside measured; CSV and netCDF in its folder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from lcakit.analysis.tables import to_table
from lcakit.experiments.declared.experiment import Claim, Experiment, Scale
from lcakit.text import with_error

__all__ = ["number", "save", "tables", "to_text"]


def __dir__() -> list[str]:
    return __all__


_DEVIATION = "_sd"


def tables(result: xr.Dataset) -> dict[str, Any]:
    """Return a data frame for each set of dimensions, by their names joined with hyphens; ``total`` for none."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, array in result.data_vars.items():
        groups.setdefault(tuple(map(str, array.dims)), []).append(str(name))
    return {"-".join(dims) or "total": to_table(result[names], quiet=True) for dims, names in groups.items()}


def save(result: xr.Dataset, directory: Path) -> list[Path]:
    """Write ``result.nc`` and a ``result-….csv`` for each table; return their paths."""
    paths = [directory / "result.nc"]
    result.to_netcdf(paths[0])
    for name, table in tables(result).items():
        paths.append(directory / f"result-{name}.csv")
        table.to_csv(paths[-1], index=False)
    return paths


def to_text(experiment: Experiment, scale: str, result: xr.Dataset) -> str:
    """Return everything as Markdown: what it is, what was scaled down, paper beside measured, the tables."""
    chosen = experiment.scale(scale)
    parts = [f"{experiment.title} ({experiment.source}), scale {scale}.", _scaled_down(chosen)]
    if experiment.claims:
        parts.append(_claims(experiment.claims, result))
    return "\n\n".join([*filter(None, parts), *(_markdown(table) for table in tables(result).values())])


def _scaled_down(scale: Scale) -> str:
    return f"Scaled down: {scale.scaled_down}." if scale.scaled_down else ""


def _claims(claims: Sequence[Claim], result: xr.Dataset) -> str:
    return _table(["", "paper", "measured"], ([claim.what, claim.paper, claim.measure(result)] for claim in claims))


def _markdown(table: Any) -> str:
    """Return a data frame with mean and standard deviation in one column."""
    shown = [name for name in table.columns if not (name.endswith(_DEVIATION) and name[: -len(_DEVIATION)] in table)]
    rows = ([_cell(name, row) for name in shown] for row in table.to_dict("records"))
    return _table([name.replace("_", " ") for name in shown], rows)


def _cell(name: str, row: Mapping[str, Any]) -> str:
    deviation = row.get(name + _DEVIATION, math.nan)  # one seed has none
    return number(row[name]) if math.isnan(deviation) else with_error(row[name], deviation)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: Any, digits: int = 4) -> str:
    """Return a number for people: four digits, a dash for NaN; anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return "–" if math.isnan(value) else f"{value:.{digits}g}"
