"""Several θ on threads of their own: a path is evaluated faster, and nothing else is different."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import lcakit as lk
from lcakit.record.objective.side_by_side import passes_at_once
from tests.support.networks import dense, examples, flat
from tests.support.objectives import twin


@pytest.fixture(autouse=True)
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def coupled():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))


def path_of(model, count):
    generator = torch.Generator().manual_seed(1)
    start = torch.as_tensor(flat(model))
    return start + 0.05 * torch.randn((count, len(start)), generator=generator, dtype=start.dtype).cumsum(0)


def assert_equal(one, other):
    assert one.loss == other.loss
    assert one.accuracy == other.accuracy
    np.testing.assert_array_equal(one.class_losses, other.class_losses)
    assert torch.equal(one.gradient, other.gradient)


@pytest.mark.parametrize("classes", [False, True])
def test_the_bits_do_not_depend_on_what_runs_beside(classes):
    objective = lk.Objective(coupled(), examples(300))
    assert objective.at_once == 2
    thetas = path_of(coupled(), 5)
    together = objective.evaluate_all(thetas, classes=classes)
    for theta, found in zip(thetas, together, strict=True):
        (alone,) = objective.evaluate_all(theta[None], classes=classes)
        assert_equal(found, alone)
        one_by_one = objective.evaluate(theta, classes=classes)
        np.testing.assert_allclose(found.gradient, one_by_one.gradient, atol=1e-6)
    assert objective.evaluations == 15
    assert torch.get_num_threads() == 2


def test_as_the_loss_written_by_hand():
    data = examples(300)
    objective = lk.Objective(dense(), data, precision="float64")
    for place, found in enumerate(objective.evaluate_all(path_of(dense(), 3).double())):
        model = dense()
        nn.utils.vector_to_parameters(path_of(dense(), 3)[place], model.parameters())
        np.testing.assert_allclose(found.gradient, twin(model, *data, 3)[1].sum(0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", ["rk4", "boole", "trapezoid"])
def test_an_allocation_is_the_same_one_by_one(rule):
    model, data = coupled(), examples(300)
    path = path_of(model, 4).float().numpy()
    options = {"rule": rule, "tolerance": 1e-5, "quiet": True}
    beside = lk.allocate(path, lk.Objective(model, data, precision="float64"), **options)
    single = lk.allocate(path, lk.Objective(model, data, precision="float64", workers=1), **options)
    assert int(beside["splits"].max()) > 2
    np.testing.assert_array_equal(beside["splits"], single["splits"])
    for name in ("loss", "lca", "gradient", "accuracy", "residual"):
        np.testing.assert_allclose(beside[name], single[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_all_copies_follow_a_buffer():
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)).eval()
    objective = lk.Objective(model, examples(300))
    theta = objective.parameters_tensor()
    model[1].running_mean += 1.0
    objective.refresh()
    first, second = objective.evaluate_all(torch.stack([theta, theta]))
    assert_equal(first, second)
    assert first.loss == pytest.approx(lk.Objective(model, examples(300)).loss(), rel=1e-6)


def test_an_error_in_one_of_them_is_raised_and_the_threads_are_put_back():
    objective = lk.Objective(coupled(), examples(300))
    with pytest.raises(lk.ObjectiveError, match="flat vector"):
        objective.evaluate_all(torch.zeros(2, 5))
    assert torch.get_num_threads() == 2
    assert objective.evaluate_all(path_of(coupled(), 2))[1].loss > 0


@pytest.mark.parametrize(
    ("threads", "chunks", "n_examples", "chunk_bytes", "found"),
    [
        (1, 1, 500, 1e6, 1),
        (2, 1, 500, 1e6, 2),
        (2, 2, 1000, 1e6, 1),
        (2, 3, 1500, 1e6, 2),
        (8, 3, 1500, 1e6, 2),
        (8, 1, 500, 1e6, 4),
        (4, 4, 2000, 1e6, 1),
        (2, 1, 100, 1e6, 1),
        (2, 1, 500, 1e9, 1),
    ],
    ids=[
        "one thread",
        "one chunk",
        "one each",
        "one too many",
        "few chunks",
        "many threads",
        "all busy",
        "few examples",
        "large",
    ],
)
def test_where_passes_run_side_by_side(threads, chunks, n_examples, chunk_bytes, found):
    assert passes_at_once(threads, chunks, n_examples, chunk_bytes) == found


def test_chunks_that_do_not_divide_into_threads():
    data = examples(300)
    three = lk.Objective(coupled(), data, batch_size=100, precision="float64")
    assert three.at_once == 2
    single = lk.Objective(coupled(), data, batch_size=100, precision="float64", workers=1)
    thetas = path_of(coupled(), 3).double()
    for one, other in zip(three.evaluate_all(thetas), single.evaluate_all(thetas), strict=True):
        np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-9, atol=1e-12)
        assert one.loss == pytest.approx(other.loss, rel=1e-12)


def test_not_where_the_number_of_threads_was_said():
    assert lk.Objective(coupled(), examples(300), workers=1).at_once == 1
    assert lk.Objective(coupled(), examples(300), together=1).at_once == 2
