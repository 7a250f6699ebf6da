"""Names from a file, which cannot be trusted, made harmless for a page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from lcakit.plot._marks import plain
from lcakit.text import printable

__all__ = ["options", "safe", "shown"]


def __dir__() -> list[str]:
    return __all__


def shown(name: Any, letters: int = 40) -> str:
    """Return a name for a widget, a legend or an axis.

    They show text literally, except for tags (:func:`lcakit.plot._marks.plain`).
    """
    return plain("bokeh", printable(name, letters))


def options(names: Iterable[Any]) -> dict[str, int]:
    """Return the options of a widget: text of each name, and its position; the page never gets the name itself."""
    out: dict[str, int] = {}
    for place, name in enumerate(names):
        text = shown(name)
        out[text if text not in out else f"{text} ({place})"] = place
    return out


def safe(name: Any, letters: int = 60) -> str:
    """Return a name, or another text, for HTML."""
    return html.escape(printable(name, letters)).replace("\n", " ")
