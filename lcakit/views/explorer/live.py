"""The selection of an explorer as an object: read it, set it, watch it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import param

from lcakit.plot._colours import SIGNS
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.overlaid import EACH, MEAN
from lcakit.views.explorer.selection import ALL, LCA, QUANTITIES

__all__ = ["FIELDS", "LiveSelection"]


def __dir__() -> list[str]:
    return __all__


class LiveSelection(param.Parameterized):
    """What an explorer shows, in the names and labels of the file; setting a field moves the page.

    ``ex.selection.layer = "fc2"`` opens a layer, ``ex.selection.param.update(layer="fc2", unit=3)`` changes several
    fields at once, and ``ex.selection.param.watch(function, "layer")`` follows what the user does.
    """

    run: Any = param.Selector(objects=[""], default="", doc="The run that is shown, where there are several.")
    objective: Any = param.Selector(
        objects=[""], default="", doc="Suffix of the objective; empty for the one recorded."
    )
    configurations = param.ListSelector(
        objects=[], default=[], check_on_set=True, doc="Configurations whose runs are laid over each other."
    )
    overlay: Any = param.Selector(
        objects=[EACH, MEAN], default=EACH, doc="Curves of each run, or mean and interval of each configuration."
    )
    other: Any = param.Selector(
        objects=[""], default="", doc="A run whose parameters stand beside those of the run that is shown."
    )
    layers = param.ListSelector(objects=[], default=[], check_on_set=True, doc="Layers that sums cover.")
    classes = param.ListSelector(objects=[], default=[], check_on_set=True, doc="Classes that sums cover.")
    role: Any = param.Selector(
        objects=[ALL], default=ALL, doc="Role of the tensors that sums cover; 'all' for every role."
    )
    quantity: Any = param.Selector(objects=list(QUANTITIES), default=LCA, doc="What maps show.")
    iteration = param.Integer(default=0, doc="Label of the iteration that is looked at.")
    window = param.Range(default=(0, 0), doc="Labels of the first and last iteration of the span.")
    whole = param.Boolean(default=False, doc="Maps show the whole span instead of one iteration.")
    layer: Any = param.Selector(objects=[""], default="", doc="The layer that is opened.")
    unit = param.Integer(default=0, doc="Channel number of a unit of the opened layer.")
    parameter = param.String(default="", doc="Name of the parameter that is looked at; empty where there is none.")
    colours: Any = param.Selector(objects=list(SIGNS), default=next(iter(SIGNS)), doc="Colours of helping and hurting.")

    def __init__(self, runs: Sequence[str], objectives: Sequence[str], configurations: Sequence[str] = ()) -> None:
        self.param.run.objects = list(runs) or [""]
        self.param.other.objects = ["", *runs]
        self.param.configurations.objects = list(configurations)
        self.param.objective.objects = list(objectives)
        first: Any = {"run": (runs or [""])[0], "objective": objectives[0]}
        first["configurations"] = list(configurations)
        super().__init__(name="selection", **first)  # type: ignore[no-untyped-call]

    def offer(self, model: Model) -> dict[str, Any]:
        """Allow what a model has; return the fields that have to change because they no longer fit, with new values."""
        first, last = int(model.iterations[0]), int(model.iterations[-1])
        ends = self.param.iteration.bounds
        self.param.iteration.bounds = self.param.window.bounds = (first, last)
        out: dict[str, Any] = {} if ends == (first, last) else {"iteration": first, "window": (first, last)}
        allowed = {"layers": model.layers, "classes": model.classes, "role": model.roles}
        allowed |= {"quantity": model.quantities or (LCA,), "layer": model.layers}
        for field, names in allowed.items():
            self.param[field].objects = list(names)
        for field in ("layers", "classes"):
            kept = [name for name in getattr(self, field) if name in allowed[field]]
            out[field] = kept or list(allowed[field])
        for field in ("role", "quantity", "layer"):
            now = getattr(self, field)
            out[field] = now if now in allowed[field] else allowed[field][0]
        return out


FIELDS = tuple(name for name in LiveSelection.param if name != "name")
"""All fields, in their order."""
