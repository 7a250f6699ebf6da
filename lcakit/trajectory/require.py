"""Checked at the door: is the variable that a study needs in the file, and if not, how does it get there."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.trajectory.schema import STATISTICS, VARIABLES, split_name, with_suffix
from lcakit.trajectory.select import ALL_CLASSES, ALL_UNITS, LEFT_OUT, OF_WHOLE_UNITS


def require(ds: xr.Dataset, variable: str) -> xr.DataArray:
    """Return a data variable of a trajectory, with ``parameter`` as its last dimension.

    Raises
    ------
    TrajectoryError
        If the file does not hold it; the message says which option of ``lk.Recorder`` stores it, or that it went with
        a selection of classes.
    ValueError
        If the format has no such variable.
    """
    if variable in ds.data_vars:
        array = ds[variable]
        return array.transpose(..., "parameter") if "parameter" in array.dims else array
    base, suffix = split_name(variable)
    present = [str(name) for name in ds.data_vars]
    if base not in VARIABLES:
        raise unknown("variable", variable, present or VARIABLES)
    option = VARIABLES[base].option
    if variable in str(ds.attrs.get(LEFT_OUT, "")).split():
        by_parameter = ' or record with lk.Recorder(…, classes="parameter")' if base == "lca" else ""
        units = base in OF_WHOLE_UNITS
        some = "some tensors" if units else part_of_classes(ds)
        raise TrajectoryError(
            f"this selection of {some} has no {variable!r} ({VARIABLES[base].long_name}): that is of "
            f"{'whole units' if units else 'all classes'}. It has {', '.join(present) or 'no data'}. To have it, ask "
            f"before the {'tensors or roles' if units else 'classes'} are selected (ds.lk.sel){by_parameter}."
        )
    by_class = "class" in VARIABLES[base].dims and "class" not in ds.coords
    if by_class and ds.attrs.get("classes") in ("unit", "parameter"):
        raise TrajectoryError(
            f"this trajectory has no classes, so no {variable!r} ({VARIABLES[base].long_name}): its targets are no "
            "classes. Give an objective class_names=… where they are."
        )
    remedy = f"record with lk.Recorder(…, {option})" if option else "record the run again with this lcakit"
    if suffix:
        remedy = (
            f"allocate that objective along the stored run: lk.allocate(file, objective, name={suffix!r}); "
            "if that is done, open the file again"
        )
    raise TrajectoryError(
        f"this trajectory has no {variable!r} ({VARIABLES[base].long_name}). "
        f"It has {', '.join(present) or 'no data'}. "
        f"To have it, {remedy}."
    )


def part_of_classes(ds: xr.Dataset) -> str:
    """Say how many classes of how many a selection of classes has: ``"1 of 10 classes"``; "" where it has all."""
    return _part(ds, "class", ALL_CLASSES, "classes")


def part_of_units(ds: xr.Dataset) -> str:
    """Say how many units of how many a selection of layers or units has; "" where it has all."""
    return _part(ds, "unit", ALL_UNITS, "units")


def _part(ds: xr.Dataset, dim: str, attribute: str, plural: str) -> str:
    before, now = ds.attrs.get(attribute), ds.sizes.get(dim, int(dim in ds.coords))
    return f"{now or 'some'} of {before} {plural}" if isinstance(before, int | np.integer) and before > now else ""


def recorded(ds: xr.Dataset, text: str) -> str:
    """Return a text on iterations which says how many steps each is, where the recording left steps out (``every``)."""
    every = ds.attrs.get("every")
    if not isinstance(every, int | np.integer) or every <= 1:
        return text
    return f"{text.replace('iteration', 'recorded iteration', 1)} (each of {every} steps)"


def require_iterations(data: xr.Dataset | xr.DataArray) -> int:
    """Return the number of iterations; raise TrajectoryError where there is none, so that nothing can be said."""
    n = data.sizes.get("iteration", 0)
    if not n:
        raise TrajectoryError(
            "there is no iteration to look at: the recording was stopped before its first, or the selection kept none. "
            "Allowed: at least 1."
        )
    return int(n)


def source(ds: xr.Dataset, lca: str, classes: bool = False) -> str:
    """Return the variable that answers a question about sums of LCA; the first choice if the file has none.

    ``lca`` itself comes first, then the variables by class that sum to it, and sums of units; with ``classes`` only
    those by class.
    """
    _, suffix = split_name(lca)
    by_class = [with_suffix(name, suffix) for name in ("lca_unit_class", "lca_class")]
    choices = by_class if classes else [lca, *by_class, with_suffix("unit_lca", suffix)]
    return next((name for name in choices if name in ds), choices[0])


def in_place_of(ds: xr.Dataset, series: str, *statistics: str) -> list[xr.DataArray]:
    """Return running statistics of a series that the trajectory does not hold; nothing where it does, or has none.

    They are of the whole recording: a study of the whole run asks for them, any other needs the series.

    Parameters
    ----------
    series
        Name of the variable, such as ``"lca"`` or ``"lca_val"``.
    statistics
        Names of the schema, such as ``"total_lca"``, without a suffix.
    """
    base, suffix = split_name(series)
    if any(STATISTICS.get(name, "lca") != base for name in statistics):  # they are of another series
        return []
    names = [with_suffix(name, suffix) for name in statistics]
    stored = series not in ds and all(name in ds for name in names)
    return [ds[name] for name in names] if stored else []


def require_tables(ds: xr.Dataset) -> None:
    """Raise TrajectoryError unless the tables of tensors, layers and units are there."""
    missing = [name for name in ("tensor", "layer", "unit") if name not in ds.coords]
    if missing:
        raise TrajectoryError(
            f"this dataset has lost its table of {', '.join(missing)}, so its parts have no names. "
            "ds[[…]] drops tables: use ds.drop_vars or ds.lk.sel to narrow a trajectory."
        )
