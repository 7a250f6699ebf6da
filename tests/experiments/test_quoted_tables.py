"""What the guide quotes of experiments that ship only their tables is in these tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]


def table(name: str, **where: object) -> pd.DataFrame:
    """The rows of a table that have these values."""
    rows = pd.read_csv(ROOT / "data" / f"digits-fc-{name}.csv")
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows


def points(number: float) -> str:
    return f"{number:+.1f}".replace("-", "−")


def pruning() -> list[str]:
    rows = table("pruning", ranking="layer", sparsity=0.8).set_index("criterion")
    lca, size, moved, random = (rows.loc[name] for name in ("lca", "magnitude", "movement", "random"))
    retrained = rows["retrained_loss"].drop("random")
    return [
        f"magnitude {size['loss']:.2f} nats, LCA {lca['loss']:.2f} (p = {size['loss_p']:.2g})",
        f"movement {moved['undone_loss']:.2f}, LCA {lca['undone_loss']:.2f} (p = {moved['undone_loss_p']:.2g}), "
        f"magnitude {size['undone_loss']:.2f} (p = {size['undone_loss_p']:.2g})",
        f"({retrained.min():.3f} to {retrained.max():.3f}; random {random['retrained_loss']:.2f}, "
        f"p = {random['retrained_loss_p']:.2g})",
        f"random ones where moves are undone ({random['undone_loss']:.2f}, p = {random['undone_loss_p']:.1g})",
    ]


def overfitting() -> list[str]:
    rows = table("overfitting", resolution="unit").set_index("treatment")
    loss, p = rows["test_loss"], rows["p_random"]
    return [
        f"{loss['none']:.2f} nats",
        f"{loss['decay_overfitting']:.2f} (random units {loss['decay_random']:.2f}, p = {p['decay_overfitting']:.2g})",
        f"{loss['freeze_overfitting']:.2f} (random {loss['freeze_random']:.2f}, p = {p['freeze_overfitting']:.2g})",
        f"decay of everything {loss['decay']:.2f}, early stopping {loss['stop']:.2f}",
    ]


def patterns() -> list[str]:
    rows = table("patterns-effects").set_index(["pattern", "hyperparameter"])
    helping, turning = (rows.loc[pattern]["effect"] for pattern in ("helping", "turning"))
    worst = table("patterns", learning_rate=0.2, batch_size=10, momentum=0.9)["hurting_layers"].item()
    return [
        f"{points(helping['learning_rate'])} points with the rate doubled",
        f"{points(helping['batch_size'])} with the batch",
        f"none with momentum (p = {rows.loc['helping', 'momentum']['p']:.2f})",
        f"{points(turning['learning_rate'])} with the rate, {points(turning['momentum'])} with 1 / (1 − μ) doubled",
        f"({worst:.1f} of 3)",
    ]


@pytest.mark.parametrize("quoted", [pruning, overfitting, patterns], ids=lambda quoted: quoted.__name__)
def test_the_row_of_an_experiment_quotes_its_table(quoted):
    lines = (ROOT / "notebooks" / "paper.md").read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| `{quoted.__name__}` |"))
    assert [part for part in quoted() if part not in row] == []
