"""Short trainings that are recorded, whole or interrupted."""

from __future__ import annotations

import numpy as np
import torch

import lcakit as lk
from tests.support.networks import dense, dropout_net, examples, train

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
}


def record(path, make=dense, optimizer="adam", steps=20, data=None, **options):
    torch.manual_seed(5)
    model, (x, y) = make(), data or examples()
    opt = OPTIMIZERS[optimizer](model.parameters())
    with lk.Recorder(path, lk.Objective(model, (x, y), batch_size=25), opt, quiet=True, **options) as rec:
        train(model, opt, x, y, steps, start=rec.steps)
    return model


def assert_same_data(a, b):
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))
    for name in ("snapshot", "iteration"):
        np.testing.assert_array_equal(a[name], b[name])


class Interrupted(Exception):
    pass


def interrupt(path, steps=20, at=13, optimizer="adam", **options):
    torch.manual_seed(5)
    model, (x, y) = dropout_net(), examples()
    opt = OPTIMIZERS[optimizer](model.parameters())

    def stop(step):
        if step == at:
            raise Interrupted

    with lk.Recorder(path, lk.Objective(model, (x, y), batch_size=25), opt, quiet=True, **options) as rec:
        train(model, opt, x, y, steps, start=rec.steps, each=stop)
