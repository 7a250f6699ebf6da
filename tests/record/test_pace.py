"""Estimates: a range first, corrected when the pace is another one, with the load of the machine."""

from __future__ import annotations

import os

import pytest
import torch

import lcakit as lk
from lcakit.record import budget
from lcakit.record.budget import load_per_core
from lcakit.record.pace import Pace


def paced(expected, steps, durations):
    """Return what is said in a loop whose steps take so long."""
    now, said = [0.0], []
    pace = Pace(expected, steps, said.append, lambda: now[0])
    for seconds in durations:
        now[0] += seconds
        pace.step()
    return said


def test_a_pace_inside_the_range_says_nothing():
    assert paced((50.0, 200.0), 100, [1.0] * 100) == []


@pytest.mark.parametrize(("seconds", "told"), [(10.0, "11 min 40 s to 25 min 00 s"), (0.2, "14 s to 30 s")])
def test_a_pace_outside_the_range_is_told_once(seconds, told):
    (line,) = paced((50.0, 200.0), 100, [seconds] * 100)
    assert told in line
    assert "not 50 s to 3 min 20 s" in line


def test_a_pace_that_changes_is_told_again():
    lines = paced((50.0, 200.0), 100, [10.0] * 8 + [0.1] * 92)
    assert len(lines) >= 2
    assert "first 4 steps" in lines[0] or "first 2 steps" in lines[0]


def test_a_slow_first_step_is_not_taken_for_the_pace():
    assert paced((50.0, 200.0), 100, [60.0] + [1.0] * 99) == []


def test_a_loop_that_goes_on_longer_than_was_said_is_let_alone():
    assert paced((50.0, 200.0), 4, [1.0] * 3 + [100.0] * 50) == []


def test_the_estimate_is_a_range_that_counts_the_load(monkeypatch):
    labels = torch.nn.Linear(4, 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    found = {}
    for load in (0.4, 24.0):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0), raising=False)
        found[load] = lk.estimate(labels, 100, seconds_per_gradient=1.0)
    assert found[0.4].seconds_range == (found[0.4].seconds / 2, 2 * found[0.4].seconds)
    assert found[24.0].seconds_range == (found[24.0].seconds / 12, 2 * found[24.0].seconds)
    assert "about 1 min 40 s to 6 min 40 s" in found[0.4].to_text()
    assert "busy" not in found[0.4].to_text()
    assert "about 17 s to 6 min 40 s (this machine is busy: 6 runnable" in found[24.0].to_text()
    assert lk.estimate(labels, 100).seconds_range is None


def test_machines_that_do_not_tell_their_load_are_taken_as_idle(monkeypatch):
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert load_per_core() == 1.0


def test_a_recording_corrects_its_estimate(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lcakit.record.pace._SECONDS", 0.0)
    monkeypatch.setattr(budget.Estimate, "seconds_range", property(lambda self: (1e6, 2e6)), raising=True)
    model, x, y = torch.nn.Linear(4, 3), torch.randn(30, 4), torch.arange(30) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), optimizer, n_iterations=8):
        for _ in range(8):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    err = capsys.readouterr().err
    assert "at the pace of the first 2 steps it takes" in err
    assert "not 277 h 46 min to 555 h 33 min" in err
