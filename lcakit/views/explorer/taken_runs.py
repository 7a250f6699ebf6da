"""What views of several runs show, to take along: numbers, the lines that compute them, and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.plot._style import band, beside, level, line, picture
from lcakit.plot._tiles import tiles_of
from lcakit.plot.parameters import tile_image
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.overlaid import curves_of
from lcakit.views.explorer.selection import ALL, MOVEMENT, QUANTITIES, SIGNED, WEIGHT, Selection
from lcakit.views.explorer.several import layer_curves, pair
from lcakit.views.explorer.views import limit_of

__all__ = ["draw_pair", "draw_runs", "pair_code", "runs", "runs_code", "two"]


def __dir__() -> list[str]:
    return __all__


def runs(model: Model, selection: Selection) -> xr.DataArray:
    """Return the curves of :class:`RunsView` (run, iteration); NaN where a run has no such iteration."""
    curves = layer_curves(model, selection)
    parts = [xr.DataArray(y, {"iteration": x}, ["iteration"]) for x, y in curves.values()]
    if not parts:
        raise ValueError("No run has this layer and these classes.")
    out = xr.concat(parts, xr.Variable("run", list(curves)), join="outer", coords="minimal", compat="override")
    return out.rename("cumulative").assign_attrs(units=model.unit)


def two(model: Model, selection: Selection) -> Any:
    """Return the values of :class:`PairView` (run, parameter), and their difference."""
    tensor, (ours, others, difference) = pair(model, selection)
    held = model.ds["parameter"].values if "parameter" in model.ds.coords else np.arange(model.ds.sizes["parameter"])
    coords = {"run": [selection.source[0], selection.other], "parameter": held[tensor.columns]}
    attrs = {"units": "1" if selection.quantity in (MOVEMENT, WEIGHT) else model.unit}
    both = xr.DataArray(np.stack([ours, others]), coords, ["run", "parameter"], attrs=attrs)
    return xr.Dataset(
        {selection.quantity: both, "difference": ("parameter", difference, attrs)}, attrs={"tensor": tensor.name}
    )


def runs_code(model: Model, selection: Selection) -> list[str]:
    """Return the lines that compute :func:`runs`."""
    first, last = (int(model.iterations[n]) for n in selection.window)
    words = [f"kernel_layer={selection.layer!r}"]
    words += [] if selection.role == ALL else [f"role={selection.role!r}"]
    some = model.classes and set(selection.classes) != set(model.classes)
    if some and (selection.role == ALL or model.by_class):
        words.append(f"cls={list(selection.classes)!r}")
    lines = ["import xarray as xr", "", "def curve(ds):"]
    lines.append(f"    sums = lk.layers.layer_lca(ds.lk.sel({', '.join(words)}), lca={model.name('lca')!r})")
    lines.append(f'    return sums.isel(layer=0, drop=True).sel(iteration=slice({first}, {last})).cumsum("iteration")')
    lines.append("")
    found = list(layer_curves(model, selection))
    opened = [f"    {run!r}: {model.runs.opening(run).removeprefix('ds = ').partition('  #')[0]}," for run in found]
    lines += ["runs = {", *opened, "}"]
    lines += ["curves = [curve(one) for one in runs.values()]"]
    lines += ['numbers = xr.concat(curves, xr.Variable("run", list(runs)), join="outer")']
    return lines


def pair_code(model: Model, selection: Selection) -> list[str]:
    """Return the lines that compute the difference of :func:`two`."""
    from lcakit.views.explorer import taken

    lines = taken.code_of(model, selection, "parameters")
    opening = model.runs.opening(selection.other)
    return [*lines, "ours = numbers", "", opening, *lines, "numbers = ours - numbers"]


def draw_runs(backend: str, model: Model, selection: Selection, title: str) -> Any:
    """Return the curves of runs as a picture."""
    axes = "iteration", f"LCA, running sum ({model.unit})"
    groups = model.runs.chosen(selection.configurations)
    marks: list[Any] = [level(backend, 0)]
    named: set[str] = set()
    for one in curves_of(layer_curves(model, selection), groups, selection.overlay, model.runs.colours):
        if one.low is not None:
            marks.append(band(backend, one.x, one.low, one.high, axes, one.colour, 0.2))
        marks.append(line(backend, one.x, one.y, axes, one.legend if one.legend not in named else "", one.colour))
        named.add(one.legend)
    return picture(backend, marks, axes, title)


def draw_pair(backend: str, model: Model, selection: Selection, title: str) -> Any:
    """Return the maps of two runs and of their difference as pictures side by side."""
    tensor, found = pair(model, selection)
    tiles, helps = tiles_of(model.ds, tensor.row), selection.quantity in SIGNED
    limit = limit_of(np.concatenate(found[:2]))
    names = selection.source[0], selection.other, "first minus second"
    parts = []
    for name, values, signed in zip(names, found, (helps, helps, False), strict=True):
        attrs = {"long_name": QUANTITIES[selection.quantity], "units": two(model, selection)["difference"].units}
        array = xr.DataArray(values, dims=["parameter"], attrs=attrs)
        limits = None if name == names[2] else (-limit, limit)
        parts.append(tile_image(backend, tiles, array, f"{title}: {name}", signed, limits))
    return beside(backend, parts)
