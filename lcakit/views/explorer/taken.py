"""What is seen, to take along: the numbers of a view as labelled arrays, and the lines that compute them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import unknown
from lcakit.views.explorer import taken_images, taken_runs, tensors, text
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.over_time import quantity_over_time, running
from lcakit.views.explorer.selection import ALL, CUMULATIVE, GRADIENT, MOVEMENT, SIGNED, Selection

__all__ = ["OF_IMAGES", "OF_RUNS", "VIEWS", "classes_of", "code", "code_of", "data"]


def __dir__() -> list[str]:
    return __all__


_Taken = xr.DataArray | xr.Dataset
_SUMS = ("layers", "layer_map", "units", "unit", "runs")


def data(model: Model, selection: Selection, view: str) -> _Taken:
    """Return the numbers that a view shows, in memory.

    Raises
    ------
    ValueError
        For another view, or if no layer or no class is chosen.
    TrajectoryError
        If the file does not hold what the view shows.
    """
    numbers = _known(view)[0]
    if view in OF_RUNS and (model.runs is None or len(model.runs.runs) < 2):
        raise ValueError("This view is of several runs: open them together, lk.explore([first, second]).")
    if view in _SUMS:
        text.require_choice(model, selection, layers=view in ("layers", "layer_map"))
    elif view not in OF_IMAGES and (classes_of(model, selection, view) or not selection.classes):
        text.require_class(model, selection)
    return numbers(model, selection)


def classes_of(model: Model, selection: Selection, view: str) -> str:
    """Return which classes the numbers of a view are of; empty where they are of all."""
    held = {"loss": model.has("loss_class"), "parameter": model.by_class, "saliency": model.by_class}
    held["parameters"] = held["pair"] = model.by_class and selection.quantity in SIGNED
    if not _some_classes(model, selection) or not held.get(view, selection.role == ALL or model.by_class):
        return ""
    return text.join_names(selection.classes, model.classes, text.kind(model, many=True))


def code(model: Model, selection: Selection, view: str, opening: str) -> str:
    """Return lines of Python that compute the numbers of a view, from the files alone; ``opening`` makes ``ds``."""
    lines = ["import lcakit as lk", "", opening]
    if model.objective:
        lines.append(f"# variables of the objective {model.objective!r} end in _{model.objective}")
    return "\n".join([*lines, *code_of(model, selection, view)])


def code_of(model: Model, selection: Selection, view: str) -> list[str]:
    """Return the lines that compute the numbers of a view from ``ds``."""
    return _known(view)[1](model, selection)


def _known(view: str) -> tuple[Callable[..., _Taken], Callable[..., list[str]]]:
    known = VIEWS | OF_RUNS | OF_IMAGES
    if view not in known:
        raise unknown("view", view, known)
    return known[view]


def _span(model: Model, selection: Selection) -> str:
    first, last = (int(model.iterations[n]) for n in selection.window)
    return f"slice({first}, {last})"


def _rows(selection: Selection) -> slice:
    return slice(selection.window[0], selection.window[1] + 1)


def _some_classes(model: Model, selection: Selection) -> bool:
    return bool(model.classes) and set(selection.classes) != set(model.classes)


def _selected(model: Model, selection: Selection, by_class: bool, **names: str | Sequence[str]) -> str:
    """Return ``ds.lk.sel(…)`` with these names, and the classes where the file holds what is shown by class."""
    chosen = {key: list(value) if not isinstance(value, str) else value for key, value in names.items()}
    if by_class and _some_classes(model, selection):
        chosen["cls"] = list(selection.classes)
    return f"ds.lk.sel({', '.join(f'{key}={value!r}' for key, value in chosen.items())})" if chosen else "ds"


def _role(selection: Selection) -> dict[str, str]:
    return {} if selection.role == ALL else {"role": selection.role}


def _made(model: Model, values: np.ndarray, coords: dict[str, Any], name: str) -> xr.DataArray:
    unit = "1" if name in (MOVEMENT, "weight") else model.unit
    return xr.DataArray(values, coords=coords, dims=list(coords), name=name, attrs={"units": unit})


# ---- loss, layers, units ---------------------------------------------------------------------------------------


def _loss(model: Model, selection: Selection) -> _Taken:
    if not model.has("loss"):
        raise ValueError("This file holds no loss.")
    part = model.class_loss(selection.classes) if _some_classes(model, selection) else None
    values = model.ds[model.name("loss")].values if part is None else part
    return _made(model, np.asarray(values), {"snapshot": model.ds["snapshot"].values}, "loss")


def _loss_code(model: Model, selection: Selection) -> list[str]:
    part = _selected(model, selection, model.has("loss_class"))
    return [f"numbers = {part}[{model.name('loss')!r}]"]


def _layers(model: Model, selection: Selection) -> _Taken:
    sums = running(model.layer_sums(selection.classes, selection.role), selection)[_rows(selection)]
    columns = sums[:, [model.layers.index(name) for name in selection.layers]]
    coords = {"iteration": model.iterations[_rows(selection)], "layer": list(selection.layers)}
    return _made(model, columns, coords, quantity_over_time(selection))


def _layers_code(model: Model, selection: Selection) -> list[str]:
    split = selection.role == ALL or model.by_class
    part = _selected(model, selection, split, kernel_layer=selection.layers, **_role(selection))
    sums = f"lk.layers.layer_lca(part, lca={model.name('lca')!r})"
    total = '.cumsum("iteration")' if quantity_over_time(selection) == CUMULATIVE else ""
    if selection.role != ALL:  # layers without such a tensor
        total += f".reindex(layer={list(selection.layers)!r}, fill_value=0)"
    return [f"part = {part}", f"numbers = {sums}{total}.sel(iteration={_span(model, selection)})"]


def _units(model: Model, selection: Selection) -> _Taken:
    sums = running(model.unit_series(selection.layer, selection.classes, selection.role), selection)[_rows(selection)]
    coords = {"iteration": model.iterations[_rows(selection)], "unit": model.channels(selection.layer)}
    return _made(model, sums, coords, quantity_over_time(selection))


def _units_code(model: Model, selection: Selection) -> list[str]:
    split = selection.role == ALL or model.by_class
    part = _selected(model, selection, split, layer=selection.layer, **_role(selection))
    if selection.role == ALL and model.has("lca_unit_class"):
        sums = f'part[{model.name("lca_unit_class")!r}].sum("class", dtype=float)'
    else:
        sums = f'lk.aggregate.sum_by(part, "unit", {model.name("lca")!r})'
    total = '.cumsum("iteration")' if quantity_over_time(selection) == CUMULATIVE else ""
    return [f"part = {part}", f"numbers = {sums}{total}.sel(iteration={_span(model, selection)})"]


# ---- parameters ------------------------------------------------------------------------------------------------


def _parameters(model: Model, selection: Selection) -> _Taken:
    tensor = tensors.tensor_of(model, selection.layer, selection.role)
    values = tensors.values(model, tensor, selection)
    held = model.ds["parameter"].values if "parameter" in model.ds.coords else np.arange(model.ds.sizes["parameter"])
    found = _made(model, values, {"parameter": held[tensor.columns]}, selection.quantity)
    labels = {name: ("parameter", model.ds[f"{name}_index"].values[tensor.columns]) for name in ("unit", "input")}
    units = tensors.channels_of(model.ds, labels["unit"][1])
    return found.assign_coords(labels | {"unit": ("parameter", units)}).assign_attrs(tensor=tensor.name)


def _parameters_code(model: Model, selection: Selection) -> list[str]:
    tensor = tensors.tensor_of(model, selection.layer, selection.role)
    first, last = selection.window if selection.whole else (selection.iteration, selection.iteration)
    quantity, signed = selection.quantity, selection.quantity in SIGNED
    part = _selected(model, selection, signed and model.by_class, tensor=tensor.name)
    if signed:
        begin = 0 if quantity == CUMULATIVE else first
        total = f'.isel(iteration=slice({begin}, {last + 1})).sum("iteration", dtype=float)'
        numbers = f"part[{model.name('lca')!r}]{total}"
    elif quantity == GRADIENT:
        end = last + 2 if selection.whole else last + 1
        mean = f'.isel(snapshot=slice({first}, {end})).mean("snapshot", dtype=float)'
        numbers = f"part[{model.name('gradient')!r}]{mean}"
    elif quantity == MOVEMENT:
        numbers = f'part["theta"].astype(float).isel(snapshot={last + 1}) - part["theta"].isel(snapshot={first})'
    else:
        numbers = f'part["theta"].isel(snapshot={last + 1 if selection.whole else last})'
    return [f"part = {part}", f"numbers = {numbers}"]


def _saliency(model: Model, selection: Selection) -> _Taken:
    if not model.has("lca"):
        raise ValueError("This file holds no LCA of single weights, so a unit has no picture of its inputs.")
    return model.saliency(selection.layer, selection.unit, selection.window, selection.classes)


def _saliency_code(model: Model, selection: Selection) -> list[str]:
    part = _selected(model, selection, model.by_class)
    tensor, shape = model.inputs_of(selection.layer, selection.unit)
    options = f"{selection.unit}, {selection.layer!r}, shape={shape}, lca={model.name('lca')!r}"
    options += f", tensor={tensor!r}" if tensor else ""
    return [f"numbers = lk.specialization.saliency({part}, {options}, iterations={_span(model, selection)})"]


def _unit(model: Model, selection: Selection) -> _Taken:
    found = model.class_curves(selection.layer, selection.unit, selection.role)[_rows(selection)]
    coords: dict[str, Any] = {"iteration": model.iterations[_rows(selection)]}
    if model.classes and found.shape[1] == len(model.classes):
        places = [model.classes.index(name) for name in selection.classes]
        return _made(model, found[:, places], coords | {"class": list(selection.classes)}, CUMULATIVE)
    return _made(model, found[:, 0], coords, CUMULATIVE)


def _unit_code(model: Model, selection: Selection) -> list[str]:
    where = f"{_role_of(selection)}layer={selection.layer!r}, unit={selection.unit}"
    if selection.role == ALL and model.has("lca_unit_class"):
        split = f", cls={list(selection.classes)!r}" if model.classes else ""
        values = f"ds.lk.sel({where}{split})[{model.name('lca_unit_class')!r}].isel(unit=0)"
    else:
        split = f", cls={list(selection.classes)!r}" if model.by_class else ""
        variable = model.name("lca_class" if model.by_class else "lca")
        values = f'lk.aggregate.sum_by(ds.lk.sel({where}{split}), "unit", {variable!r}).isel(unit=0)'
    return [f'numbers = {values}.astype(float).cumsum("iteration").sel(iteration={_span(model, selection)})']


def _role_of(selection: Selection) -> str:
    return "" if selection.role == ALL else f"role={selection.role!r}, "


def _parameter(model: Model, selection: Selection) -> _Taken:
    if selection.parameter is None:
        raise ValueError("This file holds nothing of single parameters; it may be a compact copy.")
    found, rows = tensors.series(model, selection.parameter, selection.classes), _rows(selection)
    coords = {"iteration": model.iterations[rows]}
    name = tensors.name_of(model.ds, selection.parameter)
    return xr.Dataset({key: _made(model, y[rows], coords, key) for key, y in found.items()}, attrs={"parameter": name})


def _parameter_code(model: Model, selection: Selection) -> list[str]:
    part = _selected(model, selection, model.by_class)
    at = f".isel(parameter={selection.parameter})"
    return [f"numbers = {part}[{model.name('lca')!r}]{at}.sel(iteration={_span(model, selection)})"]


VIEWS: dict[str, tuple[Callable[..., _Taken], Callable[..., list[str]]]] = {
    "loss": (_loss, _loss_code),
    "layers": (_layers, _layers_code),
    "layer_map": (_layers, _layers_code),
    "units": (_units, _units_code),
    "parameters": (_parameters, _parameters_code),
    "saliency": (_saliency, _saliency_code),
    "unit": (_unit, _unit_code),
    "parameter": (_parameter, _parameter_code),
}
"""Views by name: what they show, and the lines that compute it."""

OF_RUNS: dict[str, tuple[Callable[..., _Taken], Callable[..., list[str]]]] = {
    "runs": (taken_runs.runs, taken_runs.runs_code),
    "pair": (taken_runs.two, taken_runs.pair_code),
}
"""Those of several runs."""

OF_IMAGES: dict[str, tuple[Callable[..., _Taken], Callable[..., list[str]]]] = {
    "images": (taken_images.images, taken_images.images_code),
}
"""Those of images, where these are known."""
