"""For every kind of model the allocations add up to a loss change that is computed independently."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.record.objective.trees import mapped, tensors
from tests.support.architectures import CASES, Case, build, images

TOLERANCE = 1e-3


def rows(data, start: int, stop: int):
    return mapped(lambda leaf: leaf[start:stop], data)


def true_loss(model: nn.Module, case: Case) -> float:
    """Σ wℓ / Σ w by the model itself in float64, dropout off, norm layers by the batch, noise as it is fixed."""
    exact = copy.deepcopy(model).double().eval()
    for module in exact.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    n = len(tensors(case.data)[0])
    size = case.how.get("batch_size", n)
    total = mass = 0.0
    for start in range(0, n, size):
        torch.manual_seed(start)
        batch = mapped(
            lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, rows(case.data, start, start + size)
        )
        with torch.no_grad():
            found = case.batch_loss(exact, batch)
        losses, weights = found if isinstance(found, tuple) else (found, torch.ones_like(found))
        total, mass = total + float((losses * weights).sum()), mass + float(weights.sum())
    return total / mass


def train(model: nn.Module, case: Case, optimizer: torch.optim.Optimizer, steps: int) -> None:
    model.train()
    for step in range(steps):
        torch.manual_seed(100 + step)
        optimizer.zero_grad()
        found = case.batch_loss(model, rows(case.data, 6 * (step % 2), 6 * (step % 2) + 8))
        losses, weights = found if isinstance(found, tuple) else (found, torch.ones_like(found))
        ((losses * weights).sum() / weights.sum()).backward()
        optimizer.step()


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_the_account_closes(name, tmp_path):
    case = build(name)
    model = case.model
    objective = lk.Objective(model, case.data, batch_loss=case.batch_loss, **case.how)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=case.rate)
    before = true_loss(model, case)
    with lk.Recorder(tmp_path / "run.nc", objective, optimizer, quiet=True, tolerance=TOLERANCE):
        train(model, case, optimizer, 4)
    after = true_loss(model, case)
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert float(ds["loss"][0]) == pytest.approx(before, rel=1e-4)
        assert float(ds["loss"][-1]) == pytest.approx(after, rel=1e-4)
        flagged = int((np.abs(ds["residual"]) > TOLERANCE).sum())
        missed = float(ds["lca"].sum()) - (after - before)
        assert flagged or abs(missed) < 4 * TOLERANCE
        assert flagged == 0  # such small steps are within the tolerance
        if "lca_unit_class" in ds:
            np.testing.assert_allclose(ds["loss_class"].sum("class"), ds["loss"], rtol=1e-9)
            np.testing.assert_allclose(
                ds["lca_unit_class"].sum(["unit", "class"]), ds["lca"].sum("parameter"), atol=1e-5
            )


def test_two_optimizers_of_a_gan_are_two_recordings(tmp_path):
    """Each network has a loss of its own; that of the generator depends on the other network as well."""
    torch.manual_seed(0)
    makes, judges = (
        nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 64)),
        nn.Sequential(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 1)),
    )
    real, noise = images().flatten(1), torch.randn(24, 3)

    def judged(judge, batch):
        true, false = judge(batch["real"])[:, 0], judge(batch["made"])[:, 0]
        return F.softplus(-true) + F.softplus(false)

    made = makes(noise).detach()
    objective = lk.Objective(judges, {"real": real, "made": made}, batch_loss=judged)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (makes, judges)]
    before = float(judged(judges, {"real": real, "made": made}).mean().detach())
    with lk.Recorder(tmp_path / "judge.nc", objective, optimizers[1], quiet=True):
        for _ in range(4):
            for optimizer in optimizers:
                optimizer.zero_grad()
            F.softplus(-judges(makes(noise))).mean().backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            judged(judges, {"real": real, "made": makes(noise).detach()}).mean().backward()
            optimizers[1].step()
    after = float(judged(judges, {"real": real, "made": made}).mean().detach())
    with lk.open_trajectory(tmp_path / "judge.nc") as ds:
        assert ds.sizes["iteration"] == 4
        assert float(ds["lca"].sum()) == pytest.approx(after - before, abs=4 * TOLERANCE)


def test_a_gan_is_one_model_with_two_optimizers(tmp_path):
    torch.manual_seed(0)
    model = nn.ModuleDict({"makes": nn.Linear(3, 64), "judges": nn.Linear(64, 1)})
    data = {"real": images().flatten(1), "noise": torch.randn(24, 3)}

    def judged(nets, batch):
        true, false = nets["judges"](batch["real"])[:, 0], nets["judges"](nets["makes"](batch["noise"]))[:, 0]
        return F.softplus(-true) + F.softplus(false)

    objective = lk.Objective(model, data, batch_loss=judged)
    optimizers = [torch.optim.SGD(model[name].parameters(), lr=0.05) for name in ("makes", "judges")]
    before = float(judged(model, data).mean().detach())
    with lk.Recorder(tmp_path / "gan.nc", objective, optimizers, quiet=True):
        for _ in range(4):
            for sign, optimizer in zip((-1, 1), optimizers, strict=True):
                model.zero_grad()
                (sign * judged(model, data).mean()).backward()
                optimizer.step()
    after = float(judged(model, data).mean().detach())
    with lk.open_trajectory(tmp_path / "gan.nc") as ds:
        assert ds.sizes["iteration"] == 4
        assert float(ds["lca"].sum()) == pytest.approx(after - before, abs=4 * TOLERANCE)
