"""Benchmarks on a GPU: where there is none, on a CPU that is treated as one, so that only the waiting is pretended."""

from __future__ import annotations

import importlib
import json
import math
import types

import pytest

from lcakit import bench
from lcakit.cli.main import main
from lcakit.errors import LcakitError

torch = pytest.importorskip("torch")

from lcakit.bench import devices, growth  # noqa: E402

SMALL = {
    "gradient": {"examples": 60, "repeats": 1},
    "convolutions": {"network": "resnet8w4", "examples": 20, "repeats": 1, "precision": "tf32"},
    "record": {"examples": 40, "iterations": 3, "precision": "bfloat16"},
    "growth": {"scale": 0.001, "repeats": 1},
    "memory": {"parameters": 4000, "iterations": 2, "examples": 8},
}
_ROOMS = ("devices", "gradient", "convolutions", "growth", "record")
NAME = "NVIDIA Pretended"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def small_growth(monkeypatch):
    sizes = {"EXAMPLES": (1, 2, 3), "WIDTHS": (1, 2, 3), "MOVES": (1, 2, 3), "CLASSES": (2, 4, 8)}
    sizes |= {"COUPLED_CLASSES": (2, 3, 4), "IMAGE": (1, 6, 6), "COUPLED_IMAGE": (3, 8, 8), "GPU_CHUNKS": (64, 4096)}
    for name, value in sizes.items():
        monkeypatch.setattr(growth, name, value)


@pytest.fixture
def pretended(monkeypatch):
    """Treat the CPU as a GPU; give the list of what was waited for."""
    rooms = [importlib.import_module(f"lcakit.bench.{room}") for room in _ROOMS]  # all, before one is changed
    for room in rooms:
        monkeypatch.setattr(room, "is_gpu", lambda device: True)
    waited = []
    cuda = {
        "synchronize": waited.append,
        "get_device_name": lambda device: NAME,
        "get_device_capability": lambda device: (9, 0),
        "get_device_properties": lambda device: types.SimpleNamespace(total_memory=80 * 2**30),
        "reset_peak_memory_stats": lambda device: None,
        "max_memory_allocated": lambda device: 2**30,
    }
    for name, function in cuda.items():
        monkeypatch.setattr(torch.cuda, name, function)
    return waited


def numbers(value):
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.slow
@pytest.mark.parametrize("what", SMALL)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_the_machine_of_a_gpu_is_named_in_data_and_text(what, device, request, small_growth, tmp_path):
    if device == "cpu":
        request.getfixturevalue("pretended")
    result, text = bench.run(what, **SMALL[what], device=device)
    name = NAME if device == "cpu" else torch.cuda.get_device_name(device)
    assert (result["machine"]["gpu"], result["device"]) == (name, device)
    assert f"{name}, {result['machine']['gpu_bytes'] / 2**30:.0f} GiB" in text.splitlines()[0]
    assert all(math.isfinite(number) for number in numbers(result))
    json.dumps(result)


@pytest.mark.slow
@pytest.mark.parametrize("what", SMALL)
def test_a_cpu_has_no_gpu_in_its_result(what, small_growth):
    options = {name: value for name, value in SMALL[what].items() if name != "precision"}
    result, text = bench.run(what, **options)
    assert "gpu" not in result["machine"]
    assert "GPU" not in text
    assert result.get("gpu_peak_bytes") is None


def test_the_clock_stops_when_a_gpu_has_done_the_work(pretended):
    where, order = torch.device("cpu"), []
    pretended_wait = devices.on(where, {"a": lambda: order.append(len(pretended)), "b": lambda: None})
    pretended_wait["a"]()
    pretended_wait["b"]()
    assert order == [0]  # nothing was waited for before the work
    assert pretended == [where, where]


@pytest.mark.slow
def test_contenders_of_a_cpu_stay_away_from_a_gpu(pretended):
    result, text = bench.run("gradient", **SMALL["gradient"])
    assert list(result["seconds"]["floor"]) == ["GPU"]
    assert not {"classes_to_onednn"} & set(result["ratios"])
    assert {"tf32", "bfloat16"} < set(result["disagreement"])
    assert result["bounds"] == {}
    assert "bound" not in text
    assert "oneDNN" not in text


def test_bare_loops_have_the_precision_that_was_asked_for(pretended):
    seen = []

    def work():
        seen.append((torch.is_autocast_enabled("cpu"), torch.backends.cudnn.deterministic))

    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    for precision in ("float32", "bfloat16"):
        devices.on(torch.device("cpu"), {"work": work}, precision)["work"]()
    assert seen == [(False, False), (True, False)]
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == before


@pytest.mark.parametrize("command", ["convolutions", "record"])
def test_what_a_cpu_cannot_do_is_refused_with_what_to_do(command, capsys):
    assert main(["bench", command, "--precision", "tf32", "--device", "cpu"]) == 2
    assert "GPU" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["meta", "nonsense"])
def test_a_device_that_cannot_be_waited_for_is_refused(device):
    with pytest.raises(LcakitError, match=device):
        bench.run("gradient", examples=20, device=device)
