"""A trajectory in a few lines, as text and as HTML: what ``ds.lk`` shows in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable

import xarray as xr

from lcakit.text import printable
from lcakit.trajectory import schema
from lcakit.trajectory.class_kind import class_kind, plural

__all__ = ["as_html", "as_text", "summary"]


def __dir__() -> list[str]:
    return __all__


_MOST_NAMES = 8
_COUNTED = ("run", "iteration", "parameter", "layer", "unit", "class")


def summary(ds: xr.Dataset) -> dict[str, str]:
    """Return what a trajectory is, by topic; everything in it is safe to print. Reads the loss, nothing larger.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> summary(tiny_trajectory())["sizes"]
    '12 iterations, 61 parameters, 3 layers, 10 units, 3 classes'
    """
    rows = {"sizes": ", ".join(_count(ds, dim) for dim in _COUNTED if dim in ds.sizes)}
    if ds.attrs.get("partial"):
        rows["state"] = "not finished: lcakit finish, or record with resume=True"
    rows |= {
        f"loss{f' ({suffix})' if suffix else ''}": _loss(ds, schema.with_suffix("loss", suffix))
        for suffix in dict.fromkeys(schema.split_name(str(name))[1] for name in ds.data_vars)
        if ds.get(schema.with_suffix("loss", suffix), xr.DataArray()).size > 1
    }
    for dim in ("layer", "class"):
        if dim in ds.coords:
            rows[_word(ds, dim)] = _names(ds[dim].values)
    stored = [name for name in map(str, ds.data_vars) if schema.split_name(name)[0] in schema.VARIABLES]
    return rows | {"variables": _names(stored, most=len(schema.VARIABLES))}


def as_text(ds: xr.Dataset) -> str:
    """Return the summary as aligned lines."""
    rows = summary(ds)
    width = max(map(len, rows))
    return "\n".join(["<lcakit trajectory>", *(f"  {name:<{width}}  {text}" for name, text in rows.items())])


def as_html(ds: xr.Dataset) -> str:
    """Return the summary as a table without colours of its own, for light and dark pages."""
    left = "style='text-align:left'"
    rows = [(html.escape(name), html.escape(text)) for name, text in summary(ds).items()]
    cells = "".join(f"<tr><th {left}>{name}</th><td {left}>{text}</td></tr>" for name, text in rows)
    return f"<b>lcakit trajectory</b><table>{cells}</table>"


def _count(ds: xr.Dataset, dim: str) -> str:
    number, word = ds.sizes[dim], _word(ds, dim)
    return f"{number:,} {word if number == 1 else plural(word)}"


def _word(ds: xr.Dataset, dim: str) -> str:
    """Return the word for an entry of a dimension: classes may be groups by another name."""
    return class_kind(ds) if dim == "class" else dim


def _loss(ds: xr.Dataset, name: str) -> str:
    values = ds[name].values
    ends = f"{values[..., 0].mean():.4g} to {values[..., -1].mean():.4g} {printable(schema.loss_unit(ds, name), 20)}"
    return f"{ends}, mean of the runs" if "run" in ds[name].dims else ends


def _names(names: Iterable[object], most: int = _MOST_NAMES) -> str:
    shown = [printable(name, 40) for name in names]
    more = f", … ({len(shown):,})" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
