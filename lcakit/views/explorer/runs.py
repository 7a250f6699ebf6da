"""The models of the runs and objectives that an explorer shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from lcakit.storage.paths import run_names
from lcakit.trajectory.schema import loss_unit, with_suffix
from lcakit.views.explorer.model import Model, objectives

__all__ = ["Models"]


def __dir__() -> list[str]:
    return __all__


_MOST_MODELS = 3
"""Most models that are kept: each holds up to a few hundred megabytes of what it read."""


def _class_names(ds: xr.Dataset) -> list[str]:
    return [str(name) for name in ds["class"].values.ravel()] if "class" in ds.coords else []


class Models:
    """The models of each run and objective: made when first shown, shared by all pages.

    Parameters
    ----------
    found
        A dataset, maybe of several runs of one network, or datasets by name, which may be of different networks.
    files
        Where they come from, in the same order.
    """

    def __init__(self, found: xr.Dataset | Mapping[str, xr.Dataset], files: Sequence[str] = ()) -> None:
        self._found, self._files = found, list(files)
        if isinstance(found, xr.Dataset):
            self.ds = found
            self.runs = [str(name) for name in found["run"].values] if "run" in found.dims else []
        else:
            self.ds = next(iter(found.values()))
            self.runs = list(found)
        self.objectives = objectives(self.ds)
        self._made: dict[tuple[str, str], Model] = {}

    def get(self, run: str, objective: str) -> Model:
        """Return the model of a run (``""`` where there is one) and an objective."""
        key = run, objective
        model = self._made.pop(key, None)
        if model is None:
            model = Model(self._dataset(run), objective)
        self._made[key] = model  # last: the least recently used one comes first
        if len(self._made) > _MOST_MODELS:
            del self._made[next(iter(self._made))]
        return model

    def first(self) -> Model:
        """Return the model that a page shows first."""
        return self.get(self.runs[0] if self.runs else "", self.objectives[0])

    def _dataset(self, run: str) -> xr.Dataset:
        if not isinstance(self._found, xr.Dataset):
            return self._found[run]
        return self._found.isel(run=self.runs.index(run), drop=True) if self.runs else self._found

    def losses(self, objective: str, classes: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return snapshots and loss of each run that holds it in the same unit: that of classes, unless these are all.

        Runs of other classes are left out, and so are runs that hold no loss.
        """
        found = {}
        unit = loss_unit(self.ds, with_suffix("loss", objective))
        every = _class_names(self.ds)
        for run in self.runs:
            ds = self._dataset(run)
            names, some = _class_names(ds), set(classes) != set(every)
            variable = with_suffix("loss_class" if some else "loss", objective)
            alike = loss_unit(ds, with_suffix("loss", objective)) == unit and (not some or set(classes) <= set(names))
            if variable in ds and alike:
                loss = ds[variable]
                if some:
                    loss = loss.isel({"class": [names.index(name) for name in classes]}).sum("class")
                found[run] = ds["snapshot"].values, np.asarray(loss.values, np.float64)
        return found

    def source_of(self, run: str) -> str:
        """Return what files made of a run are named after: its file without suffix, or the run."""
        if self.runs:
            return run
        return run_names(self._files)[0] if self._files else "trajectory"

    def opening(self, run: str) -> str:
        """Return the line of Python that makes ``ds`` for a run."""
        if not self._files:
            return f"ds = ds.sel(run={run!r})  # ds: what was explored" if run else "# ds: what was explored"
        return f"ds = lk.open_trajectory({self._files[self.runs.index(run) if self.runs else 0]!r})"
