"""Experiments with layers: arms that are made of others, the loss over the test set, what a claim says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import lcakit as lk
from lcakit.experiments import training
from lcakit.experiments.declared import EXPERIMENTS, Derived, Scale, delays, directory
from lcakit.experiments.declared.experiment import seeded
from lcakit.experiments.interventions import Intervention
from lcakit.experiments.run import Run
from tests.support.sweeps import TINY, read, run, tiny


def line_with_an_intercept_for_each_seed(x, y, seeds) -> tuple[float, float]:
    """Twin: least squares with a column of ones for each seed, and Student's t of the slope."""
    design = np.column_stack([x, *(np.equal(seeds, seed) for seed in sorted(set(seeds)))]).astype(float)
    fitted, squares, *_ = np.linalg.lstsq(design, np.asarray(y, float), rcond=None)
    freedom = len(x) - design.shape[1]
    error = np.sqrt(squares[0] / freedom * np.linalg.inv(design.T @ design)[0, 0])
    return fitted[0], 2 * stats.t.sf(abs(fitted[0] / error), freedom)


@pytest.mark.slow
def test_the_trend_over_delays_against_the_files(tmp_path):
    arms = {f"delay-{d}": dataclasses.replace(TINY, interventions=(Intervention("last", delay=d),)) for d in (0, 4, 9)}
    result = run(tiny(arms, delays.delayed_layer), tmp_path).result
    found = [(d, read(tmp_path / f"delay-{d}-{seed}.nc")) for d in (0, 4, 9) for seed in (0, 1)]
    last = [f["lca"].astype(float)[:, f["layer_index"] == 2].sum() for _, f in found]
    slope, p = line_with_an_intercept_for_each_seed([d for d, _ in found], last, [0, 1] * 3)
    assert float(result["slope"]) == pytest.approx(slope, rel=1e-5)
    assert float(result["p"]) == pytest.approx(p, rel=1e-4)
    assert result["delay"].values.tolist() == [0, 4, 9]
    np.testing.assert_allclose(result["lca"], np.reshape(last, (3, 2)).mean(1), rtol=1e-5)


@pytest.mark.parametrize("delay", range(10))
def test_the_rate_makes_up_for_the_length_of_steps(delay):
    """Twin: momentum adds up gradients with the weights 1, m, m² …: lasting ones to their sum, noise to their norm."""

    def weights(d: int) -> np.ndarray:
        return (d / (d + 1)) ** np.arange(1000)

    assert delays.same_step(delay) * weights(delay).sum() == pytest.approx(weights(9).sum())
    assert delays.same_noise(delay) * np.linalg.norm(weights(delay)) == pytest.approx(np.linalg.norm(weights(9)))
    for name, factor in (("delays-same-step", delays.same_step), ("delays-same-noise", delays.same_noise)):
        (one,) = EXPERIMENTS[name].scales["small"].arms[f"delay-{delay}"].interventions
        assert (one.delay, one.lr_factor) == (delay, factor(delay))


ARGMIN = {"argmin": Derived("plain", lambda plain, path: frozen_after(plain, path))}


def frozen_after(plain: Run, path: Path) -> Run:
    """Freeze the last layer where, in the plain run, it was lowest; twin of the study, from the bare numbers."""
    file = read(path)
    course = file["lca"].astype(float)[:, file["layer_index"] == 2].sum(1).cumsum()
    return dataclasses.replace(plain, interventions=(Intervention("last", freeze=int(np.r_[0, course].argmin())),))


@pytest.mark.slow
def test_derived_arms_are_made_of_the_finished_runs_of_another(tmp_path):
    experiment = tiny({"plain": TINY})
    scales = {"small": dataclasses.replace(experiment.scales["small"], derived=ARGMIN)}
    outcome = run(dataclasses.replace(experiment, scales=scales), tmp_path)
    assert outcome.result["arm"].values.tolist() == ["plain", "argmin"]
    for seed in (0, 1):
        frozen, plain = read(tmp_path / f"argmin-{seed}.nc"), read(tmp_path / f"plain-{seed}.nc")
        step = frozen_after(TINY, tmp_path / f"plain-{seed}.nc").interventions[0].freeze
        last = frozen["layer_index"] == 2
        assert not frozen["lca"][step:, last].any()
        np.testing.assert_array_equal(frozen["lca"][:step], plain["lca"][:step])
    declared = EXPERIMENTS["last-layer"].scales["small"].derived["argmin"]
    made = declared.make(seeded(TINY, 0, None), tmp_path / "plain-0.nc").interventions
    assert made == (dataclasses.replace(frozen_after(TINY, tmp_path / "plain-0.nc").interventions[0], layer="fc3"),)


@pytest.mark.slow
def test_files_say_the_loss_over_the_test_set(tmp_path):
    experiment = tiny({"plain": TINY}, seeds=(0,), resolution="layer", test_loss=True)
    outcome = run(experiment, tmp_path)
    file = lk.open_trajectory(tmp_path / "plain-0.nc")
    assert "theta" not in file
    assert lk.validate(file).ok
    whole = training.record_run(seeded(TINY, 0, None), tmp_path / "whole.nc", quiet=True, validation=True)
    expected = lk.open_trajectory(whole.path)
    np.testing.assert_allclose(file["loss"], expected["loss"], rtol=1e-6)  # examples are in another order by class
    np.testing.assert_allclose(file["loss_val"], expected["loss_val"], rtol=1e-6)
    np.testing.assert_allclose(file["accuracy_val"], expected["accuracy_val"])
    assert float(outcome.result["final_loss_val"][0]) == pytest.approx(float(file["loss_val"][-1]))


@pytest.mark.slow
def test_a_file_without_its_test_loss_is_completed_not_trained_again(tmp_path, monkeypatch):
    run(tiny({"plain": TINY}, seeds=(0,), keep=("theta", "lca")), tmp_path)
    monkeypatch.setattr(directory, "record_run", None)
    experiment = tiny({"plain": TINY}, seeds=(0,), keep=("theta", "lca"), test_loss=True)
    assert run(experiment, tmp_path).failed == {}
    assert "loss_val" in lk.open_trajectory(tmp_path / "plain-0.nc")


@pytest.mark.slow
def test_claims_of_arms_without_a_finished_run_say_so(tmp_path):
    declared = EXPERIMENTS["last-layer"]
    arms = {"plain": TINY, "slow": dataclasses.replace(TINY, interventions=(Intervention("last", lr_factor=0.1),))}
    outcome = run(dataclasses.replace(declared, scales={"small": Scale(arms, (0, 1))}), tmp_path)
    rows = {row.split(" | ")[0][2:]: row for row in outcome.text.splitlines() if row.startswith("| ")}
    assert "better: lower, p < 0.001 | no finished run" in rows["final loss, frozen − plain"]
    final = [[read(tmp_path / f"{arm}-{seed}.nc")["loss"][-1] for seed in (0, 1)] for arm in ("slow", "plain")]
    lower = sum(slow < plain for slow, plain in zip(*final, strict=True))
    assert f"lower in {lower} of 2 pairs; p = " in rows["final loss, slow − plain"]
    assert "(Holm, over layers)" in rows["LCA of the last layer, plain"]
