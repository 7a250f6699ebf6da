"""Data sets: shapes, scales and splits of each source, and errors that say what is needed."""

import gzip
import struct

import numpy as np
import pytest
import torch

from lcakit.errors import DataError
from lcakit.experiments import data as room
from lcakit.experiments.data import load


def save(path, **changes):
    """Write a small valid .npz of RGB images, with arrays replaced (or left out, where None)."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8),
        "x_test": rng.integers(0, 256, (2, 4, 5, 3), dtype=np.uint8),
        "y_test": np.array([2, 0], dtype=np.uint8),
        "classes": np.array(["cat", "dog", "ship"]),
    }
    arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
    np.savez(path, **arrays)
    return arrays


def write_mnist(folder, gzipped=False):
    """Write tiny files in torchvision's layout: 7 training and 3 test images."""
    folder.mkdir(parents=True)
    for stem, n in (("train", 7), ("t10k", 3)):
        x = np.arange(n * 28 * 28, dtype=np.uint32).astype(np.uint8).tobytes()
        y = (np.arange(n) % 10).astype(np.uint8).tobytes()
        for name, content in (
            (f"{stem}-images-idx3-ubyte", struct.pack(">4i", 2051, n, 28, 28) + x),
            (f"{stem}-labels-idx1-ubyte", struct.pack(">2i", 2049, n) + y),
        ):
            (folder / name).write_bytes(gzip.compress(content) if gzipped else content)


# ---- digits, and what holds for every data set


def test_digits_are_bundled_scaled_and_split_the_same_way_each_time(monkeypatch):
    monkeypatch.delenv("LCAKIT_DATA", raising=False)
    data, again = load("digits"), load("digits")
    assert data.x_train.shape == (1500, 1, 8, 8)
    assert data.x_test.shape == (297, 1, 8, 8)
    assert data.x_train.dtype == torch.float32
    assert data.y_train.dtype == torch.int64
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert data.class_names == tuple("0123456789")
    assert (data.data_shape, data.n_classes, data.x_val) == ((1, 8, 8), 10, None)
    assert torch.equal(data.x_train, again.x_train)
    assert data.y_train.bincount().min() > 130  # shuffled: every class is in both parts
    assert data.y_test.bincount(minlength=10).min() > 15


def test_digits_keep_image_and_label_together():
    from sklearn.datasets import load_digits

    bundle = load_digits()
    known = {(image.tobytes(), label) for image, label in zip(bundle.images, bundle.target, strict=True)}
    data = load("digits")
    x = torch.cat([data.x_train, data.x_test]).squeeze(1).double().numpy() * 16
    y = torch.cat([data.y_train, data.y_test]).tolist()
    assert {(image.tobytes(), label) for image, label in zip(x, y, strict=True)} == known


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"unknown data set 'mnits'. Did you mean 'mnist'"):
        load("mnits")


# ---- torchvision's data sets


def test_mnist_without_a_folder_says_how_to_give_one(monkeypatch):
    monkeypatch.delenv("LCAKIT_DATA", raising=False)
    with pytest.raises(DataError, match=r"--data-root.*LCAKIT_DATA.*'digits' needs no folder"):
        load("mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion", "cifar10"])
def test_missing_files_name_both_remedies(name, tmp_path):
    with pytest.raises(DataError, match=rf"'{name}' is not in .*--data-root.*torchvision's layout.*downloads"):
        load(name, tmp_path, download=False)


def test_a_failed_download_is_explained(tmp_path, monkeypatch):
    from torchvision import datasets

    def no_network(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(datasets.CIFAR10, "download", no_network)
    with pytest.raises(DataError, match=r"was not downloaded .Name or service not known"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion", "FashionMNIST")])
def test_files_in_torchvisions_layout_need_no_download(name, folder, tmp_path, monkeypatch):
    write_mnist(tmp_path / folder / "raw")
    monkeypatch.setattr(room, "MNIST_TRAIN", 5)
    monkeypatch.setenv("LCAKIT_DATA", str(tmp_path))
    data = load(name)
    assert data.x_train.shape == (5, 1, 28, 28)
    assert data.x_val is not None
    assert data.x_val.shape == (2, 1, 28, 28)
    assert data.y_train.tolist() + data.y_val.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert data.y_test.tolist() == [0, 1, 2]
    assert data.x_train.flatten()[:256].tolist() == pytest.approx([k / 255 for k in range(256)])
    assert data.class_names[0] == {"mnist": "0", "fashion": "T-shirt/top"}[name]


def test_a_cifar10_npz_in_the_folder_is_used_first(tmp_path):
    save(tmp_path / "cifar10.npz")
    data = load("cifar10", tmp_path)
    assert (data.name, data.class_names) == ("cifar10", ("cat", "dog", "ship"))


@pytest.mark.slow
@pytest.mark.mnist
def test_real_mnist(mnist_root):
    data = load("mnist", mnist_root, download=False)
    assert (len(data.x_train), len(data.x_val), len(data.x_test)) == (55_000, 5_000, 10_000)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert float(data.x_train.max()) == 1
    assert float(torch.cat([data.x_train, data.x_val]).double().mean()) == pytest.approx(0.13066, abs=1e-5)


# ---- .npz


def test_uint8_colour_images_are_scaled_and_moved_to_channels_first(tmp_path):
    arrays = save(tmp_path / "pets.npz")
    data = load(tmp_path / "pets.npz")
    assert data.name == "pets"
    assert data.data_shape == (3, 4, 5)
    assert data.x_train.is_contiguous()
    np.testing.assert_allclose(data.x_train, arrays["x_train"].transpose(0, 3, 1, 2) / np.float32(255))
    assert data.y_test.tolist() == [2, 0]
    assert data.class_names == ("cat", "dog", "ship")


def test_grey_images_get_one_channel_and_classes_are_counted(tmp_path):
    x = np.full((6, 4, 5), 51, dtype=np.uint8)
    save(tmp_path / "grey.npz", x_train=x, x_test=x[:2], classes=None)
    data = load(str(tmp_path / "grey.npz"))
    assert data.data_shape == (1, 4, 5)
    assert float(data.x_train.mean()) == pytest.approx(0.2)
    assert data.class_names == ("0", "1", "2")


def test_float_images_are_taken_as_they_are(tmp_path):
    x = np.random.default_rng(1).normal(size=(6, 2, 4, 5))
    save(tmp_path / "z.npz", x_train=x, x_test=x[:2], classes=np.array([10, 20, 30]))
    data = load(tmp_path / "z.npz")
    assert data.x_train.dtype == torch.float32
    np.testing.assert_array_equal(data.x_train, x.astype(np.float32))
    assert data.class_names == ("10", "20", "30")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, r"not \['y_test'\]. Needed: x_train, y_train, x_test, y_test"),
        ({"y_train": np.zeros(5, dtype=int)}, "6 images in x_train but 5 labels in y_train"),
        ({"y_train": np.array([0, 1, 2, 3, 4, -1])}, r"labels \[-1, 3, 4\], outside the 3 classes 0 … 2"),
        ({"y_train": np.zeros(6)}, "y_train has shape .6,. and type float64. Needed: integers"),
        ({"y_train": np.array([0, 1, 2, 3, 4, -1]), "classes": None}, r"labels \[-1\], outside"),
        ({"x_train": np.zeros((6, 60), dtype=np.uint8)}, r"x_train has shape \(6, 60\).*Needed"),
        ({"x_train": np.zeros((6, 4, 5, 3), dtype=np.int64)}, "type int64. Needed: .*uint8"),
        ({"x_train": np.zeros((0, 4, 5), dtype=np.uint8)}, "at least one image"),
        ({"x_train": np.full((6, 3, 4, 5), np.nan)}, "not finite"),
        ({"x_test": np.zeros((2, 4, 4, 3), dtype=np.uint8)}, r"\(3, 4, 5\) and test images \(3, 4, 4\)"),
        ({"classes": np.array(3.5)}, "one name per class"),
        ({"classes": np.array(["a", None, 3], dtype=object)}, "without objects"),
    ],
)
def test_an_unusable_npz_says_what_is_there_and_what_is_needed(changes, message, tmp_path):
    save(tmp_path / "bad.npz", **changes)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "bad.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz_is_a_data_error(content, tmp_path):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as an \.npz"):
        load(tmp_path / "bad.npz")


def test_a_single_array_or_a_damaged_member_is_a_data_error(tmp_path):
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.zeros(3))
    save(tmp_path / "flipped.npz")
    content = bytearray((tmp_path / "flipped.npz").read_bytes())
    content[300] ^= 0xFF  # inside the pixels of x_train
    (tmp_path / "flipped.npz").write_bytes(content)
    for name in ("array.npz", "flipped.npz"):
        with pytest.raises(DataError, match=r"cannot be read as an \.npz"):
            load(tmp_path / name)


def test_a_missing_npz_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*nowhere\.npz"):
        load(tmp_path / "nowhere.npz")
