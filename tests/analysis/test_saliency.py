"""Saliency of units, against sums written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from lcakit.analysis.saliency import saliency
from lcakit.errors import TrajectoryError
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked


def network(*specs: TensorSpec) -> xr.Dataset:
    return tiny_trajectory(5, layers=specs)


def linear(inputs: int, units: int = 3) -> xr.Dataset:
    first = TensorSpec("fc1.weight", (units, inputs), "kernel", "fc1", "linear")
    return network(first, TensorSpec("fc1.bias", (units,), "bias", "fc1", "linear"))


@given(any_chunks(), st.integers(0, 2), st.sampled_from([(16, None), (12, None), (12, (2, 6)), (12, (3, 1, 4))]))
def test_saliency_of_a_linear_layer(chunks, unit, case):
    inputs, shape = case
    ds = linear(inputs)
    with nothing_computed():
        got = saliency(rechunked(ds, chunks), unit, shape=shape)
    assert is_lazy(got) == (chunks is not None)
    expected_shape = shape or {16: (4, 4), 12: (3, 2, 2)}[inputs]
    assert got.dims == ("channel", "y", "x")[-len(expected_shape) :]
    expected = np.zeros(inputs)
    for t in range(5):
        for j in range(inputs):
            expected[j] -= ds["lca"].values[t, unit * inputs + j]
    np.testing.assert_allclose(got, expected.reshape(expected_shape), rtol=1e-6, atol=1e-9)


@given(any_chunks(), st.integers(0, 2))
def test_saliency_of_a_convolution_is_that_of_the_first_kernel(chunks, unit):
    ds = tiny_trajectory(6)
    with nothing_computed():
        got = saliency(rechunked(ds, chunks), unit, iterations=slice(1, 3))
    assert got.dims == ("in", "ky", "kx")
    natural = ds.lk.unflatten("conv1.weight").values.astype(np.float64)
    np.testing.assert_allclose(got, -natural[1:4, unit].sum(0), rtol=1e-9, atol=1e-12)
    xr.testing.assert_equal(got.compute(), saliency(ds, unit, "conv1", iterations=slice(1, 3)))


@pytest.mark.parametrize(
    ("shape", "dims"), [((4, 3, 5), ("in", "kx")), ((2, 3, 2, 3, 4), ("in", "kz", "ky", "kx"))], ids=["1-D", "3-D"]
)
def test_saliency_of_other_convolutions(shape, dims):
    ds = network(TensorSpec("c.weight", shape, "kernel", "c", f"conv{len(shape) - 2}d"))
    got = saliency(ds, 1)
    assert got.dims == dims
    values = ds["lca"].values.astype(np.float64).sum(0).reshape(shape)
    np.testing.assert_allclose(got, -values[1], rtol=1e-9, atol=1e-12)


def test_saliency_of_a_transposed_convolution_with_groups():
    ds = network(TensorSpec("c.weight", (4, 3, 2, 2), "kernel", "c", "convtranspose2d", transposed=True, groups=2))
    got = saliency(ds, 4)  # channel 1 of the second group
    values = ds["lca"].values.astype(np.float64).sum(0).reshape(4, 3, 2, 2)
    np.testing.assert_allclose(got, -values[2:, 1], rtol=1e-9, atol=1e-12)


def slow_saliency(ds, entry, inputs):
    """Minus the sum of LCA, in float64, of the parameters ``entry(j)`` of each input, one after the other."""
    out = np.zeros(inputs)
    for j in range(inputs):
        for t in range(ds.sizes["iteration"]):
            out[j] -= float(ds["lca"].values[t, entry(j)])
    return out


@given(any_chunks(), st.integers(1, 3), st.integers(0, 2), st.sampled_from([(4, None), (6, (2, 3)), (6, (1, 3, 2))]))
def test_saliency_of_a_kernel_whose_columns_are_units(chunks, groups, unit, case):
    """As that of transformers' Conv1D: (in, out), here with ``groups`` × 3 units."""
    inputs, shape = case
    n_units = 3 * groups
    spec = TensorSpec("c.weight", (inputs, n_units), "kernel", "c", "conv1d", axes="input unit")
    ds = network(spec, TensorSpec("c.bias", (n_units,), "bias", "c", "conv1d"))
    with nothing_computed():
        got = saliency(rechunked(ds, chunks), unit, shape=shape)
    expected = slow_saliency(ds, lambda j: j * n_units + unit, inputs)
    np.testing.assert_allclose(got, expected.reshape(shape or (2, 2)), rtol=1e-9, atol=1e-12)


def recurrent(gates, kind, hidden=3, inputs=4):
    """A layer of two, with kernels from the inputs and from the hidden units; the second's units follow the first's."""
    axes = f"(tap={gates} unit) input" if gates > 1 else "unit input"
    widths = {"ih_l0": inputs, "hh_l0": hidden, "ih_l1": hidden, "hh_l1": hidden}
    specs = [
        TensorSpec(f"r.weight_{end}", (gates * hidden, n), "kernel", "r", kind, axes=axes, first_unit=first)
        for (end, n), first in zip(widths.items(), (0, 0, hidden, hidden), strict=True)
    ]
    return network(*specs)


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
@pytest.mark.parametrize("unit", [0, 2])
def test_saliency_of_recurrent_layers_has_an_image_for_each_gate(kind, gates, unit):
    ds = recurrent(gates, kind)
    with pytest.raises(ValueError, match=r"several kernels .*tensor='r\.weight_ih_l0'"):
        saliency(ds, unit)
    got = saliency(ds, unit, tensor="r.weight_ih_l0")
    assert got.dims == (("gate",) if gates > 1 else ()) + ("y", "x")
    expected = [slow_saliency(ds, lambda j, g=g: (g * 3 + unit) * 4 + j, 4).reshape(2, 2) for g in range(gates)]
    np.testing.assert_allclose(got, np.squeeze(expected), rtol=1e-9, atol=1e-12)
    xr.testing.assert_equal(got, saliency(ds.lk.sel(tensor="r.weight_ih_l0"), unit))
    with pytest.raises(ValueError, match=f"unit {unit} has no weights in the kernel 'r.weight_ih_l1'.* 3 to 5"):
        saliency(ds, unit, "r", (1, 3), tensor="r.weight_ih_l1")
    later = saliency(ds, unit + 3, "r", (1, 3), tensor="r.weight_ih_l1")
    start = int(ds["tensor_offset"][2])
    expected = [slow_saliency(ds, lambda j, g=g: start + (g * 3 + unit) * 3 + j, 3)[None] for g in range(gates)]
    np.testing.assert_allclose(later, expected if gates > 1 else expected[0], rtol=1e-9, atol=1e-12)


def test_saliency_of_a_part_of_a_kernel_is_refused():
    ds = recurrent(4, "lstm").lk.sel(tensor="r.weight_ih_l0")
    for held in (12, 24, 47):  # of 48: some gates only, or not all of the last one
        with pytest.raises(ValueError, match="of the 16 weights of the unit"):
            saliency(ds.isel(parameter=slice(0, held)), 2)
    conv1d = network(TensorSpec("c.weight", (4, 3), "kernel", "c", "conv1d", axes="input unit"))
    with pytest.raises(ValueError, match="2 of the 4 weights of the unit"):
        saliency(conv1d.isel(parameter=slice(0, 6)), 1)
    xr.testing.assert_equal(saliency(conv1d.lk.sel(unit=1), 1), saliency(conv1d, 1))
    with pytest.raises(ValueError, match=r"unknown kernel 'c\.bias'"):
        saliency(conv1d, 1, tensor="c.bias")


def test_saliency_skips_layers_without_a_kernel():
    norm = TensorSpec("n.weight", (4,), "norm_scale", "n", "layernorm")
    ds = network(norm, TensorSpec("fc.weight", (2, 4), "kernel", "fc", "linear"))
    assert saliency(ds, 1).sizes == {"y": 2, "x": 2}


def test_layers_with_no_or_several_kernels_have_no_image():
    with pytest.raises(TrajectoryError, match="no layer of this trajectory has a kernel"):
        saliency(network(TensorSpec("n.weight", (4,), "norm_scale", "n", "layernorm")), 0)
    gates = [TensorSpec(f"r.{name}", (4, 4), "kernel", "r", "rnn") for name in ("weight_ih", "weight_hh")]
    with pytest.raises(ValueError, match=r"several kernels \(r\.weight_ih, r\.weight_hh\)"):
        saliency(network(*gates), 0)
