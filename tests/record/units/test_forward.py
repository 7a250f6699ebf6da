"""What a forward pass shows: the kernel of each norm layer, and units of modules that no rule knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from tests.record.units.test_rules import numbers, unit_sums
from tests.support import processes


def labels_of(model: nn.Module, *shape: int, n: int = 12):
    torch.manual_seed(0)
    return lk.Objective(model, (torch.randn(n, *shape), torch.arange(n) % 3)).labels


def kernels(labels) -> dict[str, str]:
    return {t.layer: t.kernel_layer for t in labels.tensors if t.kernel_layer != t.layer}


class Blocks(nn.Module):
    """Norm layers that are defined before the kernels, and an auxiliary head that the forward pass may not use."""

    def __init__(self, unused: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.a, self.b, self.out = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        if unused:
            self.aux = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.norm2(self.b(self.norm1(self.a(x)).relu())).relu())


@pytest.mark.parametrize("unused", [False, True])
def test_norms_of_a_network_with_a_module_that_is_not_called(unused):
    assert kernels(labels_of(Blocks(unused), 8)) == {"norm1": "a", "norm2": "b"}


def test_norms_of_parallel_branches_belong_to_their_own_branch():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.out = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 3)
            self.norm_q, self.norm_k = nn.LayerNorm(3), nn.LayerNorm(3)  # of each of two heads

        def forward(self, x):
            q, k = self.q(x), self.k(x)
            q, k = (norm(t.view(-1, 2, 3)) for norm, t in ((self.norm_q, q), (self.norm_k, k)))
            return self.out((q * k).flatten(1))

    assert kernels(labels_of(Branches(), 8)) == {"norm_q": "q", "norm_k": "k"}


def test_a_kernel_that_is_called_twice_counts_where_it_was_called_last():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out, self.norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.LayerNorm(6)

        def forward(self, x):
            return self.out(self.norm(self.a(self.b(self.a(x)).relu())))

    assert kernels(labels_of(Twice(), 6)) == {"norm": "a"}


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_layers_whose_fast_path_calls_no_module(norm_first):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first)
            self.embed, self.layer, self.head = nn.Linear(4, 8), layer, nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.layer(self.embed(x)).mean(1))

    found = kernels(labels_of(Net(), 5, 4))
    first, second = (
        ("embed", "layer.self_attn.out_proj") if norm_first else ("layer.self_attn.out_proj", "layer.linear2")
    )
    assert found == {"layer.norm1": first, "layer.norm2": second}
    assert torch.backends.mha.get_fastpath_enabled()


class PlainRMSNorm(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class OffsetRMSNorm(PlainRMSNorm):
    def forward(self, x):
        return (1 + self.weight.float()) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class FunctionalLayerNorm(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.ones(n)), nn.Parameter(torch.zeros(n))

    def forward(self, x):
        return F.layer_norm(x, self.gain.shape, self.gain, self.offset, 1e-5)


class NormNet(nn.Module):
    def __init__(self, norm: type[nn.Module]):
        super().__init__()
        self.a, self.norm, self.out = nn.Linear(8, 6), norm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.norm(self.a(x)).relu())


@pytest.mark.parametrize("norm", [nn.RMSNorm, nn.LayerNorm, PlainRMSNorm, OffsetRMSNorm, FunctionalLayerNorm])
def test_norm_layers_of_any_class(norm):
    labels = labels_of(NormNet(norm), 8)
    assert kernels(labels) == {"norm": "a"}
    own = [t for t in labels.tensors if t.layer == "norm"]
    assert [t.role for t in own] == ["norm_scale", "norm_shift"][: len(own)]
    assert all(t.n_units == 6 for t in own)
    values = numbers(NormNet(norm))
    expected = [sum(float(values[t.name][j]) for t in own) for j in range(6)]
    np.testing.assert_allclose(unit_sums(labels, values)[6:12], expected)


def test_a_scale_that_normalizes_nothing_is_no_norm():
    class Scale(PlainRMSNorm):
        def forward(self, x):
            return x * self.weight

    labels = labels_of(NormNet(Scale), 8)
    assert [(t.role, t.n_units) for t in labels.tensors if t.layer == "norm"] == [("other", 6)]
    assert not kernels(labels)


class Functional(nn.Module):
    """Everything in parameters of the outermost module."""

    def __init__(self):
        super().__init__()
        sizes = {"columns": (5, 6), "shift": (6,), "rows": (3, 8), "mix": (6, 8), "temperature": ()}
        for name, size in sizes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(size)))

    def forward(self, x):
        hidden = torch.tanh(x @ self.columns + self.shift) @ self.mix
        return F.linear(hidden.relu(), self.rows) * self.temperature


def test_units_of_functional_networks_are_found_by_moving_entries():
    labels = labels_of(Functional(), 5)
    v = numbers(Functional())
    expected = [v["columns"][:, j].sum() + v["shift"][j] for j in range(6)]
    expected += [v["rows"][j].sum() for j in range(3)] + [v["mix"][:, j].sum() for j in range(8)] + [v["temperature"]]
    np.testing.assert_allclose(unit_sums(labels, v), expected)
    kinds = {t.name: t.unit_kind for t in labels.tensors}
    assert kinds == dict.fromkeys(("columns", "shift", "rows", "mix"), "output") | {"temperature": "none"}


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(2, 5, 3))  # (experts, inputs, outputs)

    def forward(self, x):
        return torch.bmm(x.expand(2, *x.shape), self.kernel).sum(0)


def test_neurons_of_several_experts_are_units_of_their_own():
    labels = labels_of(Experts(), 5)
    v = numbers(Experts())["kernel"]
    np.testing.assert_allclose(unit_sums(labels, {"kernel": v}), [v[e, :, j].sum() for e in range(2) for j in range(3)])


def test_a_matrix_whose_entries_move_everything_has_no_units():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 5))
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            return self.head(x @ torch.linalg.matrix_exp(self.weight - self.weight.T))

    labels = labels_of(Mixed(), 5)
    own = next(t for t in labels.tensors if t.name == "weight")
    assert (own.unit_kind, own.n_units) == ("none", 1)


def test_rows_that_integers_look_up():
    class Lookup(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.where = nn.Parameter(torch.randn(7, 4)), nn.Parameter(torch.randn(1, 5, 4))
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head((self.table[x] + self.where).tanh().mean(1))

    torch.manual_seed(0)
    labels = lk.Objective(Lookup(), (torch.randint(0, 7, (12, 5)), torch.arange(12) % 3)).labels
    v = numbers(Lookup())
    found = unit_sums(labels, v)[:12]
    np.testing.assert_allclose(found, [*v["table"].sum(1), *v["where"][0].sum(1)])
    assert next(t for t in labels.tensors if t.name == "table").role == "embedding"


@pytest.mark.slow
def test_recorded_unit_sums_of_a_gated_network_are_those_by_hand(tmp_path):
    """The whole way: the recorder's sums over units are those of the file's labels."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(2, 3, num_layers=2, batch_first=True), nn.Linear(3, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    model, x, y = Net(), torch.randn(12, 4, 2), torch.arange(12) % 3
    objective = lk.Objective(model, (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with lk.Recorder(tmp_path / "run.nc", objective, optimizer, quiet=True, classes="unit"):
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert lk.validate(ds).ok
    lca = ds["lca"].values.astype("f8")
    names = [t.name for t in objective.labels.tensors]
    for unit in range(6):
        layer, neuron = divmod(unit, 3)
        total = np.zeros(3)
        for name, start, shape in zip(names, objective.labels.offsets, ds["tensor_shape"].values, strict=True):
            if name.endswith(f"_l{layer}"):
                rows = lca[:, start : start + 12 * max(1, shape[1])].reshape(3, 4, 3, -1)
                total += rows[:, :, neuron].sum((1, 2))
        np.testing.assert_allclose(ds["lca_unit_class"][:, unit].sum("class"), total, rtol=1e-4, atol=1e-9)
    only = ds.lk.sel(layer="rnn", unit=0)
    assert only.sizes["parameter"] == 4 * (2 + 3 + 1 + 1)


@pytest.mark.slow  # for the process
def test_the_first_pass_does_not_import_the_compiler():
    """It would take a second in each process; optimizers of PyTorch do import it."""
    processes.run(
        "import sys, torch, lcakit as lk\n"
        "lk.Objective(torch.nn.Linear(6, 3), (torch.randn(8, 6), torch.arange(8) % 3))\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
