"""Recordings with running statistics in place of series."""

from __future__ import annotations

import numpy as np
import torch

import lcakit as lk
from lcakit.trajectory.labels import Labels, TensorSpec
from tests.support.networks import dropout_net, examples, train

STEPS = 30

LABELS = Labels(
    (
        TensorSpec("conv.weight", (5, 3, 2, 2), "kernel", "conv", "conv2d"),
        TensorSpec("conv.bias", (5,), "bias", "conv", "conv2d"),
        TensorSpec("up.weight", (4, 3, 2, 2), "kernel", "up", "convtranspose2d", transposed=True, groups=2),
        TensorSpec("scale", (), "other", "scale"),
    )
)


def record(path, keep=(), make=dropout_net, steps=STEPS, stop=None, **options):
    """Record a short run; ``stop`` raises in the loop after so many steps. Biases of zero images never move."""
    torch.manual_seed(5)
    model, (x, y) = make(), examples(inputs=6 if make is dropout_net else (1, 6, 6))
    x[..., 0] = 0.0  # some parameters have no gradient: their LCA is 0, and they never turn
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)

    def each(step):
        if step + 1 == stop:
            raise KeyboardInterrupt

    objective = lk.Objective(model, (x, y), batch_size=25, workers=1)
    with lk.Recorder(path, objective, optimizer, keep=keep, quiet=True, block_rows=7, tolerance=1e-4, **options) as rec:
        train(model, optimizer, x, y, steps, start=rec.steps, each=each)
    return lk.open_trajectory(path)


def assert_equal(a, b):
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))


def turns(signs):
    """Count sign changes between nonzero neighbours, one parameter after the other."""
    columns = [column[column != 0] for column in signs.T]
    return np.array([np.count_nonzero(column[1:] != column[:-1]) for column in columns])
