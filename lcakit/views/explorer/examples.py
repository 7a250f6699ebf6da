"""Images that a network was trained on, where they are known: what a unit of its first layer answers to. No torch here.

Known are the digits that come with scikit-learn, and MNIST and CIFAR-10 where ``$LCAKIT_DATA`` holds their files; what
a recording of ``lcakit record`` was trained on is in its configuration. Any others can be given.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import DataError
from lcakit.trajectory.provenance import config_of

__all__ = ["MOST_IMAGES", "Examples", "given", "known", "responses"]


def __dir__() -> list[str]:
    return __all__


MOST_IMAGES = 2_000
"""Most images that are looked at: the first ones."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Images (n, channel, y, x) between 0 and 1, and the names of their classes."""

    images: np.ndarray
    classes: np.ndarray


def given(images: Any, classes: Any = None) -> Examples:
    """Return examples that a user passes: images (n, y, x) or (n, channel, y, x), and the name of the class of each.

    Raises
    ------
    DataError
        For arrays of other shapes, or with numbers that are not finite.
    """
    values = np.asarray(images, np.float32)
    values = values[:, None] if values.ndim == 3 else values
    if values.ndim != 4 or not values.size or not np.isfinite(values).all():
        raise DataError(
            f"examples have the shape {np.shape(images)}. Needed: finite numbers (n, y, x) or (n, channel, y, x), at "
            "least one image, scaled as the network got them."
        )
    names = np.full(len(values), "") if classes is None else np.asarray(classes).astype(str)
    if names.shape != (len(values),):
        raise DataError(f"{len(values)} examples have classes of the shape {names.shape}. Needed: one name an image.")
    return Examples(values[:MOST_IMAGES], names[:MOST_IMAGES])


def known(ds: xr.Dataset) -> Examples | None:
    """Return the images of the data set that a trajectory says it was trained on; None where they are not here."""
    name = str(config_of(ds).get("network", "")).partition("-")[0]
    read = {"digits": _digits, "mnist": _mnist, "cifar": _cifar10, "cifar10": _cifar10}.get(name)
    try:
        return None if read is None else read(Path(os.environ.get("LCAKIT_DATA", "")))
    except (OSError, ValueError, KeyError, EOFError, ImportError):
        return None


def _digits(root: Path) -> Examples:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    return given(bundle.images / 16, bundle.target)


def _mnist(root: Path) -> Examples:
    raw = root / "MNIST" / "raw"
    images = _idx(raw / "train-images-idx3-ubyte", 16, MOST_IMAGES * 784).reshape(-1, 28, 28)
    return given(images / 255, _idx(raw / "train-labels-idx1-ubyte", 8, MOST_IMAGES)[: len(images)])


def _idx(path: Path, header: int, most: int) -> np.ndarray:
    """Return the first numbers of a file of MNIST, packed or not."""
    with path.open("rb") if path.exists() else gzip.open(f"{path}.gz") as file:
        file.read(header)
        return np.frombuffer(file.read(most), np.uint8)


def _cifar10(root: Path) -> Examples:
    with np.load(root / "cifar10.npz", allow_pickle=False) as file:
        images, labels = file["x_train"][:MOST_IMAGES], file["y_train"][:MOST_IMAGES]
        names = file["classes"].astype(str)[labels] if "classes" in file.files else labels
    return given(np.moveaxis(images, -1, 1) / 255 if images.dtype == np.uint8 else images, names)


def responses(images: np.ndarray, weights: np.ndarray, bias: float) -> np.ndarray:
    r"""Return what a unit computes of each image before its activation: for a kernel, its largest value at any place.

    .. math:: a_n = b + \sum_i w_i x_{n, i}, \qquad
              a_n = b + \max_{p} \sum_{c, q} w_{c, q} \, x_{n, c, p + q}

    Parameters
    ----------
    images
        (n, channel, y, x).
    weights
        (inputs,), or (channel, y, x) of a kernel, which moves in single steps and not beyond the border.
    """
    if weights.ndim == 1:
        return np.asarray(images.reshape(len(images), -1) @ weights + bias)
    windows = np.lib.stride_tricks.sliding_window_view(images, weights.shape[1:], axis=(2, 3))
    found = np.einsum("ncyxij,cij->nyx", windows, weights, optimize=True)
    return np.asarray(found.reshape(len(images), -1).max(1) + bias)
