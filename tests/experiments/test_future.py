"""Training with constraints, pruning and held-back overfitting: against twins, closed forms and tiny experiments."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import lcakit as lk
from lcakit.errors import TrajectoryError
from lcakit.experiments.batches import Batches
from lcakit.experiments.constrained import train_constrained, train_to_end
from lcakit.experiments.data import load
from lcakit.experiments.declared import EXPERIMENTS, Scale
from lcakit.experiments.interventions import Intervention
from lcakit.experiments.overfitting import overfitting_groups, stopping_iterations
from lcakit.experiments.pruning import compare_pruned, importance, kept
from lcakit.experiments.run import run_of
from lcakit.experiments.subsets import left_over, mislabelled, subset
from lcakit.experiments.training import make_model, make_objective, record_run
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import group_ids
from tests.support.networks import flat
from tests.support.sweeps import TINY, run

RUN = dataclasses.replace(TINY, label_noise=0.25).resolved()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> xr.Dataset:
    path = tmp_path_factory.mktemp("future") / "plain.nc"
    record_run(RUN, path, quiet=True, classes=None)
    return lk.open_trajectory(path).load()


# ---- training with constraints --------------------------------------------------------------------------------------


def test_without_constraints_it_is_the_recorded_run(recorded):
    assert run_of(recorded) == RUN
    np.testing.assert_array_equal(list(train_constrained(RUN, RUN.data())), recorded["theta"])
    np.testing.assert_array_equal(train_to_end(RUN, RUN.data()), recorded["theta"][-1])


def test_a_layer_that_stops_is_a_frozen_layer(recorded, tmp_path):
    frozen = dataclasses.replace(RUN, interventions=(Intervention("last", freeze=3),))
    record_run(frozen, tmp_path / "frozen.nc", quiet=True, classes=None, keep=("theta",))
    until = np.where(recorded["layer_index"].values == 2, 3, 6)
    path = list(train_constrained(RUN, RUN.data(), frozen_from=until))
    np.testing.assert_array_equal(path, lk.open_trajectory(tmp_path / "frozen.nc")["theta"])


def test_decay_of_all_is_that_of_torch():
    data, model = RUN.data(), make_model(RUN, RUN.data())
    optimizer = torch.optim.SGD(model.parameters(), lr=RUN.learning_rate, momentum=RUN.momentum, weight_decay=0.3)
    for index in itertools.islice(Batches(len(data.x_train), RUN.batch_size, RUN.seed), RUN.iterations):
        optimizer.zero_grad()
        F.cross_entropy(model(data.x_train[index]), data.y_train[index]).backward()
        optimizer.step()
    np.testing.assert_allclose(train_to_end(RUN, data, decay=0.3), flat(model), rtol=1e-5, atol=1e-7)


def test_decay_of_one_parameter_changes_no_other_in_the_first_step(recorded):
    rates = np.where(np.arange(12060) == 7, 0.5, 0.0)
    steps = [list(itertools.islice(train_constrained(RUN, RUN.data(), decay=d), 2)) for d in (0.0, rates)]
    change = steps[1][1].astype(float) - steps[0][1]
    assert np.flatnonzero(change).tolist() == [7]
    assert change[7] == pytest.approx(-RUN.learning_rate * 0.5 * steps[0][0][7], rel=1e-3)


def test_what_is_not_one_number_for_each_parameter_is_refused():
    for name in ("start", "decay", "frozen_from"):
        with pytest.raises(ValueError, match=rf"{name} must have one number for each parameter, shape \(12060,\); got"):
            next(train_constrained(RUN, RUN.data(), **{name: np.zeros(3)}))


# ---- data -----------------------------------------------------------------------------------------------------------


def test_a_subset_and_what_it_leaves_are_the_training_set():
    data = load("digits")
    part, (x, y) = subset(data, 37), left_over(data, 37)
    assert len(part.y_train) + len(y) == len(data.y_train)
    pixels = [torch.cat([a, b]).sum(0) for a, b in ((part.x_train, x), (data.x_train, data.x_train[:0]))]
    torch.testing.assert_close(*pixels)
    assert y.bincount().tolist() == (data.y_train.bincount() - part.y_train.bincount()).tolist()


def test_wrong_labels_are_wrong_and_as_many_as_asked_for():
    data = load("digits")
    for share in (0.0, 0.1, 1.0):
        changed = mislabelled(data, share)
        assert int((changed.y_train != data.y_train).sum()) == round(share * 1500)
        assert changed.y_train.bincount(minlength=10).min() > 0
    torch.testing.assert_close(mislabelled(data, 0.1).y_train, mislabelled(data, 0.1).y_train)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.2"):
        mislabelled(data, 1.2)


# ---- pruning --------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 2)), min_size=1, max_size=12),
    st.sampled_from([0, 0.3, 0.5, 1]),
)
def test_what_is_kept_against_sorting_by_hand(weights, sparsity):
    values, groups = (np.array(column) for column in zip(*weights, strict=True))
    expected = set(range(len(weights)))
    for group in {g for g in groups.tolist() if g >= 0}:
        members = sorted((k for k in expected if groups[k] == group), key=lambda k: (values[k], -k))
        expected -= set(members[: round(sparsity * len(members))])
    assert set(np.flatnonzero(kept(values.astype(float), sparsity, groups))) == expected


def test_importance_by_its_definition(recorded):
    lca, theta = recorded["lca"].values.astype(float), recorded["theta"].values.astype(float)
    np.testing.assert_allclose(importance(recorded, "lca"), -lca.sum(0))
    np.testing.assert_array_equal(importance(recorded, "magnitude"), abs(theta[-1]))
    np.testing.assert_array_equal(importance(recorded, "movement"), abs(theta[-1] - theta[0]))
    running = recorded.drop_vars("lca").assign(total_lca=("parameter", lca.sum(0)))
    np.testing.assert_array_equal(importance(running, "lca"), importance(recorded, "lca"))
    assert (importance(recorded, "random", 1) != importance(recorded, "random", 2)).any()


def test_a_pruned_network_against_one_pruned_by_hand(recorded):
    test = make_objective(RUN, make_model(RUN, RUN.data()), RUN.data(), "test")
    found = compare_pruned(recorded, RUN, test, [0, 0.6], criteria=["magnitude"], iterations=2)
    first, last = recorded["theta"].values[[0, -1]]
    np.testing.assert_allclose(found["loss"].sel(sparsity=0), test.loss(last))
    offset, size = recorded["tensor_offset"].values, recorded["tensor_size"].values
    pruned, undone = last.copy(), last.copy()
    for k, role in enumerate(recorded["tensor_role"].values.astype(str)):
        if role == "kernel":
            here = slice(offset[k], offset[k] + size[k])
            smallest = np.argsort(abs(last[here]))[: round(0.6 * size[k])] + offset[k]
            pruned[smallest], undone[smallest] = 0, first[smallest]
    at = found.sel(sparsity=0.6, ranking="layer", criterion="magnitude")
    assert float(at["loss"]) == pytest.approx(test.loss(pruned))
    assert float(at["undone_loss"]) == pytest.approx(test.loss(undone))
    two = dataclasses.replace(RUN, iterations=2)
    trained = train_to_end(two, RUN.data(), start=pruned, frozen_from=np.where(pruned == 0, 0, 2))
    assert (trained[pruned == 0] == 0).mean() > 0.99  # all but biases that are still exactly zero
    assert float(at["retrained_loss"]) == pytest.approx(test.loss(trained), rel=1e-3)


def test_wrong_words_and_shares_of_pruning_are_refused(recorded):
    with pytest.raises(ValueError, match="'magnitude'"):
        importance(recorded, "magnitud")
    with pytest.raises(ValueError, match="0 to 1; got 2"):
        kept(np.zeros(3), 2, np.zeros(3, int))
    with pytest.raises(ValueError, match="unknown ranking 'layers'"):
        compare_pruned(recorded, RUN, None, [0.5], rankings=["layers"])
    with pytest.raises(TrajectoryError, match="theta"):
        importance(recorded.drop_vars("theta"), "movement")


# ---- overfitting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["unit", "kernel_layer"])
def test_who_overfits_and_where_it_stops_against_loops(by):
    ds = tiny_trajectory(9, seed=3)
    ds = ds.assign(lca_val=ds["lca"].roll(parameter=5, roll_coords=False))
    ids, _ = group_ids(ds, by)
    for start in (0, 4):
        found = overfitting_groups(ds, by, start)
        for group, overfits in enumerate(found.values):
            train, validation = (ds[name].values[start:, ids == group].sum() for name in ("lca", "lca_val"))
            assert overfits == (train < 0 < validation)
    for group, stop in enumerate(stopping_iterations(ds, by).values):
        sums = [ds["lca_val"].values[:t, ids == group].astype(float).sum() for t in range(10)]
        assert sums[stop] == pytest.approx(min(sums), abs=1e-6)


# ---- declared -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pruning", "overfitting"])
def test_future_work_on_a_tiny_run(name, tmp_path, monkeypatch):
    monkeypatch.setattr("lcakit.experiments.declared.future._SPARSITIES", (0.8, 0.95))
    monkeypatch.setattr("lcakit.experiments.declared.future._DECAYS", (1e-3, 1e-1))
    declared = EXPERIMENTS[name]
    outcome = run(dataclasses.replace(declared, scales={"small": Scale({"plain": RUN}, (0, 1, 2))}), tmp_path)
    assert outcome.failed == {}
    assert all(claim.what in outcome.text for claim in declared.claims)
    assert "nan" not in outcome.text
    if name == "pruning":
        kept = xr.open_mfdataset(sorted(tmp_path.glob("pruned-of-*.nc")), combine="nested", concat_dim="run")
        _check_p(outcome.result["retrained_loss_p"], kept["retrained_loss"], "criterion", "lca")
    else:
        kept = xr.open_mfdataset(sorted(tmp_path.glob("regularized-of-*.nc")), combine="nested", concat_dim="run")
        _check_p(outcome.result["p_none"], kept["test_loss"], "treatment", "none")
        np.testing.assert_allclose(
            outcome.result["test_loss"].sel(treatment="decay"), kept["test_loss"].sel(treatment="decay").mean("run")
        )


def _check_p(p: xr.DataArray, found: xr.DataArray, dim: str, base: str) -> None:
    """Compare with paired t-tests and Holm's correction, done entry by entry."""
    assert np.isnan(p.sel({dim: base})).all()
    others = found.drop_sel({dim: base}).load()
    before = found.sel({dim: base}).load()
    stacked = [name for name in p.dims if name != dim]
    raw = {}
    for entry in itertools.product(others[dim].values, *(found[name].values for name in stacked)):
        at = dict(zip((dim, *stacked), entry, strict=True))
        rest = {name: at[name] for name in stacked}
        raw[entry] = float(stats.ttest_rel(others.sel(at), before.sel(rest)).pvalue)
    order = sorted((entry for entry in raw if not np.isnan(raw[entry])), key=lambda entry: raw[entry])
    largest = 0.0
    for k, entry in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - k) * raw[entry]))
        at = dict(zip((dim, *stacked), entry, strict=True))
        assert float(p.sel(at)) == pytest.approx(largest, rel=1e-6)
