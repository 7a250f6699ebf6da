"""Layers learn in sync: peaks of learning by class and layer, those that all layers share coloured (figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.peaks import peak_iterations
from lcakit.analysis.synchronization import tiers
from lcakit.plot._classes import Classes, alike, of_classes
from lcakit.plot._runs import one_run
from lcakit.plot._style import HEIGHT, PALETTE, dots, level, load, picture, plain, size
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.class_kind import class_kind

__all__ = ["peaks"]


def __dir__() -> list[str]:
    return __all__


_LONE = "#b5b5b5"
_SHARED = [PALETTE[1], PALETTE[0], *PALETTE[2:]]
_NAMED_LAYERS = 4
_ROOM = 0.02
"""Part of the width to the left of the first and to the right of the last mark, which would be cut in half."""


@of_trajectories
def peaks(
    ds: xr.Dataset | xr.DataArray,
    k: int = 20,
    of: str = "lca",
    min_fraction: float | Sequence[float] = 1.0,
    by: str = "kernel_layer",
    classes: bool | Classes = True,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "Peaks of learning",
) -> Any:
    """Draw the iterations at which each layer learns most, by class; synchronized ones in colour (figures 6, S15-S19).

    Horizontal: iterations. Vertical: layers, the first on top, in a block for each class. The title has the number of
    synchronized iterations.

    Parameters
    ----------
    ds
        Trajectory of one run, or the result of :func:`lcakit.synchronization.peak_iterations`.
    k, of, by, classes, lca
        Peaks of each layer, quantity, grouping, whether by class, and variable: see
        :func:`lcakit.synchronization.peak_iterations`; ignored for its result. Names of classes: blocks for these.
    min_fraction
        Share of the layers that must have a peak for it to be synchronized; or several, ascending, for tiers of colour
        (figure S15: ``(0.25, 0.5)``, see :func:`lcakit.synchronization.tiers`).
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        Marks: ``lone`` peaks in grey, ``synchronized`` ones in colour; of several tiers each has its name.

    Raises
    ------
    TrajectoryError
        If the file does not hold the quantity, or holds several runs.
    ValueError
        For more peaks than iterations, a share outside (0, 1], fewer than two layers, or an unknown quantity, grouping
        or backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> picture = peaks(tiny_trajectory(24), k=5)
    >>> [mark.label for mark in picture if mark.label]
    ['lone', 'synchronized']
    >>> sum(len(mark) for mark in picture if mark.label)  # 5 peaks of 2 layers in 3 classes
    30
    """
    load(backend)
    alike(ds)
    if classes is not None and not isinstance(classes, bool):
        ds, classes = of_classes(ds, classes), True
    found = ds if isinstance(ds, xr.DataArray) else peak_iterations(one_run(ds, "peaks"), k, of, by, bool(classes), lca)
    if found.sizes.get("run", 1) > 1:
        raise ValueError(f"peaks are of one run, got {found.sizes['run']} of them: select one with .isel(run=0)")
    found = found.squeeze("run", drop=True) if "run" in found.dims else found
    several = not isinstance(min_fraction, int | float)
    fractions = tuple(min_fraction) if isinstance(min_fraction, Sequence) else (float(min_fraction),)
    found, in_tier = compute(found, tiers(found, fractions)["in_tier"], quiet=True)
    layer = next(str(dim) for dim in found.dims if dim not in ("class", "rank"))
    blocks = [str(name) for name in found["class"].values] if "class" in found.dims else [""]
    both = [array if "class" in array.dims else array.expand_dims("class") for array in (found, in_tier)]
    at, tier = (array.transpose("class", layer, "rank").values for array in both)
    kind = class_kind(ds)
    names = _tier_names(fractions) if several else ["lone", "synchronized"]
    return _rows(backend, at, tier, names, blocks, [str(name) for name in found[layer].values], title, kind)


def _tier_names(fractions: Sequence[float]) -> list[str]:
    """Return what the peaks of each tier are called, those of none first."""
    ends = [f"{low:.0%} to {high:.0%}" for low, high in pairwise(fractions)]
    return ["lone", *(f"{text} of layers" for text in [*ends, f"at least {fractions[-1]:.0%}"])]


def _rows(
    backend: str,
    at: np.ndarray,
    tier: np.ndarray,
    names: list[str],
    blocks: list[str],
    layers: list[str],
    title: str,
    kind: str,
) -> Any:
    """Draw peaks (block, layer, rank) with an empty row between blocks."""
    high = len(layers) + 1
    y = np.arange(len(blocks))[:, None, None] * high + np.arange(len(layers))[:, None] + np.zeros(at.shape)
    axes, known = ("iteration", kind if len(blocks) > 1 else "layer"), np.isfinite(at)
    counts = [
        np.mean([np.unique(part[(where == n) & ~np.isnan(part)]).size for part, where in zip(at, tier, strict=True)])
        for n in range(1, len(names))
    ]
    shared = "" if names[1:] == ["synchronized"] else "shared by "
    told = " and ".join(f"{mean:.3g} {shared}{name}" for mean, name in zip(counts, names[1:], strict=True))
    text = f"{title}: {told}" + (f" in the mean {kind}" if len(blocks) > 1 else "")
    tall = int(np.clip(90 + 11 * y.max(), HEIGHT, 1000))
    small = 7 if y.max() < 60 else 4
    marks = [level(backend, row * high - 1, "#e3e3e3", "solid") for row in range(1, len(blocks))]
    for n, (name, color) in enumerate(zip(names, [_LONE, *_SHARED], strict=False)):
        where = known & (tier == n)
        marks.append(dots(backend, at[where], y[where], axes, name, color, size=small))
    ticks = [(row * high + (len(layers) - 1) / 2, plain(backend, name)) for row, name in enumerate(blocks)]
    if len(blocks) == 1:
        ticks = [(float(row), plain(backend, name)) for row, name in enumerate(layers)]
    elif len(layers) <= _NAMED_LAYERS:
        axes = axes[0], f"{kind} (rows: {', '.join(layers)})"
    look: dict[str, Any] = {"yticks": ticks, "invert_yaxis": True, "show_grid": False} | size(backend, tall)
    if known.any():
        first, last = float(at[known].min()), float(at[known].max())
        room = max(1.0, _ROOM * (last - first))
        look |= {"xlim": (first - room, last + room)}
    return picture(backend, marks, axes, text, ylim=(-1, float(y.max()) + 1), **look)
