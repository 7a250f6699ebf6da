"""Pictures of a report: HoloViews elements as small PNG images, all computed in one pass over the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lcakit.computing import together
from lcakit.errors import LcakitError
from lcakit.plot._marks import load
from lcakit.progress import progress
from lcakit.reporting.subject import BACKEND, Figure

DPI = 140
"""Pictures have 100 pixels to the inch on the page: this is enough for sharp screens and for print."""


@dataclass(frozen=True)
class Drawn:
    """A figure as it stands in the page; without a picture, ``text`` says why."""

    png: bytes
    size: tuple[int, int]
    text: str
    layer: str
    cls: str


@dataclass(frozen=True)
class Missing:
    """What a file does not allow, and why."""

    why: str


def draw(figures: Sequence[Figure], quiet: bool = False) -> list[Drawn]:
    """Draw figures; what a file does not allow becomes a sentence."""
    load(BACKEND)
    with progress(len(figures), "drawing", unit="figure", quiet=quiet) as bar:
        pictures = [partial(_attempt, partial(_picture_of, figure, bar)) for figure in figures]
        captions = [partial(_attempt, figure.caption) for figure in figures]
        done = together([*pictures, *captions], quiet=quiet)
    return [_drawn(*parts) for parts in zip(figures, done, done[len(figures) :], strict=False)]


def _attempt(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (LcakitError, ValueError) as error:
        return Missing(str(error))


def _picture_of(figure: Figure, bar: Any) -> tuple[bytes, tuple[int, int]]:
    element = figure.draw()
    bar.update(1)
    return picture(element)


def picture(element: Any) -> tuple[bytes, tuple[int, int]]:
    """Return a picture as PNG, and its size in pixels of the page."""
    import holoviews as hv

    data = hv.renderer(BACKEND).instance(dpi=DPI)(element, fmt="png")[0]
    wide, high = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))  # where PNG has its size
    return data, (round(wide * 100 / DPI), round(high * 100 / DPI))


def _drawn(figure: Figure, image: Any, text: Any) -> Drawn:
    missing = next((part for part in (image, text) if isinstance(part, Missing)), None)
    if missing:
        return Drawn(b"", (0, 0), missing.why, figure.layer, figure.cls)
    png, size = image
    return Drawn(png, size, text, figure.layer, figure.cls)
