"""Bars of how many parameters help, hurt and do neither, by group or by configuration (figure 3c)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis import noise
from lcakit.analysis.computing import compute
from lcakit.plot._bars import named_ticks
from lcakit.plot._classes import by_classes
from lcakit.plot._runs import Runs, named
from lcakit.plot._style import boxes, level, load, picture, sign_colours

__all__ = ["fractions"]


def __dir__() -> list[str]:
    return __all__


_ZERO_EDGE = "#9a9a9a"


@by_classes
def fractions(
    ds: Runs,
    by: str | None = "kernel_layer",
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "Parameters that help, hurt and do neither",
) -> Any:
    """Draw one bar for each layer or configuration: the shares that help, do neither and hurt (figure 3c).

    Horizontal: groups or configurations. Vertical: fraction of the parameters in the mean iteration, from 0 to 1; the
    dashed line is one half.

    Parameters
    ----------
    ds
        Trajectory (bars: its groups), or a dict of name to trajectory (bars: the names, whole networks). Runs are
        averaged.
    by
        A grouping of :func:`lcakit.aggregate.sum_by`, at most 60 groups; None for the whole network.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Overlay
        In each bar helping is at the bottom, hurting at the top, and zero is white between them.

    Raises
    ------
    TrajectoryError
        If a file holds neither ``lca`` nor counts that know this grouping.
    ValueError
        For more than 60 bars, an empty dict, an unknown grouping or backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> picture = fractions(tiny_trajectory(), by="layer")
    >>> [(mark.label, len(mark)) for mark in picture if mark.label]
    [('helping', 3), ('zero', 3), ('hurting', 3)]
    """
    load(backend)
    if not isinstance(ds, xr.Dataset):
        parts = {name: _mean_shares(noise.help_hurt_zero(part, lca)) for name, part in named(ds).items()}
        found = compute(parts, quiet=True)
        names, table = list(found), np.stack([part.values for part in found.values()], axis=-1)
    else:
        shares = compute(_mean_shares(noise.help_hurt_zero(ds, lca, by)), quiet=True)
        names = ["network"] if by is None else [str(name) for name in shares[by].values]
        table = shares.values.reshape(3, -1)
    return _fraction_bars(backend, names, table, title)


def _mean_shares(shares: xr.DataArray) -> xr.DataArray:
    return shares.mean([dim for dim in ("iteration", "run") if dim in shares.dims]).transpose("outcome", ...)


def _fraction_bars(backend: str, names: list[str], table: np.ndarray, title: str) -> Any:
    """Draw stacked bars of a table (helping, hurting, zero; bar)."""
    if len(names) > 60:
        raise ValueError(f"{len(names)} bars are too many for one picture (at most 60): choose a coarser grouping")
    axes, left = ("", "fraction of parameters"), np.arange(len(names)) - 0.4
    helping, hurting = table[0], table[1]
    colours, nothing = sign_colours(), np.zeros(len(names))
    parts = (
        ("helping", nothing, helping),
        ("zero", helping, 1 - hurting),
        ("hurting", 1 - hurting, nothing + 1),
    )
    marks = [
        boxes(backend, (left, low, left + 0.8, high), ("bar", axes[1]), name, colours[name], _ZERO_EDGE)
        for name, low, high in parts
    ]
    look = named_ticks(backend, names) | {"ylim": (0, 1)}
    return picture(backend, [*marks, level(backend, 0.5, "#222222")], axes, title, **look)
