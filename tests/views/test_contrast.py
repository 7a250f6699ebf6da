"""Letters and lines stand out from what is behind them, as WCAG 2 asks at its level AA, in light and in dark pages."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("panel")

from lcakit.plot._colours import GUIDE, MOST_LINES, NAMED, OTHERS, PALETTE, SIGNS, line_colours
from lcakit.views.explorer import figures
from lcakit.views.report.style import CSS
from tests.support.colours import contrast, dark_pages

AA, AA_LARGE, AA_GRAPHICS = 4.5, 3.0, 3.0


def test_the_measure_itself():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#123456", "#123456") == 1


def test_letters_of_pictures_in_the_explorer():
    for theme, pages in (("light", ["#ffffff"]), ("dark", dark_pages())):
        letters = [figures.PAGE_COLOURS[theme][0], figures.LETTERS["dark" if theme == "dark" else "default"]]
        for page in pages:
            assert min(contrast(one, page) for one in letters) >= AA, (theme, page)
    assert contrast(figures.LETTERS["notebook"], "#ffffff") >= AA  # one colour for light and dark notebooks
    assert contrast(figures.LETTERS["notebook"], "#111111") >= AA_LARGE


def test_helping_and_hurting_stand_out_from_zero():
    assert all(contrast(one, "#ffffff") >= AA for one in SIGNS["green-red"])
    assert all(contrast(one, "#ffffff") >= AA_GRAPHICS for one in SIGNS["blue-orange"])


def test_lines_and_areas_stand_out_from_light_and_dark_pages():
    for colour in {*NAMED, *PALETTE[:6], *line_colours(MOST_LINES, ordered=True), GUIDE, OTHERS}:
        assert min(contrast(colour, page) for page in ("#ffffff", *dark_pages())) >= AA_GRAPHICS, colour


@pytest.mark.parametrize("dark", [False, True])
def test_letters_of_a_report(dark):
    blocks = re.findall(r":root \{([^}]*)\}", CSS)
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", "".join(blocks if dark else blocks[:1])))
    for behind in ("page", "card"):
        for letters in ("ink", "soft", "accent", "good", "bad", "warn"):
            assert contrast(named[letters], named[behind]) >= AA, (letters, behind)
