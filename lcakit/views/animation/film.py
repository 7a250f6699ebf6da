"""Films as files: frames painted with title and colour bar, as GIF (with the palette of the codes) or MP4."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageColor, ImageDraw, ImageFont

from lcakit.errors import LcakitError
from lcakit.progress import progress
from lcakit.views.animation.frames import Frames
from lcakit.views.animation.scale import INK, LEVELS, LIGHT, MIDDLE, PAPER, palette

__all__ = ["require_encoder", "write_gif", "write_mp4"]


def __dir__() -> list[str]:
    return __all__


_WIDE, _HIGH = 520, 440
"""Pixels that the cells are enlarged to, roughly: a cell has a whole number of them."""
_MARGIN, _HEAD, _FOOT, _BAR = 16, 58, 66, 14
_TEXT, _SMALL = 16, 13


def write_gif(frames: Frames, path: Path, fps: float, quiet: bool) -> None:
    """Write a GIF that repeats for ever."""
    images = _images(frames, quiet)
    first = next(images)
    rest = {"save_all": True, "append_images": images, "duration": round(1000 / fps), "loop": 0}
    first.save(path, "GIF", optimize=False, **rest)  # an optimized palette would merge colours


def require_encoder() -> Any:
    """Return the package that writes MP4.

    Raises
    ------
    LcakitError
        If it is not installed.
    """
    try:
        return importlib.import_module("imageio_ffmpeg")
    except ModuleNotFoundError as error:
        raise LcakitError(
            "writing .mp4 needs the package imageio-ffmpeg: pip install imageio-ffmpeg; or write a .gif"
        ) from error


def write_mp4(frames: Frames, path: Path, fps: float, quiet: bool) -> None:
    """Write an MP4 (H.264), which every player can show."""
    images = _images(frames, quiet)
    first = next(images)
    look = {"codec": "libx264", "quality": 8, "macro_block_size": 2, "output_params": ["-f", "mp4"]}
    writer = require_encoder().write_frames(str(path), first.size, fps=fps, **look)
    writer.send(None)
    try:
        for image in chain([first], images):
            writer.send(np.asarray(image.convert("RGB")).tobytes())
    finally:
        writer.close()


# ---- painting --------------------------------------------------------------------------------------------------


def _images(frames: Frames, quiet: bool) -> Iterator[Any]:
    """Yield the frames as images with a palette, all of one even size."""
    sheet, zoom = _sheet(frames)
    colours = [part for colour in palette(frames.helps) for part in ImageColor.getrgb(colour)]
    rows, columns = (zoom * size for size in frames.codes.shape[1:])
    left = (sheet.shape[1] - columns) // 2
    with progress(len(frames.codes), "painting", unit="frame", quiet=quiet) as bar:
        for codes, text in zip(frames.codes, frames.texts, strict=True):
            page = sheet.copy()
            page[_HEAD : _HEAD + rows, left : left + columns] = codes.repeat(zoom, 0).repeat(zoom, 1)
            _write(page, (_MARGIN, 34), text, _SMALL)
            image = Image.fromarray(page, "P")
            image.putpalette(colours)
            yield image
            bar.update(1)


def _sheet(frames: Frames) -> tuple[np.ndarray, int]:
    """Return what all frames share, as codes (row, column), and the pixels of a cell."""
    rows, columns = frames.codes.shape[1:]
    zoom = int(max(1, min(_WIDE // columns, _HIGH // rows)))
    wide = max(zoom * columns, _WIDE) + 2 * _MARGIN
    page = np.full((_HEAD + zoom * rows + _FOOT, wide), PAPER, np.uint8)
    page = np.pad(page, [(0, size % 2) for size in page.shape], constant_values=PAPER)
    _write(page, (_MARGIN, 10), frames.title, _TEXT)
    _colour_bar(page, _HEAD + zoom * rows + 12, frames)
    return page, zoom


def _colour_bar(page: np.ndarray, top: int, frames: Frames) -> None:
    """Paint the colour bar below the cells, with its numbers in the units of the data."""
    right = page.shape[1] - _MARGIN
    codes = np.linspace(0, 2 * LEVELS, right - _MARGIN).round().astype(np.uint8)
    page[top - 1 : top + _BAR + 1, _MARGIN - 1 : right + 1] = MIDDLE
    page[top : top + _BAR, _MARGIN:right] = codes
    for place, text in frames.scale.ticks():
        x = round(_MARGIN + (place + 1) / 2 * (right - _MARGIN - 1))
        page[top + _BAR : top + _BAR + 4, x] = INK
        _write(page, (x, top + _BAR + 5), text, _SMALL, centre=True)
    _write(page, (page.shape[1] // 2, top + _BAR + 21), frames.label, _SMALL, centre=True)


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _write(page: np.ndarray, place: tuple[int, int], text: str, size: int, centre: bool = False) -> None:
    """Write text onto a page, in the greys of the palette."""
    font = _font(size)
    left, _, right, bottom = (round(edge) for edge in font.getbbox(text))
    ink = Image.new("L", (right + 1, bottom + 1), 0)
    ImageDraw.Draw(ink).text((0, 0), text, fill=255, font=font)
    x = place[0] - (right - left) // 2 if centre else place[0]
    x = int(np.clip(x, 2, max(2, page.shape[1] - right - 2)))
    shades = np.asarray(ink)[:, : page.shape[1] - x]
    codes = np.array([PAPER, LIGHT, MIDDLE, INK], np.uint8)[(shades.astype(np.int64) + 32) * 3 // 256]
    area = page[place[1] : place[1] + len(codes), x : x + codes.shape[1]]
    np.copyto(area, codes[: len(area)], where=codes[: len(area)] != PAPER)
