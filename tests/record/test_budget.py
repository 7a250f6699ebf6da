from __future__ import annotations

import re

import pytest
import torch

import lcakit as lk
from lcakit.text import format_bytes, format_seconds, parse_bytes
from lcakit.trajectory.labels import Labels, TensorSpec
from tests.support.networks import examples, norm_net

LABELS = Labels((TensorSpec("w", (10, 7), "kernel", "fc"), TensorSpec("b", (10,), "bias", "fc")))


def test_estimate_by_hand():
    found = lk.estimate(LABELS, 100, n_classes=4, classes="parameter", every=3, rule="boole", seconds_per_gradient=2.0)
    assert found.n_iterations == 34
    assert found.bytes_by_variable == {
        "theta": 4 * 35 * 80,
        "gradient": 4 * 35 * 80,
        "lca": 4 * 34 * 80,
        "lca_unit_class": 4 * 34 * 10 * 4,
        "lca_class": 4 * 34 * 80 * 4,
    }
    assert found.gradient_evaluations == 34 * 4 + 1
    assert found.seconds == pytest.approx(2.0 * 137)


def test_refusal_names_the_number_and_the_remedies():
    with pytest.raises(lk.BudgetError, match=r"needs 96\.6 KB, the budget is 50 KB\. Thin it \(every=2\)"):
        lk.estimate(LABELS, 100).check("50 KB")
    lk.estimate(LABELS, 100).check("1 MB")


def test_the_advice_fits_the_budget_and_counts_from_the_present_thinning():
    with pytest.raises(lk.BudgetError, match=r"every=4\)"):
        lk.estimate(LABELS, 100, every=2).check("25 KB")


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("keep", [("theta", "gradient", "lca"), ("lca",), ()])
@pytest.mark.parametrize("budget", [700, 5_000, 12_345, 40_000])
def test_what_the_advice_says_is_enough(budget, keep, every):
    def found(every):
        return lk.estimate(LABELS, 100, keep=keep, every=every, n_classes=4)

    if found(every).bytes <= budget:
        return
    with pytest.raises(lk.BudgetError) as told:
        found(every).check(budget)
    advice = re.search(r"every=(\d+)", str(told.value))
    if advice is None:  # a single iteration is too large
        with pytest.raises(lk.BudgetError):
            found(100).check(budget)
    else:
        found(int(advice[1])).check(budget)


@pytest.mark.parametrize(
    ("how", "needed", "says"),
    [
        ({"keep": ()}, (), r"\. Leave out running statistics \(statistics=False\)\.$"),
        ({"keep": ("theta",), "statistics": False}, ("theta",), "Nothing smaller can be recorded"),
        ({"keep": ("lca",), "n_iterations": 3}, (), "Nothing smaller can be recorded"),
        ({"keep": ("lca",), "n_iterations": 300}, (), "keep without 'lca'"),
    ],
)
def test_only_what_makes_it_smaller_is_advised(how, needed, says):
    found = lk.estimate(LABELS, **({"n_iterations": 50} | how))
    with pytest.raises(lk.BudgetError, match=says):
        found.check("50 B", needed)


def test_batch_norm_by_class_is_said_with_its_factor():
    torch.manual_seed(0)
    model, (x, y) = norm_net(), examples(60)
    objective = lk.Objective(model, (x, y), workers=1)
    objective.gradient(classes=True)
    slow, plain = lk.estimate(objective, 10), lk.estimate(objective, 10, classes=None)
    factor = (1 + 2 * objective.n_classes) / 3
    assert f"about {factor:.3g} times a plain one" in slow.to_text()
    assert "BatchNorm" not in plain.to_text()
    assert slow.seconds == pytest.approx(factor * plain.seconds)


def test_unknown_rule_is_named():
    with pytest.raises(ValueError, match="rk4"):
        lk.estimate(LABELS, 10, rule="simpson")


@pytest.mark.parametrize(("text", "n"), [("20 GB", 20e9), ("1.5mb", 1.5e6), ("7", 7), (12, 12), (2e9, 2e9)])
def test_sizes_are_read(text, n):
    assert parse_bytes(text) == n


@pytest.mark.parametrize("text", ["lots", "5 gallons", "", "1.2.3 GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError):
        parse_bytes(text)


def test_numbers_are_readable():
    assert format_bytes(888_000_000) == "888 MB"
    assert format_bytes(12) == "12 B"
    assert format_seconds(200) == "3 min 20 s"
    assert format_seconds(119.7) == "2 min 00 s"
    assert format_seconds(7_260) == "2 h 01 min"
    assert format_seconds(0.5) == "0.5 s"


@pytest.mark.parametrize("arguments", [(LABELS, 0), (LABELS, 5, "every")])
def test_counts_must_be_positive(arguments):
    with pytest.raises(ValueError, match="at least 1"):
        lk.estimate(arguments[0], arguments[1], every=0 if len(arguments) > 2 else 1)
