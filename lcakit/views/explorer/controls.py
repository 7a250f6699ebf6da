"""The controls of the explorer: widgets that show the selection and change it; a disabled one gives the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import panel as pn

from lcakit.errors import LcakitError, unknown
from lcakit.plot._colours import SIGNS
from lcakit.text import capitalized
from lcakit.trajectory.class_kind import class_kind
from lcakit.views.explorer import figures, tensors
from lcakit.views.explorer.accessible import show_states
from lcakit.views.explorer.file_widgets import file_widgets
from lcakit.views.explorer.live import FIELDS, LiveSelection
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.names import options, safe, shown
from lcakit.views.explorer.overlaid import EACH, MEAN
from lcakit.views.explorer.selection import QUANTITIES, Selection
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
_BESIDE = "@media (min-width: 1000px) { :host { position: sticky; top: 0; max-height: 100vh; overflow-y: auto; } }"
"""Where the page is wide the controls stand beside the views and stay in sight; elsewhere they stand above them."""


class Controls:
    """All widgets, and the selection that they show and change.

    Parameters
    ----------
    runs, objectives, groups
        Those of the file, and the configurations of the runs; the user can choose if there are several.
    changed
        Called after each change of the selection, once for all fields that change together.

    Attributes
    ----------
    live
        The selection, by names and labels. Widgets follow it, whoever changes it.
    """

    def __init__(
        self, runs: list[str], objectives: list[str], changed: Callable[[], None], groups: list[str] | None = None
    ) -> None:
        self.live = LiveSelection(runs, objectives, groups or [])
        self._changed = changed
        self._model: Model | None = None
        self._valid = ("", 0)  # the last parameter that the file holds: name and position
        self._said = ""  # about the last name typed
        self._make_sources(runs, objectives, groups or [])
        self._make_times()
        self._make_choices()
        self._watch()
        self.panel = self._column()

    def _make_sources(self, runs: list[str], objectives: list[str], groups: list[str]) -> None:
        self.run = pn.widgets.Select(name="Run", options=options(runs), visible=len(runs) > 1, **_WIDE)
        texts = options(name or "training" for name in objectives)
        self.objective = pn.widgets.Select(name="Objective", options=texts, visible=len(texts) > 1, **_WIDE)

        several: dict[str, Any] = {"visible": len(runs) > 1} | _WIDE
        self.overlay = pn.widgets.RadioButtonGroup(name="Runs", options=[EACH, MEAN], **several)
        look: dict[str, Any] = _WIDE | {"visible": len(groups) > 1, "size": min(_MOST_LISTED, max(2, len(groups)))}
        self.configurations = pn.widgets.MultiSelect(name="Configurations laid over", options=options(groups), **look)
        beside = {"none": 0} | {name: n + 1 for name, n in options(runs).items()}
        self.other = pn.widgets.Select(name="Run beside it", options=beside, **several)

    def _make_times(self) -> None:
        buttons = ["first", "previous", "reverse", "pause", "play", "next", "last"]
        look = {"interval": _PLAYER_MILLISECONDS, "show_loop_controls": False, "visible_buttons": buttons, **_WIDE}
        self.player = pn.widgets.Player(name="Iteration", start=0, end=1, **look)
        look = {"show_value": False, "width": _WIDTH - 16, "margin": (0, 16)}
        self.window = pn.widgets.IntRangeSlider(name="Span", start=0, end=1, value=(0, 1), **look)
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
        self.live.param.watch(self._followed, list(FIELDS))
        self.everything.on_click(lambda _: self._set(window=self._window_of((0, self._loaded.iterations.size - 1))))
        self.parameter.param.watch(self._named, "value")
        for field, of_widget in self._fields().items():
            widget = getattr(self, field)
            widget.param.watch(lambda event, f=field, of=of_widget: self._moved(f, of, event.new), "value")

    def _fields(self) -> dict[str, Callable[[Any], Any]]:
        """Return, for each widget, what its value is as a field of the selection: widgets hold positions, not names."""
        return {
            "run": lambda n: self.live.param.run.objects[n or 0],
            "objective": lambda n: self.live.param.objective.objects[n or 0],
            "other": lambda n: self.live.param.other.objects[n or 0],
            "overlay": str,
            "configurations": lambda places: [self.live.param.configurations.objects[n] for n in sorted(places)],
            "iteration": lambda n: int(self._loaded.iterations[n]),
            "window": self._window_of,
            "whole": bool,
            "quantity": str,
            "layers": lambda places: [self._loaded.layers[n] for n in sorted(places)],
            "classes": lambda places: [self._loaded.classes[n] for n in sorted(places)],
            "role": lambda n: self._loaded.roles[n],
            "layer": lambda n: self._loaded.layers[n],
            "unit": int,
            "colours": str,
        }

    @property
    def iteration(self) -> Any:
        """The player, whose value is the position of the iteration."""
        return self.player

    def _window_of(self, places: tuple[int, int]) -> tuple[int, int]:
        first, last = (int(self._loaded.iterations[int(n)]) for n in places)
        return first, last

    def _column(self) -> Any:
        runs = [self.run, self.overlay, self.configurations, self.other]
        times = [*runs, self.objective, self.player, self.window, self.everything]
        maps = [pn.pane.HTML("Maps show", margin=_LABEL), self.whole, self.quantity]
        sums = [self.layers, self.classes, self.role]
        details = [self.layer, self.unit, self.parameter, self.note.panel]
        colours = [pn.pane.HTML("Helping and hurting", margin=_LABEL), self.colours]
        groups = [pn.Column(*parts, width=_WIDTH + 16) for parts in ([*times, *maps, *colours], [*sums, *details])]
        look = {"flex": f"1 1 {_WIDTH + 20}px", "align-self": "flex-start"}
        layout = pn.FlexBox(*groups, styles=look, stylesheets=[_BESIDE], align_content="flex-start")
        show_states(layout)
        return layout

    def offer_files(self, files: Sequence[str], shown: Sequence[str], chosen: Callable[..., None]) -> None:
        """Let the user open another file, or several together.

        ``chosen`` gets their names, none for the first, which was given.
        """
        widgets = pn.Column(*file_widgets(files, shown, chosen), width=_WIDTH + 16)
        show_states(widgets)
        self.panel[0].insert(0, widgets)

    # ---- the state ---------------------------------------------------------------------------------------------

    def selection(self) -> Selection:
        """Return what is selected now, as plain data."""
        live, labels = self.live, self._loaded.iterations
        first, last = (figures.iteration_at(labels, label) for label in live.window)
        return Selection(
            layers=tuple(name for name in self._loaded.layers if name in live.layers),
            classes=tuple(name for name in self._loaded.classes if name in live.classes),
            role=live.role,
            quantity=live.quantity,
            window=(first, last),
            iteration=figures.iteration_at(labels, live.iteration),
            whole=live.whole,
            layer=live.layer,
            unit=live.unit,
            parameter=self._valid[1] if live.parameter else None,
            colours=live.colours,
            source=self.source,
            configurations=tuple(live.configurations),
            overlay=live.overlay,
            other=live.other,
        )

    @property
    def source(self) -> tuple[str, str]:
        """The chosen run and objective."""
        return self.live.run, self.live.objective

    @property
    def _loaded(self) -> Model:
        if self._model is None:
            raise RuntimeError("the controls have no model yet")
        return self._model

    def _set(self, **fields: Any) -> None:
        self.live.param.update(**fields)

    def _moved(self, field: str, of_widget: Callable[[Any], Any], value: Any) -> None:
        """Take over what the user chose with a widget."""
        if self._model is not None:
            found = of_widget(value)
            dragged = field == "window" and found != tuple(self.live.window)  # else the widget shows what was set
            self._set(**(self._inside(found) if dragged else {field: found}))

    def _followed(self, *events: Any) -> None:
        """Check the fields that have changed, show them in the widgets, and tell the views."""
        if self._model is None:
            return
        names = {event.name for event in events}
        if not names & {"run", "objective"}:  # else the views load another model first
            self._check(names)
            self._show()
        self._changed()

    def _check(self, changed: set[str]) -> None:
        """Let iterations be recorded ones, and the unit of the layer; raise ValueError for what the file has not."""
        live, model = self.live, self._loaded
        labels = model.iterations
        near = [int(labels[figures.iteration_at(labels, label)]) for label in (live.iteration, *live.window)]
        live.param.update(iteration=near[0], window=(near[1], near[2]))
        channels = model.channels(live.layer).tolist()
        if live.unit not in channels:
            wrong, live.unit = live.unit, int(channels[0])
            if "unit" in changed:
                raise unknown(f"unit of {shown(live.layer)}", wrong, channels)
        if "layer" in changed and "parameter" not in changed:
            self._follow_layer(model)
        if live.parameter != self._valid[0]:
            try:
                self._valid = live.parameter, tensors.find(model.ds, live.parameter)
            except (LcakitError, ValueError):
                live.parameter = self._valid[0]
                raise

    def _follow_layer(self, model: Model) -> None:
        """Look at a parameter of the opened layer, where the one that is looked at lies in another."""
        if self.live.parameter and tensors.layer_of(model.ds, self._valid[1]) != self.live.layer:
            place = tensors.strongest_of(model, self.live.layer)
            if place is not None:
                self._valid = tensors.name_of(model.ds, place), place
                self.live.parameter = self._valid[0]

    # ---- a file ------------------------------------------------------------------------------------------------

    def load(self, model: Model) -> None:
        """Offer what a model has, and keep what of the selection is in it."""
        self._model = None  # what follows is no choice of the user
        self.live.param.update(**self.live.offer(model))
        channels = model.channels(self.live.layer).tolist()
        place = self._valid[1] if self._valid[0] else tensors.strongest_of(model, self.live.layer)
        self._valid = ("", 0) if place is None else (tensors.name_of(model.ds, place), place)
        unit = self.live.unit if self.live.unit in channels else int(channels[0])
        self.live.param.update(unit=unit, parameter=self._valid[0])
        self._offer(model)
        self._model = model
        self._show()

    def _offer(self, model: Model) -> None:
        last = model.iterations.size - 1
        self.player.end = self.window.end = max(last, 1)
        self.player.disabled = self.window.disabled = self.everything.disabled = last == 0
        self.quantity.options = {QUANTITIES[name]: name for name in model.quantities}
        for widget, names in ((self.layers, model.layers), (self.classes, model.classes)):
            widget.param.update(options=options(names), size=min(_MOST_LISTED, max(2, len(names))))
        self.role.options, self.layer.options = options(model.roles), options(model.layers)
        _why(self.classes, shown(capitalized(class_kind(model.ds, many=True))), "" if model.classes else _NO_CLASSES)
        _why(self.role, "Role of tensors", "" if len(model.roles) > 1 else _NO_PARAMETERS)
        _why(self.parameter, "Parameter", "" if model.has_parameters else _NO_PARAMETERS)
        self.whole.disabled = not model.has_parameters
        missing = [name for key, name in QUANTITIES.items() if key not in model.quantities]
        self.quantity.name = f"Quantity (not in this file: {', '.join(missing)})" if missing else "Quantity"
        self.quantity.disabled = not model.quantities

    def _show(self) -> None:
        """Show the selection in the widgets, and the labels of iterations, which may differ from their positions."""
        live, model, now = self.live, self._loaded, self.selection()
        first, last = live.window
        self.run.value = live.param.run.objects.index(live.run) if self.run.options else None
        self.objective.value = live.param.objective.objects.index(live.objective)
        self.other.value, self.overlay.value = live.param.other.objects.index(live.other), live.overlay
        self.configurations.value = [live.param.configurations.objects.index(name) for name in live.configurations]
        self.player.param.update(value=now.iteration, name=f"Iteration {live.iteration}")
        self.window.param.update(value=now.window, name=f"Span: iterations {first} to {last}")
        self.whole.value, self.colours.value = live.whole, live.colours
        if model.quantities:
            self.quantity.value = live.quantity
        self.layers.value = [model.layers.index(name) for name in now.layers]
        self.classes.value = [model.classes.index(name) for name in now.classes]
        self.role.value, self.layer.value = model.roles.index(live.role), model.layers.index(live.layer)
        units = {str(n): int(n) for n in model.channels(live.layer)}
        self.unit.param.update(options=units, value=live.unit)
        self.parameter.value = shown(live.parameter, 200)

    # ---- taps and choices --------------------------------------------------------------------------------------

    def choose_window(self, left: float, right: float) -> None:
        """Select the iterations between two places on the axis of labels."""
        labels = self._loaded.iterations
        first, last = (figures.iteration_at(labels, x) for x in (left, right))
        self._set(**self._inside(self._window_of((min(first, last), max(first, last)))))

    def _inside(self, window: tuple[int, int]) -> dict[str, Any]:
        """Return a span as fields, with the iteration moved to its nearer end where it lies outside."""
        near = min(max(self.live.iteration, window[0]), window[1])
        return {"window": window} | ({} if near == self.live.iteration else {"iteration": near})

    def choose_layer(self, layer: str, iteration: int) -> None:
        """Open a layer at an iteration (a position)."""
        self._set(iteration=int(self._loaded.iterations[iteration]), layer=layer)

    def choose_unit(self, unit: int, iteration: int) -> None:
        """Look at a unit of the opened layer, at an iteration (a position)."""
        self._set(iteration=int(self._loaded.iterations[iteration]), unit=unit)

    def choose_parameter(self, parameter: int) -> None:
        """Look at a parameter (a position in the dataset) and at its unit."""
        model = self._loaded
        fields: dict[str, Any] = {"parameter": tensors.name_of(model.ds, parameter)}
        unit = tensors.unit_of(model.ds, parameter)
        if unit in model.channels(self.live.layer):
            fields["unit"] = unit
        self._said = ""
        self._set(**fields)

    def _named(self, event: Any) -> None:
        """Look at the parameter that the user typed, or say why not."""
        if self._model is None or (event.new == shown(self.live.parameter, 200) and not self._said):
            return
        try:
            self.choose_parameter(tensors.find(self._model.ds, event.new or ""))
        except (LcakitError, ValueError) as error:
            self._said = safe(error, 300)
        self._changed()

    def write(self) -> None:
        """Write what is to be said about the last name typed."""
        if self.note.html != self._said:
            self.note.html = self._said


def _why(widget: Any, name: str, reason: str) -> None:
    widget.name = f"{name}: {reason}" if reason else name
    widget.disabled = bool(reason)
