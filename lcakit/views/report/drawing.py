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

__all__ = ["Drawn", "draw", "picture"]


def __dir__() -> list[str]:
    return __all__


_DPI = 140
"""Dots to the inch of a picture, which the page shows at 100: enough for sharp screens and for print."""


@dataclass(frozen=True)
class Drawn:
    """A figure on the page; without a picture, ``text`` gives the reason."""

    png: bytes
    size: tuple[int, int]
    text: str
    layer: str
    cls: str


@dataclass(frozen=True)
class _Missing:
    """The reason why a file allows no picture or no sentence."""

    why: str


def draw(figures: Sequence[Figure], quiet: bool = False) -> list[Drawn]:
    """Draw figures; one that the file does not allow has a sentence in its place that gives the reason."""
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
        return _Missing(str(error))


def _counted(figure: Figure, count: Callable[[], None]) -> Any:
    """Return a picture, or why there is none; both count on the progress bar."""
    done = _attempt(lambda: picture(figure.draw()))
    count()
    return done


def picture(element: Any) -> tuple[bytes, tuple[int, int]]:
    """Return a picture as PNG, and its size in pixels of the page."""
    import holoviews as hv

    data = hv.renderer(BACKEND).instance(dpi=_DPI)(element, fmt="png")[0]
    wide, high = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))  # where a PNG has its size
    return data, (round(wide * 100 / _DPI), round(high * 100 / _DPI))


def _drawn(figure: Figure, image: Any, text: Any) -> Drawn:
    missing = next((part for part in (image, text) if isinstance(part, _Missing)), None)
    if missing:
        return Drawn(b"", (0, 0), missing.why, figure.layer, figure.cls)
    png, size = image
    return Drawn(png, size, text, figure.layer, figure.cls)
