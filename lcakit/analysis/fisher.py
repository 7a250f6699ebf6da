"""A Fisher-style measure of sensitivity, and the change of parametrization that fools it but not LCA.

In a ReLU network a layer can be scaled up and the next one down without changing the function. The squares of
gradients, by which parameters are often called important, then change at will; LCA, a part of the loss itself, stays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import grouped
from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory import labels
from lcakit.trajectory.labels import parameter_coord
from lcakit.trajectory.require import require, require_tables
from lcakit.trajectory.schema import split_name

__all__ = ["fisher_diagonal", "rescaled"]


def __dir__() -> list[str]:
    return __all__


_NORMS = ("norm_scale", "norm_shift")
_SCALED = ("kernel", "bias")


@of_trajectories
def fisher_diagonal(ds: xr.Dataset, gradient: str = "gradient", by: str | None = None) -> xr.DataArray:
    r"""Return the mean square gradient of each parameter: the diagonal of a Fisher-style matrix.

    .. math:: F_i = \frac{1}{T + 1} \sum_{t=0}^{T} \left(\frac{∂L}{∂θ_i}(θ_t)\right)^2

    This is *not* the Fisher information, nor the empirical one: these average the squares of the gradients of single
    examples, while a trajectory holds gradients of the full set, in which the examples have been averaged first. The
    average here is over the snapshots of the run. What it shares with them is how it scales with the parameters.

    Parameters
    ----------
    ds
        Trajectory with ``gradient`` (snapshot, parameter).
    gradient
        Name of the variable; ``"gradient_val"`` for another objective.
    by
        None, or a grouping of :func:`lcakit.aggregate.sum_by`, over whose members F is summed.

    Returns
    -------
    DataArray
        (parameter) or (by), float64, in the square of the unit of the loss. Lazy.

    Raises
    ------
    TrajectoryError
        If gradients were not recorded, or the variable is none.
    ValueError
        For an unknown grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> fisher_diagonal(tiny_trajectory(), by="layer").sizes
    Frozen({'layer': 3})
    """
    array = require(ds, gradient)
    if not {"snapshot", "parameter"} <= set(array.dims):
        raise TrajectoryError(f"{gradient!r} has dimensions {array.dims}; expected ('snapshot', 'parameter')")
    squares = array.astype(np.float64) ** 2  # in float32, squares of small gradients would be zero
    out = squares.mean("snapshot", skipna=False)
    if by is not None:
        require_tables(ds)
        out = grouped(out, "parameter", *labels.group_ids(ds, by))
    units = f"{array.attrs.get('units', '1')}^2"
    return out.rename("fisher_diagonal").assign_attrs(long_name="mean square of the full-set gradient", units=units)


@of_trajectories
def rescaled(ds: xr.Dataset, layer: str, next_layer: str, factor: float) -> xr.Dataset:
    r"""Return the same training in a network with one ReLU layer scaled up and the next one scaled down.

    .. math:: W_\ell, b_\ell \to f W_\ell, f b_\ell, \qquad W_{\ell+1} \to W_{\ell+1} / f

    As :math:`\mathrm{relu}(f x) = f\, \mathrm{relu}(x)` for f > 0, the function of the network, and so every loss,
    stays what it was. By the chain rule :math:`∂L/∂(f θ_i) = (∂L/∂θ_i) / f`, while moves become :math:`f\, Δθ_i`: the
    factors cancel in the product :math:`(g_i / f) \cdot f Δθ_i` at every point of the path, and **LCA does not change,
    parameter by parameter**. :func:`fisher_diagonal` changes by :math:`f^{-2}` in the layer and :math:`f^2` in the next
    kernel.

    Parameters
    ----------
    ds
        Trajectory with ``theta`` and ``gradient``.
    layer
        Layer whose kernel and bias are multiplied by ``factor``. It must lead to ``next_layer``, and to nothing else,
        by ReLU, leaky ReLU, pooling, dropout or flattening; that is not in the file, so the caller vouches for it.
    next_layer
        Layer whose kernel is divided by ``factor``; its bias stays.
    factor
        f > 0. Powers of 2 are exact; others round ``theta`` and ``gradient`` to their type in the file.

    Returns
    -------
    Dataset
        ``theta`` and the gradients of all objectives are scaled, everything else is as it was (also ``learning_rate``,
        though no optimizer with one rate takes these steps). The attribute ``rescaled`` says what was done. Lazy.

    Raises
    ------
    TrajectoryError
        If ``theta`` or ``gradient`` were not recorded.
    ValueError
        For an unknown layer, twice the same, one that has not just one kernel, a first one that a norm layer serves
        (it would undo the factor), or a factor that is not positive and finite.

    Examples
    --------
    >>> from lcakit.testing import LAYERS, tiny_trajectory
    >>> from lcakit.trajectory.labels import TensorSpec
    >>> layers = [TensorSpec(f"{n}.weight", (3, 3), "kernel", n, "linear") for n in ("in", "out")]
    >>> ds = tiny_trajectory(layers=layers)
    >>> other = rescaled(ds, "in", "out", factor=2.0)
    >>> (fisher_diagonal(other, by="layer") / fisher_diagonal(ds, by="layer")).values
    array([0.25, 4.  ])
    >>> other["lca"].identical(ds["lca"])
    True
    """
    for name in ("theta", "gradient"):
        require(ds, name)
    require_tables(ds)
    if isinstance(factor, bool) or not 0 < factor < math.inf:
        raise ValueError(f"factor must be positive and finite, got {factor!r}: ReLU passes only positive factors on")
    scale = xr.DataArray(_factors(ds, layer, next_layer, float(factor)), dims="parameter")
    new: dict[str, Any] = {}
    for variable, array in ds.data_vars.items():
        kind = split_name(str(variable))[0]
        if kind in ("theta", "gradient"):
            scaled = array.astype(np.float64) * (scale if kind == "theta" else 1 / scale)
            new[str(variable)] = scaled.astype(array.dtype).assign_attrs(array.attrs)
    return ds.assign(new).assign_attrs(rescaled=f"{layer} × {factor:g}, kernel of {next_layer} / {factor:g}")


def _factors(ds: xr.Dataset, layer: str, next_layer: str, factor: float) -> np.ndarray:
    """Return what each parameter of ``ds`` is multiplied by."""
    names = ds["layer"].values.astype(str)
    for name in (layer, next_layer):
        if name not in names:
            raise unknown("layer", name, names)
    if layer == next_layer:
        raise ValueError(f"layer and next_layer are both {layer!r}: name the layer that takes the output of {layer!r}")
    roles = ds["tensor_role"].values.astype(str)
    rows = parameter_coord(ds, "tensor_layer")
    owner, served = names[rows], names[ds["kernel_layer"].values[rows]]
    for name in (layer, next_layer):
        kernels = np.count_nonzero((roles == "kernel") & (owner == name))
        if kernels != 1:
            raise ValueError(
                f"layer {name!r} has {kernels} kernels; only layers with one, like linear ones, can be scaled"
            )
    _refuse(ds, (served == layer) & np.isin(roles, _NORMS), f"a norm layer serves {layer!r} and undoes the factor")
    _refuse(ds, (owner == layer) & ~np.isin(roles, _SCALED), f"{layer!r} has more than a kernel and a bias")
    tensor = np.ones(rows.size)
    tensor[((owner == layer) | (served == layer)) & np.isin(roles, _SCALED)] = factor
    tensor[(owner == next_layer) & (roles == "kernel")] = 1 / factor
    out: np.ndarray = tensor[parameter_coord(ds, "tensor_index")]
    return out


def _refuse(ds: xr.Dataset, tensors: np.ndarray, why: str) -> None:
    if tensors.any():
        found = ", ".join(ds["tensor"].values[tensors].astype(str))
        raise ValueError(f"{why} ({found}): choose another layer")
