"""What can be trained: every data set with every network, sizes and default settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lcakit.experiments.data import SHAPES
from lcakit.experiments.names import split_name
from lcakit.experiments.networks import NETWORKS, build
from lcakit.experiments.paper import PAPER, SIZES, setting
from lcakit.experiments.run import OPTIMIZERS
from lcakit.record.objective.describe import describe

__all__ = ["Entry", "catalogue", "count_parameters", "to_text"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Entry:
    """One network on one data set; ``rates`` are the default learning rates by optimizer.

    ``paper`` names the optimizers whose settings and figures are the paper's.
    """

    name: str
    parameters: int
    rates: dict[str, float]
    batch_size: int
    iterations: int
    paper: tuple[str, ...]


def catalogue() -> list[Entry]:
    """Return every network on every data set whose images are large enough for it.

    Examples
    --------
    >>> next(entry.parameters for entry in catalogue() if entry.name == "cifar10-allcnn")
    1371658
    """
    return [entry for dataset in SHAPES for network in NETWORKS if (entry := _entry(dataset, network))]


def count_parameters(name: str) -> int:
    """Return how many parameters a network on one of the named data sets has.

    Raises
    ------
    ValueError
        For an unknown name, or images that are too small for the network.
    """
    dataset, network = split_name(name)
    return describe(build(network, *SHAPES[dataset], seed=0)).n_parameters


def _entry(dataset: str, network: str) -> Entry | None:
    name = f"{dataset}-{network}"
    try:
        parameters = count_parameters(name)
    except ValueError:  # images too small
        return None
    rates = {optimizer: setting(name, optimizer).learning_rate for optimizer in OPTIMIZERS}
    batch_size, iterations, _ = SIZES[dataset]
    paper = tuple(optimizer for optimizer in OPTIMIZERS if (name, optimizer) in PAPER)
    return Entry(name, parameters, rates, batch_size, iterations, paper)


def to_text(entries: Sequence[Entry]) -> str:
    """Return the entries as an aligned table, with a few words on what else there is."""
    head = ["network", "parameters", *OPTIMIZERS, "batch", "iterations", "in the paper"]
    rows = [head, *(_row(entry) for entry in entries)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    lines = [_aligned(row, widths) for row in rows]
    return "\n".join([*lines, "", *_NOTES])


_NOTES = (
    "The numbers under optimizers are learning rates; sgd has momentum 0.9. Those not in the paper are lcakit's.",
    "Residual networks of other sizes: resnetN with N = 8, 14, 20, … layers, resnetNwW with W channels first.",
    "Data of your own: FILE.npz-NETWORK, with x_train, y_train, x_test, y_test; settings are those of mnist.",
)


def _row(entry: Entry) -> list[str]:
    rates = [f"{entry.rates[optimizer]:g}" for optimizer in OPTIMIZERS]
    paper = ", ".join(entry.paper) or "–"
    return [entry.name, f"{entry.parameters:,}", *rates, str(entry.batch_size), f"{entry.iterations:,}", paper]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers, paper = row
    right = [text.rjust(width) for text, width in zip(numbers, widths[1:-1], strict=True)]
    return "  ".join([name.ljust(widths[0]), *right, paper])
