"""Images beside units: what a unit of the first layer answers to, where the images are known or given."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
import xarray as xr

pytest.importorskip("panel")

import lcakit as lk
from lcakit.errors import DataError
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from lcakit.trajectory.provenance import with_config
from lcakit.views.explorer import examples
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.seen import first_weights
from tests.support.explorers import IMAGES, QUIET, at, text

pytestmark = QUIET
KERNELS = (
    TensorSpec("conv.weight", (3, 2, 2, 2), "kernel", "conv", "conv"),
    TensorSpec("conv.bias", (3,), "bias", "conv", "conv"),
    TensorSpec("fc.weight", (4, 3), "kernel", "fc", "linear"),
)


def test_a_linear_unit_computes_its_weights_times_the_image(rng):
    ds = tiny_trajectory(6, layers=IMAGES)
    images = rng.random((9, 4, 4))
    weights, bias = first_weights(Model(ds), at(Model(ds), unit=2, iteration=3), (1, 4, 4))
    theta = ds["theta"].values[3].astype(float)
    expected = images.reshape(9, 16) @ theta[:80].reshape(5, 16)[2] + theta[82]
    np.testing.assert_allclose(examples.responses(images[:, None], weights, bias), expected)


def test_a_kernel_answers_where_it_answers_most(rng):
    ds = tiny_trajectory(4, layers=KERNELS)
    model = Model(ds)
    images = rng.random((5, 2, 4, 3))
    weights, bias = first_weights(model, at(model, unit=1, iteration=2), (2, 4, 3))
    theta = ds["theta"].values[2].astype(float)
    kernel = theta[:24].reshape(3, 2, 2, 2)[1]
    slow = [
        max((one[:, y : y + 2, x : x + 2] * kernel).sum() for y in range(3) for x in range(2)) + theta[25]
        for one in images
    ]
    np.testing.assert_allclose(examples.responses(images, weights, bias), slow)


def test_units_of_later_layers_get_no_images(rng):
    ds = tiny_trajectory(5, layers=IMAGES)
    ex = lk.explore(ds, examples=(rng.random((6, 4, 4)), list("abcabc")))
    view = ex._explorer.images
    assert "of the 6 images looked at" in text(view.caption)
    helped = ds["lca_unit_class"].values[:, 0].sum(0).argmin()
    assert f"class {'abc'[helped]}, which it helps most" in text(view.caption)
    ex.selection.layer = "b"
    assert "Units of b do not get the images themselves" in text(view.caption)


@pytest.mark.slow
def test_the_best_answers_stand_first(rng):
    ds = tiny_trajectory(5, layers=IMAGES)
    images = rng.random((20, 4, 4))
    ex = lk.explore(ds, examples=(images, None))
    (canvas,) = ex._explorer.images.source.data["image"]
    theta = ds["theta"].values[0].astype(float)
    best = images[np.argmax(images.reshape(20, 16) @ theta[:16])]
    grey = np.ascontiguousarray(canvas[::-1][:4, :4]).view(np.uint8).reshape(4, 4, 4)
    np.testing.assert_allclose(grey[..., 0], 255 * (best - best.min()) / np.ptp(best), atol=1)
    assert (grey[..., 3] == 255).all()


@pytest.mark.parametrize("wrong", [((3,), None), ((2, 3, 3), ["a"]), ((0, 3, 3), None)])
def test_what_are_no_images_is_refused(wrong):
    shape, names = wrong
    with pytest.raises(DataError, match="Needed"):
        lk.explore(tiny_trajectory(3), examples=(np.zeros(shape), names))


def test_known_data_sets_are_found(tmp_path, monkeypatch, rng):
    monkeypatch.setenv("LCAKIT_DATA", str(tmp_path))
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels, labels = rng.integers(0, 256, (3, 28, 28), np.uint8), np.array([5, 0, 4], np.uint8)
    (raw / "train-images-idx3-ubyte").write_bytes(bytes(16) + pixels.tobytes())
    with gzip.open(raw / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(bytes(8) + labels.tobytes())
    colours = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "cifar10.npz", x_train=colours, y_train=np.array([1, 0]), classes=np.array(["cat", "dog"]))
    ds = tiny_trajectory(3)
    mnist = examples.known(with_config(ds, {"network": "mnist-fc"}))
    np.testing.assert_allclose(mnist.images[:, 0], pixels / 255, rtol=1e-6)
    assert mnist.classes.tolist() == ["5", "0", "4"]
    cifar = examples.known(with_config(ds, {"network": "cifar-resnet20"}))
    np.testing.assert_allclose(cifar.images[1, 2], colours[1, :, :, 2] / 255, rtol=1e-6)
    assert cifar.classes.tolist() == ["dog", "cat"]
    assert examples.known(ds) is None
    monkeypatch.delenv("LCAKIT_DATA")
    assert examples.known(with_config(ds, {"network": "mnist-fc"})) is None


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html", ".csv", ".nc"])
def test_images_are_saved(rng, tmp_path, suffix):
    images = rng.random((20, 4, 4))
    ex = lk.explore(tiny_trajectory(5, layers=IMAGES), examples=(images, list("abcab" * 4)))
    ex.selection.param.update(unit=3, iteration=2)
    path = ex.save(tmp_path / f"images{suffix}", "images")
    assert path.stat().st_size > 300
    if suffix == ".csv":
        table = pd.read_csv(path)
        weights, bias = first_weights(ex._explorer.model, ex._explorer.controls.selection(), (1, 4, 4))
        np.testing.assert_allclose(table["response"], images.reshape(20, 16) @ weights + bias, rtol=1e-5)
        assert set(table["image"][table["row"] == 1]) == set(table["response"].nlargest(8).index)
        assert "".join(table["class"]) == "abcab" * 4


def test_images_in_python_and_as_code(rng, tmp_path):
    ds = tiny_trajectory(5, layers=IMAGES)
    ex = lk.explore(ds, examples=(rng.random((9, 4, 4)), None))
    ex.selection.unit = 2
    numbers = ex.data("images")
    given = {"ds": ds}
    exec(ex.code("images").replace("lk.explore(ds)", "EX"), given | {"EX": ex}, given)
    xr.testing.assert_identical(given["numbers"], numbers)
    with pytest.raises(ValueError, match="are not known: pass them"):
        lk.explore(ds).data("images")
