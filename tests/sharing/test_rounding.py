from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lcakit.sharing.rounding import relative_error, rounded
from tests.support.rounding import LARGEST, SMALLEST, slow_error, slow_rounded


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.lists(st.floats(width=32), min_size=1, max_size=20), st.integers(1, 23))
@example([LARGEST, -LARGEST, SMALLEST, -SMALLEST, SMALLEST / 2, math.inf, -math.inf, math.nan, 0.0, -0.0], 9)
@example([1 + 2**-10, 1 + 3 * 2**-10, -1 - 2**-10], 9)
def test_rounding_against_python(numbers, keepbits):
    values = np.array(numbers, np.float32)
    got = rounded(values, keepbits)
    assert got.dtype == np.float32
    expected = np.array([slow_rounded(float(x), keepbits) for x in values])
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(values))
    np.testing.assert_array_equal(rounded(got, keepbits), got)
    assert relative_error(values, got) == pytest.approx(slow_error(values, got), rel=1e-6)
    assert relative_error(values, got) <= 2.0 ** -(keepbits + 1) or keepbits == 23


def test_rounding_leaves_its_input_alone_and_takes_any_layout():
    values = np.arange(1, 13, dtype=np.float64).reshape(3, 4) / 7
    before = values.copy()
    got = rounded(values.T, 3)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(got, [[slow_rounded(float(np.float32(x)), 3) for x in row] for row in values.T])
    single = values.astype(np.float32)
    rounded(single, 3)
    np.testing.assert_array_equal(single, values.astype(np.float32))


def test_relative_error_looks_at_finite_numbers_that_are_not_zero():
    assert relative_error(np.array([0, 2, np.nan, np.inf]), np.array([0, 3, np.nan, np.inf])) == 0.5
    assert relative_error(np.zeros(3), np.zeros(3)) == 0.0
    assert relative_error(np.array([1e-50]), np.float32([1e-50])) == 1.0  # lost in float32, and said
