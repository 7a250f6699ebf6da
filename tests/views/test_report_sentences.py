"""The sentences of a report say what its pictures show; its choices of classes and runs."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("holoviews")

import lcakit as lk
from lcakit.analysis.layerwise import layer_lca
from lcakit.plot import _colours
from lcakit.testing import tiny_trajectory
from lcakit.views.report import context, noise, over_time, writing
from lcakit.views.report.context import Subject, number, percent


def test_sentences_say_what_the_pictures_show(monkeypatch):
    ds = tiny_trajectory(30)
    known = Subject(ds, lk.account(ds))
    monkeypatch.setattr(context, "MOST_PIXELS", 10)
    monkeypatch.setitem(_colours._SETTING, "signs", "blue-orange")
    sums = layer_lca(ds).values.reshape(10, 3, 2).sum(1)
    start = 3 * int(np.abs(sums).argmax() // 2)
    said = over_time._layer_map(known, "")
    assert said.startswith(f"Blue lowers the loss, orange raises it: {percent((sums > 0).mean())} of these cells are")
    assert f"in iterations {start} to {start + 2}, {number(sums.flat[np.abs(sums).argmax()], 'nats', True)}." in said
    worse = ds.assign(lca=np.abs(ds["lca"]))
    assert over_time._layers(Subject(worse, lk.account(worse))).startswith("No layer lowered the loss: all together")
    still = ds["theta"].where(ds["tensor_index"] == ds["tensor_index"][-1], 0.0)
    for theta, words in ((still, "Movement follows"), (ds["theta"] * 0, "No layer moves")):
        assert noise._lag(Subject(ds.assign(theta=theta), known.account)).startswith(words)
    counts = lk.noise.helped_histogram(ds)
    often = counts.values[counts["left"].values >= 0.5].sum() / counts.values.sum()
    assert noise._helped(known).endswith(f"{percent(often)} help at least half of the time.")


def test_of_many_classes_those_with_the_largest_lca_are_taken():
    ds = tiny_trajectory(5, classes=[f"c{n}" for n in range(14)])
    large = xr.where(ds["class"].isin(["c3", "c13"]), 100.0, 1.0) * ds["lca_unit_class"]
    small = xr.where(ds["class"].isin(["c0", "c7"]), 0.0, large)
    chosen = writing._subject(ds.assign(lca_unit_class=small), lk.account(ds), [], None).classes
    assert chosen == [f"c{n}" for n in range(14) if n not in (0, 7)]


def test_runs_of_one_name_keep_their_accounts(monkeypatch):
    runs = [tiny_trajectory(5, seed=seed) for seed in range(3)]
    ds = xr.concat(runs, xr.Variable("run", ["a (2)", "a", "a"]), data_vars="all", coords="minimal", compat="override")
    accounts = writing._accounts(ds)
    assert [one.lca_sum for one in accounts.values()] == [lk.account(one).lca_sum for one in runs]
    assert "are listed" not in writing._account(accounts, 3)
    monkeypatch.setattr(writing, "MOST_RUNS", 2)
    assert "The first 2 of 3 runs are listed" in writing._account(writing._accounts(ds), 3)


def test_no_turn_is_said_in_words():
    def turns(ds):
        return noise._turns(Subject(ds, lk.account(ds, quiet=True)))

    ds = tiny_trajectory(30)
    still = ds.assign({name: ds[name] * 0 for name in ("theta", "gradient")})
    assert turns(ds).startswith("In the mean a weight turns around once in ")
    assert turns(still) == "No weight turns around; no gradient crosses zero."
    assert turns(ds.assign(theta=still["theta"])).startswith("In the mean a gradient crosses zero once in ")
    assert turns(tiny_trajectory(1)).endswith("o weight turns around.")
    runs = xr.concat([ds, still], xr.Variable("run", ["a", "b"]), data_vars="all", coords="minimal", compat="override")
    assert noise._turns(Subject(runs, lk.account(ds))) == turns(ds)
