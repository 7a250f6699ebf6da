"""Experiments on the toy landscapes by name: what each computes, which numbers it prints, and which picture shows it.

Each takes the options that it names and no others; the defaults take seconds on one core.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import unknown

__all__ = ["EXPERIMENTS", "Experiment", "find", "run"]


def __dir__() -> list[str]:
    return __all__


Result = xr.DataArray | xr.Dataset

TARGET = 0.01
"""Loss at which an optimum or a connector of a network is good enough: below it the weights only grow."""


@dataclass(frozen=True)
class Experiment:
    """What is computed, which of its variables are printed, and the name of its picture in ``lcakit.plot``."""

    compute: Callable[..., Result]
    columns: tuple[str, ...]
    picture: str

    @property
    def options(self) -> dict[str, Any]:
        """The options and their defaults."""
        return {name: p.default for name, p in inspect.signature(self.compute).parameters.items()}


# ---- noisy quadratic -------------------------------------------------------------------------------------------


def _steps(directions: int = 1000, target: float = TARGET, largest: int = 20) -> xr.Dataset:
    """Return tuned steps to the target, batch sizes 1 to 2^largest."""
    from lcakit.landscapes import nqm

    sizes = 2.0 ** np.arange(0, largest + 1, 2)
    return nqm.compare_optimizers(nqm.paper_problem(directions), sizes, target, quiet=True)


def _loss(
    directions: int = 1000, learning_rate: float = 0.5, momentum: float = 0.0, steps: int = 1000, runs: int = 10
) -> xr.Dataset:
    """Return the expected loss beside that of simulated runs."""
    from lcakit.landscapes import nqm

    problem, optimizer = nqm.paper_problem(directions), nqm.Optimizer(learning_rate, momentum)
    snapshots = np.unique(np.geomspace(1, steps, 12).astype(int))
    sizes = [1, 10, 100]
    loss = nqm.simulate(problem, optimizer, sizes, snapshots, runs)["loss"]
    expected = nqm.expected_loss(problem, optimizer, sizes, snapshots)
    mean = loss.mean("run").assign_attrs(long_name="mean loss of the runs", units="loss units")
    return xr.Dataset({"expected": expected, "simulated": mean, "loss": loss})


def _schedule(directions: int = 200, target: float = TARGET, pieces: int = 20) -> xr.Dataset:
    """Return the best piecewise constant schedules."""
    from lcakit.landscapes import nqm

    sizes = [4, 64, 1024, 16384]
    return nqm.scheduled_steps(nqm.paper_problem(directions), sizes, target, pieces=pieces, quiet=True)


def _helping(
    directions: int = 1000, learning_rate: float = 0.5, momentum: float = 0.0, iteration: int = 200
) -> xr.Dataset:
    """Return the probability of helping by direction."""
    from lcakit.landscapes import nqm

    optimizer = nqm.Optimizer(learning_rate, momentum)
    return nqm.expected_helping(nqm.paper_problem(directions), optimizer, [1, 10, 100, 1000], iteration)


# ---- wedges ----------------------------------------------------------------------------------------------------


def _surfaces(dimension: int, wedge: int, network: bool) -> dict[str, Any]:
    from lcakit.landscapes import wedges

    surfaces: dict[str, Any] = {"wedges": wedges.Wedges(dimension, wedge)}
    return surfaces | ({"network": wedges.digits_network(300)} if network else {})


def _compared(experiment: Callable[[Any], Any], dimension: int, wedge: int, network: bool) -> Any:
    from lcakit.landscapes import wedges

    return wedges.compare(_surfaces(dimension, wedge, network), experiment)


def _beside(experiment: Callable[[Any], Any], dimension: int, wedge: int, network: bool) -> Any:
    """Return the experiment on the wedges, and where asked for on the network beside them."""
    found = _compared(experiment, dimension, wedge, network)
    return found if network else found.isel(surface=0, drop=True)


def _paths(dimension: int = 60, wedge: int = 30, bends: int = 1, network: bool = False) -> xr.Dataset:
    """Return the loss between two optima, straight and on a connector."""
    from lcakit.landscapes import wedges

    def experiment(surface: Any) -> xr.Dataset:
        ends = wedges.optima(surface, 2, target=TARGET / 10)
        out: xr.Dataset = wedges.connect(surface, *ends, bends=bends, steps=100, target=TARGET / 10).drop_dims("vertex")
        return out

    found: xr.Dataset = _compared(experiment, dimension, wedge, network)
    return found


def _planes(dimension: int = 60, wedge: int = 30, repeats: int = 3) -> xr.DataArray:
    """Return the loss that random planes reach."""
    from lcakit.landscapes import wedges

    surface = wedges.Wedges(dimension, wedge)
    sizes = np.unique(np.linspace(1, dimension, 16).astype(int)).tolist()
    out: xr.DataArray = wedges.reachable_loss(surface, sizes, repeats).assign_attrs(threshold=dimension - wedge)
    return out


def _cut(dimension: int = 60, wedge: int = 30, network: bool = False) -> xr.Dataset:
    """Return a cut through the origin and two optima."""
    from lcakit.landscapes import wedges

    def experiment(surface: Any) -> xr.Dataset:
        out: xr.Dataset = wedges.plane_cut(surface, *wedges.optima(surface, 2, target=TARGET))
        return out

    found: xr.Dataset = _compared(experiment, dimension, wedge, network)
    return found


def _spectrum(dimension: int = 60, wedge: int = 30, count: int = 40, network: bool = False) -> xr.DataArray:
    """Return the eigenvalues at an optimum."""
    from lcakit.landscapes import wedges

    def experiment(surface: Any) -> xr.DataArray:
        out: xr.DataArray = wedges.spectrum(surface, wedges.optima(surface, 1, target=TARGET)[0], count)
        return out

    found: xr.DataArray = _compared(experiment, dimension, wedge, network)
    return found.assign_attrs(threshold=dimension - wedge)


def _radius(dimension: int = 60, wedge: int = 30, plane: int = 10, repeats: int = 3) -> xr.Dataset:
    """Return the effect of the distance from the origin."""
    from lcakit.landscapes import wedges

    out: xr.Dataset = wedges.radius_effect(wedges.Wedges(dimension, wedge), [1, 2, 4, 8, 16], plane, repeats)
    return out


def _short(dimension: int = 60, wedge: int = 30, optima: int = 4, network: bool = False) -> xr.Dataset:
    """Return the short directions in the middle of connectors, counted and, for the wedges, expected."""
    from lcakit.landscapes import wedges

    def experiment(surface: Any) -> xr.DataArray:
        toy = isinstance(surface, wedges.Wedges)
        how: dict[str, Any] = {} if toy else {"rays": 4, "points": 6, "steps": 60, "target": TARGET}
        found = wedges.optima(surface, optima, target=None if toy else TARGET)
        connector = wedges.connect_all(surface, found, **how)
        counts: xr.DataArray = wedges.short_directions(surface, connector, **({} if toy else {"smoothing": 0.0}))
        return counts

    counts = _beside(experiment, dimension, wedge, network)
    size = counts["size"]
    counts = counts.assign_coords(size=size.isel(surface=0, drop=True) if network else size)
    expected = [wedges.geometry.expected_short_directions(dimension, wedge, int(n)) for n in counts["size"]]
    attrs = {"long_name": "expected short directions", "units": "1"}
    return xr.Dataset({"short_directions": counts, "expected": ("subset", expected, attrs)})


def _averages(dimension: int = 60, wedge: int = 30, count: int = 8, network: bool = False) -> xr.Dataset:
    """Return the loss of averaged weights."""
    from lcakit.landscapes import wedges

    def experiment(surface: Any) -> xr.Dataset:
        how = {} if isinstance(surface, wedges.Wedges) else {"learning_rate": 0.05, "noise": 0.01, "target": TARGET}
        out: xr.Dataset = wedges.averaging(surface, count, **how)
        return out

    found: xr.Dataset = _beside(experiment, dimension, wedge, network)
    return found


def _labels(examples: int = 300, network: str = "fc", pairs: int = 1) -> xr.Dataset:
    """Return the predicted labels that change on the way between optima of a network, on images neither has seen."""
    from lcakit.experiments.data import load
    from lcakit.landscapes import wedges

    surface, digits = wedges.digits_network(examples, network), load("digits")

    def one(pair: int) -> xr.Dataset:
        ends = wedges.optima(surface, [2 * pair, 2 * pair + 1], target=TARGET / 10)
        paths = {
            "connector": wedges.connect(surface, *ends, steps=100, target=TARGET / 10)["theta"],
            "straight line": np.stack([np.asarray(end) for end in ends]),
        }
        unseen = digits.x_train[examples:], digits.y_train[examples:]
        found = [wedges.label_changes(surface, path, *unseen) for path in paths.values()]
        both: xr.Dataset = xr.concat(found, dim=xr.DataArray(list(paths), dims="path", name="path"))
        return both

    found: xr.Dataset = xr.concat([one(pair) for pair in range(pairs)], dim="pair")
    return found


EXPERIMENTS: dict[str, dict[str, Experiment]] = {
    "nqm": {
        "steps": Experiment(_steps, ("steps",), "steps_to_target"),
        "speedup": Experiment(_steps, ("steps",), "speed_ups"),
        "loss": Experiment(_loss, ("expected", "simulated"), "expected_loss"),
        "schedule": Experiment(_schedule, ("steps", "constant_steps"), "schedules"),
        "helping": Experiment(_helping, ("helping",), "helping"),
    },
    "wedges": {
        "paths": Experiment(_paths, ("barrier", "straight_barrier"), "paths"),
        "planes": Experiment(_planes, ("loss",), "reachable"),
        "cut": Experiment(_cut, ("loss",), "cut"),
        "spectrum": Experiment(_spectrum, ("eigenvalue",), "spectrum"),
        "radius": Experiment(_radius, ("loss", "reached"), "radius"),
        "short": Experiment(_short, ("short_directions", "expected"), "short_directions"),
        "averages": Experiment(_averages, ("loss_of_average", "average_loss"), "averages"),
        "labels": Experiment(_labels, ("from_start", "from_end", "from_both", "accuracy"), "label_changes"),
    },
}


def run(
    model: str, experiment: str, out: str | os.PathLike[str] | None = None, **options: Any
) -> tuple[Experiment, Result]:
    """Run a named experiment on a toy landscape.

    Parameters
    ----------
    model
        ``"nqm"`` or ``"wedges"``.
    experiment
        A name of :data:`EXPERIMENTS` of that model.
    out
        Also write a file: the labelled result (.nc), or the picture (.png, .svg, .pdf or .html).
    **options
        What the experiment lets one choose; ``EXPERIMENTS[model][experiment].options`` lists them.

    Returns
    -------
    tuple of (Experiment, xarray.DataArray or xarray.Dataset)
        The experiment and its result.

    Raises
    ------
    ValueError
        For an unknown model, experiment, option or suffix, before anything is computed.

    Examples
    --------
    >>> experiment, result = run("wedges", "planes", dimension=8, wedge=4, repeats=1)
    >>> result.dims
    ('plane_dimension', 'repeat')
    """
    chosen = find(model, experiment)
    for name in options:
        if name not in chosen.options:
            raise unknown(f"option of {model} {experiment}", name, chosen.options)
    suffix = None if out is None else _suffix(out)
    result = chosen.compute(**options)
    if out is not None and suffix == ".nc":
        result.to_netcdf(out)
    elif out is not None:
        _draw(model, chosen, result, out)
    return chosen, result


def find(model: str, experiment: str) -> Experiment:
    """Return an experiment by its names."""
    if model not in EXPERIMENTS:
        raise unknown("landscape", model, EXPERIMENTS)
    if experiment not in EXPERIMENTS[model]:
        raise unknown(f"experiment of {model}", experiment, EXPERIMENTS[model])
    return EXPERIMENTS[model][experiment]


def _suffix(out: str | os.PathLike[str]) -> str:
    from lcakit.plot import SUFFIXES

    suffix = Path(out).suffix.lower()
    if suffix not in (".nc", *SUFFIXES):
        raise unknown("suffix of a result", suffix, (".nc", *SUFFIXES))
    return suffix


def _draw(model: str, experiment: Experiment, result: Any, out: str | os.PathLike[str]) -> None:
    from lcakit import plot

    draw = getattr(getattr(plot, model), experiment.picture)
    plot.save(draw(*_drawable(experiment.picture, result), backend=plot.backend_of(out)), out)


def _drawable(picture: str, result: Any) -> tuple[Any, ...]:
    """Return the arguments of a picture that holds theory against what was found."""
    if picture == "expected_loss":
        return result["expected"], result
    if picture == "short_directions":
        expected = result["expected"].groupby("size").mean()
        return result["short_directions"], expected
    if picture == "reachable":
        return result, {"": result.attrs["threshold"]}
    if picture == "spectrum":
        return result, {"wedges": result.attrs["threshold"]}
    return (result,)
