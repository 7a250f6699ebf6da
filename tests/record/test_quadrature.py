from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcakit.record.allocation.quadrature import (
    LEAST_SPLITS,
    RULES,
    Segment,
    check_settings,
    level_nodes,
    levels_of,
    refine,
    weights,
)

DEGREE = {"first_order": 0, "trapezoid": 1, "midpoint": 1, "rk4": 3, "boole": 5}


def node_weights(rule: str, splits: int) -> np.ndarray:
    """The weights node by node, put together from the levels."""
    w = weights(rule, splits)
    out = np.zeros(splits + 1)
    out[0], out[-1] = w.left, w.right
    for level, value in enumerate(w.levels, 1):
        for node in level_nodes(level):
            out[round(node * splits)] = value
    return out


def newton_cotes(rule: str, splits: int) -> np.ndarray:
    """The slow twin: apply the elementary rule to each group of neighbouring sub-intervals and add up."""
    elementary = {
        "first_order": [1, 0],
        "trapezoid": [1 / 2, 1 / 2],
        "midpoint": [0, 2, 0],
        "rk4": [1 / 3, 4 / 3, 1 / 3],
        "boole": [14 / 45, 64 / 45, 24 / 45, 64 / 45, 14 / 45],
    }[rule]
    width = len(elementary) - 1
    out = np.zeros(splits + 1)
    for start in range(0, splits, width):
        out[start : start + width + 1] += np.array(elementary) / splits
    return out


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("halvings", range(6))
def test_weights_are_those_of_the_composite_rule(rule, halvings):
    splits = LEAST_SPLITS[rule] * 2**halvings
    np.testing.assert_allclose(node_weights(rule, splits), newton_cotes(rule, splits), atol=1e-15)


@given(
    rule=st.sampled_from(RULES),
    halvings=st.integers(0, 3),
    coefficients=st.lists(st.floats(-3, 3), min_size=6, max_size=6),
)
def test_rule_is_exact_up_to_its_degree(rule, halvings, coefficients):
    polynomial = np.polynomial.Polynomial(coefficients[: DEGREE[rule] + 1])
    splits = LEAST_SPLITS[rule] * 2**halvings
    nodes = np.linspace(0, 1, splits + 1)
    exact = polynomial.integ()(1) - polynomial.integ()(0)
    assert node_weights(rule, splits) @ polynomial(nodes) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_not_exact_beyond_its_degree(rule):
    degree = DEGREE[rule] + 1
    nodes = np.linspace(0, 1, LEAST_SPLITS[rule] + 1)
    assert abs(node_weights(rule, LEAST_SPLITS[rule]) @ nodes**degree - 1 / (degree + 1)) > 1e-4


@pytest.mark.parametrize("rule", RULES)
def test_every_gradient_is_computed_once_and_used_again(rule):
    asked = []

    def gradients_at(nodes):
        asked.extend(nodes)
        return [np.array([np.exp(s)]) for s in nodes]

    segment = Segment(np.array([1.0]), np.array([np.e]), gradients_at, lambda a, b: a + b)
    for splits in (4, 8, 16):
        total = sum(w * v for w, v in segment.terms(rule, splits))
        expected = newton_cotes(rule, splits) @ np.exp(np.linspace(0, 1, splits + 1))
        np.testing.assert_allclose(total, [expected], rtol=1e-14)
    assert sorted(asked) == [k / 16 for k in range(1, 16)]


def test_refine_doubles_until_the_residual_is_small():
    seen = []

    def evaluate(splits):
        seen.append(splits)
        return 1.0 / splits, f"result {splits}"

    assert refine(evaluate, "rk4", 0.2, 32) == ("result 8", 0.125, 8)
    assert seen == [2, 4, 8]


def test_refine_keeps_the_last_result_where_most_splits_are_not_enough():
    assert refine(lambda n: (1.0, n), "rk4", 1e-3, 16) == (16, 1.0, 16)


@pytest.mark.parametrize(("rule", "tolerance"), [("rk4", None), ("first_order", 1e-3)])
def test_no_refinement_without_tolerance_or_by_definition(rule, tolerance):
    assert refine(lambda n: (1.0, n), rule, tolerance, 32)[2] == LEAST_SPLITS[rule]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: weights("rk5", 2), "rk4"),
        (lambda: weights("rk4", 1), "at least 2"),
        (lambda: weights("rk4", 6), "power of two"),
        (lambda: levels_of(0), "power of two"),
        (lambda: check_settings("rk4", -1.0, 32), "positive"),
        (lambda: check_settings("rk4", float("nan"), 32), "positive"),
        (lambda: check_settings("rk4", 1e-3, 6), "power of two"),
        (lambda: check_settings("boole", 1e-3, 2), "below the 4"),
    ],
)
def test_bad_settings_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
