"""Runs as the original LCA code leaves them, with closed forms of what they must become."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

NETWORK = {
    "conv_1/kernel:0": (2, 3, 2, 4),
    "conv_1/bias:0": (4,),
    "batch_norm/gamma:0": (4,),
    "batch_norm/beta:0": (4,),
    "batch_norm/moving_mean:0": (4,),
    "batch_norm/moving_variance:0": (4,),
    "fc_1/kernel:0": (5, 3),
    "fc_1/bias:0": (3,),
}
SHAPES = ";".join(map(str, NETWORK.values()))
SIZES = [int(np.prod(shape)) for shape in NETWORK.values()]
LEARNED = np.repeat(["moving" not in name for name in NETWORK], SIZES)
TORCH = {
    "conv_1/kernel:0": (4, 2, 2, 3),
    "conv_1/bias:0": (4,),
    "batch_norm/gamma:0": (4,),
    "batch_norm/beta:0": (4,),
    "fc_1/kernel:0": (3, 5),
    "fc_1/bias:0": (3,),
}


def torch_columns() -> np.ndarray:
    """The obvious version: for each parameter in PyTorch's order its column in the file."""
    columns, offset = [], 0
    for name, shape in NETWORK.items():
        numbers = np.arange(offset, offset + int(np.prod(shape))).reshape(shape)
        offset += numbers.size
        if "moving" in name:
            continue
        if len(shape) == 4:
            ky, kx, inputs, outputs = map(range, shape)
            columns += [numbers[y, x, i, o] for o in outputs for i in inputs for y in ky for x in kx]
        elif len(shape) == 2:
            columns += [numbers[i, o] for o in range(shape[1]) for i in range(shape[0])]
        else:
            columns += list(numbers)
    return np.array(columns)


@dataclass
class Quartic:
    """A loss whose gradient is cubic, so that Simpson's rule is exact."""

    seed: int
    h: np.ndarray = field(init=False)
    m: np.ndarray = field(init=False)

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.h, self.m = rng.uniform(0.1, 1, LEARNED.size) * LEARNED, rng.normal(size=LEARNED.size)

    def loss(self, theta):
        d = theta - self.m
        return (self.h * (d**2 / 2 + d**4 / 4)).sum(-1)

    def gradient(self, theta):
        d = theta - self.m
        return self.h * (d + d**3)


@dataclass
class Run:
    """A run as the LCA code leaves it, and what it must become."""

    splits: tuple[int, ...] = (2, 4, 2, 8, 2, 2)
    gpus: int = 4
    seed: int = 0
    train: Quartic = field(init=False)
    test: Quartic = field(init=False)
    theta: np.ndarray = field(init=False)

    def __post_init__(self):
        rng = np.random.default_rng(self.seed + 99)
        self.train, self.test = Quartic(self.seed), Quartic(self.seed + 1)
        theta = [rng.normal(size=LEARNED.size).astype("f4")]
        for _ in self.splits:
            step = self.train.gradient(theta[-1].astype(float)) + rng.normal(scale=0.1, size=LEARNED.size)
            theta.append((theta[-1] - 0.1 * step).astype("f4"))
        self.theta = np.array(theta)

    def nodes(self, problem: Quartic) -> np.ndarray:
        points = [self.theta[0].astype(float)]
        for (a, b), n in zip(itertools.pairwise(self.theta.astype(float)), self.splits, strict=True):
            points += [a + k / n * (b - a) for k in range(1, n + 1)]
        return problem.gradient(np.array(points)).astype("f4")

    def parts(self, problem: Quartic) -> list[np.ndarray]:
        """Cut the iterations evenly over the GPUs; each part ends with the node that the next begins with."""
        nodes, first = self.nodes(problem), np.cumsum([0, *self.splits])
        cuts = [first[len(self.splits) * g // self.gpus] for g in range(self.gpus + 1)]
        return [nodes[a : b + 1] for a, b in itertools.pairwise(cuts)]

    def lca(self, problem: Quartic) -> np.ndarray:
        """The closed form: the loss is a sum over parameters."""
        d = self.theta.astype(float) - problem.m
        return np.diff(problem.h * (d**2 / 2 + d**4 / 4), axis=0)

    def write(self, folder: Path, *, ending="", helped=False, learned_only=False, chunks=None, dtype="f4") -> Path:
        folder.mkdir(exist_ok=True)
        kept = LEARNED if learned_only else slice(None)
        options = {"dtype": dtype, "chunks": chunks}
        with h5py.File(folder / f"weights{ending}", "w") as file:
            stored = file.create_dataset("all_weights", data=self.theta, **options)
            stored.attrs["var_names"] = ";".join(NETWORK)
            stored.attrs["var_shapes"] = SHAPES
        with h5py.File(folder / f"gradients_adaptive{ending}", "w") as file:
            file["num_splits"] = np.array(self.splits)
            for problem, set_, loss in ((self.train, "train", "trainloss"), (self.test, "test", "testloss")):
                file[loss] = problem.loss(self.theta.astype(float))
                for number, part in enumerate(self.parts(problem)):
                    file.create_dataset(f"grads_{set_}_{number}", data=part[:, kept], **options)
        if helped:
            with h5py.File(folder / f"helped{ending}", "w") as file:
                file.create_dataset("helped", data=self.lca(self.train)[:, kept], **options)
                file.create_dataset("helped_test", data=self.lca(self.test)[:, kept], **options)
        return folder
