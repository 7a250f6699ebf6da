"""What reviewers of the LCA paper asked: is LCA myopic, what if only helping moves were taken, rescaling, subsets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import lcakit as lk
from lcakit.analysis.fisher import fisher_diagonal
from lcakit.analysis.myopia import sign_agreement
from lcakit.experiments.helpful_only import Training, split_steps, train_helping_only
from lcakit.experiments.rescaling import compare_rescaled
from lcakit.experiments.subsampling import subset_accuracy
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import group_ids
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs
from tests.support.networks import dense, examples, flat, train


def recorded(model: nn.Module, data, steps: int = 8, **options) -> tuple[xr.Dataset, lk.Objective]:
    """A trajectory with LCA, and the objective (in float64) that allocated it."""
    theta = [flat(model).numpy()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.8)
    train(model, optimizer, *data, steps, each=lambda _: theta.append(flat(model).numpy()))
    objective = lk.Objective(model, data, precision="float64", **options)
    return lk.allocate(np.array(theta), objective, quiet=True), objective


# ---- is LCA myopic? -------------------------------------------------------------------------------------------------


def slow_agreement(a: np.ndarray, n: int, place: int) -> dict[str, float]:
    """Twin: one parameter, one window at a time."""
    agree = both = agree_others = both_others = squares = independent = pairs = 0.0
    for series in a.T:
        for t in range(len(series) - n + 1):
            window = series[t : t + n]
            single, others = window[place], np.delete(window, place).sum()
            agree += single * window.sum() > 0
            both += single * window.sum() != 0
            agree_others += single * others > 0
            both_others += single * others != 0
            squares += window.sum() ** 2
            independent += (window**2).sum()
            pairs += 1
    return {
        "agreement": agree / both,
        "agreement_others": agree_others / both_others,
        "rms": np.sqrt(squares / pairs),
        "growth": np.sqrt(squares / independent),
    }


@pytest.mark.slow
@given(any_chunks(), st.sampled_from(["start", "centre"]), st.lists(st.integers(2, 12), min_size=1, max_size=3))
def test_agreement_against_a_loop(chunks, at, windows):
    ds = tiny_trajectory(12)
    with nothing_computed():
        got = sign_agreement(rechunked(ds, chunks), windows, at)
    assert is_lazy(got["agreement"]) == (chunks is not None)
    assert got["window_size"].values.tolist() == windows
    for n in windows:
        slow = slow_agreement(ds["lca"].values.astype(np.float64), n, n // 2 if at == "centre" else 0)
        row = got.isel(window_size=windows.index(n)).compute()
        assert {name: float(row[name]) for name in row.data_vars} == pytest.approx(slow)


def test_what_lasts_and_what_does_not():
    ds = tiny_trajectory(400)
    rng = np.random.default_rng(0)
    noise = ds.assign(lca=ds["lca"].copy(data=rng.standard_t(2, ds["lca"].shape).astype(np.float32)))
    got = sign_agreement(noise, [2, 9])
    np.testing.assert_allclose(got["agreement_others"], 0.5, atol=0.02)
    np.testing.assert_allclose(got["growth"], 1, atol=0.1)
    lasting = ds.assign(lca=ds["lca"].copy(data=np.broadcast_to(ds["lca"][:1].values, ds["lca"].shape) * 1e-20))
    got = sign_agreement(lasting, [2, 9])
    np.testing.assert_allclose(got["agreement"], 1)
    np.testing.assert_allclose(got["agreement_others"], 1)
    np.testing.assert_allclose(got["growth"], [2**0.5, 3])


def test_agreement_of_runs_and_where_nothing_moves():
    a, b = tiny_trajectory(6), tiny_trajectory(6, seed=1)
    both = sign_agreement(two_runs(a, b).chunk(iteration=2, parameter=9), [3])
    assert both["rms"].dims == ("run", "window_size")
    xr.testing.assert_allclose(both.sel(run="y", drop=True).compute(), sign_agreement(b, [3]))
    still = sign_agreement(a.assign(lca=a["lca"] * 0), [3])
    assert np.isnan(still["agreement"]).all()
    assert (still["rms"] == 0).all()


@pytest.mark.parametrize(("iterations", "sizes"), [(2, [2]), (30, [2, 10]), (120, [2, 10, 100])])
def test_default_windows_are_those_the_run_is_long_enough_for(iterations, sizes):
    assert sign_agreement(tiny_trajectory(iterations))["window_size"].values.tolist() == sizes


def test_a_window_needs_two_iterations():
    for windows in (None, [2]):
        with pytest.raises(ValueError, match="a single iteration, and a window needs 2"):
            sign_agreement(tiny_trajectory(1), windows)
    every = sign_agreement(tiny_trajectory(4).assign_attrs(every=5))
    assert every["window_size"].attrs["long_name"] == "recorded iterations of a window (each of 5 steps)"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"windows": []}, "windows is empty"),
        ({"windows": [1]}, "2 to 5 iterations.*got 1"),
        ({"windows": [6]}, "the run has 5"),
        ({"windows": [2.5]}, "got 2.5"),
        ({"at": "end"}, "'start', 'centre'"),
        ({"lca": "lca_unit_class"}, "expected 'iteration' and 'parameter'"),
    ],
)
def test_bad_windows_are_named(options, says):
    with pytest.raises(ValueError, match=says):
        sign_agreement(tiny_trajectory(5), **options)


# ---- only what helps ------------------------------------------------------------------------------------------------


def separable(seed: int = 0) -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """A network whose loss is (1/6) Σ (w − y)²: no parameter's contribution depends on another."""
    g = torch.Generator().manual_seed(seed)
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.randn(2, 3, generator=g))
    return model, (torch.eye(3), torch.randn(3, 2, generator=g))


def test_without_interaction_each_part_does_what_its_lca_says():
    model, data = separable()
    theta = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    objective = lk.Objective(model, data, loss="mse", precision="float64")
    ds = lk.allocate(theta, objective, quiet=True)
    got = split_steps(ds, objective, quiet=True)
    assert (got["share"].sel(part="hurting") > 0).any()
    np.testing.assert_allclose(got["predicted"], got["actual"], atol=1e-6)
    gradient, move = ds["gradient"].values[:-1], np.diff(theta, axis=0)
    helps = np.where(ds["lca"] < 0, gradient * move, 0).sum(1)
    np.testing.assert_allclose(got["first_order"].sel(part="helping"), helps, rtol=1e-5, atol=1e-7)


def test_parts_of_a_step_against_the_loss_itself():
    ds, objective = recorded(dense(), examples(40))
    got = split_steps(ds, objective, [2, 5], quiet=True)
    assert got["iteration"].values.tolist() == [2, 5]
    here, there = ds["theta"].values[5:7].astype(np.float64)
    for part, mask in {"helping": ds["lca"][5] < 0, "hurting": ds["lca"][5] > 0, "all": ds["lca"][5] < 9}.items():
        row = got.sel(iteration=5, part=part)
        change = objective.loss(np.where(mask, there, here)) - objective.loss(here)
        assert float(row["actual"]) == pytest.approx(change, abs=1e-12)
        assert float(row["predicted"]) == pytest.approx(float(ds["lca"][5].values[mask].sum()), rel=1e-4)
        assert float(row["share"]) == mask.values.mean()


def test_training_with_helping_moves_only_against_a_simulation():
    rate, momentum, steps = 1.0, 0.9, 12

    def start() -> Training:
        model, data = separable()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
        objective = lk.Objective(model, data, loss="mse", precision="float64")

        def step() -> None:
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(data[0]), data[1]).backward()
            optimizer.step()

        return Training(objective, step)

    got = train_helping_only(start, steps, quiet=True)
    model, (_, y) = separable()
    for part in ("all", "helping"):
        w, target = model.weight.detach().numpy().astype(np.float64), y.numpy().T
        velocity, losses, shares = 0 * w, [((w - target) ** 2).sum() / 6], []
        for _ in range(steps):
            velocity = momentum * velocity + (w - target) / 3
            there = w - rate * velocity
            helps = (there - target) ** 2 < (w - target) ** 2 if part == "helping" else np.full(w.shape, True)
            w = np.where(helps, there, w)
            losses.append(((w - target) ** 2).sum() / 6)
            shares.append(helps.mean())
        np.testing.assert_allclose(got["loss"].sel(part=part), losses, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(got["share"].sel(part=part), shares)
    np.testing.assert_allclose(got["predicted"], got["actual"], atol=1e-6)
    assert float(got["share"].sel(part="helping").min()) < 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda ds, o: (ds, o, [99]), "unknown iteration"),
        (lambda ds, o: (ds.drop_vars("theta"), o), 'keep=\\("theta"'),
        (lambda ds, o: (ds.isel(iteration=[0]), o), "got sizes snapshot 3, iteration 1"),
        (lambda ds, o: (ds, lk.Objective(dense(), examples(30, seed=5))), "it is another objective"),
        (lambda ds, o: (ds, lk.Objective(dense(classes=2), examples(40, classes=2))), "other parameters"),
    ],
)
def test_other_objectives_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        split_steps(*change(*recorded(dense(), examples(40), steps=2)), quiet=True)


# ---- rescaling, subsets ---------------------------------------------------------------------------------------------


def test_shares_of_lca_stay_and_those_of_fisher_follow_the_parametrization():
    ds, objective = recorded(dense(activation=nn.ReLU), examples(40))
    got = compare_rescaled(ds, objective, "0", "2", factor=8.0, quiet=True)
    before, after = got.sel(network="recorded"), got.sel(network="rescaled")
    np.testing.assert_allclose(after["lca"], before["lca"], rtol=1e-5)
    np.testing.assert_allclose(after["lca_share"], before["lca"] / before["lca"].sum(), rtol=1e-5)
    expected = fisher_diagonal(ds, by="tensor") * [1 / 64, 1 / 64, 64, 1]
    np.testing.assert_allclose(after["fisher_share"], expected / expected.sum(), rtol=1e-5)
    np.testing.assert_allclose(after["final_loss"], before["final_loss"], rtol=1e-6)
    assert float(abs(after["fisher_share"] - before["fisher_share"]).max()) > 0.1


def test_a_recorded_path_is_allocated_again_by_the_rule_of_its_file():
    data = examples(40)
    model = dense(activation=nn.ReLU)
    ds, objective = recorded(model, data, steps=4)
    coarse = lk.allocate(ds["theta"].values, objective, rule="first_order", tolerance=None, quiet=True)
    got = compare_rescaled(coarse, objective, "0", "2", quiet=True)["lca"]
    np.testing.assert_allclose(got.sel(network="rescaled"), got.sel(network="recorded"), rtol=1e-5)
    with pytest.raises(ValueError, match="it is another objective"):
        compare_rescaled(ds, lk.Objective(model, examples(30, seed=5)), "0", "2", quiet=True)
    unrefined = lk.allocate(ds["theta"].values, objective, tolerance=1e-12, max_splits=2, quiet=True)
    got = subset_accuracy(unrefined, lambda index: objective, [1.0], seeds=[0], quiet=True)
    assert (got["relative_error"] == 0).all()


def test_subsets_against_allocations_of_their_own():
    data = examples(40)
    model = dense()
    ds, _ = recorded(model, data, steps=4)

    def objective_on(index: np.ndarray) -> lk.Objective:
        return lk.Objective(model, (data[0][index], data[1][index]), precision="float64")

    got = subset_accuracy(ds, objective_on, [0.25, 1.0], seeds=[0, 7], quiet=True)
    assert got["examples"].values.tolist() == [10, 40]
    np.testing.assert_allclose(got["correlation"].sel(fraction=1.0), 1, rtol=1e-9)
    np.testing.assert_allclose(got["relative_error"].sel(fraction=1.0), 0, atol=1e-6)
    np.testing.assert_allclose(got["sign_agreement"].sel(fraction=1.0), 1)
    index = np.sort(np.random.default_rng(7).permutation(40)[:10])
    part = lk.allocate(ds[["theta"]].assign_coords(ds.coords), objective_on(index), quiet=True)["lca"].values
    for name, resolution in {"unit": "unit", "layer": "layer"}.items():
        ids = group_ids(ds, name)[0]
        a, b = (np.stack([x[:, ids == g].sum(1) for g in np.unique(ids)]) for x in (ds["lca"].values, part))
        row = got.sel(seed=7, fraction=0.25, resolution=resolution)
        assert float(row["correlation"]) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], rel=1e-4)
        assert float(row["relative_error"]) == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-4)
        assert float(row["sign_agreement"]) == ((a > 0) == (b > 0)).mean()
    with pytest.raises(ValueError, match=r"at most 1, got 1\.5"):
        subset_accuracy(ds, objective_on, [1.5])
