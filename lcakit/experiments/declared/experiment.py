"""What an experiment is: runs that differ in what is varied, at two scales, and a table made of their files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from lcakit.errors import unknown
from lcakit.experiments.run import Run
from lcakit.trajectory.arguments import checks_creation

if TYPE_CHECKING:
    from lcakit.experiments.declared.results import Results

__all__ = ["NOT_GIVEN", "Claim", "Derived", "Experiment", "Scale", "seeded"]


def __dir__() -> list[str]:
    return __all__


NOT_GIVEN = "–"


@checks_creation
@dataclass(frozen=True)
class Derived:
    """An arm that another must be finished for, such as freezing a layer where it stopped helping.

    ``make`` returns the run from that of the arm ``base`` with the same seed and the path of its file.
    """

    base: str
    make: Callable[[Run, Path], Run]


@checks_creation
@dataclass(frozen=True)
class Scale:
    """The runs of an experiment at one scale.

    Parameters
    ----------
    arms
        Name to run, without a seed; one arm is the baseline of the others where there is one. Names are parts of file
        names.
    seeds
        Each arm is run with each of them.
    scaled_down
        What is smaller than in the paper, for people; empty where nothing is.
    derived
        Further arms, whose runs are made from the finished runs of one of ``arms`` (:class:`Derived`).
    """

    arms: Mapping[str, Run]
    seeds: tuple[int, ...]
    scaled_down: str = ""
    derived: Mapping[str, Derived] = dataclasses.field(default_factory=dict)


@checks_creation
@dataclass(frozen=True)
class Claim:
    """A statement of the paper (or a question) and how it is measured: ``measure`` makes text of the table."""

    what: str
    measure: Callable[[xr.Dataset], str]
    paper: str = NOT_GIVEN


@checks_creation
@dataclass(frozen=True)
class Experiment:
    """A declared experiment; the registry is :data:`lcakit.experiments.declared.EXPERIMENTS`.

    Parameters
    ----------
    name, title, source, varied
        What it is called, what it asks, where it comes from (a figure of the paper), what differs between its arms.
    scales
        Its runs, ``"small"`` and ``"paper"``.
    table
        Makes the result of the finished runs: a Dataset, whose variables become one table for each set of dimensions.
        A variable ``x_sd`` is the standard deviation over seeds of ``x``.
    claims
        Paper beside measured.
    keep
        What the table needs per parameter (:class:`lcakit.Recorder`).
    resolution
        ``"layer"`` where sums over layers are enough: files are cut down to them when a run is finished.
    test_loss
        Files also have ``loss_val`` and ``accuracy_val`` (snapshot), over the test set.
    """

    name: str
    title: str
    source: str
    varied: str
    scales: Mapping[str, Scale]
    table: Callable[[Results], xr.Dataset]
    claims: tuple[Claim, ...] = ()
    keep: tuple[str, ...] = ("lca",)
    resolution: str = "parameter"
    test_loss: bool = False

    def scale(self, name: str) -> Scale:
        """Return the runs at one scale, or say which there are."""
        if name not in self.scales:
            raise unknown(f"scale of {self.name}", name, self.scales)
        return self.scales[name]


def seeded(run: Run, seed: int, data_root: str | None) -> Run:
    """Return a run of an arm with its seed, every setting filled in."""
    return dataclasses.replace(run, seed=seed, data_root=data_root).resolved()
