"""How noisy learning is, by network and by setting, from the running statistics of files: against the bare numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from lcakit.experiments.declared import EXPERIMENTS, hyperparameters, networks
from lcakit.experiments.paper import PAPER, setting
from tests.support.sweeps import TINY, run, tiny


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same runs, once with running statistics alone, once with the series that they are of."""
    folders = {keep: tmp_path_factory.mktemp("noise") for keep in ((), ("theta", "gradient", "lca"))}
    for keep, folder in folders.items():
        experiment = tiny({"base": TINY}, networks.noise_by_network)
        outcome = run(dataclasses.replace(experiment, keep=keep), folder)
        assert outcome.failed == {}
    return folders


def changes(series: np.ndarray) -> float:
    """Sign changes of the mean parameter, zeros left out: a loop over parameters."""
    signs = (np.sign(column[column != 0]) for column in series.T)
    return np.mean([np.count_nonzero(np.diff(sign)) for sign in signs])


def slow_noise(path: Path) -> dict[str, float]:
    with netCDF4.Dataset(path) as file:
        lca, theta, gradient, loss = (file[name][:].data.astype(float) for name in ("lca", "theta", "gradient", "loss"))
        layer = file["layer_index"][:].data
    moves = np.diff(theta, axis=0)

    def helping(part: np.ndarray) -> float:
        return 100 * np.mean((part < 0).sum(1) / (part != 0).sum(1))

    return {
        "helping": helping(lca),
        "least_layer": min(helping(lca[:, layer == k]) for k in np.unique(layer)),
        "most_layer": max(helping(lca[:, layer == k]) for k in np.unique(layer)),
        "zero": 100 * (lca == 0).mean(),
        "never": 100 * (lca == 0).all(0).mean(),
        "iterations_per_turn": len(moves) / changes(moves),
        "iterations_per_crossing": len(moves) / changes(gradient),
        "final_loss": loss[-1],
    }


@pytest.mark.slow
def test_noise_by_network_against_the_series(files):
    counts, series = files.values()
    twins = [slow_noise(series / f"base-{seed}.nc") for seed in (0, 1)]
    result = run(tiny({"base": TINY}, networks.noise_by_network, keep=()), counts).result
    for name in twins[0]:
        values = [twin[name] for twin in twins]
        assert float(result[name][0]) == pytest.approx(np.mean(values), rel=1e-5), name
        assert float(result[f"{name}_sd"][0]) == pytest.approx(np.std(values, ddof=1), rel=1e-4, abs=1e-9), name


@pytest.mark.slow
def test_turns_by_setting_where_files_have_statistics(files):
    counts, series = files.values()
    twins = [slow_noise(series / f"base-{seed}.nc") for seed in (0, 1)]
    result = run(tiny({"base": TINY}, hyperparameters.helping_by_setting, keep=()), counts).result
    for name in ("helping", "iterations_per_turn", "iterations_per_crossing"):
        assert float(result[name][0]) == pytest.approx(np.mean([twin[name] for twin in twins]), rel=1e-5)


def test_every_network_of_the_paper_is_an_arm_at_both_scales():
    scales = EXPERIMENTS["networks"].scales
    paper = {(run.network, run.optimizer) for run in scales["paper"].arms.values()}
    assert paper == set(PAPER)
    assert list(scales["small"].arms) == list(scales["paper"].arms)
    for one in scales["paper"].arms.values():
        assert one.resolved().iterations == setting(one.network, one.optimizer).iterations


def test_the_sweep_of_the_residual_network_has_much_momentum_and_large_batches():
    for scale in EXPERIMENTS["hyperparameters-resnet"].scales.values():
        base = scale.arms["base"].resolved()
        runs = [arm.resolved() for arm in scale.arms.values()]
        assert max(one.momentum for one in runs) == 0.99
        assert max(one.batch_size for one in runs) >= 10 * base.batch_size
        assert "resnet" in base.network
