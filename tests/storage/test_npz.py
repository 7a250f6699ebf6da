"""Blocks in archives, read as one array."""

from __future__ import annotations

import zipfile

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


ARRAYS = {
    "rows": np.arange(12, dtype="f4").reshape(3, 4),
    "one": np.array(5),
    "none": np.empty((0, 3), "f4"),
    "turned": np.arange(6.0).reshape(2, 3).T,
    "flags": np.array([True, False]),
}


def test_archives_are_those_of_numpy(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "_WRITE", 7)
    npz.write_arrays(tmp_path / "ours.npz", ARRAYS.items())
    np.savez(tmp_path / "theirs.npz", **{name: np.asarray(array, order="C") for name, array in ARRAYS.items()})
    with zipfile.ZipFile(tmp_path / "ours.npz") as ours, zipfile.ZipFile(tmp_path / "theirs.npz") as theirs:
        assert ours.testzip() is None
        assert {name: ours.read(name) for name in ours.namelist()} == {n: theirs.read(n) for n in theirs.namelist()}


@given(st.data())
def test_any_changed_byte_of_numbers_is_seen(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed.npz"
    npz.write_arrays(path, ARRAYS.items())
    assert not npz.damage(path)
    stored = npz.open_segment(path)["rows"]
    assert stored.equals(ARRAYS["rows"][row : row + 1] for row in range(3))
    assert not stored.equals(ARRAYS["rows"][row : row + 1] for row in range(2))
    content, place = path.read_bytes(), stored.offset + data.draw(st.integers(0, 47))
    path.write_bytes(
        content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :]
    )
    assert npz.damage(path) == "rows.npy differs from its checksum"
    assert not npz.damage(path, but={"rows"})
    path.write_bytes(content[:place])
    assert "cannot be read" in npz.damage(path)
