"""What a trajectory is and how it was made, without reading its numbers per parameter."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dask
import numpy as np
import xarray as xr
from dask.local import get_sync

from lcakit.storage.given import of_trajectories
from lcakit.storage.opening import open_trajectory
from lcakit.text import printable
from lcakit.trajectory import schema
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.provenance import config_of
from lcakit.trajectory.require import require_pairs

__all__ = ["MOST_LINES", "OWNER", "Description", "Source", "describe", "fingerprint"]


def __dir__() -> list[str]:
    return __all__


MOST_LINES = 40
"""Attributes and variables that a description lists; the others are counted."""

# what a description says first, in this order; further attributes follow
_MADE = ("created_by", "created_at", "creator", "versions", "torch_version", "device", "threads")

_SET = ("seed", "optimizers", "every")

_SHARED = ("shared_from", "resolution", "keepbits", "largest_relative_error", "allocated_by", "imported_from")

_PRINTS = ("data_fingerprint", "model_fingerprint")

OWNER = ("title", "author", "year", "doi", "url", "license")
"""Attributes that say whose a trajectory is and where it is published; a citation is made of them."""

Source = str | os.PathLike[str] | xr.Dataset


@dataclass(frozen=True)
class Description:
    """What is known of a trajectory without reading its numbers per parameter; everything in it is safe to print."""

    source: str
    facts: dict[str, str]
    """How it was made: attributes."""
    sizes: dict[str, int]
    variables: tuple[tuple[str, str, int], ...]
    """Name, dimensions with their sizes and type, bytes in memory."""
    numbers: dict[str, float]
    """From the short variables: losses, what the allocations sum to, residuals."""
    fingerprint: str
    config: dict[str, Any] = field(default_factory=dict)
    """Configuration of the run, whole."""

    def to_text(self) -> str:
        """Return the description as aligned lines."""
        return "\n".join([self.source, *self._lines()])

    def __str__(self) -> str:
        return self.to_text()

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain data, for JSON."""
        variables = [{"name": name, "shape": shape, "bytes": size} for name, shape, size in self.variables]
        return {**vars(self), "variables": variables}

    def settings(self) -> dict[str, str]:
        """Return the configuration as text: names and values, each whole, in printable letters."""
        return {printable(key, 60): json.dumps(value) for key, value in self.config.items()}

    def _lines(self) -> Iterator[str]:
        yield from _aligned("how it was made", self.facts)
        if self.config:
            yield from _aligned("configuration of the run", self.settings())
        yield from _aligned("sizes", {name: f"{size:,}" for name, size in self.sizes.items()})
        shapes = {name: f"{shape}  {_megabytes(size)}" for name, shape, size in self.variables}
        yield from _aligned("variables", shapes)
        yield from _aligned("numbers", {name: f"{value:.6g}" for name, value in self.numbers.items()})
        yield from _aligned("to recognize it", {"fingerprint": self.fingerprint})


def _aligned(title: str, rows: Mapping[str, str]) -> Iterator[str]:
    yield f"\n{title}"
    width = max(map(len, rows), default=0)
    for name, text in list(rows.items())[:MOST_LINES]:
        yield f"  {name:<{width}}  {text}"
    if len(rows) > MOST_LINES:
        yield f"  … ({len(rows):,} in all)"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


@checks_arguments
def describe(source: Source) -> Description:
    """Say what a trajectory is and how it was made, without reading its numbers per parameter.

    Parameters
    ----------
    source
        A file, an unfinished recording, or an open dataset.

    Returns
    -------
    Description
        Attributes, sizes, variables, and numbers from the short variables. It takes milliseconds for any size of
        file. :func:`lcakit.account` reads everything and says more.

    Raises
    ------
    TrajectoryError
        If a path cannot be opened as a trajectory.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> describe(tiny_trajectory()).sizes["iteration"]
    12
    """
    if not isinstance(source, xr.Dataset):
        # short reads need no threads, and asking Dask for its default would import dask.distributed (0.2 s)
        with open_trajectory(source) as ds, dask.config.set(scheduler=get_sync):
            return _describe(ds, printable(os.fspath(source)))
    return _describe(source, printable(source.encoding.get("source", "dataset")))


@of_trajectories
def _describe(ds: xr.Dataset, name: str) -> Description:
    first = (*OWNER, *_MADE, *_SET, *_SHARED, *_PRINTS)
    place = {name: row for row, name in enumerate(first)}
    bare = {str(key): str(key).rpartition("_")[0] for key in ds.attrs}  # allocated_by_val is beside allocated_by
    order = sorted(bare, key=lambda key: place.get(key, place.get(bare[key], len(first))))
    facts = {printable(key, 60): _fact(key, ds.attrs) for key in order}
    config = config_of(ds)
    facts |= {"config": printable(ds["config"].values)} if "config" in ds and not config else {}
    variables = tuple((printable(n, 60), _shape(array), int(array.nbytes)) for n, array in ds.data_vars.items())
    sizes = {printable(dim, 60): int(size) for dim, size in ds.sizes.items()}
    return Description(name, facts, sizes, variables, _numbers(ds), fingerprint(ds), config)


def _fact(key: str, attrs: Mapping[Any, Any]) -> str:
    """Return an attribute as text; importers write -1 for a number that their source does not state."""
    value, base = attrs[key], key.partition("_")[0] if key.startswith("tolerance_") else key
    if base not in schema.UNSTATED_NUMBERS or not isinstance(value, int | float | np.number) or value != -1:
        return printable(value, 100)
    ours = "imported_from" not in attrs or "allocated_by" in attrs
    return "none, never refined" if base == "tolerance" and ours else "not stated"


def _shape(array: xr.DataArray) -> str:
    dims = " × ".join(f"{printable(dim, 40)} {size:,}" for dim, size in array.sizes.items())
    return f"{dims or 'text or number'}, {array.dtype}"


def _numbers(ds: xr.Dataset) -> dict[str, float]:
    """Return what the short variables say, of every objective; for runs, of each."""
    out: dict[str, float] = {}
    for row in range(ds.sizes["run"]) if "run" in ds.dims else [None]:
        part = ds if row is None else ds.isel(run=row)
        prefix = "" if row is None else f"{printable(ds['run'].values[row], 40)}: "
        for suffix in dict.fromkeys(schema.split_name(str(name))[1] for name in ds.data_vars):
            ending = f" ({suffix})" if suffix else ""
            out |= {f"{prefix}{label}{ending}": value for label, value in _of_objective(part, suffix).items()}
    return out


def _of_objective(ds: xr.Dataset, suffix: str) -> dict[str, float]:
    names = ("loss", "accuracy", "residual", "splits")
    stored = {name: schema.with_suffix(name, suffix) for name in names}
    values = {name: ds[own].values for name, own in stored.items() if own in ds and ds[own].size}
    out: dict[str, float] = {}
    for name in ("loss", "accuracy"):
        if name in values and not np.isnan(values[name]).all():  # an accuracy of NaN: the task has none
            out |= {f"{name} at the start": float(values[name][0]), f"{name} at the end": float(values[name][-1])}
    if "loss" in values and "residual" in values:
        require_pairs(ds)
        change = float(values["loss"][-1] - values["loss"][0])
        error = float(values["residual"].sum())
        out["sum of LCA"] = change + error
        out |= {"total error, percent": 100 * error / abs(change)} if change else {}
    if "residual" in values:
        out["largest residual"] = float(np.abs(values["residual"]).max())
    if "splits" in values:  # neighbouring iterations share the gradient at their common snapshot
        out["full-set gradients"] = int(values["splits"].sum(dtype=np.int64)) + 1
    return out


def fingerprint(ds: xr.Dataset) -> str:
    """Return a sha256 that recognizes a trajectory: of its losses, steps, and the shapes of its tensors.

    It is the same for a file and for every copy of all its iterations, compressed, rounded or aggregated, and takes no
    reading of large variables. It is not a checksum of the numbers per parameter: ``lk.validate`` checks those.
    """
    digest = hashlib.sha256()
    for name in ("snapshot", "iteration", "loss", "residual"):
        if name in ds.variables:
            values = np.ascontiguousarray(ds[name].values)
            digest.update(f"{name}{values.shape}".encode())
            digest.update(values.astype("<f8" if values.dtype.kind == "f" else "<i8").tobytes())
    for name in ("data_fingerprint", "model_fingerprint"):
        digest.update(str(ds.attrs.get(name, "")).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
