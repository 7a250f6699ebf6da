"""The controls of the explorer: widgets that hold the selection; a disabled one gives the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import panel as pn

from lcakit.errors import LcakitError
from lcakit.plot._colours import SIGNS
from lcakit.views.explorer import figures, tensors
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.names import options, safe, shown
from lcakit.views.explorer.selection import ALL, LCA, QUANTITIES, Selection
from lcakit.views.explorer.views import HtmlText

__all__ = ["Controls"]


def __dir__() -> list[str]:
    return __all__


_PLAYER_MILLISECONDS = 150
_MOST_LISTED = 6
_WIDTH = 280
_LABEL = (4, 8, 0, 8)
_WIDE: dict[str, Any] = {"width": _WIDTH, "margin": (4, 8)}
_NO_PARAMETERS = "this file has no single parameters"
_NO_CLASSES = "this file has none"


class Controls:
    """All widgets; :meth:`selection` is their state.

    Parameters
    ----------
    runs, objectives
        Those of the file; the user can choose if there are several.
    changed
        Called after each change; once for all changes made inside :meth:`together`.
    """

    def __init__(self, runs: list[str], objectives: list[str], changed: Callable[[], None]) -> None:
        self._sources = runs or [""], objectives
        self._changed, self._quiet = changed, 0
        self._model: Model | None = None
        self._parameter: int | None = None
        self._make_sources(runs, objectives)
        self._make_times()
        self._make_choices()
        self._watch()
        self.panel = self._column()

    def _make_sources(self, runs: list[str], objectives: list[str]) -> None:
        self.run = pn.widgets.Select(name="Run", options=options(runs), visible=len(runs) > 1, **_WIDE)
        texts = options(name or "training" for name in objectives)
        self.objective = pn.widgets.Select(name="Objective", options=texts, visible=len(texts) > 1, **_WIDE)

    def _make_times(self) -> None:
        buttons = ["first", "previous", "reverse", "pause", "play", "next", "last"]
        look = {"interval": _PLAYER_MILLISECONDS, "show_loop_controls": False, "visible_buttons": buttons, **_WIDE}
        self.player = pn.widgets.Player(name="Iteration", start=0, end=1, **look)
        self.span = HtmlText(12, _LABEL)
        look = {"show_value": False, "width": _WIDTH - 16, "margin": (0, 16)}
        self.window = pn.widgets.IntRangeSlider(name="", start=0, end=1, value=(0, 1), **look)
        self.everything = pn.widgets.Button(name="Whole run", **_WIDE)
        self.whole = pn.widgets.RadioButtonGroup(options={"at the iteration": False, "over the span": True}, **_WIDE)

    def _make_choices(self) -> None:
        self.quantity = pn.widgets.Select(name="Quantity", **_WIDE)
        self.layers = pn.widgets.MultiSelect(name="Layers shown", **_WIDE)
        self.classes = pn.widgets.MultiSelect(name="Classes", **_WIDE)
        self.role = pn.widgets.Select(name="Role of tensors", **_WIDE)
        self.layer = pn.widgets.Select(name="Layer opened", **_WIDE)
        self.unit = pn.widgets.Select(name="Unit", **_WIDE)
        self.parameter = pn.widgets.TextInput(name="Parameter", **_WIDE)
        self.note = HtmlText()
        self.colours = pn.widgets.RadioButtonGroup(options=list(SIGNS), **_WIDE)

    def _watch(self) -> None:
        self.everything.on_click(lambda _: self._all_iterations())
        self.parameter.param.watch(self._named, "value")
        self.layer.param.watch(self._opened, "value")
        watched = [self.player, self.window, self.whole, self.quantity, self.layers, self.classes, self.role]
        for widget in (*watched, self.unit, self.colours):
            widget.param.watch(self._event, "value")

    def _column(self) -> Any:
        times = [self.player, self.span.panel, self.window, self.everything]
        maps = [pn.pane.HTML("Maps show", margin=_LABEL), self.whole, self.quantity]
        sums = [self.layers, self.classes, self.role]
        details = [self.layer, self.unit, self.parameter, self.note.panel]
        colours = [pn.pane.HTML("Helping and hurting", margin=_LABEL), self.colours]
        stays = {"position": "sticky", "top": "0", "align-self": "flex-start"}
        parts = [self.run, self.objective, *times, *maps, *sums, *details, *colours]
        return pn.Column(*parts, width=_WIDTH + 20, styles=stays)

    # ---- the state ---------------------------------------------------------------------------------------------

    def selection(self) -> Selection:
        """Return the state of all widgets."""
        model = self._loaded
        return Selection(
            layers=tuple(model.layers[n] for n in sorted(self.layers.value)),
            classes=tuple(model.classes[n] for n in sorted(self.classes.value)),
            role=model.roles[self.role.value],
            quantity=self.quantity.value,
            window=self._window,
            iteration=self.player.value,
            whole=self.whole.value,
            layer=model.layers[self.layer.value],
            unit=self.unit.value,
            parameter=self._parameter,
            colours=self.colours.value,
            source=self.source,
        )

    @property
    def _window(self) -> tuple[int, int]:
        first, last = self.window.value
        return int(first), int(last)

    @property
    def source(self) -> tuple[str, str]:
        """The chosen run and objective."""
        runs, objectives = self._sources
        return runs[self.run.value or 0], objectives[self.objective.value or 0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Treat several changes as one."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1
        self._event()

    def _event(self, *_: Any) -> None:
        if not self._quiet and self._model is not None:
            self._names()
            self._changed()

    def _names(self) -> None:
        """Write the labels of iterations, which may differ from their positions, beside the widgets."""
        labels = self._loaded.iterations
        first, last = self._window
        self.player.name = f"Iteration {labels[self.player.value]}"
        self.span.html = f"Span: iterations {labels[first]} to {labels[last]}"

    @property
    def _loaded(self) -> Model:
        if self._model is None:
            raise RuntimeError("the controls have no model yet")
        return self._model

    # ---- a file ------------------------------------------------------------------------------------------------

    def load(self, model: Model) -> None:
        """Offer what a model has, and keep the choices that are still possible."""
        last = model.iterations.size - 1
        new = self._model is None or self._model.iterations.size != last + 1
        self._quiet += 1
        self._model = model
        self.player.end = self.window.end = max(last, 1)
        self.player.disabled = self.window.disabled = self.everything.disabled = last == 0
        if new:
            self.player.value, self.window.value = 0, (0, last)
        _offer(self.quantity, {QUANTITIES[name]: name for name in model.quantities}, LCA)
        _offer_several(self.layers, options(model.layers))
        _offer_several(self.classes, options(model.classes))
        _offer(self.role, options(model.roles), 0)
        _offer(self.layer, options(model.layers), 0)
        self._explain(model)
        self._units()
        self._point(self._start(model) if self._parameter is None else self._parameter)
        self._quiet -= 1
        self._names()

    def _explain(self, model: Model) -> None:
        """Disable the widgets that the file has nothing for, and give the reason."""
        _why(self.classes, "Classes", "" if model.classes else _NO_CLASSES)
        _why(self.role, "Role of tensors", "" if len(model.roles) > 1 else _NO_PARAMETERS)
        _why(self.parameter, "Parameter", "" if model.has_parameters else _NO_PARAMETERS)
        self.whole.disabled = not model.has_parameters
        missing = [name for key, name in QUANTITIES.items() if key not in model.quantities]
        self.quantity.name = f"Quantity (not in this file: {', '.join(missing)})" if missing else "Quantity"
        self.quantity.disabled = not model.quantities

    def _start(self, model: Model) -> int | None:
        """Return the parameter shown first: that of the first layer with the largest value in the first iteration."""
        if not model.has_parameters:
            return None
        try:
            tensor = tensors.tensor_of(model, model.layers[self.layer.value], ALL)
            found = tensors.values(model, tensor, self.selection())
        except LcakitError:
            return 0
        return int(tensor.columns.start) + int(np.argmax(np.abs(np.nan_to_num(found))))

    # ---- taps and choices --------------------------------------------------------------------------------------

    def choose_window(self, left: float, right: float) -> None:
        """Select the iterations between two places on the axis of labels."""
        labels = self._loaded.iterations
        first, last = (figures.iteration_at(labels, x) for x in (left, right))
        self.window.value = (min(first, last), max(first, last))

    def choose_layer(self, layer: str, iteration: int) -> None:
        """Open a layer at an iteration (a position)."""
        with self.together():
            self.player.value = iteration
            self.layer.value = self._loaded.layers.index(layer)

    def choose_unit(self, unit: int, iteration: int) -> None:
        """Look at a unit of the opened layer, at an iteration (a position)."""
        with self.together():
            self.player.value = iteration
            self.unit.value = unit

    def choose_parameter(self, parameter: int) -> None:
        """Look at a parameter (a position in the dataset) and at its unit."""
        with self.together():
            self._point(parameter)
            unit = tensors.unit_of(self._loaded.ds, parameter)
            if unit in self.unit.values:
                self.unit.value = unit

    def _all_iterations(self) -> None:
        self.window.value = (0, self._loaded.iterations.size - 1)

    def _opened(self, *_: Any) -> None:
        if self._model is not None:
            with self.together():
                self._units()

    def _units(self) -> None:
        channels = [int(n) for n in self._loaded.channels(self._loaded.layers[self.layer.value])]
        _offer(self.unit, {f"unit {n}": n for n in channels}, channels[0])

    def _point(self, parameter: int | None) -> None:
        self._parameter = parameter
        if parameter is not None:
            self._quiet += 1
            self.parameter.value = shown(tensors.name_of(self._loaded.ds, parameter), 200)
            self._quiet -= 1
        self.note.html = ""

    def _named(self, *_: Any) -> None:
        if self._quiet or self._model is None:
            return
        try:
            parameter = tensors.find(self._model.ds, self.parameter.value or "")
        except (LcakitError, ValueError) as error:
            self.note.html = safe(error, 300)
            return
        self._point(parameter)
        self._event()


def _offer(widget: Any, choices: dict[str, Any], preferred: Any) -> None:
    values = list(choices.values())
    keep = widget.value if widget.value in values else (preferred if preferred in values else next(iter(values), None))
    widget.param.update(options=choices, value=keep)


def _offer_several(widget: Any, choices: dict[str, int]) -> None:
    keep = [name for name in widget.value if name in choices.values()] or list(choices.values())
    widget.param.update(options=choices, value=keep, size=min(_MOST_LISTED, max(2, len(choices))))


def _why(widget: Any, name: str, reason: str) -> None:
    widget.name = f"{name}: {reason}" if reason else name
    widget.disabled = bool(reason)
