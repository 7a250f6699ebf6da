"""The benchmarks: what they compare agrees, hand-written loops too, and their text says so. No timings."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from lcakit import bench
from lcakit.bench import load
from lcakit.cli.main import main
from lcakit.errors import DataError
from tests.support.forked import dask_workers

torch = pytest.importorskip("torch")


@pytest.mark.slow
def test_gradients_are_those_of_autograd_and_each_floor_is_there(capsys, tmp_path):
    saved = tmp_path / "results" / "gradient.json"
    assert main(["bench", "gradient", "--examples", "100", "--repeats", "2", "--json", "--save", str(saved)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert json.loads(saved.read_text()) == result
    assert result["disagreement"]["float32"] < 1e-4
    assert 1e-4 < result["disagreement"]["bfloat16"] < 0.1
    assert {"as found", "all threads", "team"} <= set(result["seconds"]["floor"])
    torch_floors = [row for way, row in result["seconds"]["floor"].items() if way != "oneDNN"]
    assert result["seconds"]["best_floor"] == min(min(row.values()) for row in torch_floors)
    ratio = result["seconds"]["classes"] / result["seconds"]["best_floor"]
    assert result["ratios"]["classes_to_floor"] == pytest.approx(ratio)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "design"), [("resnet8w4", 7), ("lenet-small", 1)])
def test_convolutions_are_compared_with_the_best_bare_loop(network, design):
    result, text = bench.run("convolutions", network=network, examples=60, repeats=1)
    floors = [value for row in result["seconds"]["floor"].values() for value in row.values()]
    assert result["best"]["seconds"] == min(floors)
    assert len(floors) == 2 * 2  # both formats, batches of 50 and of all 60
    assert result["ratios"]["design"] == design
    assert f"by the count of passes: {design:.2f}" in text
    reduced = result["machine"]["bfloat16"]  # where the processor multiplies it
    assert ("float32 / bfloat16" in text) == ("bfloat16" in result["ratios"]) == bool(reduced)
    if reduced:
        assert result["ratios"]["bfloat16"] == result["seconds"]["plain"] / result["seconds"]["bfloat16"]


@pytest.mark.slow
def test_precisions_are_compared_with_float64():
    result, text = bench.run("precision", examples=300, repeats=1, iterations=6)
    found = result["precisions"]
    assert found["float64"]["gradient_error"] == 0
    assert found["float32"]["gradient_error"] < 1e-4 < found["bfloat16"]["gradient_error"] < 0.1
    assert found["float32"]["lca_error"] < found["bfloat16"]["lca_error"]
    assert found["float32"]["beyond"] <= found["float32"]["refined"] <= result["iterations"]
    assert all(name in text for name in found)


@pytest.mark.slow
def test_clusters_of_one_and_two_workers_are_compared():
    with dask_workers():
        result, text = bench.run("cluster", examples=64, iterations=4, repeats=1)
    assert result["speedup"] == result["seconds"]["1"] / result["seconds"]["2"]
    assert "2 workers" in text


@pytest.mark.slow
def test_a_recording_has_beside_it_a_loop_by_hand_and_a_bare_write(tmp_path, capsys):
    command = ["bench", "record", "--examples", "60", "--iterations", "5", "--precision", "bfloat16"]
    assert main([*command, "--dir", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    seconds, hand = result["seconds"], result["by_hand"]
    assert seconds["total"] == pytest.approx(sum(seconds[k] for k in ("gradients", "training", "recording")))
    assert hand["iterations"] == 4
    assert hand["ours"] == seconds["total"] / 5
    assert hand["to_ours"] == hand["seconds"] / hand["ours"]
    assert result["floor"]["recording_to_write"] == seconds["recording"] / result["floor"]["write"]
    assert result["evaluations"] >= 2 * 5 + 1  # both ends and the middle of each move, ends shared
    assert (result["precision"], result["gpu_peak_bytes"]) == ("bfloat16", None)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_by_hand_has_the_same_numbers(tmp_path):
    import lcakit as lk
    from lcakit.bench import by_hand, record
    from lcakit.bench.gradient import IMAGE, images

    x, y = images(300, IMAGE)
    model, optimizer, batches = record.training(300, torch.device("cpu"))
    options = {"tolerance": None, "quiet": True}
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), optimizer, **options):
        for index in itertools.islice(batches, 3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
    model, optimizer, batches = record.training(300, torch.device("cpu"))
    assert len(list(by_hand.recording(model, optimizer, (x, y), batches, 3, tmp_path))) == 1 + 3
    with lk.open_trajectory(tmp_path / "run.nc") as ours:
        for name in ("theta", "gradient", "lca"):
            theirs = np.load(tmp_path / f"{name}.npy")
            np.testing.assert_allclose(theirs, ours[name].values, rtol=1e-4, atol=1e-6, err_msg=name)
        rows = np.load(tmp_path / "lca_rows.npy").sum(2)  # units and classes are counted in another order
        np.testing.assert_allclose(rows, ours["lca_unit_class"].sum("unit").values, atol=1e-6)


def test_studies_by_hand_have_the_same_numbers(tmp_path):
    import lcakit as lk
    from lcakit.bench import reading, synthetic

    path = tmp_path / "synthetic.nc"
    lk.save(synthetic.trajectory(150, 2000), path, quiet=True)
    with lk.open_trajectory(path) as ds:
        np.testing.assert_allclose(reading.help_hurt_zero(path), lk.noise.help_hurt_zero(ds).values, atol=1e-12)
        ours = lk.layers.layer_lca(ds).values
        np.testing.assert_allclose(reading.tensor_sums(path), ours, rtol=1e-4, atol=1e-9)


@pytest.fixture(scope="module")
def studies():
    return bench.run("analysis", scale=1e-5, repeats=1)


@pytest.mark.slow
def test_studies_are_timed_beside_bare_reading_and_loops_by_hand(studies):
    result, text = studies
    wanted = {"sequential", "memory map", "help, hurt, zero", "help, hurt, zero, by hand", "layer LCA, by hand"}
    assert wanted < set(result["gigabytes_per_second"])
    assert {"help, hurt, zero", "extremes", "streaming, together"} < set(result["peak_bytes"])
    assert set(result["peak_bytes"]) < set(result["gigabytes_per_second"])
    assert all(f"{name} " in text for name in wanted)


@pytest.mark.slow
def test_studies_are_timed_beside_a_memory_map_and_the_c_library(studies):
    result, text = studies
    seconds = result["seconds"]
    for name in ("help, hurt, zero", "layer LCA", "iterations helped", "histogram", "weight turns"):
        for way in ("memory map", "C library"):
            assert result["ratios"][name][way] == pytest.approx(seconds[f"{name}, {way}"] / seconds[name])
    for name in ("one parameter", "one iteration", "help, hurt, zero, zlib"):
        assert result["ratios"][name]["C library"] == pytest.approx(seconds[f"{name}, C library"] / seconds[name])
    judged = [line for line in text.splitlines() if "the bounds" in line]
    assert len(judged) == 5 + 3


def test_requests_at_once_are_compared_with_one_after_the_other(tmp_path):
    result, text = bench.run("remote", scale=1e-3, repeats=1, directory=str(tmp_path))
    for name, ways in result["seconds"].items():
        assert result["ratio"][name] == ways["one after the other"] / ways["at once"]
        assert name in text
    assert result["seconds"]["a layer's curve"]["at once"] > result["milliseconds"] / 1000  # the server takes its time
    assert list(tmp_path.iterdir()) == []


def test_other_ways_of_reading_have_the_same_numbers(tmp_path):
    import lcakit as lk
    from lcakit.bench import reading, synthetic

    path = lk.save(synthetic.trajectory(150, 2000), tmp_path / "synthetic.nc", quiet=True)
    with lk.open_trajectory(path) as ds, reading.by_library(path) as library:
        mapped = reading.memory_mapped(ds, "lca", tmp_path / "lca.npy")
        assert library["lca"].chunks == mapped["lca"].chunks == ds["lca"].chunks
        for other in (library, mapped):
            xr.testing.assert_equal(lk.noise.help_hurt_zero(other), lk.noise.help_hurt_zero(ds))


@pytest.mark.parametrize("what", bench.BENCHMARKS)
def test_options_that_the_command_line_offers_are_those_a_benchmark_takes(what):
    takes = set(inspect.signature(importlib.import_module(f"lcakit.bench.{what}").run).parameters)
    assert takes == {option for option, who in bench.OPTIONS.items() if what in who}


@pytest.mark.parametrize("what", ["gradient", "convolutions", "precision", "record", "cluster"])
def test_no_examples_are_refused(what):
    with pytest.raises(DataError, match="positive"):
        bench.run(what, examples=0)


@pytest.mark.slow
def test_a_recording_beside_others_is_compared_with_its_fair_share(monkeypatch):
    running = []
    record = load._record

    def recorded(first, path, iterations, examples):
        running.append(first)
        return record(first, path, iterations, examples)

    monkeypatch.setattr(load, "_BUSY_PER_CORE", 0)
    monkeypatch.setattr(load, "_WAYS", {"lcakit": "lcakit, torch"})
    monkeypatch.setattr(load, "_record", recorded)
    result, text = bench.run("load", examples=20, iterations=1, repeats=1)
    (row,) = result["rows"]
    assert running == ["lcakit"]
    assert result["busy"] == 0
    assert row["times_fair"] == row["loaded"] / row["fair"]
    assert row["fair"] >= row["alone"] > 0
    assert "0 other processes" in text


def test_closing_is_compared_with_merging_and_with_a_bare_write(tmp_path, monkeypatch):
    from lcakit.bench import close
    from lcakit.storage import early_chunks

    monkeypatch.setattr(early_chunks, "LEAST_BYTES", 0)
    monkeypatch.setattr(close, "GIGABYTES", (1,))
    result, text = bench.run("close", scale=0.007, directory=str(tmp_path))
    (row,) = result["rows"]
    assert row["iterations"] == 2
    assert row["bytes"] >= 2 * 3 * 4 * 273_066
    assert min(row[name] for name in ("loop", "close", "merge", "write")) > 0
    assert "bare write" in text
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="scale"):
        bench.run("close", scale=0.0)


def test_importing_lcakit_lets_waiting_threads_sleep_unless_told_otherwise():
    for given, expected in ((None, "passive"), ("active", "active")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        environment |= {"OMP_WAIT_POLICY": given} if given else {}
        code = "import os, lcakit; print(os.environ['OMP_WAIT_POLICY'])"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


@pytest.mark.slow
def test_gradients_of_a_language_model_are_those_of_the_loop_by_hand(capsys):
    assert main(["bench", "gradient", "--network", "gpt", "--examples", "4", "--repeats", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == pytest.approx(0.8e6, rel=0.05)
    assert max(found["disagreement"].values()) < 1e-5
    assert set(found["bounds"]) < set(found["ratios"])
    with pytest.raises(ValueError, match="Allowed: 'fc', 'gpt'"):
        bench.run("gradient", network="resnet20")
