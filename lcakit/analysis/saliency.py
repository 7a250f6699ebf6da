"""Saliency of first-layer units: which inputs a unit's LCA went to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.labels import parameter_coord
from lcakit.trajectory.require import require, require_tables
from lcakit.trajectory.select import TAPS, select, select_iterations

__all__ = ["IMAGE_DIMS", "one_unit", "saliency"]


def __dir__() -> list[str]:
    return __all__


IMAGE_DIMS = ("channel", "y", "x")
"""Dimensions of the images that saliency is laid out in."""


@of_trajectories
def saliency(
    ds: xr.Dataset,
    unit: int,
    layer: str | None = None,
    shape: Sequence[int] | None = None,
    lca: str = "lca",
    iterations: slice | int | None = None,
) -> xr.DataArray:
    r"""Return what a unit learned from each of its inputs, in the shape of the input.

    .. math:: I[j] = -\sum_t A[t, w_{uj}]

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter).
    unit
        Channel number inside the layer.
    layer
        A layer with a kernel; None: the first one, whose inputs are the pixels.
    shape
        Shape of the input of a linear layer, (y, x) or (channel, y, x). None: a square image with one channel or, where
        the number of inputs is three times a square, with three. Convolution kernels have their own shape.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    iterations
        As in :func:`unit_class_lca`.

    Returns
    -------
    DataArray
        (y, x) or (channel, y, x) for a linear layer, (in, ky, kx) for a convolution (as many taps as it has), float64,
        in the unit of the loss. Positive: the weight helped. Lazy.

    Raises
    ------
    TrajectoryError
        If the file does not hold ``lca``, or no layer has a kernel.
    ValueError
        For an unknown unit or layer, a shape that does not fit, or iterations that the run does not have.

    Notes
    -----
    Fig. S22 of the paper.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> saliency(tiny_trajectory(), unit=0).sizes
    Frozen({'in': 2, 'ky': 2, 'kx': 2})
    >>> saliency(tiny_trajectory(), unit=0, layer="fc", shape=(2, 3)).dims
    ('y', 'x')
    """
    require(ds, lca)
    require_tables(ds)
    row = _kernel_row(ds, layer)
    part = one_unit(ds, unit, tensor=str(ds["tensor"].values[row]))
    part = part if iterations is None else select_iterations(part, iterations)
    weights = require(part, lca).sum("iteration", dtype=np.float64, skipna=False)
    sizes = _input_sizes(ds, row, weights.sizes["parameter"], shape)
    whole: Any = weights.chunk(parameter=-1).data if weights.chunks else weights.data
    image = -whole.reshape((*weights.shape[:-1], *sizes.values()))
    lead = weights.dims[:-1]
    coords = {name: c for name, c in weights.coords.items() if set(c.dims) <= set(lead)}
    attrs = ds[lca].attrs | {"long_name": "saliency: minus the sum of LCA"}
    return xr.DataArray(image, dims=[*lead, *sizes], coords=coords, name="saliency", attrs=attrs)


def _kernel_row(ds: xr.Dataset, layer: str | None) -> int:
    """Return the row of the tensor table that holds the kernel of a layer."""
    kernels = ds["tensor_role"].values.astype(str) == "kernel"
    owners = ds["layer"].values.astype(str)[parameter_coord(ds, "tensor_layer")]
    if not kernels.any():
        raise TrajectoryError("no layer of this trajectory has a kernel, so it has no inputs to look at")
    name = owners[kernels][0] if layer is None else layer
    rows = np.flatnonzero(kernels & (owners == name))
    if rows.size == 0:
        raise unknown("layer with a kernel", layer, dict.fromkeys(owners[kernels]))
    if rows.size > 1:
        names = ", ".join(ds["tensor"].values[rows].astype(str))
        raise ValueError(f"layer {name!r} has several kernels ({names}), so its units have no one image; use ds.lk.sel")
    return int(rows[0])


def _input_sizes(ds: xr.Dataset, row: int, held: int, shape: Sequence[int] | None) -> dict[str, int]:
    """Return the dimensions of the image: those of a convolution kernel, or those of a linear layer's input."""
    kernel = tuple(int(n) for n in ds["tensor_shape"].values[row] if n)
    taps = kernel[2:]
    transposed = str(ds["layer_kind"].values[ds["tensor_layer"].values[row]]).startswith("convtranspose")
    expected = held if transposed else math.prod(kernel[1:])  # with groups, a file does not tell
    if held != expected or held % math.prod(taps):
        raise ValueError(f"the dataset holds {held} of the {expected} weights of the unit: select less narrowly")
    if taps:
        if shape is not None or len(taps) > len(TAPS):
            raise ValueError(f"a convolution with the kernel {kernel} has a shape of its own; got shape={shape!r}")
        return {"in": held // math.prod(taps), **dict(zip(TAPS[-len(taps) :], taps, strict=True))}
    if shape is None:
        return _square(held)
    sizes = [int(n) for n in shape]
    if len(sizes) not in (2, 3) or min(sizes) < 1 or math.prod(sizes) != held:
        raise ValueError(f"shape must be (y, x) or (channel, y, x) with {held} entries, one an input; got {shape!r}")
    return dict(zip(IMAGE_DIMS[-len(sizes) :], sizes, strict=True))


def _square(inputs: int) -> dict[str, int]:
    for channels in (1, 3):
        side = math.isqrt(inputs // channels)
        if channels * side * side == inputs:
            sizes = {"channel": channels, "y": side, "x": side}
            return sizes if channels > 1 else {"y": side, "x": side}
    raise ValueError(
        f"the layer has {inputs} inputs, neither a square nor three times one: pass shape=(y, x) or (channel, y, x)"
    )


def one_unit(ds: xr.Dataset, unit: int, **names: str | None) -> xr.Dataset:
    """Return the part of one unit; raise ValueError where ``unit`` is not a single whole number."""
    if isinstance(unit, bool) or not isinstance(unit, int | np.integer):
        raise ValueError(f"unit must be one whole number, got {unit!r}; for several, call this for each")
    return select(ds, unit=int(unit), **names)  # type: ignore[arg-type]
