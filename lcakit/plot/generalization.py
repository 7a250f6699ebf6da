"""Train against validation: where and when a group helps the training loss and hurts the validation loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.generalization import STATES
from lcakit.analysis.generalization import overfitting_map as analysed_map
from lcakit.analysis.generalization import train_validation as analysed_sums
from lcakit.plot._bars import bars, over_runs
from lcakit.plot._classes import by_classes
from lcakit.plot._colours import NEUTRAL, NOTHING
from lcakit.plot._runs import one_run
from lcakit.plot._style import boxes, label, load, picture, plain, sign_colours

__all__ = ["overfitting_map", "train_validation"]


def __dir__() -> list[str]:
    return __all__


_WORDS = {
    "helps_both": "helps both",
    "helps_train_hurts_validation": "helps training only",
    "hurts_train_helps_validation": "helps validation only",
    "hurts_both": "hurts both",
    "nothing": "no LCA",
}
_MOST_BOXES = 20_000


@by_classes
def overfitting_map(
    ds: xr.Dataset,
    by: str = "kernel_layer",
    window: int | None = None,
    val: str = "val",
    backend: str = "bokeh",
    title: str = "Training against validation",
) -> Any:
    """Draw, for windows of iterations and each layer, which of the two losses LCA helps.

    Horizontal: iterations. Vertical: layers, the first on top. Each window of a layer is a box in the colour of its
    state; purple, in both colour schemes, helps only the training loss.

    Parameters
    ----------
    ds
        Trajectory of one run with ``lca`` and ``lca_val``, or the result of
        :func:`lcakit.generalization.overfitting_map`.
    by, window, val
        Grouping, iterations that are summed, and suffix of the other objective: see
        :func:`lcakit.generalization.overfitting_map`.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Overlay
        One mark for each state that occurs, named by it.

    Raises
    ------
    TrajectoryError
        If the file holds no LCA of the other objective, or several runs.
    ValueError
        For more than 20 000 boxes, or an unknown grouping or backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory()
    >>> picture = overfitting_map(ds.assign(lca_val=-ds["lca"]), window=4)
    >>> sorted(mark.label for mark in picture)
    ['helps training only', 'helps validation only']
    """
    load(backend)
    one = one_run(ds, "an overfitting map")
    result = one if "state" in one else analysed_map(one, by, window, val)
    state = compute(result["state"], quiet=True)
    group = next(str(dim) for dim in state.dims if dim != "window")
    if state.size > _MOST_BOXES:
        raise ValueError(
            f"{state.size} boxes are too many for one picture (at most {_MOST_BOXES}): "
            "take longer windows or coarser groups"
        )
    names = [str(name) for name in state[group].values]
    start, end = state["window"].values, state["window_end"].values + 1
    axes, values = ("iteration", group.replace("_", " ")), state.transpose("window", group).values
    marks = []
    for number, word in enumerate(STATES):
        at, row = np.nonzero(values == number)
        if at.size:
            edges = start[at], row - 0.45, end[at], row + 0.45
            marks.append(boxes(backend, edges, axes, _WORDS[word], _colours()[word], "#ffffff"))
    ticks = [(float(row), plain(backend, name)) for row, name in enumerate(names)]
    return picture(backend, marks, axes, title, yticks=ticks, invert_yaxis=True, show_grid=False)


def _colours() -> dict[str, str]:
    """Return the colour of each state; purple, in both schemes, is what overfits."""
    signs = sign_colours()
    return dict(zip(STATES, (signs["helping"], NEUTRAL[0], "#a6a6a6", signs["hurting"], NOTHING), strict=True))


@by_classes
def train_validation(
    ds: xr.Dataset,
    by: str = "kernel_layer",
    val: str = "val",
    confidence: float = 0.95,
    backend: str = "bokeh",
    title: str = "LCA of the training and the validation loss",
) -> Any:
    """Draw the LCA of each layer over the run on both losses, side by side.

    Horizontal: layers. Vertical: LCA over the run, in the unit of the loss; below zero it helps.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` and ``lca_val``; of several runs means with confidence intervals.
    by, val
        Grouping, and suffix of the other objective: see :func:`lcakit.generalization.train_validation`.
    confidence
        Of the intervals over runs (Student's t).
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Overlay
        Two series of bars, ``train`` and ``validation``.

    Raises
    ------
    TrajectoryError
        If the file holds no LCA of the other objective.
    ValueError
        For an unknown grouping or backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory()
    >>> [mark.label for mark in train_validation(ds.assign(lca_val=-ds["lca"])) if mark.label]
    ['train', 'validation']
    """
    load(backend)
    sums = analysed_sums(ds, by, val)
    series = compute({name: over_runs(sums[name], confidence) for name in ("train", "validation")}, quiet=True)
    axes = by.replace("_", " "), label(sums["train"].assign_attrs(long_name="LCA over the run"))
    names = [str(name) for name in sums[by].values]
    return bars(backend, names, series, axes, title, signed=False)
