"""Changes that come fast are answered once, by what is chosen at the end, and a long drag is followed meanwhile."""

from __future__ import annotations

import time

import pytest

from lcakit.views.explorer import joined


class Document:
    """Keeps callbacks in their order, on a clock that only moves when it is told to."""

    def __init__(self, monkeypatch):
        self.now, self.waiting = 0.0, []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def add_timeout_callback(self, call, milliseconds):
        self.waiting.append((self.now + milliseconds / 1000, call))

    def wait(self, seconds):
        end = self.now + seconds
        while self.waiting and self.waiting[0][0] <= end:
            self.now, call = self.waiting.pop(0)
            call()
        self.now = end


@pytest.fixture
def document(monkeypatch):
    return Document(monkeypatch)


def drag(document, moves, apart):
    """Move through positions, so many seconds apart; return which were answered."""
    answered, at = [], {}
    changed = joined.Joined(document, lambda: answered.append(at["now"]))
    for position in range(moves):
        at["now"] = position
        changed()
        document.wait(apart)
    document.wait(1)
    return answered


def test_the_last_position_of_a_fast_drag_wins(document):
    assert drag(document, 30, 0.002) == [29]


def test_a_long_drag_is_followed_and_ends_where_it_ends(document):
    answered = drag(document, 500, 0.004)  # two seconds
    assert answered[-1] == 499
    assert 15 <= len(answered) <= 22
    assert answered == sorted(set(answered))


def test_single_changes_are_all_answered(document):
    assert drag(document, 5, 0.5) == [0, 1, 2, 3, 4]


def test_a_queue_that_fills_while_a_page_is_drawn_is_answered_once_more(document):
    answered = []

    def draw():
        answered.append(len(answered))
        if len(answered) == 1:
            for _ in range(50):
                changed()

    changed = joined.Joined(document, draw)
    changed()
    document.wait(1)
    assert answered == [0, 1]


def test_without_a_page_the_answer_comes_at_once():
    answered = []
    changed = joined.Joined(None, lambda: answered.append(1))
    changed()
    assert answered == [1]
    changed()
    assert answered == [1, 1]
