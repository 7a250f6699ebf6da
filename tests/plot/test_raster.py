"""Large arrays are reduced to pixels that keep their strongest values and their time scale."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("holoviews")

from lcakit.plot._raster import even_blocks, label_blocks, strongest


def test_a_pixel_shows_the_value_of_largest_magnitude():
    values = np.random.default_rng(0).normal(size=(13, 29))
    values[3, 4:8] = np.nan
    rows, columns_ = even_blocks(13, 5), even_blocks(29, 7)
    shown = strongest(values, (rows, columns_))
    for r, (a, b) in enumerate(rows):
        for c, (d, e) in enumerate(columns_):
            block = values[a:b, d:e]
            assert shown[r, c] == block.ravel()[np.nanargmax(np.abs(block))]
    np.testing.assert_array_equal(strongest(values, (even_blocks(13, 99), even_blocks(29, 99))), values)


def test_uneven_iterations_keep_their_time_scale():
    labels = np.array([0, 1, 2, 5, 9, 10])
    blocks, ends = label_blocks(labels, 100)
    assert ends == (0, 11)
    shown = strongest(labels[None], (even_blocks(1, 1), blocks))
    np.testing.assert_array_equal(shown, [[0, 1, 2, 2, 2, 5, 5, 5, 5, 9, 10]])
    blocks, _ = label_blocks(labels, 3)
    borders = np.linspace(*ends, 4)
    reach = [*labels[1:], 11]
    for (first, after), left, right in zip(blocks, borders[:-1], borders[1:], strict=True):
        touched = [k for k in range(6) if labels[k] < right and reach[k] > left]
        assert touched == list(range(first, after))
