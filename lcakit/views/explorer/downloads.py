"""Buttons below each view that save what it shows; the bytes go to the browser through the page's own connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import panel as pn
from bokeh.models import ColumnDataSource, CustomJS, Spacer

from lcakit.views.explorer.exported import OFFERED

__all__ = ["Courier", "save_buttons"]


def __dir__() -> list[str]:
    return __all__


_SMALL = """
:host { float: right; }
.bk-btn { font-size: 11px; padding: 1px 7px; line-height: 1.4; }
"""
_SAVE = """
const [name] = source.data.name, [bytes] = source.data.bytes;
if (name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], {type: "application/octet-stream"}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
"""
_EMPTY: dict[str, list[Any]] = {"name": [], "bytes": []}


class Courier:
    """Brings files to the browser, which saves them as it saves any download. Nothing is written on this machine."""

    def __init__(self) -> None:
        self._source = ColumnDataSource(dict(_EMPTY))
        self._source.js_on_change("data", CustomJS(args={"source": self._source}, code=_SAVE))
        carrier = Spacer(visible=False, tags=[self._source])
        self.panel = pn.pane.Bokeh(carrier, visible=False)

    def send(self, name: str, content: bytes) -> None:
        """Let the browser save a file."""
        self._source.data = {"name": [name], "bytes": [np.frombuffer(content, np.uint8)]}

    def forget(self) -> None:
        """Keep nothing of what was sent."""
        self._source.data = dict(_EMPTY)


def save_buttons(title: str, chosen: Callable[[str], None]) -> Any:
    """Return a row of buttons, one for each format; ``chosen`` gets the suffix."""
    buttons = pn.widgets.CheckButtonGroup(
        name=f"Save {title}",
        options=OFFERED,
        margin=(0, 8, 4, 8),
        stylesheets=[_SMALL],
        align="end",
        css_classes=["lk-save"],
    )

    def pressed(event: Any) -> None:
        if event.new:  # none of them stays pressed
            buttons.value = []
            chosen(event.new[0])

    buttons.param.watch(pressed, "value")
    return buttons
