"""Units of each layer of the table against sums by hand, entry by entry, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import lcakit as lk
from lcakit.record.objective.describe import describe
from lcakit.trajectory.labels import Labels


def unit_sums(labels: Labels, values: dict[str, np.ndarray]) -> np.ndarray:
    """Sum values of all parameters over the units of the network, as the file's labels say."""
    flat = np.concatenate([values[t.name].reshape(-1) for t in labels.tensors])
    return np.bincount(labels.parameter_labels()["unit_index"], flat, minlength=labels.n_units)


def numbers(model: nn.Module) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(tuple(p.shape)) for name, p in model.named_parameters()}


def check(model: nn.Module, expected) -> None:
    """Compare the sums over units with ``expected(values)``, one list of numbers for each unit by hand."""
    values = numbers(model)
    got = unit_sums(describe(model), values)
    by_hand = [sum(float(np.sum(part)) for part in parts) for parts in expected(values)]
    np.testing.assert_allclose(got, by_hand, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(3, 4),
        nn.Bilinear(2, 3, 4),
        nn.Conv1d(2, 4, 3),
        nn.Conv2d(4, 8, 3, groups=2),
        nn.Conv2d(4, 4, 3, groups=4),  # depthwise
        nn.Conv3d(2, 4, 2),
        nn.Embedding(5, 3),
        nn.EmbeddingBag(5, 3),
        nn.BatchNorm2d(4),
        nn.LayerNorm(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm1d(4, affine=True),
        nn.RMSNorm(4),
        nn.PReLU(4),
    ],
    ids=repr,
)
def test_layers_whose_units_are_rows(layer):
    rows = len(layer.weight)
    check(layer, lambda v: [[tensor[j] for tensor in v.values()] for j in range(rows)])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kind", "taps"), [(nn.ConvTranspose1d, (2,)), (nn.ConvTranspose3d, (2, 1, 3))])
def test_transposed_convolutions(kind, taps, groups):
    layer = kind(4, 6, taps, groups=groups)

    def expected(v):
        for unit in range(6):
            group, inside = divmod(unit, 6 // groups)
            inputs = range(group * 4 // groups, (group + 1) * 4 // groups)
            yield [*(v["weight"][i, inside] for i in inputs), v["bias"][unit]]

    check(layer, expected)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_recurrent_layers(kind, gates, options):
    layer = kind(2, 3, **options)

    def expected(v):
        ends = [f"l{k}{end}" for k in range(layer.num_layers) for end in ("", "_reverse")[: 1 + layer.bidirectional]]
        for end, neuron in itertools.product(ends, range(3)):
            yield [
                tensor[gate * 3 + neuron]
                for name, tensor in v.items()
                if name.split("_", 2)[2] == end
                for gate in range(gates)
            ]

    check(layer, expected)


def test_an_lstm_with_projections_has_hidden_units_and_projections():
    layer = nn.LSTM(2, 4, proj_size=3)

    def expected(v):
        for neuron in range(4):
            yield [t[gate * 4 + neuron] for name, t in v.items() if "_hr_" not in name for gate in range(4)]
        for j in range(3):
            yield [v["weight_hr_l0"][j]]

    check(layer, expected)


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTMCell, 4), (nn.GRUCell, 3), (nn.RNNCell, 1)])
def test_recurrent_cells(cell, gates):
    check(
        cell(2, 3),
        lambda v: [[t[gate * 3 + neuron] for t in v.values() for gate in range(gates)] for neuron in range(3)],
    )


def attention_by_hand(v: dict[str, np.ndarray], size: int):
    """Yield q, k and v in turn, cut into units of ``size`` rows; then the output projection's rows."""
    packed = "in_proj_weight" in v
    for place, name in enumerate("qkv"):
        rows = slice(place * 4, place * 4 + 4)
        kernel = v["in_proj_weight"][rows] if packed else v[f"{name}_proj_weight"]
        extra = v[f"bias_{name}"][0, 0] if f"bias_{name}" in v else np.zeros(4)
        for start in range(0, 4, size):
            unit = slice(start, start + size)
            yield [kernel[unit], v["in_proj_bias"][rows][unit], extra[unit]]
    for j in range(4):
        yield [v["out_proj.weight"][j], v["out_proj.bias"][j]]


@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 5, "add_bias_kv": True}])
def test_attention_by_neuron_and_by_head(options):
    attention = nn.MultiheadAttention(4, 2, **options)
    check(attention, lambda v: attention_by_hand(v, 1))
    lk.units.register(nn.MultiheadAttention, lk.units.by_head)
    try:
        check(attention, lambda v: attention_by_hand(v, 2))
    finally:
        lk.units.register(nn.MultiheadAttention, None)
    with pytest.raises(lk.ObjectiveError, match=r"got Linear"):
        lk.units.by_head(nn.Linear(2, 2))


def test_conv1d_of_transformers():
    pytorch_utils = pytest.importorskip("transformers.pytorch_utils")
    check(pytorch_utils.Conv1D(3, 4), lambda v: [[v["weight"][:, j], v["bias"][j]] for j in range(3)])


def test_parametrizations():
    rows = "parametrizations.weight.original"
    layer = parametrizations.weight_norm(nn.Linear(3, 4))
    check(layer, lambda v: [[t[j] for t in v.values()] for j in range(4)])
    old = torch.nn.utils.weight_norm(nn.Linear(3, 4))
    check(old, lambda v: [[t[j] for t in v.values()] for j in range(4)])
    spectral = parametrizations.spectral_norm(nn.Linear(3, 4))
    check(spectral, lambda v: [[t[j] for t in v.values()] for j in range(4)])
    columns = parametrizations.weight_norm(nn.Linear(3, 4), dim=1)  # a length for each input, of no unit
    check(columns, lambda v: [*([v["bias"][j], v[f"{rows}1"][j]] for j in range(4)), [v[f"{rows}0"]]])
    orthogonal = parametrizations.orthogonal(nn.Linear(3, 3))  # an entry moves all rows
    check(orthogonal, lambda v: [*([v["bias"][j]] for j in range(3)), [v[rows]]])


def test_pruned_layers():
    layer = nn.Linear(3, 4)
    prune.l1_unstructured(layer, "weight", 0.5)
    check(layer, lambda v: [[t[j] for t in v.values()] for j in range(4)])


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 3))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 3))


def test_embeddings_of_class_and_position_are_rows():
    check(Embedded(), lambda v: [[v["cls_token"]], *([v["pos_embed"][0, j]] for j in range(5))])
    assert [(t.role, t.unit_kind) for t in describe(Embedded()).tensors] == [
        ("embedding", "token"),
        ("embedding", "position"),
    ]


class Adapted(nn.Linear):
    """LoRA as its paper's library writes it: tensors of its own in the layer."""

    def __init__(self):
        super().__init__(3, 4)
        self.lora_A, self.lora_B = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.zeros(4, 2))

    def forward(self, x):
        return super().forward(x) + x @ self.lora_A.T @ self.lora_B.T


def test_lora():
    x, y = torch.randn(12, 3), torch.arange(12) % 4
    labels = lk.Objective(Adapted(), (x, y)).labels
    values = numbers(Adapted())
    expected = [[values[name][j] for name in ("weight", "bias", "lora_B")] for j in range(4)]
    expected += [[values["lora_A"][j]] for j in range(2)]  # a unit for each rank
    np.testing.assert_allclose(unit_sums(labels, values), [sum(p.sum() for p in parts) for parts in expected])


def test_what_is_not_known_is_one_unit():
    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(4))

    check(Unknown(), lambda v: [[v["weight"], v["bias"]]])
    assert {t.unit_kind for t in describe(Unknown()).tensors} == {"none"}
    assert {units.axes for units in lk.units.of(Unknown()).values()} == {"none"}


def test_rules_of_users():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 4)
            self.table = nn.Parameter(torch.zeros(3, 2))

    rule = {"inner.weight": lk.units.Units("(unit=2 tap) input", "head"), "table": "input unit"}

    def by_hand(v):
        heads = [v["inner.weight"][2 * j : 2 * j + 2] for j in range(2)]
        return [*(v["table"][:, j] for j in range(2)), *(v["inner.bias"][j] for j in range(4)), *heads]

    for given in (rule, lambda module: rule):
        lk.units.register(Mine, given)
        assert Mine in lk.units.table()
        try:
            values = numbers(Mine())
            sums = unit_sums(describe(Mine()), values)
            np.testing.assert_allclose(np.sort(sums), np.sort([part.sum() for part in by_hand(values)]))
        finally:
            lk.units.register(Mine, None)
    assert Mine not in lk.units.table()


@pytest.mark.parametrize(
    ("kind", "rule", "says"),
    [
        (nn.Linear, "unit input", "mapping"),
        (nn.Linear, {"weight": 1}, "words of its axes"),
        ("Linear", {}, "full name"),
        (3, {}, "full name"),
    ],
)
def test_wrong_rules_are_refused(kind, rule, says):
    with pytest.raises(lk.ObjectiveError, match=says):
        lk.units.register(kind, rule)


@pytest.mark.parametrize(
    ("axes", "says"),
    [("unit", "names 1 axes of 2"), ("unit colour", "the words are"), ("(tap=3 unit) input", "divide")],
)
def test_a_rule_that_does_not_fit_names_parameter_and_shape(axes, says):
    class Mine(nn.Linear):
        pass

    lk.units.register(Mine, {"weight": axes})
    try:
        with pytest.raises(lk.ObjectiveError, match=rf"Mine.*weight.*\(4, 3\).*{says}"):
            describe(Mine(3, 4))
    finally:
        lk.units.register(Mine, None)


def test_tied_tensors_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.wte.weight

    check(Tied(), lambda v: [[v["wte.weight"][j]] for j in range(5)])
