"""The benchmarks of gradients, precision and clusters: what they compare agrees, and their text says so. No timings."""

from __future__ import annotations

import json

import pytest

from lcakit import bench
from lcakit.cli import main
from lcakit.errors import DataError

torch = pytest.importorskip("torch")


def test_gradients_are_those_of_autograd_and_each_floor_is_there(capsys):
    assert main(["bench", "gradient", "--examples", "600", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["disagreement"]["float32"] < 1e-4
    assert 1e-4 < result["disagreement"]["bfloat16"] < 0.1
    assert {"as found", "all threads", "team"} <= set(result["seconds"]["floor"])
    torch_floors = [row for way, row in result["seconds"]["floor"].items() if way != "oneDNN"]
    assert result["seconds"]["best_floor"] == min(min(row.values()) for row in torch_floors)
    ratio = result["seconds"]["classes"] / result["seconds"]["best_floor"]
    assert result["ratios"]["classes_to_floor"] == pytest.approx(ratio)


@pytest.mark.parametrize(("network", "design"), [("resnet8w4", 7), ("lenet-small", 1)])
def test_convolutions_are_compared_with_the_best_bare_loop(network, design):
    result, text = bench.run("convolutions", network=network, examples=60, repeats=1)
    floors = [value for row in result["seconds"]["floor"].values() for value in row.values()]
    assert result["best"]["seconds"] == min(floors)
    assert len(floors) == 2 * 2  # both formats, batches of 50 and of all 60
    assert result["ratios"]["design"] == design
    assert f"by the count of passes: {design:.2f}" in text


def test_precisions_are_compared_with_float64():
    result, text = bench.run("precision", examples=300, repeats=1, iterations=6)
    found = result["precisions"]
    assert found["float64"]["gradient_error"] == 0
    assert found["float32"]["gradient_error"] < 1e-4 < found["bfloat16"]["gradient_error"] < 0.1
    assert found["float32"]["lca_error"] < found["bfloat16"]["lca_error"]
    assert found["float32"]["beyond"] <= found["float32"]["refined"] <= result["iterations"]
    assert all(name in text for name in found)


def test_clusters_of_one_and_two_workers_are_compared():
    result, text = bench.run("cluster", examples=64, iterations=4, repeats=1)
    assert result["speedup"] == result["seconds"]["1"] / result["seconds"]["2"]
    assert "2 workers" in text


@pytest.mark.parametrize("what", ["gradient", "convolutions", "precision", "cluster"])
def test_no_examples_are_refused(what):
    with pytest.raises(DataError, match="positive"):
        bench.run(what, examples=0)
