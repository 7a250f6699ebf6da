"""What all views have: a picture, a sentence with its numbers and units, and the fields they depend on."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import panel as pn
from panel.models import markup

from lcakit.errors import LcakitError
from lcakit.plot._colours import neutral_cmap, sign_cmap, symmetric_limits
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.names import safe
from lcakit.views.explorer.selection import LCA, SIGNED, Selection
from lcakit.views.explorer.text import heading

__all__ = ["UNREADABLE", "HtmlText", "View", "limit_of", "palette", "window_slice"]


def __dir__() -> list[str]:
    return __all__


UNREADABLE = (LcakitError, ValueError, OSError, RuntimeError)
"""What is told in place of a picture; netCDF4 raises RuntimeError where a file was cut short under its feet."""


_BESIDE_WIDTH = 240
"""Smallest width of pictures that stand side by side in a view; on narrower pages they stand one below the other."""


class HtmlText:
    """HTML that can be changed.

    Not a pane of Panel, which in a notebook loads styles from the network when it changes (Panel 1.9), nor one of
    Bokeh's, which lays out the whole page again.
    """

    def __init__(self, size: int = 12, margin: tuple[int, int, int, int] = (0, 8, 0, 8)) -> None:
        styles = {"font-size": f"{size}px", "line-height": "1.35"}
        make: Any = markup.HTML
        self._model = make(text="", styles=styles, margin=margin, sizing_mode="stretch_width", disable_math=True)
        self.panel = pn.pane.Bokeh(self._model)

    @property
    def html(self) -> str:
        """The text."""
        return html.unescape(self._model.text)

    @html.setter
    def html(self, text: str) -> None:
        self._model.text = html.escape(text)


class View:
    """A titled picture of a selection.

    Attributes
    ----------
    key
        What it is called in Python (:data:`lcakit.views.explorer.taken.VIEWS`).
    fields
        Names of the fields of :class:`Selection` that the picture depends on.
    panel
        The Panel object to lay out.
    """

    title, key = "", ""
    fields: frozenset[str] = frozenset()

    def __init__(self, pictures: Sequence[Any], beside: bool = False) -> None:
        self.figures = list(pictures)
        self._undrawn: set[str] = set()
        self._buttons: Any = None
        self.caption = HtmlText()
        kind = pn.FlexBox if beside else pn.Column
        self.panes = panes = [pn.pane.Bokeh(fig, sizing_mode="stretch_width") for fig in self.figures]
        for pane in panes if beside else ():
            pane.styles = {"flex": f"1 1 {_BESIDE_WIDTH}px", "min-width": f"min({_BESIDE_WIDTH}px, 100%)"}
        drawn = kind(*panes, sizing_mode="stretch_width")
        self.panel = pn.Column(self.caption.panel, drawn, sizing_mode="stretch_width")

    def offer(self, buttons: Any) -> None:
        """Put buttons below the picture, which are there while it is."""
        self._buttons = buttons
        self.panel.append(buttons)

    def show(self, model: Model, selection: Selection, changed: set[str]) -> None:
        """Draw the selection, or give the reason why not; do nothing if the picture does not depend on the changes."""
        if not changed & (self.fields | {"source"}):
            return
        changed = changed | self._undrawn
        try:
            sentence = self._draw(model, selection, changed)
            self._undrawn = set()
        except UNREADABLE as error:
            sentence = safe(error, 600)
            self._undrawn = changed  # to be drawn with the next change
        self.caption.html = heading(self.title, sentence)
        for fig in self.figures:
            fig.visible = not self._undrawn
        if self._buttons is not None:
            self._buttons.visible = not self._undrawn

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        """Draw, and return the sentence; raise an error with a message for the user if there is nothing to draw."""
        raise NotImplementedError


def palette(selection: Selection, quantity: str = LCA) -> list[str]:
    """Return the colours of a quantity: those of helping and hurting only where its sign means that."""
    return _colours(selection.colours if quantity in SIGNED else "")


@functools.cache
def _colours(scheme: str) -> list[str]:
    return sign_cmap(scheme) if scheme else neutral_cmap()


def window_slice(selection: Selection) -> slice:
    """Return the positions of the selected span."""
    return slice(selection.window[0], selection.window[1] + 1)


def limit_of(values: np.ndarray, percentile: float = 99.0) -> float:
    """Return the end of a colour scale around zero."""
    return symmetric_limits(values, percentile)[1]
