"""The words of axes against a loop over the entries of a tensor."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcakit.errors import TrajectoryError
from lcakit.record.allocation.axis_blocks import pieces_of
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.consistency import label_problems
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.unit_axes import parse_axes


@st.composite
def tensors(draw) -> tuple[str, tuple[int, ...]]:
    """Axes of a tensor and its shape: units are neighbours, or the first axis and a later run of axes."""
    units = draw(st.sampled_from([("u",), ("ou"), ("uo"), ("ouo"), ("uou"), ("uouo"), ("uuo"), ("o",)]))
    words = ["unit" if letter == "u" else draw(st.sampled_from(["input", "tap"])) for letter in units]
    sizes = [draw(st.integers(1, 4)) for _ in words]
    if len(words) > 1 and draw(st.booleans()):  # the first two in one axis
        return f"({words[0]}={sizes[0]} {words[1]}) {' '.join(words[2:])}".strip(), (sizes[0] * sizes[1], *sizes[2:])
    return " ".join(words), tuple(sizes)


def place(axes: str, shape: tuple[int, ...], flat: int) -> dict[str, int]:
    """Find by hand where an entry lies along the axes of each word."""
    words, sizes = [], []
    for word, size in zip(axes.replace("(", "").replace(")", "").split(), _sizes(axes, shape), strict=True):
        words.append(word.partition("=")[0])
        sizes.append(size)
    at = np.unravel_index(flat, sizes)
    found = {"unit": 0, "input": -1, "tap": -1}
    for word in found:
        own = [k for k, other in enumerate(words) if other == word]
        if own:
            found[word] = int(np.ravel_multi_index([int(at[k]) for k in own], [sizes[k] for k in own]))
    return found


def _sizes(axes: str, shape: tuple[int, ...]) -> list[int]:
    if not axes.startswith("("):
        return list(shape)
    first = int(axes.partition("=")[2].split()[0])
    return [first, shape[0] // first, *shape[1:]]


@given(tensors())
def test_places_of_all_entries(tensor):
    axes, shape = tensor
    found = parse_axes(axes, shape)
    columns = {word: found.index(word) for word in ("unit", "input", "tap")}
    for flat in range(math.prod(shape)):
        assert {word: int(column[flat]) for word, column in columns.items()} == place(axes, shape, flat)


@given(tensors(), st.integers(1, 40))
def test_unit_sums_in_pieces_are_those_of_the_labels(tensor, most):
    import torch

    axes, shape = tensor
    tail = TensorSpec("tail", (3,), "bias", "layer", first_unit=1)
    labels = Labels((TensorSpec("t", shape, "kernel", "layer", axes=axes, first_unit=2), tail))
    values = np.arange(1.0, labels.n_parameters + 1)
    expected = np.bincount(labels.parameter_labels()["unit_index"], values, minlength=labels.n_units)
    out = torch.zeros(1, labels.n_units, dtype=torch.float64)
    pieces = pieces_of(labels, most=most)
    for piece in pieces:
        piece.add_unit_sums(torch.as_tensor(values[piece.columns])[None], out)
    np.testing.assert_array_equal(out[0], expected)
    covered = list(itertools.chain(*(range(p.columns.start, p.columns.stop) for p in pieces)))
    assert covered == list(range(labels.n_parameters))


@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (3, 2, 2)])
def test_a_tensor_without_units_is_one_unit_of_its_layer(shape):
    labels = Labels((TensorSpec("t", shape, "other", "layer", axes="none", unit_kind="none"),))
    assert labels.n_units == 1
    columns = labels.parameter_labels()
    places = set(zip(*(columns[f"{name}_index"].tolist() for name in ("unit", "input", "tap")), strict=True))
    assert len(places) == labels.n_parameters  # each entry has a place of its own


@pytest.mark.parametrize(
    ("axes", "shape", "says"),
    [
        ("unit", (2, 3), "names 1 axes of 2"),
        ("unit row", (2, 3), "the words are unit, input, tap"),
        ("(tap=2 unit)", (3,), "does not divide an axis of 3"),
        ("(tap unit)", (4,), "does not divide"),
        ("(tap=x unit)", (4,), "whole number"),
        ("input unit tap unit", (2, 2, 2, 2), "neighbours"),
    ],
)
def test_axes_that_do_not_fit_say_why(axes, shape, says):
    with pytest.raises(TrajectoryError, match=says):
        parse_axes(axes, shape)


def test_labels_with_gates_and_without_units_are_in_order():
    gates = TensorSpec("r.w", (8, 3), "kernel", "r", axes="(tap=4 unit) input", unit_kind="hidden unit")
    bias = TensorSpec("r.b", (8,), "bias", "r", axes="(tap=4 unit)", unit_kind="hidden unit")
    rest = TensorSpec("r.t", (2,), "other", "r", axes="none", first_unit=2, unit_kind="none")
    ds = tiny_trajectory(layers=(gates, bias, rest))
    assert not label_problems(ds)
    assert ds["tensor_unit"].values.tolist() == ["hidden unit", "hidden unit", "none"]
    twice = ds["tap_index"].copy()
    twice[1] = twice[0]
    wrong = ds["input_index"].copy()
    wrong[1] = wrong[0]
    assert label_problems(ds.assign_coords(tap_index=twice, input_index=wrong))
