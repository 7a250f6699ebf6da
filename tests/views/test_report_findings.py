"""The findings that open a report: computed from the numbers of the file, the most remarkable first to be kept."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("holoviews")

import lcakit as lk
from lcakit.analysis.account import account
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from lcakit.views.report import findings, writing
from lcakit.views.report.context import number, percent
from tests.support.pages import both_objectives, write

WIDE = (
    TensorSpec("a.weight", (15, 4), "kernel", "a", "linear"),
    TensorSpec("b.weight", (5, 15), "kernel", "b", "linear"),
)


def made(ds):
    return {one.title: one for one in findings.found(writing._subject(ds, account(ds, quiet=True), [], []))}


def with_loss(ds, loss):
    return ds.assign(loss=("snapshot", np.asarray(loss, float)))


def test_half_of_the_fall():
    ds = with_loss(tiny_trajectory(4), [3, 2.9, 1.9, 1.1, 1])
    one = made(ds)["Where the loss falls"]
    assert "from 3 to 1 nats; half of that is done after 2 of 4 iterations (50 % of the training)" in one.sentence
    assert one.weight == 0
    rising = made(with_loss(ds, [1, 2, 3, 4, 5]))["The loss does not fall"]
    assert rising.weight == 1
    assert rising.sentence == "The loss does not fall: it goes from 1 to 5 nats."


def test_steps_back_are_counted():
    ds = with_loss(tiny_trajectory(4), [3, 3.5, 2, 2, 1])
    one = made(ds)["Steps back"]
    assert one.sentence.startswith("25 % of the iterations raise the loss; the worst, iteration 0, by 0.5 nats")
    assert "No iteration raises the loss." in made(with_loss(ds, [5, 4, 3, 2, 1]))["Steps back"].sentence


@pytest.mark.parametrize("sign", [1, -1])
def test_layers_that_hurt_or_help(sign):
    ds = tiny_trajectory(6)
    fc = ds["layer_index"].values == 2 if "layer_index" in ds else None
    lca = -np.abs(ds["lca"].values) if fc is None else np.where(fc, sign, -1) * np.abs(ds["lca"].values)
    ds = ds.drop_vars("lca_unit_class").assign(lca=(("iteration", "parameter"), lca))
    totals = lk.layers.layer_lca(ds).sum("iteration").to_series()
    found = made(ds)
    hurting = totals[totals > 0]
    if hurting.size:
        said = found["Layers that hurt"].sentence
        assert number(hurting.sum(), "nats", True) in said
        assert all(layer in said for layer in hurting.index)
        assert found["Layers that hurt"].weight > 0.6
    else:
        said = found["Which layer learns"].sentence
        assert f"{totals.idxmin()} alone does {percent(totals.min() / totals.sum())}" in said


def test_noise_units_and_classes():
    ds = tiny_trajectory(8, layers=WIDE)
    found = made(ds)
    share = float(np.mean([(row < 0).sum() / (row != 0).sum() for row in ds["lca"].values]))
    assert percent(share) in found["Learning is noisy"].sentence
    units = np.sort(ds["lca_unit_class"].sum(("iteration", "class"), dtype=float).values)
    best = percent(units[:2].sum() / units[units < 0].sum())
    assert f"The strongest tenth of the units (2 of 20) does {best}" in found["Few units do much"].sentence
    parts = ds["loss_class"].values[-1]
    top = str(ds["class"].values[parts.argmax()])
    assert f"Class {top} is {percent(parts.max() / parts.sum())}" in found["The hardest class"].sentence


def test_the_most_remarkable_are_kept_in_order():
    ds = both_objectives()
    s = writing._subject(ds, account(ds, quiet=True), [], [])
    every = findings.found(s)
    kept = [group.title for group in findings.section(s).groups]
    assert len(kept) == findings.MOST < len(every)
    assert kept == [one.title for one in every if one.title in kept]
    least = min(one.weight for one in every if one.title in kept)
    assert all(one.weight <= least for one in every if one.title not in kept)
    assert all(0 <= one.weight <= 1 for one in every)


def test_a_file_that_holds_little_has_few_findings():
    ds = tiny_trajectory(5).drop_vars(["lca", "lca_unit_class", "loss_class", "theta", "gradient"])
    assert set(made(ds)) <= {"Where the loss falls", "The loss does not fall", "Do the numbers add up?"}


def test_a_report_opens_with_them(tmp_path, quick):
    text = write(tiny_trajectory(6), tmp_path, layers=[], classes=[]).text
    assert (
        text.index("What is most remarkable") < text.index("LCA allocates every change") < text.index("The loss goes")
    )
