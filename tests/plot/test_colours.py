"""Lines of classes, layers and runs are told apart, also by readers who do not see red or green."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("holoviews")

from lcakit.plot._colours import DASHES, NAMED, PALETTE, dash_of, look_of
from tests.support.colours import BLINDNESS, difference


def test_the_measure_itself():
    assert difference("#000000", "#ffffff") == pytest.approx(100, abs=0.1)
    assert difference("#d00000", "#d00000", "deuteranopia") == 0
    red, green = "#c0392b", "#6b6b00"  # told apart, but not without red or green
    assert difference(red, green) > 3 * difference(red, green, "deuteranopia")


def test_all_named_colours_are_told_apart():
    assert min(itertools.starmap(difference, itertools.combinations(NAMED, 2))) > 12


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_lines_are_told_apart_by_colour_or_dash_without_red_or_green(blindness):
    for one, other in itertools.combinations(NAMED, 2):
        assert dash_of(one) != dash_of(other) or difference(one, other, blindness) > 10, (one, other)


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_neighbours_in_a_stack_are_told_apart_without_red_or_green(blindness):
    for one, other in itertools.pairwise([*NAMED, NAMED[0]]):
        assert difference(one, other, blindness) > 7, (one, other)


def test_a_place_has_one_look_and_twenty_four_differ():
    looks = [look_of(place) for place in range(24)]
    assert len(set(looks)) == 24
    assert [colour for colour, _ in looks] == [*NAMED, *NAMED]
    assert {dash for _, dash in looks} == set(DASHES)
    assert all(dash == dash_of(colour) for colour, dash in looks[:12])
    assert {dash_of(colour) for colour in PALETTE} == {"solid"}
