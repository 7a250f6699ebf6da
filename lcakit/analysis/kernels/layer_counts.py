"""How many parameters of each layer help and hurt: what a recording without LCA of parameters still knows of signs."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import grouped
from lcakit.errors import TrajectoryError
from lcakit.trajectory.require import in_place_of, require_tables
from lcakit.trajectory.schema import LAYER_COUNTS

__all__ = ["GROUPINGS", "outcomes_by_layer"]


def __dir__() -> list[str]:
    return __all__


GROUPINGS = ("layer", "kernel_layer")


def outcomes_by_layer(ds: xr.Dataset, lca: str, by: str | None, outcomes: list[str]) -> xr.DataArray | None:
    """Count helping, hurting and zero parameters from the counts of layers; None where the series says it better.

    Returns
    -------
    DataArray
        (…, iteration, outcome[, by]), float64. Lazy.

    Raises
    ------
    TrajectoryError
        For a grouping finer than layers, or a selection that cuts a layer.
    """
    found = in_place_of(ds, lca, *LAYER_COUNTS)
    if not found:
        return None
    if by not in (None, *GROUPINGS):
        raise TrajectoryError(
            f"this trajectory only knows how many parameters of each layer help, so not by {by!r}; allowed: "
            f'{", ".join(GROUPINGS)} or None. For more, record with lk.Recorder(…, keep=("lca", …)).'
        )
    sizes = _layer_sizes(ds)
    helped, hurt = (counts.astype(np.float64).where(sizes > 0, 0) for counts in found)
    counts = xr.concat(
        [helped, hurt, sizes - helped - hurt], dim=xr.DataArray(outcomes, dims="outcome", name="outcome")
    )
    ids, names = _groups(ds, by)
    held = np.flatnonzero(sizes.values)
    out = grouped(counts.isel(layer=held), "layer", ids[held], names)
    out = out.squeeze("group", drop=True) if by is None else out
    return out.transpose(..., "iteration", "outcome", *([] if by is None else [by]))


def _groups(ds: xr.Dataset, by: str | None) -> tuple[np.ndarray, xr.DataArray]:
    """Return the group of each layer, and the labels of the groups."""
    n, names = ds.sizes["layer"], ds["layer"].values.astype(str)
    if by is None:
        return np.zeros(n, int), xr.DataArray(["all"], dims="group")
    if by == "layer":
        return np.arange(n), ds["layer"].drop_vars("kernel_layer")
    return ds["kernel_layer"].values, xr.DataArray(names, dims=by, coords={by: names})


def _layer_sizes(ds: xr.Dataset) -> xr.DataArray:
    """Return how many parameters of each layer the dataset has: all of them, or none."""
    require_tables(ds)
    n = ds.sizes["layer"]
    whole = np.bincount(ds["tensor_layer"].values, ds["tensor_size"].values, n).astype(np.int64)
    held = np.bincount(ds["layer_index"].values, minlength=n) if "layer_index" in ds.coords else whole
    cut = np.flatnonzero((held > 0) & (held < whole))
    if cut.size:
        raise TrajectoryError(
            f"this selection has {held[cut[0]]} of {whole[cut[0]]} parameters of {ds['layer'].values[cut[0]]!r}, and "
            "this trajectory only counts whole layers. Select whole layers, or record with "
            'lk.Recorder(…, keep=("lca", …)).'
        )
    return xr.DataArray(held, dims="layer")
