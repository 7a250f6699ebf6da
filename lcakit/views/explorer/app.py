"""The explorer: controls and linked views of a trajectory, as one Panel object."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import panel as pn
import xarray as xr

from lcakit.errors import LcakitError
from lcakit.trajectory.arguments import checks_arguments
from lcakit.views.explorer import accessible, address, exported, figures, taken, text
from lcakit.views.explorer.controls import Controls
from lcakit.views.explorer.details import ParameterView, SaliencyView, UnitView
from lcakit.views.explorer.downloads import Courier, save_buttons
from lcakit.views.explorer.examples import Examples, given
from lcakit.views.explorer.joined import Joined
from lcakit.views.explorer.live import LiveSelection
from lcakit.views.explorer.names import safe
from lcakit.views.explorer.network import MapView, UnitsView
from lcakit.views.explorer.opened import Library
from lcakit.views.explorer.over_time import LayerMapView, LayersView, LossView
from lcakit.views.explorer.runs import Models
from lcakit.views.explorer.seen import ImagesView
from lcakit.views.explorer.selection import Selection
from lcakit.views.explorer.several import PairView, RunsView
from lcakit.views.explorer.sources import Pathlike, Sources
from lcakit.views.explorer.views import UNREADABLE, HtmlText, View

__all__ = ["Explored", "Explorer", "Models", "Pages", "explore"]


def __dir__() -> list[str]:
    return __all__


_VIEW_WIDTH = 370
"""Smallest width of a view, in pixels: narrower pages show one below the other."""
_MAIN_WIDTH = 640
"""Smallest width of all views beside the controls; on narrower pages the controls stand above them."""
_LOOK_MILLISECONDS = 2000
"""How often a served page looks whether its files are still there."""


@checks_arguments
def explore(
    trajectory: xr.Dataset | str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    examples: tuple[Any, Any] | None = None,
) -> Explored:
    """Return an explorer of a trajectory: linked views of its loss, layers, units and parameters.

    In a notebook, end a cell with it; ``lcakit view FILE`` shows the same in a browser. Nothing is loaded from the
    network. Dragging over the loss selects a span of iterations; tapping a layer opens it, tapping a unit or parameter
    shows it. All views follow: loss and residual, LCA of layers (stacked, and as a heat map), units over time,
    parameters of the open layer, and one unit and one parameter in detail. A view that the file has nothing for gives
    the reason. Only what is on screen is read.

    Parameters
    ----------
    trajectory
        A dataset, or whatever :func:`lcakit.open_trajectory` opens: a file, an unfinished recording, several runs.
    examples
        Images (n, y, x) or (n, channel, y, x) that the network was trained on, scaled as it got them, and the names of
        their classes: units of the first layer are shown with those they answer to. By default those of a known data
        set: digits, or MNIST and CIFAR-10 where ``$LCAKIT_DATA`` holds them.

    Returns
    -------
    Explored
        Controls and views, as a Panel object; ``selection`` is what is chosen, and can be set.

    Raises
    ------
    TrajectoryError
        If there is no such file, it holds no iteration yet, or a selection has parameters of a layer without its units
        (select whole kernel layers: ``ds.lk.sel(kernel_layer=…)``).

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ex = explore(tiny_trajectory())
    >>> ex.selection.layer = "fc"
    >>> ex.selection.layer
    'fc'
    """
    if "ipykernel" in sys.modules:
        _offline()
    images = None if examples is None else given(*examples)
    if isinstance(trajectory, xr.Dataset):
        return Explorer(Models(trajectory, examples=images)).panel
    return Pages(trajectory, examples=images).new()


def _offline() -> None:
    """Put scripts and styles into the notebook; by default they come from the network, without which it stays blank."""
    os.environ.setdefault("PANEL_INLINE", "true")
    os.environ.setdefault("BOKEH_RESOURCES", "inline")
    pn.extension(inline=True)


class Explored(pn.FlexBox):
    """An explorer on a page: show it, read what is selected, select something else."""

    def __init__(self, explorer: Explorer, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)  # type: ignore[no-untyped-call]
        self._explorer = explorer

    def __repr__(self, depth: int = 0, max_depth: int = 10) -> str:
        live = self.selection
        return f"Explored(layer={live.layer!r}, iteration={live.iteration}, window={live.window})"

    @property
    def selection(self) -> LiveSelection:
        """What is selected, by the names and labels of the file; setting a field moves the page."""
        return self._explorer.controls.live

    def data(self, view: str = "layers") -> xr.DataArray | xr.Dataset:
        """Return the numbers that a view shows now, by its name (``lcakit.views.explorer.taken.VIEWS``).

        ``loss, layers, layer_map, units, parameters, saliency, unit, parameter``, where images are known ``images``,
        and of several runs ``runs, pair``
        """
        return taken.data(self._explorer.model, self._explorer.controls.selection(), view)

    def save(self, path: str | os.PathLike[str], view: str = "layers") -> Path:  # type: ignore[override]
        """Write what a view shows now: a picture (.png, .svg, .pdf, .html) or its numbers (.csv, .nc)."""
        return exported.save(self._explorer.model, self._explorer.controls.selection(), view, path)

    def code(self, view: str = "layers") -> str:
        """Return lines of Python that compute the numbers of a view, as ``numbers``, without the explorer."""
        one = self._explorer
        return taken.code(one.model, one.controls.selection(), view, one.models.opening(self.selection.run))


class Pages:
    """Pages of the same files, which share what they read.

    Parameters
    ----------
    given
        Files, unfinished recordings, stores, URLs, or patterns of them.
    folder
        A folder whose files a page lists and opens; None for no list.
    examples
        Images that the networks were trained on; by default those of a known data set.

    Raises
    ------
    TrajectoryError
        If one of them cannot be opened, or the first cannot be explored.
    """

    def __init__(
        self, given: Pathlike | Iterable[Pathlike], folder: Pathlike | None = None, examples: Examples | None = None
    ) -> None:
        self._library = Library(given, folder, examples)
        self.title = self._library.own.sources.title

    def new(self) -> Explored:
        """Return a new page; of the files as they are now, if they have changed since the last one."""
        served, trouble = pn.state.curdoc, ""
        names: Sequence[str] = ()
        if served is not None and served.session_context is not None:
            names = address.asked_files(served)
        try:
            opened = self._library.get(*names)
        except (LcakitError, ValueError) as error:
            names, opened, trouble = (), self._library.own, str(error)
        trouble = opened.refresh() or trouble
        files = [self.title, *self._library.names()]
        return Explorer(opened.models, opened.sources.title, opened.sources, trouble, files, names).panel


class Explorer:
    """One page: its controls, its views, and what they show.

    Parameters
    ----------
    sources
        The files, where they are to be watched.
    trouble
        What is wrong with them already.
    files, shown
        What can be opened instead: first what was given, then names of the folder; and which of the folder are shown.
    """

    def __init__(
        self,
        models: Models,
        title: str = "",
        sources: Sources | None = None,
        trouble: str = "",
        files: Sequence[str] = (),
        shown: Sequence[str] = (),
    ) -> None:
        self.models, self._sources, self._trouble, self._unfit, self._unsaved = models, sources, trouble, "", ""
        served = pn.state.curdoc
        self._document = served if served is not None and served.session_context is not None else None
        self.changed = Joined(self._document, self.refresh)
        self.controls = Controls(models.runs, models.objectives, self.changed, list(models.configurations))
        self.summary, self.notice = HtmlText(13, (0, 8, 8, 8)), HtmlText(13, (0, 8, 0, 8))
        self.loss = LossView(self.controls.choose_window, models)
        self.focus = x_range = figures.axis_range()
        self.layers = LayersView(x_range, self.controls.choose_window)
        self.layer_map = LayerMapView(x_range, self.controls.choose_layer)
        self.units = UnitsView(x_range, self.controls.choose_unit)
        self.map = MapView(self.controls.choose_parameter)
        self.unit = UnitView(x_range)
        self.saliency = SaliencyView()
        self.parameter = ParameterView(x_range)
        self.images = None if models.examples is None else ImagesView(models.examples)
        several = len(models.runs) > 1
        self.runs = RunsView(x_range) if several else None
        self.pair = PairView() if several else None
        self.courier = Courier()
        self._last: Selection | None = None
        self.model = models.first()
        self.controls.load(self.model)
        self._source = self.controls.source
        self.address = address.Address(self.controls.live, self.go, shown)
        if len(set(files)) > 1:
            self.controls.offer_files(files, shown, self.address.open)
        if self._document is not None:
            self.go(address.asked(address.first_query(self._document)))
            self.address.connect(self._document)
            accessible.name_all(self._document)
        self.panel = self._layout(title)
        self.refresh()
        self.look()
        if self._document is not None and sources is not None:
            self._document.add_periodic_callback(self.look, _LOOK_MILLISECONDS)

    @property
    def views(self) -> list[View]:
        """All views, in the order in which they stand."""
        of_one: list[View] = [self.layer_map, self.units, self.map, self.saliency, self.unit]
        several = [] if self.runs is None or self.pair is None else [self.runs, self.pair]
        seen = [] if self.images is None else [self.images]
        return [self.loss, self.layers, *several, *of_one, *seen, self.parameter]

    def go(self, fields: dict[str, Any]) -> None:
        """Select what the address of a page asks for, and say what of it the file does not have."""
        self._unfit = ""
        live = self.controls.live
        for field, value in fields.items():
            try:
                live.param.update(**{field: value})
            except (LcakitError, ValueError):
                self._unfit = address.refusal(field, value)
            if self.controls.source != self._source:
                self._load()
        self.changed()

    def save(self, view: str, suffix: str) -> None:
        """Send a file of what a view shows to the browser, or say why there is none."""
        selection, self._unsaved = self.controls.selection(), ""
        try:
            found = exported.content(self.model, selection, view, suffix)
        except UNREADABLE as error:
            self._unsaved = f"Nothing to save: {error}"
        else:
            name = self.models.source_of(self.controls.live.run)
            self.courier.send(exported.file_name(self.model, selection, view, name, suffix), found)
            if self._document is not None:
                self._document.add_next_tick_callback(self.courier.forget)
        self.look()

    def look(self) -> None:
        """Say what has happened to the files."""
        found = self._trouble or (self._sources.trouble() if self._sources else "") or self._unfit or self._unsaved
        line = f'<div role="alert"><b>{safe(found, 600)}</b></div>' if found else ""
        if self.notice.html != line:
            self.notice.html = line

    def refresh(self) -> None:
        """Update everything that depends on what has changed since the last call."""
        self.controls.write()
        self.look()
        if self.controls.source != self._source and not self._load():
            return
        selection = self.controls.selection()
        changed = selection.changed(self._last)
        if not changed:
            return
        self._last = selection
        if changed & {"window", "source"}:
            start, end = self.model.ends(selection.window)
            self.focus.update(start=start, end=end)
        self.address.write()
        self._summarize(selection)
        for view in self.views:
            view.show(self.model, selection, changed)
        pn.io.push_notebook(self.panel)

    def _load(self) -> bool:
        """Take the model of the chosen run and objective; if it has none, say why and return False."""
        try:
            self.model = self.models.get(*self.controls.source)
            self.controls.load(self.model)
        except LcakitError as error:
            self.summary.html = safe(error, 600)
            return False
        self._source = self.controls.source
        return True

    def _summarize(self, selection: Selection) -> None:
        try:
            if self.model.has_lca:
                text.require_choice(self.model, selection)
            line = text.summary(self.model, selection, self.model.summary(selection))
        except UNREADABLE as error:
            line = safe(error, 600)
        self.summary.html = f'<div class="lk-summary" role="status">{line}</div>'

    def _layout(self, title: str) -> Explored:
        ds = self.models.ds
        facts = text.facts(self.model, len(self.models.runs))
        head = f"<b>{safe(title)}</b> {facts}" if title else facts
        warning = text.UNFINISHED if ds.attrs.get("partial") else ""
        header = HtmlText(13, (4, 8, 4, 8))
        header.html = f"{head}{warning}"
        for view in self.views:
            if view.key:
                view.offer(save_buttons(view.title, functools.partial(self.save, view.key)))
            view.panel.styles = {"flex": f"1 1 {_VIEW_WIDTH}px", "min-width": f"min({_VIEW_WIDTH}px, 100%)"}
            if view in (self.parameter, self.pair):
                view.panel.styles = {"flex": "1 1 100%", "min-width": f"min({_VIEW_WIDTH}px, 100%)"}
        grid = pn.FlexBox(*(view.panel for view in self.views), sizing_mode="stretch_width", gap="12px")
        main = pn.Column(header.panel, self.notice.panel, self.summary.panel, grid, sizing_mode="stretch_width")
        main.styles = {"flex": f"999 1 {_MAIN_WIDTH}px", "min-width": "0"}
        hidden = [self.courier.panel, *([] if self._document is None else [self.address.panel])]
        return Explored(self, self.controls.panel, main, *hidden, sizing_mode="stretch_width")
