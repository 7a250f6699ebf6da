"""How a GPU computes is chosen for an evaluation and put back: settings only, so no GPU is needed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from lcakit.record import loopstate  # noqa: E402
from lcakit.record.objective.isolation import arithmetic, on_one_thread  # noqa: E402
from tests.support import forked  # noqa: E402

GPU = torch.device("cuda")


def settings():
    cudnn = torch.backends.cudnn
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark


@pytest.fixture
def own_settings():
    before = settings()
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = True
    yield settings()
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before[1:]


@pytest.mark.parametrize(
    ("precision", "inside"),
    [("float32", ("highest", False)), ("tf32", ("high", True)), ("float64", ("highest", False))],
)
def test_tf32_only_where_asked_for_and_always_repeatable(precision, inside, own_settings):
    with arithmetic(precision, GPU):
        assert settings() == (*inside, True, False)
    assert settings() == own_settings


def test_settings_come_back_after_an_error(own_settings):
    with pytest.raises(ZeroDivisionError), arithmetic("float32", GPU):
        raise ZeroDivisionError
    assert settings() == own_settings


def test_a_cpu_is_left_alone(own_settings):
    with arithmetic("float32", torch.device("cpu")):
        assert settings() == own_settings


LATER = """
import torch
from lcakit.record.objective.isolation import arithmetic
knobs = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]
with arithmetic("float32", torch.device("cuda")):
    pass
torch.backends.fp32_precision = "tf32"
assert torch.backends.cuda.matmul.fp32_precision == "tf32"
with arithmetic("float32", torch.device("cuda")):
    assert [knob.fp32_precision for knob in knobs] == ["ieee"] * 3
"""
NEWER = """
import torch
from lcakit.record.objective.isolation import arithmetic
knobs = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]
knobs[0].fp32_precision, knobs[1].fp32_precision = "tf32", "ieee"
for precision, inside in (("float32", "ieee"), ("tf32", "tf32")):
    with arithmetic(precision, torch.device("cuda")):
        assert [knob.fp32_precision for knob in knobs] == [inside] * 2
    assert [knob.fp32_precision for knob in knobs] == ["tf32", "ieee"]
"""


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="an older torch has one interface"
)
@pytest.mark.slow
@pytest.mark.parametrize("program", [NEWER, LATER])
def test_a_program_with_the_newer_interface(program):
    forked.run(exec, program, {})


def test_generators_of_devices_that_are_not_here_are_passed_over():
    state = loopstate.generators_state()
    state["cuda"] = [torch.zeros(16, dtype=torch.uint8)] * (torch.cuda.device_count() + 1)
    state["cuda"] = (
        state["cuda"] if not torch.cuda.is_available() else [*torch.cuda.get_rng_state_all(), state["cuda"][0]]
    )
    torch.rand(3)
    loopstate.set_generators(state)
    assert torch.equal(torch.get_rng_state(), state["torch"])


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_small_has_one_thread_and_the_others_come_back(alone):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ValueError, match="inside"), on_one_thread(alone):
            assert torch.get_num_threads() == (1 if alone else 3)
            raise ValueError("inside")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
