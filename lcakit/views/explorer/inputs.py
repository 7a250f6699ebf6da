"""What a unit learned from each of its inputs over a span: the LCA of its weights in the shape of the input."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from lcakit.analysis.saliency import saliency
from lcakit.trajectory.labels import parameter_coord
from lcakit.views.explorer.reading import Reader

__all__ = ["Kernel", "kernel_of", "saliency_of"]


def __dir__() -> list[str]:
    return __all__


Kernel = tuple[int | None, str | None, tuple[int, int] | None]
"""Row of a tensor in its table; its name where its layer has several kernels; (1, n) where inputs are no image."""


def _image_side(inputs: int) -> int:
    """Return the side of a square image with this many inputs, in one channel or three; 0 if there is none."""
    sides = [(math.isqrt(inputs // channels), channels) for channels in (1, 3)]
    return next((side for side, channels in sides if channels * side * side == inputs), 0)


def kernel_of(ds: xr.Dataset, layer: str, number: int) -> Kernel:
    """Return the kernel with the weights of a unit's inputs; the unit is given by its number in the file."""
    own = parameter_coord(ds, "unit_index") == number
    tensors = parameter_coord(ds, "tensor_index")
    of_layer = ds["layer"].values.astype(str)[ds["tensor_layer"].values] == layer
    kernels = np.flatnonzero(of_layer & (ds["tensor_role"].values.astype(str) == "kernel"))
    row = next((int(row) for row in kernels if (own & (tensors == row)).any()), None)
    if row is None:
        return None, None, None
    inputs = np.unique(parameter_coord(ds, "input_index")[own & (tensors == row)]).size
    is_image = np.count_nonzero(ds["tensor_shape"].values[row]) != 2 or _image_side(inputs)
    return row, str(ds["tensor"].values[row]) if kernels.size > 1 else None, None if is_image else (1, inputs)


def saliency_of(
    ds: xr.Dataset,
    reader: Reader,
    lca: str,
    unit: tuple[str, int, int],
    window: tuple[int, int],
    source: tuple[str, list[int] | None],
) -> xr.DataArray:
    """Return minus the LCA of the weights of a unit over a span, as an image; inputs that are none in one row.

    Only the weights of the unit are read, in the sums that ``reader`` keeps: a change of the span reads little.

    Parameters
    ----------
    unit
        Its layer, its channel number, and its number in the file.
    source
        The variable that is read, and the positions of the classes whose sum is wanted; None where it has none.
    """
    layer, channel, number = unit
    row, tensor, shape = kernel_of(ds, layer, number)
    sums = np.zeros(ds.sizes["parameter"])
    if row is not None:
        own = (parameter_coord(ds, "unit_index") == number) & (parameter_coord(ds, "tensor_index") == row)
        places = np.flatnonzero(own)
        columns = slice(int(places[0]), int(places[-1]) + 1)
        name, classes = source
        for cls in [None] if classes is None else classes:
            sums[columns] += reader.total(name, columns, *window, cls)
    over_time = [name for name, variable in ds.variables.items() if {"iteration", "snapshot"} & set(variable.dims)]
    one = ds.drop_vars(over_time).assign({lca: (("iteration", "parameter"), sums[None], ds[lca].attrs)})
    return saliency(one, channel, layer, shape, lca, None, tensor)
