from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcakit.errors import TrajectoryError
from lcakit.testing import LAYERS, tiny_trajectory
from lcakit.trajectory.labels import Labels, TensorSpec, group_ids, runs_of


@st.composite
def tensors(draw) -> TensorSpec:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=0, max_size=5)))
    return TensorSpec("t", shape, "kernel" if len(shape) > 1 else "bias", "layer")


@st.composite
def transposed(draw) -> TensorSpec:
    """A transposed convolution: (in, out / groups, taps …)."""
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    shape = (groups * per_group, draw(st.integers(1, 3)), *draw(st.lists(st.integers(1, 3), max_size=3)))
    return TensorSpec("t", shape, "kernel", "layer", transposed=True, groups=groups)


def place(spec: TensorSpec, index: tuple[int, ...]) -> tuple[int, int, int]:
    """Unit, input and tap of one entry, from its natural index."""
    tap = int(np.ravel_multi_index(index[2:], spec.shape[2:])) if len(index) > 2 else -1
    if len(index) < 2:
        return (index[0] if index else 0), -1, -1
    if not spec.transposed:
        return index[0], index[1], tap
    group = index[0] // (spec.shape[0] // spec.groups)  # input channels are dealt to the groups in order
    return group * spec.shape[1] + index[1], index[0], tap


@given(tensors() | transposed())
def test_labels_against_a_loop(spec):
    columns = Labels((spec,)).parameter_labels()
    for flat, index in enumerate(itertools.product(*map(range, spec.shape))):
        got = tuple(int(columns[f"{name}_index"][flat]) for name in ("unit", "input", "tap"))
        assert got == place(spec, index)
    assert spec.n_units == len(set(columns["unit_index"].tolist()))


def test_labels_agree_with_torch_transposed_convolution():
    torch = pytest.importorskip("torch")
    layer = torch.nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False)
    spec = TensorSpec("t", tuple(layer.weight.shape), "kernel", "up", transposed=True, groups=2)
    columns = Labels((spec,)).parameter_labels()
    for unit, source in itertools.product(range(6), range(4)):
        x = torch.zeros(1, 4, 3, 3)
        x[0, source] = 1
        layer.zero_grad()
        layer(x)[0, unit].sum().backward()
        used = layer.weight.grad.reshape(-1).numpy() != 0
        named = (columns["unit_index"] == unit) & (columns["input_index"] == source)
        assert np.array_equal(used, named)


def test_layout_of_a_network():
    table = Labels(LAYERS)
    assert table.n_parameters == 61
    assert table.layers == ("conv1", "norm1", "fc")
    assert table.units_per_layer == (3, 3, 4)
    assert table.first_unit == {"conv1": 0, "norm1": 3, "fc": 6}
    with pytest.raises(ValueError, match="kernel"):
        TensorSpec("t", (2,), "kernal", "layer")


def expected_group(ds, i: int, by: str) -> object:
    layer = int(ds["layer_index"][i])
    return {
        "tensor": str(ds["tensor"].values[ds["tensor_index"].values[i]]),
        "layer": str(ds["layer"].values[layer]),
        "kernel_layer": str(ds["layer"].values[ds["kernel_layer"].values[layer]]),
        "unit": int(ds["unit_index"][i]),
        "role": str(ds["tensor_role"].values[ds["tensor_index"].values[i]]),
    }[by]


@pytest.mark.parametrize("by", ["tensor", "layer", "kernel_layer", "unit", "role"])
@pytest.mark.parametrize("selection", [{}, {"layer": "fc"}, {"role": ["bias", "norm_shift"]}, {"unit": [1, 8]}])
def test_group_ids(by, selection):
    ds = tiny_trajectory(iterations=1).lk.sel(**selection)
    ids, names = group_ids(ds, by)
    assert [names.values[g] for g in ids] == [expected_group(ds, i, by) for i in range(ds.sizes["parameter"])]


def test_group_ids_errors():
    ds = tiny_trajectory(iterations=1)
    with pytest.raises(ValueError, match="kernel_layer"):
        group_ids(ds, "kernel-layer")
    with pytest.raises(TrajectoryError, match="layer_index"):
        group_ids(ds.drop_vars("layer_index"), "layer")


@given(st.lists(st.integers(0, 3)))
def test_runs_of(ids):
    starts, values = runs_of(ids)
    runs = [(key, len(list(group))) for key, group in itertools.groupby(ids)]
    assert values.tolist() == [key for key, _ in runs]
    assert starts.tolist() == list(itertools.accumulate((n for _, n in runs), initial=0))[: len(runs)]
