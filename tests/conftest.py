from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def mnist_root() -> Path:
    """The folder of the real MNIST images; tests that need it are skipped, visibly, where it is not."""
    root = os.environ.get("LCAKIT_DATA")
    if not root or not (Path(root) / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip("real MNIST is not in $LCAKIT_DATA")
    return Path(root)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
