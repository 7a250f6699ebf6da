"""One tensor, one parameter: their names, and the numbers that are shown of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from lcakit.errors import LcakitError, TrajectoryError
from lcakit.plot._tiles import Tiles
from lcakit.trajectory.labels import parameter_coord, parameter_index, parameter_name
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.names import shown
from lcakit.views.explorer.selection import ALL, CUMULATIVE, GRADIENT, LCA, MOVEMENT, QUANTITIES, SIGNED, Selection

__all__ = [
    "Tensor",
    "channels_of",
    "find",
    "layer_of",
    "meaning",
    "name_of",
    "picture",
    "require",
    "series",
    "strongest_of",
    "tensor_of",
    "unit_of",
    "values",
]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Tensor:
    """A tensor of the dataset: its row in the table, its name, and the range of its parameters in the dataset."""

    row: int
    name: str
    columns: slice


def tensor_of(model: Model, layer: str, role: str) -> Tensor:
    """Return the tensor that the map of a layer shows: the first of the role, or the kernel.

    Raises
    ------
    TrajectoryError
        If the dataset holds no such tensor.
    """
    ds = model.ds
    held = np.unique(parameter_coord(ds, "tensor_index"))
    layers = ds["layer"].values.astype(str)
    owner = layers[ds["kernel_layer"].values[ds["tensor_layer"].values[held]]]
    roles = ds["tensor_role"].values.astype(str)[held]
    found = held[(owner == layer) & ((roles == role) | (role == ALL))]
    if not found.size:
        raise TrajectoryError(f"layer {layer!r} has no tensor with the role {role!r}. Choose another role or layer.")
    largest = found[np.argmax(ds["tensor_size"].values[found])] if role == ALL else found[0]
    return _tensor(ds, int(largest))


def _tensor(ds: xr.Dataset, row: int) -> Tensor:
    places = np.flatnonzero(ds["tensor_index"].values == row)
    return Tensor(row, str(ds["tensor"].values[row]), slice(int(places[0]), int(places[-1]) + 1))


def picture(tiles: Tiles, values: np.ndarray) -> np.ndarray:
    """Return the values of a tensor's parameters at their places; NaN where there is nothing."""
    return np.where(tiles.places < 0, np.nan, values[tiles.places])


# ---- values ----------------------------------------------------------------------------------------------------


def values(model: Model, tensor: Tensor, selection: Selection) -> np.ndarray:
    """Return what the map shows for each parameter of a tensor: the chosen quantity, at the iteration or over the span.

    ========== ============================= ======================================
    quantity   at iteration t                over the span a … b
    ========== ============================= ======================================
    LCA        A[t]                          Σ A[a … b]
    cumulative Σ A[0 … t]                    Σ A[0 … b]
    gradient   ∇L(θ[t])                      mean of ∇L(θ[a … b+1])
    movement   θ[t+1] − θ[t]                 θ[b+1] − θ[a]
    weight     θ[t]                          θ[b+1]
    ========== ============================= ======================================

    LCA is that of the chosen classes where the file holds it by class and parameter, else of all classes.

    Raises
    ------
    TrajectoryError
        If the file does not hold the quantity for single parameters.
    """
    require(model, selection.quantity)
    first, last = selection.window if selection.whole else (selection.iteration, selection.iteration)
    name, read, columns = model.name, model.reader, tensor.columns
    if selection.quantity in SIGNED:
        first = 0 if selection.quantity == CUMULATIVE else first
        chosen = model.class_rows(selection.classes)
        if chosen is None:
            return read.total(name("lca"), columns, first, last)
        by_class = [read.total(name("lca_class"), columns, first, last, cls) for cls in chosen]
        return np.asarray(np.sum(by_class, axis=0))
    if selection.quantity == GRADIENT:
        last = last + 1 if selection.whole else last
        return read.total(name("gradient"), columns, first, last) / (last - first + 1)
    if selection.quantity == MOVEMENT:
        start, end = (read.row("theta", columns, t).astype(np.float64) for t in (first, last + 1))
        return end - start
    return read.row("theta", columns, last + 1 if selection.whole else last).astype(np.float64)


def require(model: Model, quantity: str) -> None:
    """Raise TrajectoryError unless the file holds a quantity for single parameters."""
    base = {LCA: "lca", CUMULATIVE: "lca", GRADIENT: "gradient"}.get(quantity, "theta")
    if not model.has(base) or "parameter" not in model.ds.dims:
        raise TrajectoryError(
            f"This file holds no {QUANTITIES[quantity]} of single parameters; it may be a compact copy. "
            "Open the original file for this view."
        )


def meaning(quantity: str, whole: bool) -> str:
    """Return what :func:`values` are, in words that fit before ``of fc1.weight``."""
    if not whole:
        return QUANTITIES[quantity]
    words = {LCA: "sum of LCA", GRADIENT: "mean gradient", MOVEMENT: "movement from start to end", CUMULATIVE: ""}
    return words.get(quantity) or f"{QUANTITIES[quantity]} at the end"


def series(model: Model, parameter: int, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return movement, gradient and LCA of one parameter over all iterations, of those that the file holds.

    LCA is that of the chosen classes where the file holds it by class and parameter, else of all classes.
    """
    read, out = model.reader, {}
    if model.has("theta"):
        out[MOVEMENT] = np.diff(read.series("theta", parameter).astype(np.float64))
    if model.has("gradient"):
        out[GRADIENT] = read.series(model.name("gradient"), parameter)[:-1].astype(np.float64)
    chosen = model.class_rows(classes)
    if chosen is not None:
        by_class = [read.series(model.name("lca_class"), parameter, cls) for cls in chosen]
        out[LCA] = np.sum(by_class, axis=0, dtype=np.float64)
    elif model.has("lca"):
        out[LCA] = read.series(model.name("lca"), parameter).astype(np.float64)
    return out


# ---- names -----------------------------------------------------------------------------------------------------


def name_of(ds: xr.Dataset, parameter: int) -> str:
    """Return the name of a parameter by its position in the dataset, such as ``fc1.weight[3, 17]``."""
    index = int(ds["parameter"].values[parameter]) if "parameter" in ds.coords else parameter
    return parameter_name(ds, index)


def find(ds: xr.Dataset, name: str) -> int:
    """Return the position in the dataset of a parameter by its name, also as a widget shows it."""
    tensor, bracket, place = name.strip().rpartition("[")
    known = {shown(text, 200): str(text) for text in ds["tensor"].values}
    index = parameter_index(ds, known.get(tensor, tensor) + bracket + place)
    if "parameter" not in ds.coords:
        return index
    found = np.flatnonzero(ds["parameter"].values == index)
    if not found.size:
        raise ValueError(f"{name!r} is not in this selection of the network")
    return int(found[0])


def strongest_of(model: Model, layer: str) -> int | None:
    """Return the parameter of a layer that is shown first: that with the largest LCA in the first iteration.

    None where the file has no single parameters, the first of all where it holds none of this layer.
    """
    if not model.has_parameters:
        return None
    try:
        tensor = tensor_of(model, layer, ALL)
        found = model.reader.row(model.name("lca"), tensor.columns, 0) if model.has("lca") else np.zeros(1)
    except LcakitError:
        return 0
    return int(tensor.columns.start) + int(np.argmax(np.abs(np.nan_to_num(found))))


def layer_of(ds: xr.Dataset, parameter: int) -> str:
    """Return the name of the kernel layer that a parameter belongs to."""
    layer = ds["tensor_layer"].values[ds["tensor_index"].values[parameter]]
    return str(ds["layer"].values[ds["kernel_layer"].values[layer]])


def unit_of(ds: xr.Dataset, parameter: int) -> int:
    """Return the channel number of the unit of a parameter."""
    return int(channels_of(ds, ds["unit_index"].values[parameter]))


def channels_of(ds: xr.Dataset, units: np.ndarray) -> np.ndarray:
    """Return the channel numbers of units, which are given by their numbers in the file; -1 where there is none."""
    held = ds["unit"].values
    places = np.minimum(np.searchsorted(held, units), held.size - 1)
    return np.where(held[places] == units, ds["unit_channel"].values[places], -1)
