"""The context of a figure: the trajectory, which run, layers and classes are shown, and how numbers are written."""

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
from lcakit.trajectory.class_kind import class_kind
from lcakit.trajectory.labels import parameter_coord

__all__ = [
    "BACKEND",
    "BY",
    "MOST_CHOICES",
    "MOST_PAIRS",
    "Figure",
    "Group",
    "Section",
    "Subject",
    "chosen",
    "finite_max",
    "get",
    "join_names",
    "kernel_layers",
    "mean_over_runs",
    "name",
    "number",
    "percent",
    "single",
    "window",
]


def __dir__() -> list[str]:
    return __all__


BACKEND = "matplotlib"
BY = "kernel_layer"
get = partial(compute, quiet=True)
MOST_CHOICES = 12
"""Most layers, and most classes, with figures of their own; a larger network shows those with the largest LCA."""
MOST_PAIRS = 60
"""Most pairs of a layer and a class in one group of figures."""


@dataclass(frozen=True)
class Figure:
    """A picture and a sentence with numbers, made when the report is written; of a layer, of a class, or of all."""

    draw: Callable[[], Any]
    caption: Callable[[], str]
    layer: str = ""
    cls: str = ""


@dataclass(frozen=True)
class Group:
    """Figures of one kind; the reader sees one at a time."""

    title: str
    figures: tuple[Figure, ...]
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A study: the question it asks, and its figures."""

    title: str
    question: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Subject:
    """The trajectory of a report, and what it shows of it."""

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
        """The name of the run that pictures of a single run show, in brackets; empty if there is only one run."""
        return f" (run {printable(self.ds['run'].values[0], 40)})" if self.several else ""

    def of_class(self, cls: str, ds: xr.Dataset | None = None) -> xr.Dataset:
        """Return the variables of one class, without those per parameter, which cover all; ``""``: everything."""
        ds = self.ds if ds is None else ds
        if not cls:
            return ds
        per_parameter = [name for name, array in ds.data_vars.items() if "parameter" in array.dims]
        return ds.drop_vars(per_parameter).isel({"class": [self.class_names.index(cls)]})

    @cached_property
    def class_names(self) -> list[str]:
        """All classes of the file."""
        return [str(name) for name in self.ds["class"].values] if "class" in self.ds.coords else []

    def kind(self, *, many: bool = False) -> str:
        """Return the word for the classes of the file."""
        return class_kind(self.ds, many=many)

    @property
    def by_class(self) -> list[str]:
        """``""`` for all classes together, then the classes with figures of their own."""
        return ["", *self.classes] if "lca_unit_class" in self.ds else [""]


def single(title: str, draw: Callable[[], Any], caption: Callable[[], str], wide: bool = False) -> Group:
    """Return a group of one figure."""
    return Group(title, (Figure(draw, caption),), wide)


def window(subject: Subject) -> int:
    """Return how many iterations one column of a picture stands for: 1 if a column each fits."""
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
        For a name that is not in the file.
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
    """Return a number with four digits, a minus sign as wide as a plus, and its unit; None becomes ``not known``."""
    if value is None:
        return "not known"
    text = f"{float(value):+.4g}" if sign else f"{float(value):.4g}"
    return " ".join(part for part in (text.replace("-", "−"), unit) if part)


def percent(value: Any) -> str:
    """Return a share in per cent."""
    return f"{100 * float(value):.3g} %"


def name(value: Any) -> str:
    """Return a name from a file as short, printable text; it is escaped where the page is written."""
    return printable(value, 40)


def join_names(names: Sequence[Any], most: int = 6) -> str:
    """Return names as text, the first few of many."""
    shown = [name(one) for one in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def mean_over_runs(array: xr.DataArray) -> xr.DataArray:
    """Return the mean over runs, if there are any."""
    return array.mean("run", keep_attrs=True) if "run" in array.dims else array


def finite_max(values: Any) -> int:
    """Return the position of the largest finite value of an array."""
    return int(np.nanargmax(np.where(np.isfinite(values), values, -np.inf)))
