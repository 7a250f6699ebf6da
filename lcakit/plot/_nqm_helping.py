"""Who helps on the noisy quadratic: the probability by curvature, and over training."""

from __future__ import annotations

from typing import Any

import xarray as xr

from lcakit.plot._style import GUIDE, band, dots, label, level, line, line_colours, load, picture, rows, sign_colours
from lcakit.trajectory.arguments import checks_arguments, require_parts


@checks_arguments
def helping(expected: xr.Dataset, recorded: xr.DataArray | None = None, backend: str = "bokeh", title: str = "") -> Any:
    """Draw the probability that a direction helps against its curvature.

    Horizontal: curvature, logarithmic. Vertical: probability. Above one half, tinted as helping, a direction still
    learns; at one half it only jitters.

    Parameters
    ----------
    expected
        ``helping`` ([one more,] direction) of ``expected_helping``, with the coordinate ``curvature`` (direction).
    recorded
        Fraction of iterations helped, ([the same,] direction or parameter) in the order of the directions: dots.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A line, or one for each entry of the further dimension.

    Raises
    ------
    ValueError
        For further dimensions, more than twelve lines, or an unknown backend.

    Examples
    --------
    >>> share = xr.DataArray([0.5, 0.6, 0.8], dims="direction", coords={"curvature": ("direction", [1.0, 0.1, 0.01])})
    >>> [mark.label for mark in helping(xr.Dataset({"helping": share})) if mark.label]
    ['expected']
    """
    require_parts(expected, ["helping", "curvature", "direction"], "lk.landscapes.nqm.expected_helping")
    load(backend)
    share = expected["helping"]
    axes = label(share["curvature"]), label(share)
    lines = rows(share, "direction")
    colours = line_colours(len(lines), ordered=share.ndim > 1 and share[share.dims[0]].dtype.kind not in "UOS")
    marks = [*_half(backend, share["curvature"], share, axes)]
    if recorded is not None:
        at = recorded.rename(parameter="direction") if "parameter" in recorded.dims else recorded
        for (_, row), color in zip(rows(at, "direction"), colours, strict=True):
            marks.append(dots(backend, share["curvature"], row, axes, "", color, size=4))
    for (name, row), color in zip(lines, colours, strict=True):
        marks.append(line(backend, row["curvature"], row, axes, name if share.ndim > 1 else "expected", color))
    return picture(backend, marks, axes, title or "Who helps: probability by curvature", "x")


@checks_arguments
def helping_over_training(
    expected: xr.DataArray, recorded: xr.DataArray | None = None, backend: str = "bokeh", title: str = ""
) -> Any:
    """Draw the expected fraction of directions that help over the iterations, and that of a recording as dots.

    Horizontal: iterations. Vertical: fraction of the directions; above one half it is tinted as helping.

    Parameters
    ----------
    expected
        ``helping`` of ``expected_helping`` averaged over directions: ([one more,] iteration).
    recorded
        The same of a recording, for instance ``lk.noise.fraction_helping`` averaged over windows.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A line, or one for each entry of the further dimension.

    Raises
    ------
    ValueError
        For further dimensions, more than twelve lines, or an unknown backend.

    Examples
    --------
    >>> share = xr.DataArray([0.8, 0.6, 0.5], dims="iteration", coords={"iteration": [0, 10, 20]})
    >>> [mark.label for mark in helping_over_training(share) if mark.label]
    ['expected']
    """
    require_parts(expected, ["iteration"], "lk.landscapes.nqm.expected_helping")
    load(backend)
    axes = "iteration", "fraction helping"
    lines = rows(expected, "iteration")
    colours = line_colours(len(lines), ordered=len(lines) > 1)
    marks = [*_half(backend, expected["iteration"], expected, axes)]
    if recorded is not None:
        for (_, row), color in zip(rows(recorded, "iteration"), colours, strict=True):
            marks.append(dots(backend, row["iteration"], row, axes, "recorded", color, size=5))
    for (name, row), color in zip(lines, colours, strict=True):
        marks.append(line(backend, row["iteration"], row, axes, name if len(lines) > 1 else "expected", color))
    return picture(backend, marks, axes, title or "Who helps, over training")


def _half(backend: str, x: xr.DataArray, shares: xr.DataArray, axes: tuple[str, str]) -> list[Any]:
    """Return the guide at one half, with the helping side tinted."""
    top = min(1.0, max(0.55, float(shares.max()) + 0.02))
    ends = [float(x.min()), float(x.max())]
    return [band(backend, ends, [0.5, 0.5], [top, top], axes, sign_colours()["helping"]), level(backend, 0.5, GUIDE)]
