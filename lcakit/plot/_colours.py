"""The colour language of all pictures: green helps, red hurts, white is zero; other signs are purple and brown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex

from lcakit.errors import unknown
from lcakit.trajectory.arguments import checks_arguments

SIGNS = {"green-red": ("#1b7837", "#c51b29"), "blue-orange": ("#2166ac", "#d2770a")}
"""Colours of helping and hurting; the second pair is for readers who do not tell green from red."""
NEUTRAL = ("#5e3c99", "#8c510a")
"""Colours of negative and positive numbers that neither help nor hurt: weights, gradients, movements."""
PALETTE = ("#0e6ef2", "#cb3910", "#008161", "#cd7aad", "#d2830b", "#a24cae", "#000000")
"""Colours of lines with names: blue, vermilion, green, pink, orange and purple, told apart by colour-blind readers."""
NAMED = (*PALETTE[:6], "#0f9ed9", "#8c6824", "#b113fe", "#71a300", "#5f6f9a", "#8e968a")
"""Colours of classes, layers and runs: by their places in the file.

Each has a contrast of at least 3 with white and with dark pages (WCAG 1.4.11), so one set serves both themes. In so
narrow a range of lightness a colour-blind reader tells six apart, not twelve: lines of the second six are dashed.
"""
DASHES = ("solid", "dashed", "dotted", "dashdot")
ORDERED = ("#3b6af0", "#0a7fa5", "#5d9160", "#b98d00")
"""Colours of lines in an order, with the same contrast."""
SEQUENTIAL = ("#440154", "#3b528b", "#21918c", "#5ec962", "#d8c520")
"""Colours of losses in maps: viridis, darkened at its bright end."""
OTHERS = "#6f6f6f"
"""Colour of the sum of what has no line of its own."""
GUIDE = "#8a8a8a"
NOTHING = "#d9d9d9"
"""Colour of gaps."""
MOST_LINES = 12

_SETTING = {"signs": "green-red"}


@checks_arguments
def use_colours(scheme: str) -> None:
    """Choose the colours of helping and hurting for all pictures from now on.

    Parameters
    ----------
    scheme
        ``"green-red"`` (as in the paper) or ``"blue-orange"`` (for colour-blind readers).

    Raises
    ------
    ValueError
        For another scheme.

    Examples
    --------
    >>> use_colours("blue-orange")
    >>> sign_colours()["helping"]
    '#2166ac'
    >>> use_colours("green-red")
    """
    sign_colours(scheme)
    _SETTING["signs"] = scheme


@checks_arguments
def sign_colours(scheme: str | None = None) -> dict[str, str]:
    """Return the colours of helping, hurting and zero.

    Parameters
    ----------
    scheme
        ``"green-red"`` or ``"blue-orange"``; None for the scheme in use (:func:`use_colours`).

    Returns
    -------
    dict
        ``helping``, ``hurting`` and ``zero`` to a colour as ``#rrggbb``.

    Raises
    ------
    ValueError
        For another scheme.

    Examples
    --------
    >>> sign_colours("green-red")
    {'helping': '#1b7837', 'hurting': '#c51b29', 'zero': '#ffffff'}
    """
    chosen = scheme or _SETTING["signs"]
    if chosen not in SIGNS:
        raise unknown("colour scheme", chosen, SIGNS)
    helping, hurting = SIGNS[chosen]
    return {"helping": helping, "hurting": hurting, "zero": "#ffffff"}


def sign_words() -> tuple[str, str]:
    """Return the names of the colours of helping and of hurting in use."""
    helping, hurting = _SETTING["signs"].split("-")
    return helping, hurting


@checks_arguments
def sign_cmap(scheme: str | None = None, n: int = 255) -> list[str]:
    """Return a colour map from helping (negative) over white to hurting (positive).

    Parameters
    ----------
    scheme
        ``"green-red"`` or ``"blue-orange"``; None for the scheme in use (:func:`use_colours`).
    n
        Number of colours, odd and at least 3, so that zero is exactly white.

    Returns
    -------
    list of str
        Colours as ``#rrggbb``.

    Raises
    ------
    ValueError
        For another scheme, or an even number of colours.

    Examples
    --------
    >>> sign_cmap("green-red", 3)
    ['#1b7837', '#ffffff', '#c51b29']
    """
    colours = sign_colours(scheme)
    return _diverging(colours["helping"], colours["hurting"], n)


def neutral_cmap(n: int = 255) -> list[str]:
    """Return colours of signed numbers that neither help nor hurt; zero is exactly white."""
    return _diverging(*NEUTRAL, n)


def _diverging(low: str, high: str, n: int) -> list[str]:
    if n < 3 or n % 2 == 0:
        raise ValueError(f"n must be odd and at least 3, so that one colour stands for zero; got {n}")
    return _shades([low, "#ffffff", high], n)


def symmetric_limits(values: Any, percentile: float = 99.0) -> tuple[float, float]:
    """Return the ends of a colour scale around zero: a percentile of the finite magnitudes.

    If that percentile is 0, the largest magnitude; if all are 0, -1 and 1.
    """
    magnitudes = np.abs(np.asarray(values, np.float64))
    magnitudes = magnitudes[np.isfinite(magnitudes)]
    if magnitudes.size == 0:
        return -1.0, 1.0
    end = float(np.percentile(magnitudes, percentile)) or float(magnitudes.max()) or 1.0
    return -end, end


def sequential(n: int = 256) -> list[str]:
    """Return colours from low to high."""
    return _shades(SEQUENTIAL, n)


def line_colours(n: int, ordered: bool = False) -> list[str]:
    """Return a colour for each of n lines; shades where the lines have an order.

    Raises
    ------
    ValueError
        For more lines than one can tell apart.
    """
    if n > MOST_LINES:
        raise ValueError(
            f"{n} lines are too many for one picture (at most {MOST_LINES}). "
            "Select some of them (.sel, .isel) or average over a dimension (.mean)."
        )
    return _shades(ORDERED, n) if ordered else list(NAMED[:n])


def look_of(place: int) -> tuple[str, str]:
    """Return colour and dash of the line of a class by its place in the file: 24 of them differ."""
    turn, n = divmod(place, len(NAMED))
    second = n >= len(NAMED) // 2
    return NAMED[n], DASHES[second + 2 * (turn % 2)]


def dash_of(colour: str) -> str:
    """Return how a line of a colour is drawn, where nothing else is said: those of the second six are dashed."""
    return DASHES[2] if colour == OTHERS else DASHES[colour in NAMED[len(NAMED) // 2 :]]


def _shades(colours: Sequence[str], n: int) -> list[str]:
    scale = LinearSegmentedColormap.from_list("shades", list(colours), N=max(n, 2))
    return [to_hex(scale(place)) for place in np.linspace(0, 1, n)]
