"""Controls that open other files of the folder: one, or several together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import panel as pn

from lcakit.views.explorer.names import options

__all__ = ["file_widgets"]


def __dir__() -> list[str]:
    return __all__


_WIDE: dict[str, Any] = {"width": 280, "margin": (4, 8)}
_MOST_LISTED = 6


def file_widgets(files: Sequence[str], shown: Sequence[str], chosen: Callable[..., None]) -> list[Any]:
    """Return the list that opens a file, and what opens several.

    Parameters
    ----------
    files
        First what was given, then names of the folder.
    shown
        Names of the folder that the page shows; none where it shows what was given.
    chosen
        Called with the names to be opened, none for what was given.
    """
    names = list(files[1:])
    single = [files[0], *(name for name in names if name != files[0])]
    together = {f"{len(shown)} files of the folder": -1} if len(shown) > 1 else {}
    here = -1 if together else single.index(shown[0]) if shown and shown[0] in single else 0
    one = pn.widgets.Select(name="File", options=together | options(single), value=here, **_WIDE)
    one.param.watch(lambda event: chosen(*([single[event.new]] if event.new > 0 else [])), "value")

    marked = [place for place, name in enumerate(names) if together and name in shown]
    size = min(_MOST_LISTED, max(2, len(names)))
    several = pn.widgets.MultiSelect(
        name="Files of the folder", options=options(names), value=marked, size=size, **_WIDE
    )
    button = pn.widgets.Button(name="Open them together", disabled=len(marked) < 2, **_WIDE)
    several.param.watch(lambda event: button.param.update(disabled=len(event.new) < 2), "value")
    button.on_click(lambda _: chosen(*(names[place] for place in sorted(several.value))))
    look = {"collapsed": not together, "width": 296, "margin": (4, 0), "styles": {"box-shadow": "none"}}
    return [one, pn.Card(several, button, title="Several files together", **look)]
