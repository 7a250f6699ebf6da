"""What the guide quotes of the experiments with layers is computed from the bare numbers of the files in the box."""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
NETWORK, VGG, ADAM = "digits-resnet8w8", "digits-vgg5-no-dropout", "digits-resnet8w8-adam"
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


@functools.cache
def read(name: str, network: str = NETWORK) -> tuple[np.ndarray, np.ndarray]:
    """LCA over the run of each kernel layer, and the loss at the snapshots, of a file in the box."""
    with netCDF4.Dataset(ROOT / "data" / f"{network}-{name}.nc") as file:
        by_row = file["lca_unit_class"][:].astype(float).sum(axis=(0, 2))
        kernel = file["kernel_layer"][:][file["unit_layer"][:]]
        return np.array([by_row[kernel == one].sum() for one in np.unique(kernel)]), file["loss"][:].astype(float)


def seeds_of(arm: str, network: str = NETWORK) -> list[int]:
    found = (path.stem.rpartition("-") for path in (ROOT / "data").glob(f"{network}-{arm}-*.nc"))
    return sorted(int(seed) for kind, _, seed in found if kind == f"{network}-{arm}")


def counted(arm: str, network: str = NETWORK) -> str:
    return f"{WORDS[len(seeds_of(arm, network))]} seeds"


def lower(plain: list[np.ndarray], arm: list[np.ndarray]) -> tuple[str, str]:
    """How much lower a loss is, in how many pairs, and Student's p of the pairs: the last one, and the second half."""

    def said(number) -> str:
        a, b = (np.array([number(loss) for loss in losses]) for losses in (plain, arm))
        word = "lower" if b.mean() < a.mean() else "higher"
        p = stats.ttest_rel(a, b).pvalue
        pairs = f"{((b < a) == (word == 'lower')).sum()} of {len(a)} pairs"
        return f"{word} in {pairs} (by {abs((b - a).mean()):.2f}, paired p = {p:.2g})"

    return said(lambda loss: loss[-1]), said(lambda loss: loss[loss.size // 2 :].mean())


def compared(arm: str, layer: int, network: str = NETWORK) -> list[str]:
    """What the row of an experiment has to say of an arm."""
    seeds = seeds_of(arm, network)
    plain, changed = ([read(f"{kind}-{seed}", network) for seed in seeds] for kind in ("plain", arm))
    final, half = lower(*([loss for _, loss in runs] for runs in (plain, changed)))
    both = np.mean([b - a for (a, _), (b, _) in zip(plain, changed, strict=True)], axis=0)
    others = both.sum() - both[layer]
    return [f"final loss {final}", f"second half {half}", f"{abs(others):.2f} nats {'less' if others > 0 else 'more'}"]


def holm(p: np.ndarray) -> np.ndarray:
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    out = np.empty(p.size)
    out[order] = np.minimum(stepped, 1)
    return out


def hurting(network: str = NETWORK, layers: tuple[int, ...] = (0, -1)) -> list[str]:
    """Of layers of the plain runs: in how many seeds they hurt, mean, p over all layers (Holm)."""
    lca = np.array([read(f"plain-{seed}", network)[0] for seed in seeds_of("plain", network)])
    p = holm(stats.ttest_1samp(lca, 0, axis=0).pvalue)
    return [
        f"{(lca[:, k] > 0).sum()} of {len(lca)} seeds ({lca[:, k].mean():+.2f} nats, p = {p[k]:.2g}" for k in layers
    ]


def trend(kind: str) -> list[str]:
    """The slope over delays with an intercept for each seed, and its p: least squares with a column for each seed."""
    found = [path.stem.split("-")[-2:] for path in sorted((ROOT / "data").glob(f"{NETWORK}-{kind}-*-*.nc"))]
    y = np.array([read(f"{kind}-{delay}-{seed}")[0][-1] for delay, seed in found])
    delays, seeds = np.array(found, int).T
    design = np.column_stack([delays, *(seeds == seed for seed in np.unique(seeds))]).astype(float)
    fitted, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = y.size - design.shape[1]
    error = np.sqrt(squares[0] / freedom * np.linalg.inv(design.T @ design)[0, 0])
    p = 2 * stats.t.sf(abs(fitted[0] / error), freedom)
    runs = f"{y.size} runs, seeds {seeds.min()} to {seeds.max()}"
    return [f"{fitted[0]:.2f} nats an iteration of delay", f"p = {p:.2g}", runs, *orders(y, delays, seeds)]


def orders(y: np.ndarray, delays: np.ndarray, seeds: np.ndarray) -> list[str]:
    """Within each seed: how well delay and LCA are in one order, and on which side of zero the ends are."""
    each = [(y[seeds == seed], delays[seeds == seed]) for seed in np.unique(seeds)]
    ranks = [stats.spearmanr(lca, late).statistic for lca, late in each]
    prompt = sum((lca[late == 0] < 0).sum() for lca, late in each)
    hurt = sum((lca[late == 9] > 0).sum() for lca, late in each)
    return [
        f"rank correlation within a seed {min(ranks):.2f} to {max(ranks):.2f}",
        f"at a delay of 0 the layer helps in {prompt} of {len(each)} seeds, at 9 it hurts in {hurt}",
    ]


def rises(kind: str) -> str:
    """In how many seeds the loss of runs without delay rises above what it was at first; and with momentum alone."""
    seeds = seeds_of(f"{kind}-0")
    above, alone = (
        sum(loss.max() > loss[0] for _, loss in (read(f"{k}-0-{s}") for s in seeds)) for k in (kind, "delay")
    )
    return f"rises above its start in {above} of {len(seeds)} seeds without delay (with momentum alone in {alone})"


def vgg() -> list[str]:
    """The dense layers, which hurt, and the convolutions together, plain; and what freezing the last layer does."""
    lca = np.array([read(f"plain-{seed}", VGG)[0] for seed in seeds_of("plain", VGG)])
    return [
        counted("plain", VGG),
        *hurting(VGG, (-2, -1)),
        f"the convolutions together help ({lca[:, :3].sum(1).mean():+.2f} nats)",
        *compared("frozen", -1, VGG),
    ]


def table(experiment: str) -> dict[str, dict[str, float]]:
    """The numbers of a finished experiment by arm, of its table in the box."""
    with (ROOT / "data" / f"digits-{experiment}.csv").open(newline="") as file:
        rows = {row.pop("arm"): row for row in csv.DictReader(file)}
    return {arm: {name: float(text or "nan") for name, text in row.items()} for arm, row in rows.items()}


def between(rows: dict[str, dict[str, float]], name: str, unit: str) -> str:
    least, most = (end(rows, key=lambda arm: rows[arm][name]) for end in (min, max))
    return f"{rows[least][name]:.1f}{unit} ({least}) to {rows[most][name]:.1f}{unit} ({most})"


def networks() -> list[str]:
    rows = table("networks")
    over = sum(row["helping"] > 50 for row in rows.values())
    return [
        f"helping {between(rows, 'helping', ' %')}",
        f"more than half in {over} of {len(rows)}",
        f"a turn every {between(rows, 'iterations_per_turn', '')} iterations",
    ]


def hyperparameters_resnet() -> list[str]:
    rows = table("hyperparameters-resnet")
    base, much, whole = (rows[arm] for arm in ("base", "momentum-0.99", "batch-size-500"))
    return [
        f"helping {between(rows, 'helping', ' %')}",
        f"{base['helping']:.1f} ± {base['helping_sd']:.1f} % at the base setting",
        f"momentum 0.99: {much['helping']:.1f} %, a turn every {much['iterations_per_turn']:.1f} iterations "
        f"(base {base['iterations_per_turn']:.1f})",
        f"all 500 images in a batch: {whole['helping']:.1f} %, {whole['iterations_per_turn']:.1f}",
    ]


SAID = {
    "networks": networks,
    "hyperparameters-resnet": hyperparameters_resnet,
    "vgg": vgg,
    "adam": lambda: [counted("plain", ADAM), *hurting(ADAM), *compared("frozen", -1, ADAM)],
    "last-layer": lambda: [
        counted("plain"),
        *hurting(),
        *(part for arm in ("frozen", "slow", "last-argmin") for part in compared(arm, -1)[:2]),
    ],
    "first-layer": lambda: [counted("first-argmin"), *compared("first-argmin", 0)],
    "delays": lambda: trend("delay"),
    "delays-same-step": lambda: [*trend("same-step"), rises("same-step")],
    "delays-same-noise": lambda: trend("same-noise"),
}


@pytest.mark.parametrize("experiment", SAID)
def test_the_row_of_an_experiment_quotes_its_files(experiment):
    lines = (ROOT / "notebooks" / "paper.md").read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| `{experiment}` |"))
    assert [part for part in SAID[experiment]() if part not in row] == []


def test_what_must_hold_of_these_runs():
    """First and last layer hurt, freezing the last lowers the loss, the trend with the delay is steep and sure."""
    seeds = seeds_of("plain")
    lca = np.array([read(f"plain-{seed}")[0] for seed in seeds])
    below = [read(f"frozen-{seed}")[1][-1] < read(f"plain-{seed}")[1][-1] for seed in seeds]
    assert len(seeds) >= 8
    assert (lca[:, [0, -1]] > 0).sum(0).min() >= 7
    assert sum(below) >= 7
    slope, p = (float(re.search(r"[\d.]+(e-\d+)?", part).group()) for part in trend("delay")[:2])
    assert slope > 0.3
    assert p < 1e-6


def test_what_the_table_of_figures_says_of_them():
    """Figs. S12, S13: dense layers of a VGG hurt; beside a frozen layer the others help less, its gain is unsure."""
    lca = np.array([read(f"plain-{seed}", VGG)[0] for seed in seeds_of("plain", VGG)])
    assert (lca[:, -1] > 0).all()
    assert lca[:, -2].mean() > 0
    for found in (compared("frozen", -1, VGG), compared("first-argmin", 0)):
        final, _, others = found
        assert float(re.search(r"p = ([\d.e-]+)", final)[1]) > 0.05
        assert others.endswith("less")
