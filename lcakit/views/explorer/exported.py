"""What a view shows as a file: a picture (PNG, SVG, PDF, HTML) or its numbers (CSV, netCDF), named after what it is."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
from pathlib import Path

import pandas as pd
import xarray as xr

from lcakit.errors import unknown
from lcakit.plot import SUFFIXES
from lcakit.plot import save as save_picture
from lcakit.storage.atomic import written_whole
from lcakit.text import printable
from lcakit.views.explorer import drawn, taken, tensors
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.selection import ALL, LCA, Selection

__all__ = ["OFFERED", "content", "file_name", "save"]


def __dir__() -> list[str]:
    return __all__


OFFERED = {"PNG": ".png", "SVG": ".svg", "CSV": ".csv", "netCDF": ".nc"}
"""What a page offers to save, and the suffixes."""
_NUMBERS = (".csv", ".nc")
_MOST_LETTERS = 150
_FORMULA = ("=", "+", "-", "@", "\t")
"""What begins a formula where a spreadsheet reads a text."""
_DEPENDS = {
    "layers": ("layers", "classes", "role", "window"),
    "layer_map": ("layers", "classes", "role", "window"),
    "loss": ("classes",),
    "units": ("layer", "classes", "role", "window"),
    "parameters": ("layer", "quantity", "classes", "role", "iteration"),
    "saliency": ("layer", "unit", "classes", "window"),
    "unit": ("layer", "unit", "classes", "role", "window"),
    "parameter": ("parameter", "classes", "window"),
    "images": ("layer", "unit", "iteration"),
    "runs": ("layer", "classes", "role", "window"),
    "pair": ("other", "layer", "quantity", "classes", "role", "iteration"),
}
"""What is named in a file name, where it is not everything."""


def save(model: Model, selection: Selection, view: str, path: str | os.PathLike[str]) -> Path:
    """Write what a view shows to a file; its suffix says as what. One that is there is replaced.

    Raises
    ------
    ValueError
        For another suffix or view, or where nothing is chosen that the view could show.
    TrajectoryError
        If the file does not hold what the view shows.
    """
    out = Path(path)
    found = content(model, selection, view, out.suffix.lower())
    with written_whole(out) as temporary:
        temporary.write_bytes(found)
    return out


def content(model: Model, selection: Selection, view: str, suffix: str) -> bytes:
    """Return the bytes of such a file."""
    if suffix not in (*SUFFIXES, *_NUMBERS):
        raise unknown("suffix of a picture or of numbers", suffix, (*SUFFIXES, *_NUMBERS))
    if suffix == ".csv":
        text: str = _table(taken.data(model, selection, view)).to_csv(index=False, lineterminator="\n")
        return text.encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{view}{suffix}"
        if suffix == ".nc":
            _described(taken.data(model, selection, view), selection, view).to_netcdf(path, engine="netcdf4")
        else:
            save_picture(drawn.draw(model, selection, view, SUFFIXES[suffix]), path)
        found: bytes = path.read_bytes()
        return found


def _table(numbers: xr.DataArray | xr.Dataset) -> pd.DataFrame:
    """Return a row for each number, with its labels; texts that a spreadsheet takes for formulas are quoted."""
    ds = numbers.to_dataset(name=str(numbers.name)) if isinstance(numbers, xr.DataArray) else numbers
    table = ds.to_dataframe().reset_index()
    for name in table.columns[[one.kind in "OU" for one in table.dtypes]]:
        table[name] = [f"'{text}" if str(text).startswith(_FORMULA) else text for text in table[name]]
    return table


def _described(numbers: xr.DataArray | xr.Dataset, selection: Selection, view: str) -> xr.Dataset:
    """Return numbers as a dataset that says what they are of."""
    ds = numbers.to_dataset(name=str(numbers.name)) if isinstance(numbers, xr.DataArray) else numbers
    chosen = {name: value for name, value in dataclasses.asdict(selection).items() if name != "colours"}
    return ds.assign_attrs(view=view, selection=json.dumps(chosen))


def file_name(model: Model, selection: Selection, view: str, source: str, suffix: str) -> str:
    """Return a name for a file of what a view shows: letters, digits, dots and dashes, whatever names the file has.

    Parameters
    ----------
    source
        The name of the trajectory.
    """
    parts = [source, view]
    for field in _DEPENDS[view]:
        if field != "classes" or taken.classes_of(model, selection, view):
            parts += _part(model, selection, field)
    clean = "_".join(re.sub(r"[^A-Za-z0-9.]+|[.]{2,}", "-", printable(part, 60)).strip("-.") or "x" for part in parts)
    return clean[:_MOST_LETTERS].rstrip("-._") + suffix


def _part(model: Model, selection: Selection, field: str) -> list[str]:
    """Return what a field of the selection adds to a name: nothing where everything is chosen."""
    if field == "window":
        whole = selection.window == (0, model.iterations.size - 1)
        return [] if whole else ["iterations-{}-{}".format(*(model.iterations[n] for n in selection.window))]
    if field == "iteration":
        at = f"iteration-{model.iterations[selection.iteration]}"
        return (_part(model, selection, "window") or ["run"]) if selection.whole else [at]
    if field in ("layers", "classes"):
        chosen, every = getattr(selection, field), getattr(model, field)
        return [] if set(chosen) == set(every) else ["-".join([field, *chosen])]
    if field == "parameter":
        return [] if selection.parameter is None else [tensors.name_of(model.ds, selection.parameter)]
    value = str(getattr(selection, field))
    if field in ("role", "quantity"):
        return [] if value in (ALL, LCA) else [value]
    return [f"unit-{value}" if field == "unit" else value]
