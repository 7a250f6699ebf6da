"""Series of checkpoints of a network that is trained, as files of every kind."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.networks import examples, flat, train

st = pytest.importorskip("safetensors.torch")
STEPS = (0, 5, 20, 100)


def save(state, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".safetensors":
        st.save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def series(model, folder, *, suffix=".safetensors", wrap=lambda state: state, steps=STEPS, lr=0.3):
    """Train and save now and then; return (T+1, K) snapshots, whose files do not sort by name."""
    x, y = examples()
    theta = []

    def each(step):
        if step + 1 in steps or step < 0:
            theta.append(flat(model).numpy().copy())
            save(wrap(copy.deepcopy(model.state_dict())), folder / f"net2-step{step + 1}{suffix}")

    each(-1)
    train(model, torch.optim.SGD(model.parameters(), lr=lr), x, y, max(steps), each=each)
    return np.array(theta)


SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def prefixed(*prefixes):
    return lambda state: {".".join((*prefixes, name)): value for name, value in state.items()}
