"""Blocks in archives, read as one array."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lcakit.storage import npz

KEYS = st.one_of(
    st.integers(-9, 8),
    st.slices(9),
    st.lists(st.integers(-9, 8), min_size=1, max_size=4),
    st.tuples(st.slices(9), st.slices(5)),
    st.tuples(st.integers(-9, 8), st.slices(5)),
    st.tuples(st.lists(st.integers(-9, 8), min_size=1, max_size=4), st.slices(5)),
)


@settings(deadline=None, max_examples=150)
@given(KEYS, st.booleans(), st.sampled_from([(9,), (4, 5), (1, 3, 5), (0, 9)]))
def test_blocks_are_read_as_one_array(tmp_path_factory, key, once, lengths):
    folder, values = tmp_path_factory.getbasetemp(), np.arange(45.0).reshape(9, 5)
    blocks, start = [], 0
    for number, length in enumerate(lengths):
        path = folder / f"{number}-{length}-{start}.npz"
        if not path.exists():
            npz.write_arrays(path, [("values", values[start : start + length])])
        blocks.append(npz.open_segment(path)["values"])
        start += length
    got = npz.JoinedArray(blocks, once)[key]
    np.testing.assert_array_equal(got, values[key])
    assert got.flags.writeable
