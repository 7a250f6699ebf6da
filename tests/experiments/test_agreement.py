"""Where the table of figures says "agrees", the files in the box agree with the paper: from their bare numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from lcakit.experiments.paper import PAPER

DATA = Path(__file__).parents[2] / "data"
MNIST = PAPER["mnist-fc", "sgd"]
PEAKS = 20
WORDS = ("none", "one", "two", "three")


@pytest.fixture(scope="module")
def counts() -> dict[str, np.ndarray]:
    return read("mnist-fc-counts-sgd-0.nc")


@pytest.fixture(scope="module")
def norms() -> list[dict[str, np.ndarray]]:
    """Of each seed in the box."""
    names = sorted(path.name for path in DATA.glob("mnist-fc-norms-sgd-*.nc"))
    assert names == [f"mnist-fc-norms-sgd-{seed}.nc" for seed in range(len(names))]
    return [read(name) for name in names]


def read(name: str) -> dict[str, np.ndarray]:
    with netCDF4.Dataset(DATA / name) as file:
        order = ("snapshot", "iteration")  # compact copies have time last
        found = {}
        for key, variable in file.variables.items():
            if variable.dtype is not str and np.dtype(variable.dtype).kind in "fi":
                time = next((n for n, dim in enumerate(variable.dimensions) if dim in order), None)
                values = variable[:].data.astype(float)
                found[key] = values if time is None else np.moveaxis(values, time, 0)
        return found


def test_mnist_fc_helps_and_turns_as_often_as_the_papers(counts):
    """Tables 1 and S2: within four of the paper's standard deviations; turns and crossings within a tenth."""
    helped, hurt = (counts[f"layer_{name}"].sum(1) for name in ("helped", "hurt"))
    iterations = len(helped)
    assert 100 * np.mean(helped / (helped + hurt)) == pytest.approx(MNIST.helping, abs=4 * MNIST.helping_sd)
    for name, said in (("turn", MNIST.iterations_per_turn), ("crossing", MNIST.iterations_per_crossing)):
        assert iterations / counts[f"{name}_count"].mean() == pytest.approx(said, rel=0.1)


def test_a_little_more_than_half_help_in_every_layer_and_eleven_percent_never_move(counts):
    """Figs. 3a, 3c, 3d."""
    helped, hurt = counts["layer_helped"], counts["layer_hurt"]
    by_layer = np.mean(helped / (helped + hurt), axis=0)
    assert ((by_layer > 0.5) & (by_layer < 0.6)).all()
    half = len(helped) // 2
    shares = helped.sum(1) / (helped + hurt).sum(1)
    assert shares[:half].mean() > shares[half:].mean()
    never = (counts["helped_count"] + counts["hurt_count"] == 0).mean()
    assert never == pytest.approx(0.11, abs=0.01)


def strongest(series: np.ndarray) -> set[int]:
    """The iterations of the highest local maxima: a loop."""
    inside = range(1, len(series) - 1)
    found = [t for t in inside if series[t - 1] < series[t] > series[t + 1] and series[t] > 0]
    return set(sorted(found, key=lambda t: -series[t])[:PEAKS])


def shared(series: np.ndarray) -> int:
    """How many peaks all layers (columns) share."""
    return len(set.intersection(*(strongest(column) for column in series.T)))


def peaks(run: dict[str, np.ndarray]) -> dict[str, float]:
    """Shared peaks of one run, by the row of the guide's table: of whole layers, and means over classes."""
    by_class, slopes = run["lca_unit_class"], run["unit_effective_norm"]  # (iteration, layer, class)
    lca, slope = (np.mean([shared(part[..., c]) for c in range(10)]) for part in (-by_class, slopes))
    return {
        "peaks of LCA that all layers share": shared(-by_class.sum(2)),
        "peaks of the norm of the gradient": shared(run["unit_gradient_norm"][:-1]),
        "peaks of the length of the movement": shared(run["unit_movement_norm"]),
        "peaks of LCA, mean over classes": lca,
        "peaks of the effective gradient": slope,
    }


def test_lca_and_gradient_are_more_in_step_than_movement_and_slopes_by_class_most(norms):
    """Figs. S16-S19, in the mean over runs; LCA and gradient are too close to call, and the guide says so."""
    each = np.array([list(peaks(run).values()) for run in norms])
    lca, gradient, movement, by_class, slope = each.mean(axis=0)
    assert min(lca, gradient) > movement
    assert slope > by_class > 5
    text = (DATA.parent / "notebooks" / "paper.md").read_text(encoding="utf-8").replace("\n", " ")
    ahead = [WORDS[(each[:, 0] > each[:, other]).sum()] for other in (1, 2)]
    means = f"{lca:.1f} of LCA, {gradient:.1f} of the gradient and {movement:.1f} of movement"
    assert (
        f"{means}; LCA is ahead of the gradient in {ahead[0]} of {WORDS[len(each)]}, of movement in {ahead[1]}" in text
    )


def of_counts(counts: dict[str, np.ndarray]) -> dict[str, str]:
    helped, hurt = (counts[f"layer_{name}"].sum(1) for name in ("helped", "hurt"))
    turns, crossings = (len(helped) / counts[f"{name}_count"].mean() for name in ("turn", "crossing"))
    never = (counts["helped_count"] + counts["hurt_count"] == 0).mean()
    return {
        "helping, ": f"{100 * np.mean(helped / (helped + hurt)):.2f}",
        "iterations per turn": f"{turns:.2f}",
        "iterations per crossing": f"{crossings:.2f}",
        "parameters that never move": f"{100 * never:.1f}",
    }


def test_the_table_of_single_runs_quotes_its_files(counts, norms):
    further = len(norms) - 1
    expected = {row: [said, *["–"] * further] for row, said in of_counts(counts).items()}
    found = [peaks(run) for run in norms]
    expected |= {row: [f"{run[row]:.1f}".removesuffix(".0") for run in found] for row in found[0]}
    text = (DATA.parent / "notebooks" / "paper.md").read_text(encoding="utf-8")
    head, *lines = text.partition("| runs of sgd |")[2].partition("\n\n")[0].splitlines()
    assert [cell.strip() for cell in head.split("|")[: len(norms)]] == [f"seed {n}" for n in range(len(norms))]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]
    assert len(rows) == len(expected)
    for (what, *here, _), (begins, said) in zip(rows, expected.items(), strict=True):
        assert what.startswith(begins)
        assert here == said, what


def test_norms_of_layers_are_of_one_run_with_the_counts(norms, counts):
    np.testing.assert_array_equal(norms[0]["loss"], counts["loss"])
    assert {len(run["unit_movement_norm"]) for run in norms} == {len(counts["layer_helped"])} == {880}


def test_magnitudes_spread_more_than_those_of_an_exponential_distribution():
    """Fig. 3b and another network: a Weibull distribution with k < 1 has a standard deviation above its mean."""
    for name in ("mnist-fc-first-100-sgd-0.nc", "digits-resnet-sgd-first-30-0.nc"):
        lca = read(name)["lca"]
        for side in (lca[lca < 0], lca[lca > 0]):
            assert side.std() > abs(side.mean())


def test_more_than_half_help_in_every_network_and_weights_turn_most_without_momentum():
    """Table 1 and S2 in small; every layer of the files with counts helps more often than not."""
    with (DATA / "digits-networks.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert {arm for arm, row in rows.items() if float(row["least_layer"]) > 50} == set(rows)
    assert min(rows, key=lambda arm: float(rows[arm]["iterations_per_turn"])) == "fc-sgd-mom0"


def test_all_layers_of_allcnn_help():
    """Fig. S14, the plain run."""
    file = read("digits-allcnn-sgd-counts-0.nc")
    layers = file["kernel_layer"].astype(int)[file["unit_layer"].astype(int)]
    totals = [file["unit_lca"][:, layers == layer].sum() for layer in np.unique(layers)]
    assert len(totals) == 9
    assert max(totals) < 0


def test_helping_falls_with_rate_and_much_momentum_and_rises_with_the_batch():
    """Fig. S9 on the small residual network."""
    with (DATA / "digits-hyperparameters-resnet.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    base = rows["base"]

    def along(name: str) -> list[float]:
        others = {"learning_rate", "momentum", "batch_size"} - {name}
        found = [row for row in rows.values() if all(float(row[o]) == float(base[o]) for o in others)]
        return [float(row["helping"]) for row in sorted(found, key=lambda row: float(row[name]))]

    rate, momentum, batch = (along(name) for name in ("learning_rate", "momentum", "batch_size"))
    assert rate == sorted(rate, reverse=True)
    assert batch == sorted(batch)
    assert momentum[-1] == min(momentum)
