"""A result as a printed table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["MOST_ROWS", "to_text"]


def __dir__() -> list[str]:
    return __all__


MOST_ROWS = 40
"""Rows that are printed; of longer results some, evenly."""


def to_text(result: xr.DataArray | xr.Dataset, columns: Sequence[str]) -> str:
    """Return rows of the printed variables, thinned evenly where there are many."""
    data = result.to_dataset(name=columns[0]) if isinstance(result, xr.DataArray) else result
    shown = data[list(columns)]
    if not shown.dims:
        return "\n".join(f"{name:20s} {float(shown[name]):.6g}" for name in columns)
    flat = shown.stack(row=list(shown.dims), create_index=False).dropna("row", how="all")
    columns = [str(dim) for dim in shown.dims if dim in flat.coords] + [*columns]
    some = np.unique(np.linspace(0, flat.sizes["row"] - 1, min(MOST_ROWS, flat.sizes["row"])).astype(int))
    cells = [columns, *([_cell(flat[name].values[n]) for name in columns] for n in some)]
    widths = [max(map(len, texts)) for texts in zip(*cells, strict=True)]
    table = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
    left = flat.sizes["row"] - some.size
    return "\n".join(table + ([f"({left} of {flat.sizes['row']} rows left out)"] if left else []))


def _cell(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float | np.floating) else str(value)
