"""How well colours are told apart: from what is behind them, and from each other by colour-blind readers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
"""What linear red, green and blue become (Machado, Oliveira and Fernandes 2009, severity 1)."""
_CONES = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
_CONES += [[0.0883024619, 0.2817188376, 0.6299787005]]
_OKLAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]]
_OKLAB += [[0.0259040371, 0.7827717662, -0.8086757660]]


def linear(colour):
    """Return red, green and blue as amounts of light."""
    channels = np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    """Return the contrast of WCAG 2, from 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def difference(one, other, blindness=""):
    """Return the distance of two colours in Oklab (Ottosson 2020), in hundredths: about 2 can just be seen."""
    sees = np.array(BLINDNESS[blindness]) if blindness else np.eye(3)
    places = [
        np.array(_OKLAB) @ np.cbrt(np.array(_CONES) @ np.clip(sees @ linear(colour), 0, 1)) for colour in (one, other)
    ]
    return 100 * float(np.linalg.norm(places[0] - places[1]))


def dark_pages():
    """Return what stands behind the pictures of dark pages of Panel."""
    import panel

    root = Path(panel.__file__).parent
    page = re.search(r"html \{ background-color: (#[0-9a-f]{6})", (root / "_templates" / "base.html").read_text())
    design = re.search(r"--panel-background-color: (#[0-9a-f]{6})", (root / "theme" / "css" / "dark.css").read_text())
    return page[1], design[1]
