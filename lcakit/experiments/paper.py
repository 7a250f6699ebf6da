"""Settings and figures to reproduce: those of the LCA paper, and those of an independent implementation.

A study is a data set and a network, ``"mnist-fc"``; an optimizer is ``"sgd-mom0"``, ``"sgd"`` (momentum 0.9)
or ``"adam"``. Both together are the key of every table here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from lcakit.errors import unknown
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["FINDINGS", "PAPER", "SIZES", "Figures", "Key", "Setting", "setting"]


def __dir__() -> list[str]:
    return __all__


Key = tuple[str, str]

_PAPER_SOURCE = "Lan, Liu, Zhou, Yosinski: LCA: Loss Change Allocation for Neural Network Training (NeurIPS 2019)"
_OWN_SOURCE = "chosen for lcakit; not in the paper"
_CIFAR_SOURCE = "batch size 250 and all 50 000 training images (the paper's may be 45 000) are chosen for lcakit"


@checks_creation
@dataclass(frozen=True)
class Setting:
    """How one run is trained. There is no weight decay, augmentation or schedule; pixels are in [0, 1]."""

    dataset: str
    network: str
    optimizer: str
    learning_rate: float
    momentum: float
    batch_size: int
    iterations: int
    n_train: int
    source: str


@checks_creation
@dataclass(frozen=True)
class Figures:
    """What such a run gives.

    ``helping`` is the mean over iterations of helping / (helping + hurting), in percent, zeros ignored;
    ``helping_sd`` its standard deviation over the runs. Total errors are percent of the total loss change,
    mean errors are mean ``abs(residual)`` per iteration in nats. Turns and crossings are iterations per sign
    change of a parameter's movement and of its gradient.
    """

    helping: float
    helping_sd: float | None
    total_error_rk4: float
    total_error_first_order: float
    mean_error_rk4: float
    mean_error_first_order: float
    iterations_per_turn: float
    iterations_per_crossing: float
    source: str


@checks_arguments
def setting(study: str, optimizer: str) -> Setting:
    """Return the setting of a study: the paper's where it has one, else lcakit's own (``source`` says which).

    Raises
    ------
    ValueError
        For a data set, network or optimizer that has no setting; the message lists those that do.

    Examples
    --------
    >>> setting("cifar10-resnet20", "adam").learning_rate
    0.005
    """
    dataset, _, network = study.partition("-")
    if dataset not in SIZES:
        raise unknown("data set", dataset, SIZES)
    family = "".join(itertools.takewhile(str.isalpha, network))
    if family not in _RATES:
        raise unknown("family of networks", family, _RATES)
    rates = _RATES[family] | _OTHER_RATES.get((dataset, family), {})
    if optimizer not in rates:
        raise unknown("optimizer", optimizer, rates)
    batch_size, iterations, n_train = SIZES[dataset]
    momentum = 0.9 if optimizer == "sgd" else 0.0
    source = _source(study, optimizer, dataset)
    return Setting(dataset, network, optimizer, rates[optimizer], momentum, batch_size, iterations, n_train, source)


def _source(study: str, optimizer: str, dataset: str) -> str:
    if (study, optimizer) not in PAPER:
        return _OWN_SOURCE
    return f"{_PAPER_SOURCE}; {_CIFAR_SOURCE}" if dataset == "cifar10" else _PAPER_SOURCE


# Batch size, iterations, training images. Batch 250 makes 220 iterations an epoch on MNIST, so 880 are four epochs; on
# CIFAR-10 it makes 200, so 5 000 are 25 epochs.
SIZES: dict[str, tuple[int, int, int]] = {
    "digits": (50, 220, 1_500),
    "mnist": (250, 880, 55_000),
    "fashion": (250, 880, 55_000),
    "cifar10": (250, 5_000, 50_000),
}

# Learning rates by family of networks. The paper's are those of "sgd" and "adam" but for vgg, and of fc all three.
_RATES: dict[str, dict[str, float]] = {
    "fc": {"sgd-mom0": 0.5, "sgd": 0.05, "adam": 0.002},
    "lenet": {"sgd-mom0": 0.2, "sgd": 0.02, "adam": 0.002},
    "resnet": {"sgd-mom0": 0.5, "sgd": 0.1, "adam": 0.005},
    "allcnn": {"sgd-mom0": 0.5, "sgd": 0.1, "adam": 0.001},
    "vgg": {"sgd-mom0": 0.01, "sgd": 0.01, "adam": 0.0005},
}
# Three colour channels feed the first layer with four times MNIST's pixels, and brighter ones.
_OTHER_RATES: dict[tuple[str, str], dict[str, float]] = {
    ("cifar10", "fc"): {"sgd-mom0": 0.1, "sgd": 0.01, "adam": 0.001},
}


PAPER: dict[Key, Figures] = {
    key: Figures(*row, _PAPER_SOURCE)
    for key, row in {
        # helping, sd | total error rk4, first order (%) | mean error rk4, first order | turn, crossing
        ("mnist-fc", "sgd-mom0"): (53.72, 0.05, -0.27, -4249.64, 6.11e-5, 0.114, 3.49, 3.48),
        ("mnist-fc", "sgd"): (57.79, 0.16, 1.08e-3, -171.10, 2.94e-6, 0.00459, 13.57, 11.68),
        ("mnist-fc", "adam"): (55.82, 0.09, 3.64e-3, -75.31, 2.31e-6, 0.00199, 12.68, 12.71),
        ("mnist-lenet", "sgd"): (53.97, 0.48, 1.87e-2, -274.84, 3.45e-6, 0.00838, 10.29, 9.37),
        ("mnist-lenet", "adam"): (51.77, 0.21, 0.0262, -498.67, 2.30e-6, 0.01499, 16.86, 15.37),
        ("cifar10-resnet20", "sgd"): (50.66, 0.14, 0.0345, -1189.71, 1.37e-5, 0.01018, 6.74, 9.51),
        ("cifar10-resnet20", "adam"): (50.30, 0.004, 0.0537, -923.88, 1.07e-5, 0.00793, 6.76, 9.81),
        ("cifar10-allcnn", "sgd"): (51.09, 0.23, 0.1374, -1371.69, 4.51e-6, 0.00662, 7.06, 11.18),
        ("cifar10-allcnn", "adam"): (50.19, 0.01, 0.0745, -972.61, 2.77e-6, 0.00482, 6.76, 10.37),
    }.items()
}

# Figures of single studies: (the paper's, those of the independent implementation); None where there is none.
FINDINGS: dict[Key, dict[str, tuple[float | None, float | None]]] = {
    ("mnist-fc", "sgd"): {
        "zero": (None, 18.6),
        "synchronized_per_class": (9.4, 8.3),
        "synchronized_shifted": (0.4, 0.64),
        "synchronized_all": (12, 8),
        "excess_kurtosis": (None, 9360),
        "lca_fc1": (None, -1.61),
        "lca_fc2": (None, -0.37),
        "lca_fc3": (None, -0.31),
    },
}
