"""Several θ at once: the same as one after the other, wherever a path is known."""

from __future__ import annotations

import numpy as np
import pytest

import lcakit as lk
from lcakit import bench
from lcakit.cli.main import main
from lcakit.errors import ObjectiveError
from lcakit.record.objective import chunks
from lcakit.record.objective.together import FEWEST, Together

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from tests.support.networks import conv_net, dense, dropout_net, examples, flat, norm_net, train  # noqa: E402


class Tied(nn.Module):
    """The same kernel twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))[:, :3]


def frozen_net():
    model = dense()
    model[0].bias.requires_grad_(False)
    return model


def small_conv():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def distances(output, y):
    return ((output - F.one_hot(y, 3)) ** 2).sum(1)


def around(objective, count, spread=0.1):
    generator = torch.Generator().manual_seed(7)
    start = objective.parameters_tensor()
    return start + spread * torch.randn((count, len(start)), generator=generator, dtype=start.dtype)


def assert_same(one, other, rtol):
    assert one.loss == pytest.approx(other.loss, rel=rtol)
    assert np.isnan(other.accuracy) if np.isnan(one.accuracy) else one.accuracy == other.accuracy
    assert (one.class_losses is None) == (other.class_losses is None)
    if one.class_losses is not None:
        np.testing.assert_allclose(one.class_losses, other.class_losses, rtol=rtol, atol=rtol)
    scale = float(other.gradient.abs().max())
    np.testing.assert_allclose(one.gradient.numpy(), other.gradient.numpy(), atol=rtol * scale, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("make", [dense, dropout_net, frozen_net, Tied, small_conv])
def test_as_one_after_the_other(make, classes, precision):
    data = examples(70, (1, 6, 6) if make is small_conv else 6)
    how = {"precision": precision, "batch_size": 16}
    several, alone = (lk.Objective(make(), data, together=n, **how) for n in (4, 1))
    thetas = around(alone, 7)  # a group of four and one of three
    found = several.evaluate_all(thetas, classes=classes)
    assert several.evaluations == len(found) == 7
    for one, theta in zip(found, thetas, strict=True):
        assert_same(one, alone.evaluate(theta, classes=classes), {"float32": 2e-6, "float64": 1e-13}[precision])


@pytest.mark.parametrize("loss", ["mse", distances])
def test_other_losses(loss):
    x, y = examples(40)
    data = (x, torch.randn(40, 3)) if loss == "mse" else (x, y)
    several, alone = (lk.Objective(dense(), data, loss, together=n) for n in (3, 1))
    for one, theta in zip(several.evaluate_all(around(alone, 3)), around(alone, 3), strict=True):
        assert_same(one, alone.evaluate(theta), 2e-6)


def test_the_model_is_left_as_it_was():
    model, data = dropout_net(), examples(60)
    before = flat(model).clone()
    several = lk.Objective(model, data, together=4)
    state = torch.get_rng_state()
    several.evaluate_all(around(several, 4))
    assert torch.equal(flat(model), before)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_parameters_are_taken_over():
    model, data = frozen_net(), examples(60)
    several, alone = (lk.Objective(model, data, together=n) for n in (2, 1))
    with torch.no_grad():
        model[0].bias += 1
    for objective in (several, alone):
        objective.refresh()
    thetas = around(alone, 2)
    for one, theta in zip(several.evaluate_all(thetas), thetas, strict=True):
        assert_same(one, alone.evaluate(theta), 2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["first_order", "trapezoid", "midpoint", "rk4", "boole"])
@pytest.mark.parametrize("together", [2, 9, 64])
def test_allocations_are_the_same(rule, together):
    data = examples(60)
    several, alone = (lk.Objective(dense(), data, together=n) for n in (together, 1))
    path = np.cumsum(0.3 * np.random.default_rng(0).standard_normal((12, alone.n_parameters)), 0).astype(np.float32)
    how = {"rule": rule, "tolerance": 1e-4, "max_splits": 16, "quiet": True}
    one, other = (lk.allocate(path, objective, **how) for objective in (several, alone))
    assert int(one["splits"].max()) > 4 or rule == "first_order"  # refined, beyond what was foreseen
    assert several.evaluations == alone.evaluations
    assert one["splits"].equals(other["splits"])
    for name in ("lca", "lca_unit_class", "gradient", "loss", "accuracy"):
        np.testing.assert_allclose(one[name].values, other[name].values, atol=2e-6, rtol=2e-5, err_msg=name)


@pytest.mark.slow
def test_a_recording_that_is_allocated_later(tmp_path):
    files = []
    for together in (8, 1):
        model, (x, y) = dense(), examples(60)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        files.append(tmp_path / f"{together}.nc")
        objective = lk.Objective(model, (x, y), together=together)
        with lk.Recorder(files[-1], objective, optimizer, allocate="later", quiet=True):
            train(model, optimizer, x, y, 11)
    one, other = map(lk.open_trajectory, files)
    assert one["theta"].equals(other["theta"])
    np.testing.assert_allclose(one["lca"].values, other["lca"].values, atol=1e-6)


def test_a_path_that_leaves_the_numbers_is_refused_where_it_does():
    objective = lk.Objective(dense(), examples(40), together=16)
    path = np.zeros((7, objective.n_parameters), np.float32)
    path[5] = np.inf
    with pytest.raises(lk.DivergedError, match="iteration 4"):
        lk.allocate(path, objective, quiet=True)


def test_chunks_get_smaller_where_memory_ends(monkeypatch):
    data = examples(8 * FEWEST)
    several = lk.Objective(dense(), data, together=2, batch_size=4 * FEWEST)
    expected = several.evaluate_all(around(several, 2))
    real, sizes = Together.run, []

    def out_of_memory(self, thetas, classes, batch_size):
        sizes.append(batch_size)
        if batch_size > FEWEST:
            raise torch.OutOfMemoryError("no memory")
        return real(self, thetas, classes, batch_size)

    monkeypatch.setattr(Together, "run", out_of_memory)
    with pytest.warns(RuntimeWarning, match="continuing with"):
        found = several.evaluate_all(around(several, 2))
    assert sizes == [4 * FEWEST, 2 * FEWEST, FEWEST]
    assert chunks.batch_size(several.batch_size, len(data[0]), 1.0, several.device, False) == FEWEST
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other, 2e-6)


class Branching(nn.Module):
    """Goes one way or another by the values: vmap cannot."""

    def __init__(self):
        super().__init__()
        self.inner = dense()

    def forward(self, x):
        output = self.inner(x)
        return output if float(output.detach().sum()) > 0 else 2 * output


@pytest.mark.parametrize("make", [norm_net, conv_net])
def test_batch_coupling_is_refused(make):
    data = examples(40, (1, 6, 6) if make is conv_net else 6)
    with pytest.raises(ObjectiveError, match=r"BatchNorm.*Leave together out"):
        lk.Objective(make(), data, together=2)


def test_a_network_that_vmap_cannot_do_is_refused():
    with pytest.raises(ObjectiveError, match=r"several θ at once.*Leave together out"):
        lk.Objective(Branching(), examples(40), together=2)


class Sly(nn.Module):
    """Computes something else under vmap."""

    def __init__(self):
        super().__init__()
        self.inner = dense()

    def forward(self, x):
        transformed = torch._C._functorch.maybe_current_level() is not None
        return (1.1 if transformed else 1.0) * self.inner(x)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_a_network_that_is_another_one_under_vmap_is_refused(scale):
    def loss(output, y):
        return scale * F.cross_entropy(output, y, reduction="none")

    with pytest.raises(ObjectiveError, match="gradients differ from those of one θ after the other"):
        lk.Objective(Sly(), examples(40), loss, together=2)


@pytest.mark.parametrize("together", [0, -1, 2.0, True, "auto"])
def test_other_numbers_are_refused(together):
    with pytest.raises(ObjectiveError, match="at least 1"):
        lk.Objective(dense(), examples(40), together=together)


def test_without_classes_there_are_none():
    x, _ = examples(40)
    several = lk.Objective(dense(), (x, torch.randn(40, 3)), "mse", together=2)
    with pytest.raises(ObjectiveError, match="no classes"):
        several.evaluate_all(around(several, 2), classes=True)


@pytest.mark.slow
def test_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = ["record", "digits-fc", "--iterations", "6", "--train-examples", "100", "--allocate", "later"]
    assert main([*record, "--out", "run.nc", "--classes", "none"]) == 0
    assert main(["allocate", "run.nc", "--out", "again.nc", "--overwrite", "--together", "8"]) == 0
    one, other = (lk.open_trajectory(name) for name in ("again.nc", "run.nc"))
    np.testing.assert_allclose(one["lca"].values, other["lca"].values, atol=1e-6)


@pytest.mark.slow
def test_the_benchmark_compares_what_agrees(monkeypatch):
    monkeypatch.setattr("lcakit.bench.together._AT_ONCE", (1, 4))
    result, text = bench.run("together", scale=0.001, repeats=1)
    assert [row["network"] for row in result["rows"]] == ["digits-fc", "mnist-fc", "mnist-fc"]
    for row in result["rows"]:
        assert row["disagreement"] < 1e-5
        assert row["gain"] == row["seconds"]["1"] / min(row["seconds"].values())
        assert f"{row['parameters']:,}" in text
