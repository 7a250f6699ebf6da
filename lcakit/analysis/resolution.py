"""A trajectory without parameters: LCA summed over each unit or layer, by class where the trajectory has it so.

What stays is ``lca_unit_class``, the tables of tensors, layers and units, and everything per snapshot or iteration, so
that studies of layers, classes and their synchronization work as before. At the resolution of layers the table of
units has one row for each layer, and its sums are those of whole layers. LCA that is not split by class has the single
class ``all``. Whatever needs ``theta``, ``gradient`` or LCA of parameters is not there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import sum_by
from lcakit.analysis.norms import unit_norms
from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory import schema
from lcakit.trajectory.require import require_tables
from lcakit.trajectory.schema import split_name, with_suffix
from lcakit.trajectory.select import with_class_dimension
from lcakit.trajectory.selection_notes import size_before, with_size_before

__all__ = ["ALL", "RESOLUTIONS", "aggregated"]


def __dir__() -> list[str]:
    return __all__


RESOLUTIONS = ("parameter", "unit", "layer")
ALL = "all"
_SUMMED = ("lca_unit_class", "lca_class", "lca", "unit_lca")  # the first that is there is summed


@of_trajectories
def aggregated(ds: xr.Dataset, resolution: str, norms: bool = False) -> xr.Dataset:
    r"""Return a trajectory at the resolution of units or layers. Lazy.

    .. math:: A_c[t, u] = \sum_{i \in u} A_c[t, i]

    Parameters
    ----------
    ds
        Trajectory of one run, also one that is aggregated by units already.
    resolution
        ``"unit"`` or ``"layer"``; ``"parameter"`` gives the trajectory back.
    norms
        Also keep, of each unit or layer, the L2 norms of its gradient and movement, and of the effective gradient by
        class: of those whose vectors the trajectory has. Norms that are in place of vectors already stay in any case.

    Returns
    -------
    Dataset
        With ``lca_unit_class`` (iteration, unit, class), float32, for every objective; with ``norms`` also
        ``unit_gradient_norm`` (snapshot, unit), ``unit_movement_norm`` (iteration, unit) and ``unit_effective_norm``
        (iteration, unit, class).

    Raises
    ------
    ValueError
        For an unknown resolution, or norms at that of parameters.
    TrajectoryError
        If the trajectory has no LCA, or is aggregated further than asked for, or only some objectives have classes; or
        if it has nothing to take norms of.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> aggregated(tiny_trajectory(), "layer")["lca_unit_class"].shape
    (12, 3, 3)
    """
    if resolution not in RESOLUTIONS:
        raise unknown("resolution", resolution, RESOLUTIONS)
    held = str(ds.attrs.get("resolution", "parameter"))
    if held in RESOLUTIONS and RESOLUTIONS.index(held) > RESOLUTIONS.index(resolution):
        raise TrajectoryError(
            f"this is an aggregated copy with the resolution {held!r}, so it has none of {resolution!r}. "
            "Open the original, or ask for its resolution."
        )
    if resolution == "parameter":
        if norms:
            raise ValueError(
                'norms=True is for copies without parameters: pass resolution="unit" with it, or resolution="layer"'
            )
        return ds
    ds = with_class_dimension(ds)
    require_tables(ds)
    sums = _by_class({name: _summed(ds, name, resolution) for name in _sources(ds)})
    rest = ds.drop_dims(["parameter", "unit"], errors="ignore").drop_vars("parameter", errors="ignore")
    rest = rest.drop_vars([name for name in rest.variables if split_name(str(name))[0] in _SUMMED])
    if all(ALL in array["class"].values for array in sums.values()):  # nothing is by class then
        rest = rest.drop_dims("class", errors="ignore")
    rows = next(iter(sums.values()))["unit"].values
    out = rest.assign_coords(_unit_table(ds, rows, resolution))
    classes = next(iter(sums.values()))["class"].values
    out = out.assign_coords({"class": classes})
    data = {_target(name): (array.dims, array.data) for name, array in sums.items()}
    kept = _norms(ds, list(sums), resolution, norms)
    version = {"schema_version": schema.SCHEMA_VERSION, "Conventions": schema.CONVENTIONS} if kept else {}
    if resolution == "layer" and size_before(out, "unit"):  # of a selection: its units are layers now
        out = with_size_before(out, "unit", ds.sizes["layer"])
    return schema.stamp(out.assign(data | kept).assign_attrs(resolution=resolution, **version))


def _sources(ds: xr.Dataset) -> list[str]:
    """Return the variable to sum for each objective."""
    suffixes = dict.fromkeys(split_name(str(n))[1] for n in ds.data_vars if split_name(str(n))[0] in _SUMMED)
    names = [next(n for base in _SUMMED if (n := with_suffix(base, suffix)) in ds) for suffix in suffixes]
    if not names:
        raise TrajectoryError(
            f"this trajectory has no LCA to sum: it has {', '.join(map(str, ds.data_vars)) or 'no data'}. "
            "Allocate first: lk.allocate(file, objective)."
        )
    return names


def _norms(ds: xr.Dataset, sources: list[str], resolution: str, wanted: bool) -> dict[str, tuple[Any, Any]]:
    """Return the norms that are asked for, or that the trajectory has in place of vectors."""
    suffixes = [split_name(name)[1] for name in sources]
    made = {name: array for s in suffixes for name, array in unit_norms(ds, resolution, with_suffix("lca", s)).items()}
    if wanted and not made:
        raise TrajectoryError(
            "norms=True needs theta, or a gradient, and this trajectory has neither. "
            'Record with lk.Recorder(…, keep=("theta", "gradient", …)).'
        )
    kept = made if wanted else {name: array for name, array in made.items() if name in ds}
    dims = {name: schema.VARIABLES[split_name(name)[0]].dims for name in kept}
    renamed = {
        name: array.rename({resolution: "unit"}) if resolution != "unit" else array for name, array in kept.items()
    }
    return {name: (dims[name], array.transpose(*dims[name]).data.astype(np.float32)) for name, array in renamed.items()}


def _target(name: str) -> str:
    return with_suffix("lca_unit_class", split_name(name)[1])


def _summed(ds: xr.Dataset, name: str, resolution: str) -> xr.DataArray:
    """Return LCA (iteration, unit[, class]) in float32, the dimension of layers being ``unit``, too."""
    if resolution == "unit" and split_name(name)[0] in ("lca_unit_class", "unit_lca"):
        return ds[name]
    out = sum_by(ds, resolution, name)
    out = out.assign_coords(unit=(resolution, _rows(ds, out, resolution))) if resolution == "layer" else out
    out = out.swap_dims(layer="unit") if resolution == "layer" else out
    return out.transpose("iteration", "unit", ...).astype(np.float32)


def _rows(ds: xr.Dataset, sums: xr.DataArray, resolution: str) -> np.ndarray:
    names = [str(name) for name in ds["layer"].values]
    return np.array([names.index(str(name)) for name in sums[resolution].values], np.int32)


def _by_class(sums: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Give LCA without classes the single class of everything; refuse a mixture, which has no common classes."""
    without = [name for name, array in sums.items() if "class" not in array.dims]
    if without and len(without) < len(sums):
        raise TrajectoryError(
            f"{', '.join(without)} is not split by class, but other LCA is, and a file has one table of classes. "
            f"Leave it out: drop=({without[0]!r},)."
        )
    return {name: array.expand_dims({"class": [ALL]}, axis=-1) if without else array for name, array in sums.items()}


def _unit_table(ds: xr.Dataset, rows: np.ndarray, resolution: str) -> dict[str, tuple[str, np.ndarray]]:
    """Return the table of units that are left; of layers, one row for each."""
    if resolution == "unit":
        place = np.searchsorted(ds["unit"].values, rows)
        return {name: ("unit", ds[name].values[place]) for name in ("unit", "unit_layer", "unit_channel")}
    numbers = {"unit": rows, "unit_layer": rows, "unit_channel": np.zeros_like(rows)}
    return {name: ("unit", values.astype(np.int32)) for name, values in numbers.items()}
