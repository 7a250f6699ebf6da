"""Letters stand out from what is behind them, as WCAG 2 asks at its level AA: 4.5 to 1, in light and in dark pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("panel")

import panel

from lcakit.plot._colours import SIGNS
from lcakit.views.explorer import figures
from lcakit.views.report.style import CSS

AA, AA_LARGE = 4.5, 3.0


def luminance(colour):
    channels = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_measure_itself():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#123456", "#123456") == 1


def dark_pages():
    """Return what stands behind the pictures of dark pages of Panel."""
    root = Path(panel.__file__).parent
    page = re.search(r"html \{ background-color: (#[0-9a-f]{6})", (root / "_templates" / "base.html").read_text())
    design = re.search(r"--panel-background-color: (#[0-9a-f]{6})", (root / "theme" / "css" / "dark.css").read_text())
    return page[1], design[1]


def test_letters_of_pictures_in_the_explorer():
    for theme, pages in (("light", ["#ffffff"]), ("dark", dark_pages())):
        letters = [figures.PAGE_COLOURS[theme][0], figures.LETTERS["dark" if theme == "dark" else "default"]]
        for page in pages:
            assert min(contrast(one, page) for one in letters) >= AA, (theme, page)
    assert contrast(figures.LETTERS["notebook"], "#ffffff") >= AA  # one colour for light and dark notebooks
    assert contrast(figures.LETTERS["notebook"], "#111111") >= AA_LARGE


def test_helping_and_hurting_stand_out_from_zero():
    assert all(contrast(one, "#ffffff") >= AA for one in SIGNS["green-red"])
    assert all(contrast(one, "#ffffff") >= 2.5 for one in SIGNS["blue-orange"])


@pytest.mark.parametrize("dark", [False, True])
def test_letters_of_a_report(dark):
    blocks = re.findall(r":root \{([^}]*)\}", CSS)
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", "".join(blocks if dark else blocks[:1])))
    for behind in ("page", "card"):
        for letters in ("ink", "soft", "accent", "good", "bad", "warn"):
            assert contrast(named[letters], named[behind]) >= AA, (letters, behind)
