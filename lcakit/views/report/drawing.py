"""Pictures of a report: HoloViews elements as small PNG images, all computed in one pass over the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lcakit.analysis.computing import together
from lcakit.errors import LcakitError
from lcakit.plot._marks import load
from lcakit.progress import progress
from lcakit.views.report.context import BACKEND, Figure

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
    drawn: set[int] = set()
    with progress(len(figures), "drawing", unit="figure", quiet=quiet) as bar:

        def count(n: int) -> None:
            if n not in drawn:  # some are drawn twice: see together
                drawn.add(n)
                bar.update(1)

        pictures = [partial(_counted, figure, partial(count, n)) for n, figure in enumerate(figures)]
        captions = [partial(_attempt, figure.caption) for figure in figures]
        done = together([*pictures, *captions], quiet=quiet)
    return [_drawn(*parts) for parts in zip(figures, done, done[len(figures) :], strict=False)]


def _attempt(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (LcakitError, ValueError) as error:
        return Missing(str(error))


def _counted(figure: Figure, count: Callable[[], None]) -> Any:
    """Return a picture, or why there is none; both are a step towards the end."""
    done = _attempt(lambda: picture(figure.draw()))
    count()
    return done


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
