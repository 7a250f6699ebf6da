"""The table of the guide, view × what is selected: each cell, with numbers from NumPy on the arrays of the file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("panel")

from lcakit.testing import tiny_trajectory
from lcakit.views.explorer import taken
from lcakit.views.explorer.examples import given
from lcakit.views.explorer.runs import Models
from tests.support.explorers import IMAGES, QUIET, at

pytestmark = QUIET
GUIDE = Path(__file__).parents[2] / "notebooks" / "guides" / "see.md"
RUNS = {f"r-{seed}": tiny_trajectory(14, layers=IMAGES, class_parameters=True, seed=seed).load() for seed in (0, 1)}
CHANGES = {
    "layer": {"layer": "b", "layers": ("b",)},
    "unit": {"unit": 2},
    "class": {"classes": ("a", "c")},
    "role": {"role": "bias"},
    "iteration": {"iteration": 6},
    "span": {"window": (3, 9)},
}


def table():
    lines = [line.strip("| \n").split("|") for line in GUIDE.read_text().splitlines() if line.startswith("| ")]
    head = next(n for n, cells in enumerate(lines) if cells[0].startswith("`ex.data"))
    fields = [cell.strip() for cell in lines[head][2:]]
    rows = {}
    for cells in lines[head + 1 :]:
        if len(cells) != len(fields) + 2:
            break
        rows[cells[0].strip(" `")] = dict(zip(fields, (cell.strip() for cell in cells[2:]), strict=True))
    return rows


TABLE = table()
PICTURES = given(np.random.default_rng(0).random((30, 4, 4)), list("abcab" * 6))
MODELS = Models(RUNS, examples=PICTURES)


def chosen(**changes):
    model = MODELS.get("r-0", "")
    fields = {"source": ("r-0", ""), "other": "r-1", "configurations": tuple(MODELS.configurations), "parameter": 3}
    return at(model, **(fields | changes))


def numbers(selection, view):
    if view == "images" and selection.layer != "a":
        return np.zeros(0)  # only units of the first layer get images: see the tests of images
    found = taken.data(MODELS.get("r-0", ""), selection, view)
    if view == "images":
        return np.stack([found["response"].values, found["row"].values])
    if isinstance(found, xr.Dataset):
        return found["difference" if view == "pair" else "lca"].values
    return found.values


def test_the_table_is_complete():
    assert set(TABLE) == set(taken.VIEWS) | set(taken.OF_RUNS) | set(taken.OF_IMAGES)
    assert all(list(row) == list(CHANGES) for row in TABLE.values())
    assert {cell for row in TABLE.values() for cell in row.values()} == {"yes", "–", "shown", "opened"}


@pytest.mark.parametrize("view", TABLE)
def test_a_view_follows_what_the_table_says(view):
    before = numbers(chosen(), view)
    for field, cell in TABLE[view].items():
        changes = CHANGES[field]
        if field == "layer":  # either what is shown, or what is opened
            changes = {"layers": ("b",)} if cell == "shown" else {"layer": "b"}
        after = numbers(chosen(**changes), view)
        same = before.shape == after.shape and np.array_equal(before, after)
        assert same == (cell == "–"), (view, field)


# ---- NumPy -----------------------------------------------------------------------------------------------------


def lca(run, selection):
    classes = [list("abc").index(name) for name in selection.classes]
    return RUNS[run]["lca_class"].values.astype(float)[:, classes]


def columns(selection, layer, unit=None, role=None):
    """Return the parameters of a layer, of a unit of it, of a role: a.weight (5, 16), a.bias (5), b.weight (3, 5)."""
    layers, roles = np.repeat(["a", "b"], [85, 15]), np.repeat(["kernel", "bias", "kernel"], [80, 5, 15])
    units = np.concatenate([np.repeat(np.arange(5), 16), np.arange(5), np.repeat(np.arange(3), 5)])
    role = selection.role if role is None else role
    inside = (layers == layer) & ((roles == role) | (role == "all"))
    return np.flatnonzero(inside & ((units == unit) | (unit is None)))


def answered(s):
    """Return what a unit computes of each image, and the row of those that are shown."""
    theta = RUNS["r-0"]["theta"].values[s.iteration].astype(float)
    images = PICTURES.images.reshape(30, 16)
    found = images @ theta[:80].reshape(5, 16)[s.unit] + theta[80 + s.unit]
    helped = lca("r-0", s)[:, :, columns(s, "a", s.unit, "all")].sum((0, 2)).argmin()
    row = np.zeros(30)
    row[np.flatnonzero(PICTURES.classes == s.classes[helped])[:8]] = 2
    row[np.argsort(-found)[:8]] = 1
    return np.stack([found, row])


def expected(view, s):
    rows = slice(s.window[0], s.window[1] + 1)
    a, held = lca("r-0", s), RUNS["r-0"]
    if view == "loss":
        return held["loss_class"].values[:, [list("abc").index(name) for name in s.classes]].sum(1)
    if view in ("layers", "layer_map"):
        return np.stack([a[rows][:, :, columns(s, name)].sum((1, 2)) for name in s.layers], 1)
    if view == "units":
        n = 5 if s.layer == "a" else 3
        return np.stack([a[rows][:, :, columns(s, s.layer, unit)].sum((1, 2)) for unit in range(n)], 1)
    if view in ("parameters", "pair"):
        kernel = columns(s, s.layer, role="kernel" if s.role == "all" else s.role)
        ours = a[s.iteration].sum(0)[kernel]
        return ours - lca("r-1", s)[s.iteration].sum(0)[kernel] if view == "pair" else ours
    if view == "images":
        return answered(s) if s.layer == "a" else np.zeros(0)
    if view == "saliency":
        return -a[rows].sum((0, 1))[columns(s, s.layer, s.unit, "kernel")]
    if view == "unit":
        return a[:, :, columns(s, s.layer, s.unit)].sum(2).cumsum(0)[rows]
    if view == "parameter":
        return a[rows].sum(1)[:, s.parameter]
    return np.stack([lca(run, s)[rows][:, :, columns(s, s.layer)].sum((1, 2)).cumsum() for run in RUNS])


@pytest.mark.parametrize("view", TABLE)
def test_numbers_equal_numpy(view):
    for changes in [{}, *CHANGES.values(), CHANGES["class"] | CHANGES["span"] | CHANGES["unit"] | CHANGES["iteration"]]:
        s = chosen(**changes)
        found = np.squeeze(numbers(s, view))
        np.testing.assert_allclose(
            found.reshape(-1), expected(view, s).reshape(-1), rtol=2e-5, atol=1e-6
        )  # some sums are stored in float32


def test_every_view_of_the_page_has_a_name_in_the_table():
    source = "".join(path.read_text() for path in Path(taken.__file__).parent.glob("*.py"))
    assert set(re.findall(r'title, key = "[^"]+", "(\w+)"', source)) == set(TABLE)
