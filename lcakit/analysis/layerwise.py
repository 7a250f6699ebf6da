"""LCA of layers: sums over the parameters of each."""

from __future__ import annotations

import xarray as xr

from lcakit.analysis.aggregate import sum_by
from lcakit.errors import unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.require import source

__all__ = ["LAYER_GROUPINGS", "layer_lca"]


def __dir__() -> list[str]:
    return __all__


LAYER_GROUPINGS = ("kernel_layer", "layer")


@of_trajectories
def layer_lca(ds: xr.Dataset, by: str = "kernel_layer", lca: str = "lca", classes: bool = False) -> xr.DataArray:
    r"""Return the LCA of each layer in each iteration.

    .. math:: A_\ell[t] = \sum_{i \in \ell} A[t, i]

    Parameters
    ----------
    ds
        Trajectory.
    by
        ``"kernel_layer"``: biases and following norm layers count with the kernel they serve; ``"layer"``:
        each module for itself.
    lca
        ``"lca"``, or with a suffix (``"lca_val"``) for another objective.
    classes
        Split by class, from ``lca_unit_class`` or else ``lca_class``.

    Returns
    -------
    DataArray
        (iteration, layer) or (iteration, layer, class), in the unit of the loss. Lazy. Negative: the layer
        helps. Over layers (and classes) the values sum to the loss change of the iteration, up to its
        ``residual``.

    Raises
    ------
    TrajectoryError
        If the file does not hold this LCA, or not by class.
    ValueError
        For a grouping that is not into layers.

    Notes
    -----
    Fig. 4 of the paper, summed over the run.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> layer_lca(tiny_trajectory(), classes=True).dims
    ('iteration', 'layer', 'class')
    """
    if by not in LAYER_GROUPINGS:
        raise unknown("grouping into layers", by, LAYER_GROUPINGS)
    variable = source(ds, lca, classes)
    out = sum_by(ds, by, variable).rename({by: "layer"})
    if "class" in out.dims:
        out = out.transpose(..., "layer", "class") if classes else out.sum("class", skipna=False)
    return out.rename(lca).assign_attrs(long_name="loss change allocation of layers")
