"""What makes a loss a function of θ: fixed noise, norm layers by batch or running statistics; groups and their word."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.trajectory.class_kind import class_kind
from tests.support.networks import conv_net, dense, examples, norm_net


class Variational(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(2, 6)

    def forward(self, x):
        mean, spread = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + spread.exp() * torch.randn_like(mean)), mean, spread


def bound(model, batch):
    back, mean, spread = model(batch)
    return (back - batch).square().sum(1) + 0.5 * (mean**2 + (2 * spread).exp() - 1 - 2 * spread).sum(1)


def test_a_random_forward_pass_is_refused_with_the_remedy():
    with pytest.raises(lk.ObjectiveError, match="fixed_noise=True"):
        lk.Objective(Variational(), examples()[0], batch_loss=bound)


def test_fixed_noise_makes_the_loss_a_function_of_theta():
    x, _ = examples()
    model = Variational()
    objective = lk.Objective(model, x, batch_loss=bound, fixed_noise=True, batch_size=20, precision="float64")
    theta = objective.parameters_tensor()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = objective.loss(theta)
    gradient = torch.as_tensor(objective.gradient(theta))
    assert torch.equal(torch.get_rng_state(), state)
    torch.randn(9)
    assert objective.loss(theta) == first
    step = 1e-5 * torch.randn(len(theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slope = (objective.loss(theta + step) - objective.loss(theta - step)) / 2
    assert slope == pytest.approx(float(gradient @ step), rel=1e-5)
    batches = torch.cat(
        [_seeded_bound(model, part, start) for start, part in zip((0, 20, 40), x.split(20), strict=True)]
    )
    assert first == pytest.approx(float(batches.mean()), rel=1e-12)


def _seeded_bound(model, part, start):
    torch.manual_seed(start)
    return bound(copy.deepcopy(model).double(), part.double()).detach()


def trained_norms(make):
    model = make()
    for _ in range(3):
        model(examples(40, (1, 6, 6) if make is conv_net else 6, seed=9)[0])
    return model


@pytest.mark.parametrize("make", [norm_net, conv_net])
def test_running_statistics_make_the_loss_that_of_the_loop(make):
    model, (x, y) = trained_norms(make).eval(), examples(50, (1, 6, 6) if make is conv_net else 6)
    objective = lk.Objective(model, (x, y), batch_size=7)
    loss = F.cross_entropy(model(x), y)
    assert objective.norm_mode == "running"
    assert not objective.batch_coupling
    assert any("running statistics" in note for note in objective.notes)
    assert objective.loss() == pytest.approx(loss.item(), rel=1e-6)
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))])
    np.testing.assert_allclose(objective.gradient(), expected.numpy(), atol=1e-6)


def test_the_mode_of_norm_layers_is_taken_from_the_model_unless_it_is_said():
    data, model = examples(), trained_norms(norm_net)
    assert lk.Objective(model, data).norm_mode == "evaluation_batch"
    assert lk.Objective(model, data, norm="running").norm_mode == "running"
    assert lk.Objective(model.eval(), data, norm="batch").norm_mode == "evaluation_batch"
    both = nn.Sequential(norm_net(), nn.BatchNorm1d(3)).train()
    both[1].eval()
    assert lk.Objective(both, data).norm_mode == "mixed"
    with pytest.raises(lk.ObjectiveError, match="'batch', 'running'"):
        lk.Objective(model, data, norm="instance")


@pytest.mark.slow
def test_a_file_says_what_its_groups_are(tmp_path):
    model, (x, y) = dense(), examples()
    groups = torch.arange(50) // 25
    objective = lk.Objective(model, (x, y), groups=groups, group_names=["early", "late"], group_kind="half")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lk.Recorder(tmp_path / "run.nc", objective, optimizer, quiet=True):
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert class_kind(ds) == "half"
        assert ds["class"].values.tolist() == ["early", "late"]
        np.testing.assert_allclose(ds["lca_unit_class"].sum(), ds["lca"].sum(), rtol=1e-5)
        np.testing.assert_allclose(ds["loss_class"].sum("class"), ds["loss"], rtol=1e-12)


def test_a_file_of_classes_says_nothing_more(tmp_path):
    model, data = dense(), examples()
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, data), quiet=True) as rec:
        rec.step()
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert class_kind(ds) == "class"
        assert not {"class_kind", "noise_seed"} & set(ds.attrs)


def test_the_estimate_says_what_groups_of_positions_cost():
    y = torch.zeros(50, 3, dtype=torch.int64)
    by_position = lk.Objective(
        nn.Linear(6, 3),
        (examples()[0][:, None].expand(50, 3, 6), y),
        batch_loss=lk.losses.token_classification,
        groups=torch.arange(3).expand(50, 3),
        group_kind="position",
    )
    assert by_position.class_factor == pytest.approx(7 / 3)
    assert (
        "where batches mix groups a gradient by position costs about 2.33 times"
        in lk.estimate(by_position, 9).to_text()
    )
    by_example = lk.Objective(dense(), examples(), groups=torch.arange(50) % 3, group_kind="source")
    assert by_example.class_factor == 1


class Leaving(nn.Module):
    """Leaves a layer out now and then, also in eval mode."""

    def __init__(self, draw, holder=None):
        super().__init__()
        self.layer, self.head, self.draw, self.holder = nn.Linear(6, 6), nn.Linear(6, 3), draw, holder

    def forward(self, x):
        return self.head(x if self.draw() < 0.3 else x + self.layer(x))


@pytest.mark.parametrize(
    "draw",
    [lambda: float(torch.rand(())), lambda: float(np.random.rand()), random.random],
    ids=["torch", "np", "random"],
)
def test_a_layer_that_is_left_out_now_and_then_is_seen(draw):
    """Two evaluations are the same more often than not."""
    for seed in range(8):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        with pytest.raises(lk.ObjectiveError, match=r"differs between two evaluations.*fixed_noise=True"):
            lk.Objective(Leaving(draw), (torch.rand(20, 6), torch.arange(20) % 3))


def test_what_is_drawn_and_not_used_is_no_noise():
    """As layers do that draw first and then look whether they train."""
    objective = lk.Objective(Leaving(lambda: 1 + float(torch.rand(()))), (torch.rand(20, 6), torch.arange(20) % 3))
    assert objective.evaluate().loss == objective.evaluate().loss


def test_noise_that_cannot_be_fixed_says_where_it_must_come_from():
    own = torch.Generator().manual_seed(0)
    model = Leaving(lambda: float(torch.rand((), generator=own)))
    with pytest.raises(lk.ObjectiveError, match="draw from the global generators"):
        for _ in range(8):
            lk.Objective(model, (torch.rand(20, 6), torch.arange(20) % 3), fixed_noise=True)


class Constrained(nn.Linear):
    def __init__(self, how):
        super().__init__(6, 3)
        self.how = how

    def forward(self, x):
        with torch.no_grad():
            if self.how == "in place":
                self.weight.renorm_(2, 0, 0.1)
            elif self.how == "by .data":
                self.weight.data = torch.renorm(self.weight.data, 2, 0, 0.1)
        return super().forward(x)


@pytest.mark.parametrize("how", ["in place", "by .data"])
def test_a_forward_pass_that_moves_parameters_is_refused(how):
    with pytest.raises(lk.ObjectiveError, match=r"changes its parameter 'weight' in place.*after optimizer.step\(\)"):
        lk.Objective(Constrained(how), (torch.rand(20, 6), torch.arange(20) % 3))


def test_embeddings_that_are_rescaled_when_they_are_used_are_refused():
    model = nn.Sequential(nn.Embedding(9, 4, max_norm=0.5), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(lk.ObjectiveError, match=r"'0.weight' in place .nn.Embedding\(max_norm"):
        lk.Objective(model, (torch.randint(9, (20, 2)), torch.arange(20) % 3))
