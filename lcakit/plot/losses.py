"""The loss over training, and how closely the allocations add up to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.errors import TrajectoryError
from lcakit.plot._classes import Classes, alike, as_list, class_looks, of_classes
from lcakit.plot._colours import look_of
from lcakit.plot._runs import mean_line, one_run
from lcakit.plot._style import (
    GUIDE,
    PALETTE,
    beside,
    dots,
    label,
    level,
    line,
    line_colours,
    load,
    picture,
    sign_colours,
)
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.class_kind import class_kind
from lcakit.trajectory.require import require
from lcakit.trajectory.schema import split_name, with_suffix
from lcakit.trajectory.select import with_class_dimension

__all__ = ["loss", "residual"]


def __dir__() -> list[str]:
    return __all__


@of_trajectories
def loss(
    ds: xr.Dataset,
    classes: bool | Classes = False,
    log: bool = False,
    backend: str = "bokeh",
    title: str = "Loss over training",
) -> Any:
    """Draw the loss of every objective in the file over the snapshots.

    Horizontal: optimizer steps. Vertical: the loss, in its unit.

    Parameters
    ----------
    ds
        Trajectory with ``loss`` (snapshot), and ``loss_val`` … where other objectives were allocated. Of several runs
        the line is the mean and the shade the range.
    classes
        True, or names of classes: draw the part of each (``loss_class``) instead; those of all together are the loss.
    log
        Logarithmic vertical axis.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A line for each objective or class.

    Raises
    ------
    TrajectoryError
        If the file holds no ``loss``, or no ``loss_class`` where classes are asked for.
    ValueError
        For more than twelve lines, or an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> len(loss(tiny_trajectory()))
    1
    >>> [mark.label for mark in loss(tiny_trajectory(), classes=True)]
    ['class a', 'class b', 'class c']
    """
    load(backend)
    alike(ds)
    wanted = [] if classes is None or isinstance(classes, bool) else as_list(classes)
    series = _by_class(ds, wanted) if classes else _by_objective(ds)
    values = compute(list(series.values()), quiet=True)
    line_colours(len(series))  # refuses too many
    names = [name.removeprefix(f"{class_kind(ds)} ") for name in series]
    looks = class_looks(ds, names) if classes else [look_of(n) for n in range(len(series))]
    axes = "optimizer steps", label(values[0].assign_attrs(long_name="loss"))
    marks = []
    for name, array, (color, dash) in zip(series, values, looks, strict=True):
        marks += mean_line(backend, array["snapshot"], array, axes, name, color, dash=dash)
    return picture(backend, marks, axes, title, "y" if log else "", legend="right" if len(series) > 1 else None)


def _by_objective(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    names = [str(name) for name in ds.data_vars if split_name(str(name))[0] == "loss"] or ["loss"]
    return {split_name(name)[1] or "training set": require(ds, name) for name in names}


def _by_class(ds: xr.Dataset, wanted: list[str]) -> dict[str, xr.DataArray]:
    require(ds, "loss_class")
    array = with_class_dimension(of_classes(ds, wanted or None))["loss_class"]
    return {f"{class_kind(ds)} {name}": array.isel({"class": n}) for n, name in enumerate(array["class"].values)}


@of_trajectories
def residual(
    ds: xr.Dataset, suffix: str | None = None, backend: str = "bokeh", title: str = "Do the allocations add up?"
) -> Any:
    r"""Draw the loss beside the loss rebuilt from LCA, and the residual of every iteration.

    .. math:: \hat L(t) = L(0) + \sum_{s < t} \sum_i A[s, i]

    Left: the true loss, the loss rebuilt from LCA, and that from first-order allocations, against optimizer steps.
    Right: the magnitude of each iteration's residual (logarithmic, in the unit of the loss), coloured by the
    sub-intervals of the quadrature; the dashed line is the tolerance, and iterations above it are marked.

    Parameters
    ----------
    ds
        Trajectory of one run with ``loss`` and ``residual``; ``first_order`` and ``splits`` are drawn if it has them.
    suffix
        Of another objective along the same trajectory, such as ``"val"``.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Layout
        Two pictures side by side.

    Raises
    ------
    TrajectoryError
        If the file holds no loss or no residual of this objective, several runs, or no iteration.
    ValueError
        For an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> left, right = residual(tiny_trajectory())
    >>> [mark.label for mark in left]
    ['loss', 'first order', 'sum of LCA']
    """
    load(backend)
    ds = one_run(ds, "the residual")
    wanted = {base: with_suffix(base, suffix) for base in ("loss", "residual", "first_order", "splits")}
    for base in ("loss", "residual"):
        require(ds, wanted[base])
    held = {base: ds[name] for base, name in wanted.items() if name in ds}
    values = dict(zip(held, compute(list(held.values()), quiet=True), strict=True))
    if values["residual"].size == 0:
        raise TrajectoryError("this trajectory has no iterations, so there is nothing to add up")
    tolerance = float(ds.attrs.get(with_suffix("tolerance", suffix), ds.attrs.get("tolerance", 0)))
    return beside(backend, [_rebuilt(backend, values, title), _errors(backend, values, tolerance)])


def _rebuilt(backend: str, values: dict[str, xr.DataArray], title: str) -> Any:
    true = values["loss"]
    steps, axes = true["snapshot"].values, ("optimizer steps", label(true.assign_attrs(long_name="loss")))
    rebuilt = true.values + np.append(0, np.cumsum(values["residual"].values))  # L + Σ (ΣA − ΔL) = L(0) + ΣΣA
    marks = [line(backend, steps, true, axes, "loss", PALETTE[0], width=4)]
    if "first_order" in values:
        first = float(true[0]) + np.append(0, np.cumsum(values["first_order"].values))
        marks.append(line(backend, steps, first, axes, "first order", PALETTE[1], "dotted"))
    marks.append(line(backend, steps, rebuilt, axes, "sum of LCA", PALETTE[6], "dashed"))
    return picture(backend, marks, axes, title, legend="right")


def _errors(backend: str, values: dict[str, xr.DataArray], tolerance: float) -> Any:
    error = abs(values["residual"])
    axes = "iteration", label(error.assign_attrs(values["residual"].attrs | {"long_name": "magnitude of the residual"}))
    error = error.where(error > 0)  # a logarithm has no place for 0
    log = "y" if error.notnull().sum() > 1 else ""  # nor for a single point
    splits = values["splits"].values if "splits" in values else np.zeros(error.size)
    kinds = np.unique(splits)
    marks = []
    for kind, color in zip(kinds, line_colours(kinds.size, ordered=True), strict=True):
        chosen = error[splits == kind]
        name = f"{int(kind)} sub-intervals" if kind else "iterations"
        marks.append(dots(backend, chosen["iteration"], chosen, axes, name, color, size=4))
    if tolerance > 0:
        marks.append(level(backend, tolerance, GUIDE))
        over = error[error.values > tolerance]
        if over.size:
            hurting = sign_colours()["hurting"]
            marks.append(dots(backend, over["iteration"], over, axes, "over tolerance", hurting, "x", 10))
    return picture(backend, marks, axes, "Residual of each iteration", log, legend="right")
