"""What Panel and Bokeh leave out: names of controls and pictures for screen readers, and states that can be seen."""

from __future__ import annotations

from typing import Any

import panel as pn
from bokeh.models import CustomJS

__all__ = ["name_all", "show_states"]


def __dir__() -> list[str]:
    return __all__


_CHOSEN = ".bk-btn.bk-active { font-weight: bold; box-shadow: inset 0 -3px 0 0 #0e6ef2 !important; }"
"""Panel shows which button of a group is pressed by a shadow, which on dark pages nobody sees."""
_DARK = """
.bk-input { color-scheme: dark; }
select.bk-input:not([multiple]) { appearance: auto; background-image: none; }
"""
"""On dark pages the arrow of a list is black on black, and what is selected in it glares."""


def show_states(layout: Any) -> None:
    """Let all widgets of a layout show their states in the theme of the page."""
    for one in layout.select(pn.widgets.Widget):
        sheets = [_CHOSEN] if isinstance(one, pn.widgets.RadioButtonGroup) else []
        sheets += [_DARK] if pn.config.theme == "dark" else []
        one.stylesheets = [*one.stylesheets, *sheets]


_NAMING = """
const buttons = {first: "First iteration", previous: "Previous iteration", reverse: "Play backwards", pause: "Pause",
  play: "Play", next: "Next iteration", last: "Last iteration"};
const every = (root, found = []) => {
  for (const one of root.querySelectorAll("*")) {
    found.push(one);
    if (one.shadowRoot) every(one.shadowRoot, found);
  }
  return found;
};
const set = (one, name) => { if (one.getAttribute("aria-label") !== name) one.setAttribute("aria-label", name); };
const name = () => {
  let view = "", title = "";
  for (const one of every(document)) {
    if (one.matches(".lk-view")) {
      view = one.textContent;  // the sentence stands before its pictures
      title = one.querySelector("b").textContent;
    } else if (one.matches(".bk-layer[tabindex]")) {
      one.setAttribute("role", "img");
      set(one, "Picture");
      if (one.getAttribute("aria-description") !== view) one.setAttribute("aria-description", view);
    } else if (one.matches("button")) {
      for (const kind of one.classList) if (kind in buttons && !one.textContent.trim()) set(one, buttons[kind]);
      const saving = one.getRootNode().host;
      if (saving?.classList.contains("lk-save")) set(one, `Save ${title} as ${one.textContent.trim()}`);
    } else if (one.matches("input[type=range]")) {
      set(one, "Iteration");
    } else if (one.matches(".noUi-handle")) {
      set(one, one.matches(".noUi-handle-lower") ? "First iteration of the span" : "Last iteration of the span");
    }
  }
};
name();
setInterval(name, 1000);  // pictures and sentences change
"""


def name_all(document: Any) -> None:
    """Name buttons of the player, handles of sliders, and pictures (by their sentences), once the page is there."""
    document.js_on_event("document_ready", CustomJS(args={}, code=_NAMING))
