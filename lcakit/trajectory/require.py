"""The variables that an analysis needs: taken from a trajectory, or an error that says how to get them into one."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.trajectory.narrowed import check_dimensions
from lcakit.trajectory.schema import STATISTICS, UNIT_NORMS, VARIABLES, split_name, with_suffix
from lcakit.trajectory.select import OF_WHOLE_UNITS
from lcakit.trajectory.selection_notes import part_of, was_left_out

__all__ = [
    "WHERE_MISSING",
    "in_place_of",
    "iterations_there",
    "recorded",
    "require",
    "require_iterations",
    "require_pairs",
    "require_tables",
    "require_units_by_class",
    "source",
]


def __dir__() -> list[str]:
    return __all__


WHERE_MISSING = (
    'Of runs of different lengths, lk.runs.align(runs, align="shortest") keeps the iterations that all have; of one '
    "run, lk.validate says where numbers are missing."
)
"""What to do about NaN."""


def require(ds: xr.Dataset, variable: str, or_else: str = "") -> xr.DataArray:
    """Return a data variable of a trajectory, with ``parameter`` as its last dimension.

    ``or_else`` is a sentence on what would do in its place, for the message.

    Raises
    ------
    TrajectoryError
        If the dataset does not hold it; the message says which option of ``lk.Recorder`` stores it, or that a
        selection left it out. Also for one that was spread over a dimension that is not its own.
    ValueError
        If the format has no such variable.
    """
    if variable in ds.data_vars:
        array = ds[variable]
        check_dimensions(array, variable)
        return array.transpose(..., "parameter") if "parameter" in array.dims else array
    base, _ = split_name(variable)
    if base not in VARIABLES:
        raise unknown("variable", variable, _present(ds) or VARIABLES)
    if was_left_out(ds, variable):
        raise _left_out(ds, variable, base)
    if "class" in VARIABLES[base].dims and "class" not in ds.coords and ds.attrs.get("classes") in _BY_CLASS:
        raise TrajectoryError(
            f"this trajectory has no classes, so no {_described(variable)}: its targets are not class labels. Where "
            "they are, give the objective class_names=…"
        )
    raise TrajectoryError(
        f"this trajectory has no {_described(variable)}. It has {', '.join(_present(ds)) or 'no data'}. To have it, "
        f"{_remedy(ds, variable)}.{or_else and ' ' + or_else}"
    )


_BY_CLASS = ("unit", "parameter")
"""Values of the attribute ``classes`` of recordings that were to keep variables by class."""


def _present(ds: xr.Dataset) -> list[str]:
    return [str(name) for name in ds.data_vars]


def _described(variable: str) -> str:
    base, suffix = split_name(variable)
    of = f" of the objective {suffix!r}" if suffix else ""
    return f"{variable!r} ({VARIABLES[base].long_name}{of})"


def _left_out(ds: xr.Dataset, variable: str, base: str) -> TrajectoryError:
    """Return the error for a variable that a selection of classes, or of tensors, left out."""
    by_units = base in OF_WHOLE_UNITS
    some, all_of_them, chosen = (
        ("some tensors", "whole units", "tensors or roles")
        if by_units
        else (part_of(ds, "class"), "all classes", "classes")
    )
    further = ' or record with lk.Recorder(…, classes="parameter")' if base == "lca" else ""
    return TrajectoryError(
        f"this selection of {some} has no {_described(variable)}, which is computed over {all_of_them}. It has "
        f"{', '.join(_present(ds)) or 'no data'}. To use it, take it before the {chosen} are selected "
        f"(ds.lk.sel){further}."
    )


def _remedy(ds: xr.Dataset, variable: str) -> str:
    base, suffix = split_name(variable)
    if "shared_from" in ds.attrs or _resolution(ds) != "parameter":
        return f"{_recording(base, suffix)}; or, if the original of this compact copy has it, {_sharing(ds, variable)}"
    return _recording(base, suffix)


def _sharing(ds: xr.Dataset, variable: str) -> str:
    """Say how a compact copy would have kept a variable of the original."""
    base, _ = split_name(variable)
    dims = VARIABLES[base].dims
    resolution = _resolution(ds)
    if base in UNIT_NORMS:
        return "share that with lk.share(…, norms=True)"
    if "parameter" in dims and resolution != "parameter":
        return f'share that with lk.share(…, resolution="parameter"): this one has {resolution}s'
    whole = " and with all its iterations" if base in STATISTICS else ""
    return f"share that without drop=({variable!r},){whole}"


def _resolution(ds: xr.Dataset) -> str:
    return str(ds.attrs.get("resolution", "parameter"))


def _recording(base: str, suffix: str) -> str:
    if suffix:
        return (
            f"allocate that objective along the stored run: lk.allocate(file, objective, name={suffix!r}); if that is "
            "done, open the file again"
        )
    option = VARIABLES[base].option
    return f"record with lk.Recorder(…, {option})" if option else "record the run again with this lcakit"


def recorded(ds: xr.Dataset, text: str) -> str:
    """Return a text on iterations; where steps were left out (``every``), it says how many steps an iteration is."""
    every = ds.attrs.get("every")
    if not isinstance(every, int | np.integer) or every <= 1:
        return text
    return f"{text.replace('iteration', 'recorded iteration', 1)} (each of {every} steps)"


def require_iterations(data: xr.Dataset | xr.DataArray) -> int:
    """Return the number of iterations; raise TrajectoryError where there is none."""
    n = data.sizes.get("iteration", 0)
    if not n:
        raise TrajectoryError(
            "there is no iteration to look at: the recording stopped before the first, or the selection kept none. "
            "Allowed: at least 1."
        )
    return int(n)


def require_pairs(ds: xr.Dataset) -> None:
    """Raise TrajectoryError unless iteration t is the move between the snapshots t and t + 1."""
    snapshots, iterations = ds.sizes.get("snapshot"), ds.sizes.get("iteration")
    if snapshots is not None and iterations is not None and snapshots != iterations + 1:
        raise TrajectoryError(
            f"this dataset has {snapshots} snapshots for {iterations} iterations, not {iterations + 1}, so they do not "
            "belong together. ds.lk.sel(iteration=slice(2, 6)) selects both."
        )


def iterations_there(ds: xr.Dataset) -> xr.DataArray | int:
    """Return how many iterations each run has: those between losses that are there, not those it was padded with."""
    if "loss" not in ds or "snapshot" not in ds["loss"].dims:
        return int(ds.sizes["iteration"])
    there = ds["loss"].notnull().drop_vars("snapshot", errors="ignore")
    return (there.isel(snapshot=slice(1, None)) & there.isel(snapshot=slice(None, -1))).sum("snapshot")


def source(ds: xr.Dataset, lca: str, classes: bool = False) -> str:
    """Return the name of the variable from which sums of LCA can be computed; the first choice if the file has none.

    The choices are ``lca`` itself, the variables by class that sum to it, and sums of units; with ``classes`` only the
    variables by class.
    """
    _, suffix = split_name(lca)
    by_class = [with_suffix(name, suffix) for name in ("lca_unit_class", "lca_class")]
    choices = by_class if classes else [lca, *by_class, with_suffix("unit_lca", suffix)]
    return next((name for name in choices if name in ds), choices[0])


def in_place_of(ds: xr.Dataset, series: str, *statistics: str) -> list[xr.DataArray]:
    """Return running statistics in place of a series that the trajectory does not hold; [] where it does, or has none.

    They are of the whole recording: only an analysis of the whole run can use them.

    Parameters
    ----------
    series
        Name of the variable, such as ``"lca"`` or ``"lca_val"``.
    statistics
        Names of the schema, such as ``"total_lca"``, without a suffix.
    """
    base, suffix = split_name(series)
    if any(STATISTICS.get(name, "lca") != base for name in statistics):  # statistics of another series
        return []
    names = [with_suffix(name, suffix) for name in statistics]
    stored = series not in ds and all(name in ds for name in names)
    return [ds[name] for name in names] if stored else []


def require_units_by_class(ds: xr.Dataset) -> None:
    """Raise TrajectoryError for a compact copy in which units are whole layers, or the one class is all of them.

    At the resolution of layers the table of units has one row for each layer, and LCA that is not split by class has
    the single class ``all`` (:mod:`lcakit.analysis.resolution`).
    """
    if _resolution(ds) == "layer":
        raise TrajectoryError(
            "this is a compact copy with sums of whole layers, so nothing of units. To have them, share the original "
            'with lk.share(…, resolution="unit"), or record with lk.Recorder(…, classes="unit").'
        )
    if _resolution(ds) == "unit" and "class" in ds.coords and ds["class"].values.ravel().tolist() == ["all"]:
        raise TrajectoryError(
            "LCA in this compact copy is not split by class: the original was not. To have it, record with "
            'lk.Recorder(…, classes="unit").'
        )


def require_tables(ds: xr.Dataset) -> None:
    """Raise TrajectoryError unless the tables of tensors, layers and units are there."""
    missing = [name for name in ("tensor", "layer", "unit") if name not in ds.coords]
    if missing:
        raise TrajectoryError(
            f"this dataset has lost its table of {', '.join(missing)}, so its parts have no names. "
            "ds[[…]] drops tables: use ds.drop_vars or ds.lk.sel to narrow a trajectory."
        )
