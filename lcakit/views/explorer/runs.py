"""The models of the runs and objectives that an explorer shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from lcakit.errors import LcakitError
from lcakit.storage.paths import run_names
from lcakit.trajectory.configurations import configurations
from lcakit.trajectory.schema import loss_unit, with_suffix
from lcakit.views.explorer.examples import Examples, known
from lcakit.views.explorer.figures import LINES
from lcakit.views.explorer.model import Model, objectives

__all__ = ["Models"]


def __dir__() -> list[str]:
    return __all__


Series = tuple[np.ndarray, np.ndarray]
"""Places along an axis, and values."""
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
    examples
        Images that the networks were trained on; by default those of a known data set.
    """

    def __init__(
        self,
        found: xr.Dataset | Mapping[str, xr.Dataset],
        files: Sequence[str] = (),
        examples: Examples | None = None,
    ) -> None:
        self._found, self._files = found, list(files)
        if isinstance(found, xr.Dataset):
            self.ds = found
            self.runs = [str(name) for name in found["run"].values] if "run" in found.dims else []
        else:
            self.ds = next(iter(found.values()))
            self.runs = list(found)
        self.objectives = objectives(self.ds)
        self.examples = examples or known(self.ds)
        self.configurations = configurations({run: self._dataset(run) for run in self.runs})
        self._made: dict[tuple[str, str], Model] = {}
        self._overlaid: dict[tuple[str, str], Model] = {}  # of which only sums of layers are asked

    def get(self, run: str, objective: str) -> Model:
        """Return the model of a run (``""`` where there is one) and an objective."""
        key = run, objective
        model = self._made.pop(key, None)
        if model is None:
            model = Model(self._dataset(run), objective)
            model.runs = self
        self._made[key] = model  # last: the least recently used one comes first
        if len(self._made) > _MOST_MODELS:
            del self._made[next(iter(self._made))]
        return model

    @property
    def colours(self) -> dict[str, str]:
        """Colours of configurations, and of runs: those of their configurations where there are several."""
        places = {name: n for n, name in enumerate(self.configurations)}
        for name, runs in self.configurations.items():
            places |= {run: places[name] if len(self.configurations) > 1 else n for n, run in enumerate(runs)}
        return {name: LINES[place % len(LINES)] for name, place in places.items()}

    def chosen(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the runs of some configurations."""
        return {name: runs for name, runs in self.configurations.items() if name in names}

    def layer_curves(self, objective: str, layer: str, classes: Sequence[str], role: str) -> dict[str, Series]:
        """Return iterations and LCA of a layer in each run that has the layer, the classes and the unit of the loss."""
        found = {}
        unit = loss_unit(self.ds, with_suffix("loss", objective))
        for run in self.runs:
            try:
                model = self._overlaid.get((run, objective)) or Model(self._dataset(run), objective)
            except LcakitError:
                continue  # no iteration, or parts of layers
            self._overlaid[run, objective] = model
            fits = model.unit == unit and layer in model.layers and set(classes) <= set(model.classes)
            if fits and model.has_lca and role in model.roles:
                sums = model.layer_sums(tuple(classes) or model.classes, role)
                found[run] = model.iterations, sums[:, model.layers.index(layer)]
        return found

    def first(self) -> Model:
        """Return the model that a page shows first."""
        return self.get(self.runs[0] if self.runs else "", self.objectives[0])

    def _dataset(self, run: str) -> xr.Dataset:
        if not isinstance(self._found, xr.Dataset):
            return self._found[run]
        return self._found.isel(run=self.runs.index(run), drop=True) if self.runs else self._found

    def losses(self, objective: str, classes: Sequence[str]) -> dict[str, Series]:
        """Return snapshots and loss of each run that holds it in the same unit: that of classes, unless these are all.

        Runs of other classes are left out, and so are runs that hold no loss.
        """
        found = {}
        unit = loss_unit(self.ds, with_suffix("loss", objective))
        every = _class_names(self.ds)
        for run in self.runs:
            ds = self._dataset(run)
            names, some = _class_names(ds), bool(classes) and set(classes) != set(every)
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
