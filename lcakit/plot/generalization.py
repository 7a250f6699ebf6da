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
from lcakit.plot._colours import NEUTRAL, NOTHING
from lcakit.plot._runs import one_run
from lcakit.plot._style import boxes, label, load, picture, plain, sign_colours

WORDS = {
    "helps_both": "helps both",
    "helps_train_hurts_validation": "helps training only",
    "hurts_train_helps_validation": "helps validation only",
    "hurts_both": "hurts both",
    "nothing": "no LCA",
}
MOST_BOXES = 20_000


def overfitting_map(
    ds: xr.Dataset,
    by: str = "kernel_layer",
    window: int | None = None,
    val: str = "val",
    backend: str = "bokeh",
    title: str = "Training against validation",
) -> Any:
    """Draw, for windows of iterations and each layer, which of the two losses LCA helps.

    Parameters
    ----------
    ds
        Trajectory of one run with ``lca`` and ``lca_val``, or the result of
        :func:`lcakit.generalization.overfitting_map`.
    by, window, val
        See :func:`lcakit.generalization.overfitting_map`.
    """
    load(backend)
    one = one_run(ds, "an overfitting map")
    result = one if "state" in one else analysed_map(one, by, window, val)
    state = compute(result["state"], quiet=True)
    group = next(str(dim) for dim in state.dims if dim != "window")
    if state.size > MOST_BOXES:
        raise ValueError(
            f"{state.size} boxes are too many for one picture (at most {MOST_BOXES}): "
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
            marks.append(boxes(backend, edges, axes, WORDS[word], _colours()[word], "#ffffff"))
    ticks = [(float(row), plain(backend, name)) for row, name in enumerate(names)]
    return picture(backend, marks, axes, title, yticks=ticks, invert_yaxis=True, show_grid=False)


def _colours() -> dict[str, str]:
    """Return the colour of each state; purple, in both schemes, is what overfits."""
    signs = sign_colours()
    return dict(zip(STATES, (signs["helping"], NEUTRAL[0], "#a6a6a6", signs["hurting"], NOTHING), strict=True))


def train_validation(
    ds: xr.Dataset,
    by: str = "kernel_layer",
    val: str = "val",
    confidence: float = 0.95,
    backend: str = "bokeh",
    title: str = "LCA of the training and the validation loss",
) -> Any:
    """Draw the LCA of each layer over the run on both losses, side by side.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` and ``lca_val``; of several runs means with confidence intervals.
    by, val
        See :func:`lcakit.generalization.train_validation`.
    """
    load(backend)
    sums = analysed_sums(ds, by, val)
    series = compute({name: over_runs(sums[name], confidence) for name in ("train", "validation")}, quiet=True)
    axes = by.replace("_", " "), label(sums["train"].assign_attrs(long_name="LCA over the run"))
    names = [str(name) for name in sums[by].values]
    return bars(backend, names, series, axes, title, signed=False)


__all__ = ["overfitting_map", "train_validation"]
