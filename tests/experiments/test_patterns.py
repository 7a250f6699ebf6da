"""How patterns of helping depend on the hyperparameters: a closed form, and the files of a tiny grid."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import lcakit as lk
from lcakit.experiments.declared import EXPERIMENTS, Scale, hyperparameters
from tests.support.sweeps import TINY, run


def test_effects_are_the_slopes_of_each_seed_averaged_and_tested():
    rng = np.random.default_rng(0)
    grid = list(itertools.product((0.01, 0.02, 0.08), (10, 40), (0.0, 0.75)))
    runs = [dataclasses.replace(TINY, learning_rate=a, batch_size=b, momentum=m) for a, b, m in grid]
    slopes = rng.normal(size=(4, 3))  # of each seed: rate, momentum, batch size
    rows = []
    for a, b, m in grid:
        place = np.log2([a, 1 / (1 - m), b])
        values = [7 * seed + slopes[seed] @ place for seed in range(4)]
        rows.append(
            xr.Dataset({"y": ("run", values), "z": ("run", -2 * np.array(values))}, {"seed": ("run", range(4))})
        )
    found = hyperparameters._effects(rows, runs)
    assert found["hyperparameter"].values.tolist() == ["learning_rate", "momentum", "batch_size"]
    np.testing.assert_allclose(found["effect"].sel(pattern="y"), slopes.mean(0), atol=1e-9)
    np.testing.assert_allclose(found["effect_sd"].sel(pattern="z"), 2 * slopes.std(0, ddof=1), atol=1e-9)
    assert found["positive"].sel(pattern="y").values.tolist() == (slopes > 0).sum(0).tolist()
    raw = stats.ttest_1samp(slopes, 0).pvalue
    both = np.sort(np.tile(raw, 2))
    expected = np.minimum(np.maximum.accumulate(both * np.arange(6, 0, -1)), 1)
    np.testing.assert_allclose(np.sort(found["p"].values.ravel()), expected, rtol=1e-6)
    assert int(found["seeds"]) == 4


def test_a_seed_that_lacks_arms_is_fitted_to_those_it_has():
    runs = [dataclasses.replace(TINY, learning_rate=a, batch_size=10, momentum=0.0) for a in (0.01, 0.02, 0.04)]
    rows = [xr.Dataset({"y": ("run", [k, k])}, {"seed": ("run", [0, 1])}) for k in (1.0, 2.0)]
    rows.append(xr.Dataset({"y": ("run", [3.0])}, {"seed": ("run", [1])}))
    found = hyperparameters._effects(rows, runs)
    assert found["effect"].sel(hyperparameter="learning_rate").item() == pytest.approx(1)
    assert int(found["seeds"]) == 2


@pytest.mark.slow
def test_patterns_of_a_tiny_grid_against_its_files(tmp_path):
    arms = hyperparameters._grid(TINY, (0.05, 0.1), (5, 20), (0.0, 0.5))
    declared = EXPERIMENTS["patterns"]
    outcome = run(dataclasses.replace(declared, scales={"small": Scale(arms, (0, 1))}), tmp_path)
    assert outcome.failed == {}
    assert all(claim.what in outcome.text for claim in declared.claims)
    arm = "rate-0.1-batch-5-momentum-0.5"
    files = [lk.open_trajectory(tmp_path / f"{arm}-{seed}.nc") for seed in (0, 1)]
    row = outcome.result.sel(arm=arm)
    helped, hurt = ([f[f"layer_{name}"].sum("layer").values for f in files] for name in ("helped", "hurt"))
    shares = [(a / (a + b)).mean() for a, b in zip(helped, hurt, strict=True)]
    assert float(row["helping"]) == pytest.approx(100 * np.mean(shares))
    turns = np.mean([f["turn_count"].values.mean() / f.sizes["iteration"] for f in files])
    assert float(row["turning"]) == pytest.approx(100 * turns)
    hurting = [sum(f["total_lca"].values[f["layer_index"].values == k].sum() > 0 for k in range(3)) for f in files]
    assert float(row["hurting_layers"]) == pytest.approx(np.mean(hurting))
    assert float(row["final_loss"]) == pytest.approx(np.mean([f["loss"].values[-1] for f in files]))
    assert (float(row["learning_rate"]), int(row["batch_size"]), float(row["momentum"])) == (0.1, 5, 0.5)
