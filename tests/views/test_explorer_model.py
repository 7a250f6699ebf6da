"""What the explorer reads and sums up: its numbers are those of the file."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("panel")

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from lcakit.views.explorer import figures, tensors
from lcakit.views.explorer.app import Explorer, Models
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.reading import Reader
from lcakit.views.explorer.selection import ALL, QUANTITIES
from tests.support.explorers import IMAGES, QUIET, at, text

pytestmark = QUIET


@pytest.mark.parametrize("limit", [1, 2**20])
def test_reads_are_those_of_the_file_whatever_is_kept(limit):
    ds = tiny_trajectory(200, chunks={"iteration": 50, "parameter": 7})
    lca, reader = ds["lca"].values.astype(np.float64), Reader(ds, limit)
    columns = slice(3, 20)
    for _ in range(2):
        for first, last in ((0, 199), (0, 63), (63, 64), (70, 70), (5, 130)):
            np.testing.assert_allclose(reader.total("lca", columns, first, last), lca[first : last + 1, columns].sum(0))
        np.testing.assert_array_equal(reader.row("theta", columns, 200), ds["theta"].values[200, columns])
        np.testing.assert_array_equal(reader.series("gradient", 8), ds["gradient"].values[:, 8])
    assert reader._held <= max(limit, max(block.nbytes for block in reader._kept.values()))


def test_a_step_of_the_player_reads_its_tensor_only_and_the_next_step_nothing():
    ds = tiny_trajectory(100)
    read = []

    class Watched:
        def __getitem__(self, name):
            outer = name

            class Array:
                def __getitem__(self, key):
                    read.append((outer, key))
                    return ds[outer][key]

            return Array()

    reader = Reader(Watched())
    reader.row("lca", slice(0, 24), 10)
    reader.row("lca", slice(0, 24), 11)
    assert read == [("lca", (slice(0, 64), slice(0, 24)))]


def test_sums_follow_layers_classes_and_roles():
    ds = tiny_trajectory(30)
    model, lca = Model(ds), ds["lca"].values.astype(np.float64)
    by_class = ds["lca_unit_class"].values.astype(np.float64)
    layer = ds["layer"].values[ds["kernel_layer"].values[ds["unit_layer"].values]]
    assert model.layers == ("conv1", "fc")  # the norm layer serves the kernel of conv1
    found = model.summary(at(model, layers=("conv1",), classes=("a", "c"), window=(3, 9)))
    assert found.lca == pytest.approx(by_class[3:10][:, layer == "conv1"][..., [0, 2]].sum())
    assert found.loss_change == pytest.approx(np.diff(ds["loss_class"].values[[3, 10]][:, [0, 2]].sum(1))[0])
    assert found.loss_change_all == pytest.approx(ds["loss"].values[10] - ds["loss"].values[3])
    bias = np.isin(ds["tensor_index"].values, np.flatnonzero(ds["tensor_role"].values == "bias"))
    assert model.summary(at(model, role="bias")).lca == pytest.approx(lca[:, bias].sum())


def test_the_share_that_helps_is_that_of_the_study():
    ds = tiny_trajectory(30, chunks=7)
    model = Model(ds)
    part = ds.lk.sel(kernel_layer="fc", iteration=slice(4, 20))
    found = model.summary(at(model, layers=("fc",), window=(4, 20)))
    assert found.helping == pytest.approx(float(lk.noise.fraction_helping(part)))


def test_signs_of_a_large_file_are_counted_for_short_spans_only(monkeypatch):
    ds = tiny_trajectory(30)
    expected = Model(ds).summary(at(Model(ds), window=(0, 9))).helping
    monkeypatch.setattr("lcakit.views.explorer.model.SMALL_BYTES", 0)
    monkeypatch.setattr("lcakit.views.explorer.model.WINDOW_BYTES", 4 * 10 * ds.sizes["parameter"])
    model = Model(ds)
    assert model.summary(at(model, window=(0, 9))).helping == pytest.approx(expected)
    found = model.summary(at(model))
    assert found.helping is None
    assert "up to 10 iterations" in found.no_helping


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_maps_show_what_they_say(quantity, whole):
    ds = tiny_trajectory(90, layers=IMAGES)
    model = Model(ds)
    tensor = tensors.tensor_of(model, "b", ALL)
    assert tensor == tensors.Tensor(2, "b.weight", slice(85, 100))
    lca, gradient, theta = (ds[n].values.astype(np.float64)[:, 85:100] for n in ("lca", "gradient", "theta"))
    t, a, b = 70, 20, 80
    expected = {
        "lca": (lca[t], lca[a : b + 1].sum(0)),
        "cumulative": (lca[: t + 1].sum(0), lca[: b + 1].sum(0)),
        "gradient": (gradient[t], gradient[a : b + 2].mean(0)),
        "movement": (theta[t + 1] - theta[t], theta[b + 1] - theta[a]),
        "weight": (theta[t], theta[b + 1]),
    }[quantity][whole]
    found = tensors.values(model, tensor, at(model, quantity=quantity, iteration=t, window=(a, b), whole=whole))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_names_of_parameters_are_found_again():
    ds = tiny_trajectory(3)
    for place in (0, 23, 24, 40):
        assert tensors.find(ds, tensors.name_of(ds, place)) == place
    part = ds.lk.sel(layer="fc")
    assert tensors.name_of(part, 7) == "fc.weight[1, 1]"
    assert tensors.find(part, "fc.weight[1, 1]") == 7
    with pytest.raises(ValueError, match="not in this selection"):
        tensors.find(part, "conv1.weight[0, 0, 0, 0]")


def test_stacks_add_up_on_both_sides_of_zero():
    columns = np.array([[1.0, -2.0, 3.0], [-1.0, -1.0, 0.0]])
    lower, upper = figures.stacked(columns)
    np.testing.assert_allclose(upper - lower, np.abs(columns))
    assert upper[0].max() == 4
    assert lower[0].min() == -2
    assert lower[1].min() == -2


def test_many_lines_become_the_strongest_and_the_rest():
    columns = np.random.default_rng(0).normal(size=(20, 30)) * np.arange(1, 31)
    names, shown, colours = figures.strongest_lines([f"layer{n}" for n in range(30)], columns, figures.LINES * 3)
    assert len(names) == len(colours) == shown.shape[1] == len(figures.LINES)
    assert len(set(colours)) == len(colours)
    assert names[-1] == "19 others, summed"
    np.testing.assert_allclose(shown.sum(1), columns.sum(1))


def test_few_models_are_kept_at_once():
    ds = tiny_trajectory(5)
    names = ["", "a", "b", "c", "d"]
    models = Models(ds.assign({f"lca_{name}": ds["lca"] for name in names[1:]}))
    assert models.objectives == names
    made = [models.get("", name) for name in names]
    assert models.get("", "d") is made[4]
    assert models.get("", "c") is made[3]
    assert models.get("", "") is not made[0]
    assert len(models._made) == 3


@pytest.mark.slow
def test_one_class_is_explored_like_several():
    ds = tiny_trajectory(12)
    one, listed = (Explorer(Models(ds.lk.sel(cls=cls))) for cls in ("b", ["b"]))
    assert Model(ds.lk.sel(cls="b")).classes == ("b",)
    assert text(one.summary) == text(listed.summary)


@pytest.mark.parametrize("with_classes", [False, True])
def test_inputs_of_columns_and_of_gates(with_classes):
    axes = {"axes": "(tap=4 unit) input"}
    layers = [
        TensorSpec("c.weight", (5, 3), "kernel", "c", "conv1d", axes="input unit"),
        TensorSpec("r.weight_ih", (8, 3), "kernel", "r", "lstm", **axes),
        TensorSpec("r.weight_hh", (8, 2), "kernel", "r", "lstm", **axes),
        TensorSpec("r.weight_ih_l1", (8, 2), "kernel", "r", "lstm", first_unit=2, **axes),
    ]
    ds = tiny_trajectory(6, layers=layers, class_parameters=with_classes)
    model, lca = Model(ds), -ds["lca"].values.astype(np.float64).sum(0)
    assert model.inputs_of("c", 1) == (None, (1, 5))
    np.testing.assert_allclose(model.saliency("c", 1, (0, 5)), lca[None, 1:15:3], rtol=1e-5, atol=1e-6)
    assert model.inputs_of("r", 1)[0] == "r.weight_ih"
    expected = lca[15:39].reshape(4, 2, 3)[:, 1]
    np.testing.assert_allclose(model.saliency("r", 1, (0, 5)).squeeze(), expected.reshape(4, -1), rtol=1e-5, atol=1e-6)
    assert model.inputs_of("r", 3) == ("r.weight_ih_l1", (1, 2))
    assert model.saliency("r", 3, (0, 5)).shape == (4, 1, 2)


def test_sums_of_few_parameters_are_read_many_rows_at_a_time_and_those_kept_are_those_of_the_file(monkeypatch):
    monkeypatch.setattr("lcakit.views.explorer.reading._SUM_BYTES", 4 * 5 * 130)  # two chunks of rows of five
    ds = tiny_trajectory(200, chunks={"iteration": 50, "parameter": 7}, class_parameters=True)
    lca, reader = ds["lca_class"].values.astype(np.float64), Reader(ds)
    for first, last in ((0, 199), (3, 140), (127, 128), (0, 127)):
        found = reader.total("lca_class", slice(4, 9), first, last, 1)
        np.testing.assert_allclose(found, lca[first : last + 1, 1, 4:9].sum(0))
    assert [key[3:5] for key in reader._kept if "total" not in key] == [(0, 128), (128, 256)]


def test_shares_of_classes_are_counted_once_whatever_the_span(monkeypatch):
    from lcakit.views.explorer import signs

    ds = tiny_trajectory(150, chunks=40, class_parameters=True)
    model, counted, count = Model(ds), [], signs._counts
    monkeypatch.setattr(signs, "_counts", lambda *given: counted.append(given[-1]) or count(*given))
    for window in ((0, 149), (70, 90), (10, 130)):
        part = ds.lk.sel(cls=["a", "c"], iteration=slice(*window))
        found = model.summary(at(model, classes=("a", "c"), window=window)).helping
        assert found == pytest.approx(float(lk.noise.fraction_helping(part)))
    assert len(counted) == 3
