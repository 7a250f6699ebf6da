"""The noisy quadratic recorded like a network: file, labels and studies against the closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

import lcakit as lk
from lcakit.errors import DivergedError, LcakitWarning
from lcakit.landscapes import nqm
from lcakit.landscapes.nqm import NoisyQuadratic, Optimizer, paper_problem

SETTINGS = [
    Optimizer(0.5),
    Optimizer(0.1, momentum=0.9),
    Optimizer(0.2, momentum=0.5, preconditioning=0.5),
    Optimizer(0.5, averaging=0.9),
]


def make(tmp_path, optimizer=SETTINGS[0], iterations=60, directions=120, **options) -> xr.Dataset:
    path = nqm.record(paper_problem(directions), optimizer, tmp_path / "run.nc", 4, iterations, quiet=True, **options)
    return lk.open_trajectory(path)


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", SETTINGS, ids=str)
def test_a_recording_is_sound_and_its_lca_is_the_closed_form(tmp_path, optimizer):
    ds, p = make(tmp_path, optimizer), paper_problem(120)
    assert lk.validate(ds).ok
    assert ds.sizes["iteration"] == 60
    theta = ds["theta"].astype(np.float64)
    np.testing.assert_allclose(ds["loss"], p.loss(theta.values), rtol=1e-6)
    exact = nqm.lca(p, theta)
    assert exact["iteration"].equals(ds["iteration"])
    np.testing.assert_allclose(ds["lca"], exact, rtol=1e-4, atol=1e-7)
    assert float(abs(ds["residual"]).max()) < 1e-5


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", SETTINGS, ids=str)
def test_training_has_the_expected_loss(optimizer):
    """Many short runs of the torch loop: the mean loss lies within five sigma of the closed form."""
    p, runs, steps = paper_problem(12), 120, 8
    losses = np.empty(runs)
    for seed in range(runs):
        model = nqm.QuadraticModel(p, seed)
        opt, noise = nqm.make_optimizer(p, model, optimizer), nqm.Noise(p, 4, seed)
        shown = flat(model)
        for _ in range(steps):
            opt.zero_grad()
            model(next(noise)).mean().backward()
            opt.step()
            shown = optimizer.averaging * shown + (1 - optimizer.averaging) * flat(model)
        losses[seed] = p.loss(shown)
    expected = nqm.expected_loss(p, optimizer, 4, steps).item()
    assert abs(losses.mean() - expected) < 5 * losses.std() / math.sqrt(runs)


def flat(model) -> np.ndarray:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()]).double().numpy()


@pytest.mark.slow
def test_labels_say_which_curvature(tmp_path):
    ds = nqm.with_curvature(make(tmp_path), paper_problem(120))
    assert ds["layer"].values.tolist() == ["directions_1_9", "directions_10_99", "directions_100_120"]
    assert ds["tensor"].values[1] == "directions_10_99.theta"
    np.testing.assert_array_equal(ds["direction"], np.arange(1, 121))
    np.testing.assert_allclose(ds["curvature"] * ds["direction"], 1)
    np.testing.assert_array_equal(ds["unit_index"], np.arange(120))
    np.testing.assert_allclose(ds["gradient"], ds["theta"] * ds["curvature"], rtol=1e-5)
    own = make(tmp_path / "own", bands=(1, 3, 50))
    assert own["layer"].values.tolist() == ["directions_1_2", "directions_3_49", "directions_50_120"]
    with pytest.raises(ValueError, match="120 parameters and the problem 10 directions"):
        nqm.with_curvature(ds, paper_problem(10))
    for bands in ((2, 5), (1, 1), (1, 121), ()):
        with pytest.raises(ValueError, match="bands must be ascending directions from 1 to at most 120"):
            nqm.bands_of(paper_problem(120), bands)


@pytest.mark.slow
def test_fraction_helping_of_a_recording_is_the_expected_one(tmp_path):
    """Directions are independent, so the share of helping entries has a binomial spread at most (plus none in time)."""
    p, o = paper_problem(2000), Optimizer(0.5, momentum=0.5)
    ds = make(tmp_path, o, iterations=30, directions=2000)
    measured = lk.noise.help_hurt_zero(ds).sel(outcome="helping")
    exact = nqm.expected_helping(p, o, 4, range(30))["helping"]
    sigma = np.sqrt((exact * (1 - exact)).sum("direction")) / 2000
    assert (abs(measured - exact.mean("direction")) < 5 * sigma).all()
    osc = nqm.expected_oscillation(p, o, 4, range(30))
    for counts, chance in (
        (lk.oscillation.weight_turns(ds), osc["turn"].isel(iteration=slice(0, 29))),
        (lk.oscillation.gradient_crossings(ds), osc["crossing"]),
    ):
        total = chance.sum("iteration").values
        # one direction's count varies more than a binomial one; over directions they are independent
        assert abs(counts.mean() - total.mean()) < 5 * counts.std() / math.sqrt(2000)


@pytest.mark.slow
def test_given_probabilities_along_a_recording(tmp_path):
    p = paper_problem(500)
    ds = make(tmp_path, Optimizer(0.8), iterations=40, directions=500)
    chance = nqm.probability_helping(p, Optimizer(0.8), ds["theta"].isel(snapshot=slice(0, -1)), 4)
    helps = ds["lca"].values < 0
    sigma = np.sqrt((chance * (1 - chance)).sum())
    assert abs(helps.sum() - chance.sum()) < 5 * sigma


def test_studies_work_on_it(tmp_path):
    ds = make(tmp_path, SETTINGS[1], classes=3)
    assert lk.validate(ds).ok
    assert ds["lca_unit_class"].sizes["class"] == 3
    np.testing.assert_allclose(ds["lca_unit_class"].sum("class"), ds["lca"], rtol=1e-4, atol=1e-6)
    change = float(ds["loss"][-1] - ds["loss"][0])
    for by in ("layer", "kernel_layer"):
        layers = lk.layers.layer_lca(ds, by)
        assert layers["layer"].size == 3
        assert float(layers.sum()) == pytest.approx(change, rel=1e-4)
    assert lk.noise.fraction_helping(ds, by="layer")["layer"].size == 3
    assert lk.noise.fraction_helping(ds, by="class", lca="lca_unit_class")["class"].size == 3
    assert lk.aggregate.sum_by(ds, "unit").sizes["unit"] == 120
    assert lk.oscillation.iterations_per_turn(ds) > 1
    assert lk.account(ds).iterations == 60


def test_a_trajectory_without_torch_is_like_a_recording():
    p = paper_problem(120)
    for o in SETTINGS:
        ds = nqm.trajectory(p, o, 4, 60, seed=3)
        assert lk.validate(ds).ok
        np.testing.assert_allclose(ds["lca"], nqm.lca(p, ds["theta"]), rtol=1e-5, atol=1e-12)
        again = nqm.simulate(p, o, 4, range(61), seed=3, theta=True)
        np.testing.assert_allclose(ds["theta"], again["theta"].isel(run=0), rtol=1e-6)
        assert lk.layers.layer_lca(ds).sizes["layer"] == 3
    assert lk.testing.chunked(ds, {"iteration": 7, "parameter": 11})["lca"].chunks is not None
    with pytest.raises(ValueError, match="iterations must be at least 1"):
        nqm.trajectory(p, o, 4, 0)


@pytest.mark.slow
def test_a_recording_resumes_exactly(tmp_path):
    p = paper_problem(30)
    for n, o in enumerate(SETTINGS):
        whole = lk.open_trajectory(nqm.record(p, o, tmp_path / f"whole{n}.nc", 4, 20, quiet=True))
        path = tmp_path / f"cut{n}.nc"
        model_step = nqm.Noise.__next__
        left = iter(range(12))

        def stop(self, left=left, step=model_step):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return step(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nqm.Noise, "__next__", stop)
            with pytest.raises(KeyboardInterrupt):
                nqm.record(p, o, path, 4, 20, quiet=True, block_rows=4)
        again = lk.open_trajectory(nqm.record(p, o, path, 4, 20, quiet=True, block_rows=4, resume=True))
        np.testing.assert_array_equal(again["theta"], whole["theta"])


def test_divergence_is_reported(tmp_path):
    p, o = paper_problem(5), Optimizer(50.0)
    with pytest.warns(LcakitWarning, match="unstable"), pytest.raises(DivergedError, match="not finite after"):
        nqm.trajectory(p, o, 1, 100)
    with pytest.warns(LcakitWarning, match="unstable"), pytest.raises(DivergedError):
        nqm.record(p, o, tmp_path / "run.nc", 1, 100, quiet=True)


def test_model_and_objective():
    p = NoisyQuadratic([1.0, 0.5, 0.25], start_mean=[1.0, 2.0, -1.0], start_variance=0.0)
    model = nqm.QuadraticModel(p)
    objective = nqm.make_objective(p, model)
    assert objective.loss() == pytest.approx(0.5 * (1 + 2 + 0.25))
    np.testing.assert_allclose(objective.gradient(), [1.0, 1.0, -0.25])
    by_class = nqm.make_objective(p, model, classes=4)
    assert by_class.loss() == pytest.approx(objective.loss(), rel=1e-5)
    np.testing.assert_allclose(by_class.gradient(classes=True).sum(0), objective.gradient(), atol=1e-6)
    assert torch.equal(next(nqm.Noise(p, np.inf)), torch.zeros(1, 3))
    noise = nqm.Noise(p, 2, seed=1)
    drawn = torch.cat([next(noise) for _ in range(20_000)]).double().numpy()
    np.testing.assert_allclose(drawn.var(0), p.noise / 2, rtol=5 * math.sqrt(2 / 20_000))
    with pytest.raises(ValueError, match="at least 2, got 1"):
        nqm.make_objective(p, model, classes=1)
    with pytest.raises(ValueError, match="preconditioning divides"):
        nqm.make_optimizer(NoisyQuadratic([0.0, 1.0]), model, Optimizer(0.1, preconditioning=0.5))
