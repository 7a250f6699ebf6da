"""What a report is about: the trajectory, the part of it that single pictures take, and what they can be chosen by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.account import Account
from lcakit.analysis.computing import compute
from lcakit.errors import unknown
from lcakit.plot._raster import MOST_PIXELS
from lcakit.text import printable
from lcakit.trajectory.labels import parameter_coord

BACKEND = "matplotlib"
BY = "kernel_layer"
get = partial(compute, quiet=True)
MOST_CHOICES = 12
"""Layers, and classes, that have figures of their own; those that matter most in a larger network are taken."""
MOST_PAIRS = 60
"""Of a layer and a class, in one group of figures."""


@dataclass(frozen=True)
class Figure:
    """A picture and a sentence with numbers, made when the report is written; of a layer, of a class, or of all."""

    draw: Callable[[], Any]
    caption: Callable[[], str]
    layer: str = ""
    cls: str = ""


@dataclass(frozen=True)
class Group:
    """Figures of one kind, of which the reader sees one at a time."""

    title: str
    figures: tuple[Figure, ...]
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A study: what it asks, and its figures."""

    title: str
    question: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Subject:
    """A trajectory as the figures need it."""

    ds: xr.Dataset
    account: Account
    """Of the first run."""
    layers: list[str] = field(default_factory=list)
    """Kernel layers that have figures of their own."""
    classes: list[str] = field(default_factory=list)

    @cached_property
    def one(self) -> xr.Dataset:
        """The first run."""
        return self.ds.isel(run=0, drop=True) if "run" in self.ds.dims else self.ds

    @property
    def unit(self) -> str:
        """The unit of the loss."""
        return self.account.loss_unit

    @property
    def several(self) -> bool:
        """There are several runs."""
        return self.ds.sizes.get("run", 1) > 1

    @property
    def which_run(self) -> str:
        """Words that name the run of a picture of one run; nothing where there is only one."""
        return f" (run {printable(self.ds['run'].values[0], 40)})" if self.several else ""

    def of_class(self, cls: str, ds: xr.Dataset | None = None) -> xr.Dataset:
        """Return what is of one class (for ``""`` everything): without what is per parameter, and so of all classes."""
        ds = self.ds if ds is None else ds
        if not cls:
            return ds
        per_parameter = [name for name, array in ds.data_vars.items() if "parameter" in array.dims]
        return ds.drop_vars(per_parameter).isel({"class": [self.class_names.index(cls)]})

    @cached_property
    def class_names(self) -> list[str]:
        """All classes of the file."""
        return [str(name) for name in self.ds["class"].values] if "class" in self.ds.coords else []

    @property
    def by_class(self) -> list[str]:
        """``""`` for all classes together, then those with figures of their own."""
        return ["", *self.classes] if "lca_unit_class" in self.ds else [""]


def single(title: str, draw: Callable[[], Any], caption: Callable[[], str], wide: bool = False) -> Group:
    """Return a group of one figure."""
    return Group(title, (Figure(draw, caption),), wide)


def window(subject: Subject) -> int:
    """Return how many iterations one column of a picture stands for: one, where so many columns fit."""
    return max(1, -(-subject.ds.sizes["iteration"] // MOST_PIXELS))


def kernel_layers(ds: xr.Dataset) -> list[str]:
    """Return the layers that own a kernel and are in this selection, in their order."""
    if "layer" not in ds.coords or "tensor_role" not in ds.coords:
        return []
    kernels = ds["tensor_role"].values.astype(str) == "kernel"
    owners = dict.fromkeys(parameter_coord(ds, "tensor_layer")[kernels].tolist())
    present = set(parameter_coord(ds, "unit_layer").tolist())
    return [str(ds["layer"].values[row]) for row in owners if row in present]


def chosen(kind: str, wanted: Sequence[str] | None, names: list[str], sizes: dict[str, float]) -> list[str]:
    """Return the names that figures are drawn of: the wanted ones, else all, else those of the largest magnitude.

    Raises
    ------
    ValueError
        For a name that the file does not have.
    """
    if wanted is not None:
        for name in wanted:
            if str(name) not in names:
                raise unknown(kind, name, names)
        return [str(name) for name in wanted]
    if len(names) <= MOST_CHOICES:
        return names
    strongest = sorted(names, key=lambda name: -abs(sizes.get(name, 0.0)))[:MOST_CHOICES]
    return [name for name in names if name in strongest]


def number(value: Any, unit: str = "", sign: bool = False) -> str:
    """Return a number with four digits, its minus sign as long as its plus, and its unit; None is not known."""
    if value is None:
        return "not known"
    text = f"{float(value):+.4g}" if sign else f"{float(value):.4g}"
    return " ".join(part for part in (text.replace("-", "−"), unit) if part)


def percent(value: Any) -> str:
    """Return a share as per cent."""
    return f"{100 * float(value):.3g} %"


def name(value: Any) -> str:
    """Return a name from a file as short, printable text; it is escaped where the page is written."""
    return printable(value, 40)


def listed(names: Sequence[Any], most: int = 6) -> str:
    """Return names as text, the first few of many."""
    shown = [name(one) for one in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def mean_over_runs(array: xr.DataArray) -> xr.DataArray:
    """Return the mean over runs, if there are any."""
    return array.mean("run", keep_attrs=True) if "run" in array.dims else array


def finite_max(values: Any) -> int:
    """Return the position of the largest finite value of an array."""
    return int(np.nanargmax(np.where(np.isfinite(values), values, -np.inf)))
