"""Image data sets as tensors: scikit-learn's digits, torchvision's MNIST and its like, or any ``.npz``."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lcakit.errors import DataError, unknown
from lcakit.storage.guard import CorruptError
from lcakit.storage.guard.plain import check_archive
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["MNIST_TRAIN", "NAMES", "SHAPES", "ImageData", "Split", "load"]


def __dir__() -> list[str]:
    return __all__


# The paper trains on the first 55 000 images of MNIST's file; the other 5 000 are its validation set.
MNIST_TRAIN = 55_000
_DIGITS_TRAIN = 1_500
_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
# (C, H, W) of the images, and how many classes there are.
SHAPES = {
    "digits": ((1, 8, 8), 10),
    "mnist": ((1, 28, 28), 10),
    "fashion": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
}
NAMES = tuple(SHAPES)

Split = tuple[torch.Tensor, torch.Tensor]


@checks_creation
@dataclass(frozen=True, eq=False)
class ImageData:
    """A classification data set of images, whole and in memory.

    ``x_*`` are float32 (N, C, H, W), in [0, 1] unless an ``.npz`` brought floats of its own; ``y_*`` are
    int64 (N,), the index into ``class_names``. ``x_val`` and ``y_val`` are None where the data set has no
    validation part.
    """

    name: str
    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    class_names: tuple[str, ...]
    x_val: torch.Tensor | None = None
    y_val: torch.Tensor | None = None

    @property
    def data_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.x_train.shape[1:]
        return channels, height, width

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


@checks_arguments
def load(name: str | Path, root: str | Path | None = None, download: bool = True) -> ImageData:
    """Load a data set by name, or from an ``.npz`` file.

    Parameters
    ----------
    name
        ``"digits"`` (scikit-learn's bundled 8x8 images, a fixed split into 1 500 and 297), ``"mnist"`` and
        ``"fashion"`` (the first 55 000 training images, the other 5 000 as validation set), ``"cifar10"`` (50
        000); or the path of an ``.npz`` with ``x_train, y_train, x_test, y_test[, classes]``, where uint8
        images (N, H, W) or (N, H, W, C) are scaled by 1/255, and float images, (N, H, W) or (N, C, H, W), are
        taken as they are.
    root
        Folder in torchvision's layout; ``$LCAKIT_DATA`` by default. A ``cifar10.npz`` in it is used first.
    download
        Let torchvision download what the folder does not hold.

    Raises
    ------
    ValueError
        For an unknown name.
    DataError
        When the data is neither there nor to be downloaded, or is not usable; the message says what to do.

    Examples
    --------
    >>> data = load("digits")
    >>> tuple(data.x_train.shape), data.n_classes
    ((1500, 1, 8, 8), 10)
    """
    if str(name).endswith(".npz"):
        return _from_npz(Path(name), Path(name).stem)
    if name not in NAMES:
        raise unknown("data set", name, [*NAMES, "<path>.npz"])
    if name == "digits":
        return _digits()
    folder = _folder(str(name), root)
    if name == "cifar10":
        return _cifar10(folder, download)
    return _mnist(str(name), folder, download)


# ---- the sources -------------------------------------------------------------------------------------------


def _digits() -> ImageData:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    # The file is ordered by writer, so it is shuffled; RandomState's stream is frozen across NumPy versions.
    order = np.random.RandomState(0).permutation(len(bundle.target))
    x = torch.tensor(bundle.images[order] / 16, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(bundle.target[order], dtype=torch.int64)
    train, test = slice(None, _DIGITS_TRAIN), slice(_DIGITS_TRAIN, None)
    return ImageData("digits", x[train], y[train], x[test], y[test], _digit_names())


def _mnist(name: str, root: Path, download: bool) -> ImageData:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion": datasets.FashionMNIST}[name]
    (x, y), (x_test, y_test) = _read(name, lambda train: kind(root, train=train, download=download), root)
    names = _digit_names() if name == "mnist" else tuple(kind.classes)
    train, val = slice(None, MNIST_TRAIN), slice(MNIST_TRAIN, None)
    return ImageData(name, x[train], y[train], x_test, y_test, names, x[val], y[val])


def _cifar10(root: Path, download: bool) -> ImageData:
    from torchvision import datasets

    if (root / "cifar10.npz").exists():
        return _from_npz(root / "cifar10.npz", "cifar10")
    classes: list[str] = []

    def read(train: bool) -> datasets.CIFAR10:
        data = datasets.CIFAR10(root, train=train, download=download)
        classes[:] = data.classes
        return data

    train, test = _read("cifar10", read, root)
    return ImageData("cifar10", *train, *test, tuple(classes))


def _read(name: str, make: Callable[[bool], object], root: Path) -> tuple[Split, Split]:
    """Return the training and test part of a torchvision data set; ``make(train)`` opens one of them."""
    try:
        parts = [make(train) for train in (True, False)]
    except (
        OSError,
        RuntimeError,
    ) as error:  # no network, a read-only folder, files that are not there or broken
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"the data set {name!r} is not in {root} and was not downloaded ({reason}). Point --data-root "
            "(root=) or $LCAKIT_DATA to a folder that holds its files in torchvision's layout, or run where "
            "downloads work."
        ) from error
    train, test = ((_images(np.asarray(p.data)), torch.as_tensor(p.targets).long()) for p in parts)  # type: ignore[attr-defined]
    return train, test


def _folder(name: str, root: str | Path | None) -> Path:
    chosen = root or os.environ.get("LCAKIT_DATA")
    if not chosen:
        raise DataError(
            f"no folder to look for the data set {name!r} in. Give --data-root (root=) or set $LCAKIT_DATA; "
            "what is not there yet is downloaded into it. 'digits' needs no folder and no network."
        )
    return Path(chosen).expanduser()


def _digit_names() -> tuple[str, ...]:
    return tuple(str(k) for k in range(10))


def _images(x: np.ndarray) -> torch.Tensor:
    """Return images as float32 (N, C, H, W): uint8 (N, H, W[, C]) scaled by 1/255, floats as they are."""
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    tensor = tensor.unsqueeze(1) if tensor.dim() == 3 else tensor
    if tensor.dtype == torch.uint8:
        tensor = tensor.permute(0, 3, 1, 2) if x.ndim == 4 else tensor
        return tensor.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return tensor.to(torch.float32)


# ---- .npz --------------------------------------------------------------------------------------------------


def _from_npz(path: Path, name: str) -> ImageData:
    arrays = _npz_arrays(path)
    if missing := [key for key in _NPZ_KEYS if key not in arrays]:
        raise DataError(
            f"{path} has the arrays {sorted(arrays)}, not {missing}. Needed: {', '.join(_NPZ_KEYS)}, "
            "and optionally classes (names)."
        )
    for part in ("train", "test"):
        _check_images(path, part, arrays[f"x_{part}"])
        _check_labels(path, part, arrays[f"y_{part}"], len(arrays[f"x_{part}"]))
    n_classes = _count_classes(path, arrays)
    for key in ("y_train", "y_test"):
        _check_range(path, key, arrays[key], n_classes)
    x_train, x_test = _images(arrays["x_train"]), _images(arrays["x_test"])
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{path}: training images are {tuple(x_train.shape[1:])} and test images "
            f"{tuple(x_test.shape[1:])} (channels, height, width). Store both in the same shape."
        )
    y_train, y_test = (torch.from_numpy(arrays[key].astype(np.int64)) for key in ("y_train", "y_test"))
    classes = arrays.get("classes", np.arange(n_classes))
    return ImageData(name, x_train, y_train, x_test, y_test, tuple(str(c) for c in classes.astype(str)))


def _npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays that are used; nothing in the file is ever unpickled."""
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            wanted = {*_NPZ_KEYS, "classes"}
            return {key: file[key] if key in wanted else np.empty(0) for key in file.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}. Give the path of an .npz with {', '.join(_NPZ_KEYS)}.") from error
    except (
        CorruptError,
        OSError,
        ValueError,
        EOFError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} cannot be read as an .npz of plain arrays ({error}). Write it with numpy.savez, without objects."
        ) from error


def _count_classes(path: Path, arrays: dict[str, np.ndarray]) -> int:
    if "classes" not in arrays:
        return 1 + max(int(arrays[key].max()) for key in ("y_train", "y_test"))
    classes = arrays["classes"]
    if classes.ndim != 1 or classes.dtype.kind not in "USiu":
        raise DataError(
            f"{path}: classes has shape {classes.shape} and type {classes.dtype}. Needed: one name per "
            "class, a one-dimensional array of strings."
        )
    return len(classes)


def _check_images(path: Path, part: str, x: np.ndarray) -> None:
    if x.ndim not in (3, 4) or x.size == 0 or not (x.dtype == np.uint8 or x.dtype.kind == "f"):
        raise DataError(
            f"{path}: x_{part} has shape {x.shape} and type {x.dtype}. Needed: at least one image, "
            "uint8 (N, H, W) or (N, H, W, C), or float (N, H, W) or (N, C, H, W)."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise DataError(f"{path}: x_{part} holds values that are not finite. Clean the images before they are saved.")


def _check_labels(path: Path, part: str, y: np.ndarray, n_images: int) -> None:
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(f"{path}: y_{part} has shape {y.shape} and type {y.dtype}. Needed: integers, one per image.")
    if len(y) != n_images:
        raise DataError(
            f"{path}: {n_images} images in x_{part} but {len(y)} labels in y_{part}. Needed: one per image."
        )


def _check_range(path: Path, key: str, y: np.ndarray, n_classes: int) -> None:
    outside = y[(y < 0) | (y >= n_classes)]
    if outside.size:
        raise DataError(
            f"{path}: {key} has the labels {np.unique(outside)[:10].tolist()}, outside the "
            f"{n_classes} classes 0 … {n_classes - 1}. Relabel them, or name every class in classes."
        )
