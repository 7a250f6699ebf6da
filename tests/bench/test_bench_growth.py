"""The benchmarks of opening and of growth: figures that agree with each other, and with what is known. No timings."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lcakit import bench
from lcakit.bench.timing import exponent, medians
from lcakit.cli.main import main
from lcakit.errors import DataError

torch = pytest.importorskip("torch")


def positive(values):
    return all(math.isfinite(value) and value > 0 for value in values)


def test_an_exponent_is_that_of_the_power_law_and_its_error_is_the_scatter():
    sizes = [10, 100, 1000, 10_000]
    exact = exponent(sizes, [3 * n**0.7 for n in sizes])
    assert exact["exponent"] == pytest.approx(0.7)
    assert exact["error"] == pytest.approx(0, abs=1e-7)
    bent = exponent(sizes, [50 + n for n in sizes])
    assert 0.5 < bent["exponent"] < 1
    assert bent["error"] > 0.05


@pytest.mark.parametrize(("sizes", "costs"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([1, 2, 3], [1, 0, 2])])
def test_what_has_no_exponent_is_refused(sizes, costs):
    with pytest.raises(DataError):
        exponent(sizes, costs)


def test_contenders_are_timed_in_turns_after_one_that_does_not_count():
    calls = []
    found = medians({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert "".join(calls) == "ababab"
    assert set(found) == {"a", "b"}
    with pytest.raises(DataError, match="at least 1"):
        medians({}, 0)


@pytest.mark.slow
def test_opening_is_measured_on_files_that_grow_in_one_way(monkeypatch, tmp_path):
    monkeypatch.setattr("lcakit.bench.open.FACTORS", (1, 3, 9))
    result, text = bench.run("open", scale=1e-4, repeats=1, directory=str(tmp_path))
    assert [(one["format"], one["grows"]) for one in result["series"]] == [
        ("nc", "iterations"),
        ("nc", "parameters"),
        ("zarr", "iterations"),
    ]
    for one in result["series"]:
        other = {"iterations": "parameters", "parameters": "iterations"}[one["grows"]]
        assert len(set(one[other])) == 1
        assert sorted(set(one["bytes"])) == one["bytes"]
        assert set(one["seconds"]["a parameter"]) == {"ours", "library", "memory map", "by hand"}
        for question, seconds in one["seconds"].items():
            assert all(len(values) == 3 and positive(values) for values in seconds.values())
            assert math.isfinite(one["growth"][question]["ours"]["exponent"])
    assert list(tmp_path.iterdir()) == []
    assert "Zarr, more iterations" in text


@pytest.mark.slow
def test_growth_has_a_floor_and_an_exponent_for_every_size_and_files_are_what_was_estimated(
    monkeypatch, tmp_path, capsys
):
    from lcakit.bench import growth

    small = {"EXAMPLES": (1, 2, 3), "WIDTHS": (1, 2, 3), "MOVES": (1, 2, 3), "CLASSES": (2, 4, 8)}
    small |= {"COUPLED_CLASSES": (2, 3, 4), "IMAGE": (1, 6, 6), "COUPLED_IMAGE": (3, 8, 8)}
    for name, value in small.items():
        monkeypatch.setattr(growth, name, value)
    monkeypatch.setattr("lcakit.bench.run", lambda what, **options: run_once(growth, what, options))
    assert main(["bench", "growth", "--scale", "0.001", "--dir", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for found in result["growth"].values():
        sizes = found["sizes"]
        assert sorted(set(sizes)) == sizes
        assert found["floor"] in found["seconds"]
        assert all(len(values) == len(sizes) and positive(values) for values in found["seconds"].values())
        assert set(found["exponents"]) == set(found["seconds"])
    assert result["growth"]["classes, BatchNorm"]["design"] == pytest.approx([5 / 3, 7 / 3, 3])
    assert result["growth"]["classes"]["design"] == [1, 1, 1]
    files = result["files"]
    assert files["estimated"] == sorted(files["estimated"])
    assert all(written > estimated for written, estimated in zip(files["written"], files["estimated"], strict=True))
    assert list(tmp_path.iterdir()) == []


def run_once(growth, what, options):
    result = growth.run(**options, repeats=1)
    return result, growth.to_text(result)


def test_hand_written_twins_compute_the_same_as_lcakit():
    import lcakit as lk
    from lcakit.bench import by_hand, growth
    from lcakit.bench.gradient import loader_gradient

    x, y = growth._images(60, growth.IMAGE, 10)
    model = growth._fc(1)
    objective = lk.Objective(model, (x, y))
    thetas = growth._walk(objective, 2)
    ours = lk.allocate(thetas, objective, tolerance=None, quiet=True)["lca"].values
    by_class = by_hand.class_gradients(model, x, y, 10)
    np.testing.assert_allclose(by_class, objective.gradient(classes=True), atol=1e-6)
    theirs = by_hand.allocation(model, thetas, lambda: loader_gradient(model, x, y))
    np.testing.assert_allclose(theirs, ours, atol=1e-7)


@pytest.mark.parametrize("name", ["open", "growth"])
def test_a_size_that_is_none_is_refused(name):
    with pytest.raises(DataError, match="scale"):
        bench.run(name, scale=0)
