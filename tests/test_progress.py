"""Signs of life: at least every five seconds, whatever is being done."""

from __future__ import annotations

import gc
import io

import pytest
from tqdm import tqdm

from lcakit import progress
from lcakit.progress import Pulse, phase


class Output(io.StringIO):
    """Notes on a clock of the test when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.times = [0.0]

    def write(self, text):
        self.times.append(self.now)
        return super().write(text)


@pytest.fixture
def out():
    return Output()


@pytest.fixture
def pulse(out):
    return Pulse(lambda line: out.write(line + "\n"), lambda: out.now)


def wait(pulse, out, seconds):
    """Let time pass in which the work says nothing."""
    for _ in range(seconds):
        out.now += 1.0
        pulse.look()


def bar_of(out, total=3, delay=0.0):
    bar = tqdm(total=total, file=out, mininterval=progress._IN_LOGS, desc="recording", delay=delay)
    bar._time = lambda: out.now
    bar.start_t = bar.last_print_t = out.now
    return bar


def gaps(out):
    return [b - a for a, b in zip(out.times, out.times[1:], strict=False)]


def test_no_phase_is_silent_for_longer_than_five_seconds(pulse, out):
    for what in ("loading PyTorch", "reading the data", "computing the first gradient"):
        pulse.begin(what)
        wait(pulse, out, 33)
        pulse.end()
    with bar_of(out) as bar:
        pulse.add(bar)
        for seconds in (1, 20, 2):  # a slow iteration between quick ones
            wait(pulse, out, seconds)
            bar.update()
    pulse.begin("writing run.nc")
    wait(pulse, out, 40)
    pulse.end()
    assert max(gaps(out)) <= 5.0
    text = out.getvalue()
    assert all(what in text for what in ("loading PyTorch, 4 s", "reading the data", "recording", "writing run.nc"))


def test_work_that_says_enough_is_left_alone(pulse, out):
    pulse.begin("reading the data")
    wait(pulse, out, 3)
    pulse.end()
    wait(pulse, out, 60)  # nothing is being done
    assert out.getvalue() == ""


def test_the_inner_phase_is_named_and_then_the_outer_one(pulse, out):
    pulse.begin("recording")
    pulse.begin("reading the data")
    wait(pulse, out, 4)
    pulse.end()
    wait(pulse, out, 4)
    assert out.getvalue().splitlines() == ["lcakit: reading the data, 4 s", "lcakit: recording, 8 s"]


def test_a_bar_that_is_drawn_again_keeps_its_rate(pulse, out):
    bar = bar_of(out, total=100)
    pulse.add(bar)
    for _ in range(40):  # one in two seconds
        wait(pulse, out, 2)
        bar.update()
    assert bar.format_dict["rate"] == pytest.approx(0.5, rel=0.3)
    bar.close()
    assert not pulse.is_needed


def test_a_late_bar_that_is_drawn_ends_with_its_line(pulse, out):
    bar = bar_of(out, delay=2.0)
    pulse.add(bar)
    wait(pulse, out, 1)
    assert out.getvalue() == ""
    wait(pulse, out, 9)
    bar.close()
    assert out.getvalue().endswith("\n")


def test_a_bar_that_nobody_holds_is_forgotten(pulse, out):
    pulse.add(bar_of(out))
    gc.collect()
    assert not pulse.is_needed


def test_phases_of_quiet_work_say_nothing(out, monkeypatch):
    said = Pulse(lambda line: out.write(line + "\n"), lambda: out.now)
    monkeypatch.setattr(progress, "_PULSE", said)
    with phase("reading", quiet=True):
        wait(said, out, 9)
    assert out.getvalue() == ""
    with phase("reading"):
        wait(said, out, 9)
    assert "lcakit: reading, 4 s" in out.getvalue()
    assert not said.is_needed


def test_a_phase_that_has_just_begun_has_no_seconds_yet(pulse, out):
    pulse.begin("making a report")
    out.now = 5.0
    pulse.begin("drawing")
    pulse.look()
    wait(pulse, out, 4)
    assert out.getvalue() == "lcakit: drawing\nlcakit: drawing, 4 s\n"
