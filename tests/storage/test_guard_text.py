"""Names and attributes from files: refused where they are too long or of the wrong type, and safe to print."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.storage.guard.blocks import CorruptError
from lcakit.storage.guard.text import clean_attributes, clean_names
from lcakit.text import printable
from tests.support.unchecked import save_unchecked


@pytest.mark.parametrize(
    "room", ["lcakit.storage.guard.text", "lcakit.trajectory.provenance", "lcakit.sharing.validation"]
)
def test_examples_in_docstrings(room):
    assert doctest.testmod(importlib.import_module(room)).failed == 0


@given(st.text(), st.integers(10, 300))
def test_printable_is_one_short_line(text, most):
    got = printable(text, most)
    assert "\n" not in got
    assert all(c.isprintable() or c.isspace() or ord(c) > 126 for c in got)
    assert not any(c in got for c in "\x1b\x07\x7f\x9b\u2028\u2029\u202e\u2066")
    assert len(got) <= 10 * most
    if text.isprintable() and len(text) <= most:
        assert got == text


def test_names_are_made_visible_on_opening(ds, tmp_path):
    names = np.array(["\x1b[2Ja", "<b>b</b>", "c\nd"], object)
    path = lk.save(ds.assign_coords({"class": names}), tmp_path / "run.nc")
    with lk.open_trajectory(path) as got:
        assert got["class"].values.tolist() == ["\\x1b[2Ja", "<b>b</b>", "c\\nd"]
        assert got["lca_class"].dims == ("iteration", "class", "parameter")
        assert got.lk.sel(cls="<b>b</b>")["lca_class"].dims == ("iteration", "parameter")


def test_attributes_are_made_visible_on_opening(ds, tmp_path):
    ds = ds.assign_attrs(note="\x1b]0;x\x07 two\nlines", loss_name="\x9b31m")
    ds["lca"].attrs["units"] = "na\x1bts"
    with lk.open_trajectory(lk.save(ds, tmp_path / "run.nc")) as got:
        assert got.attrs["note"] == "\\x1b]0;x\\x07 two\nlines"
        assert got.attrs["loss_name"] == "\\x9b31m"
        assert got["lca"].attrs["units"] == "na\\x1bts"


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"tolerance": "0.001"}, "'tolerance' is '0.001'; a number is expected"),
        ({"tolerance": [1.0, 2.0]}, "a number is expected"),
        ({"n_examples": np.inf}, "a number is expected"),
        ({"rule": 4}, "'rule' is .*; text is expected"),
        ({"rule": "x" * 1001}, "1,001 letters; at most 1,000"),
        ({"tolerance_val": "0.001"}, "tolerance_val"),
        ({"note": "x" * (2**20 + 1)}, "'note' has 1,048,577 letters"),
        ({"note": ["x" * 2**19] * 3}, "'note' has 1,572,864 letters"),
    ],
)
def test_attributes_of_the_wrong_kind(ds, attrs, message, tmp_path):
    ds = ds.assign(lca_val=ds["lca"]).assign_attrs(attrs)
    with pytest.raises(lk.TrajectoryError, match=rf"run\.nc: .*{message}"):
        lk.open_trajectory(save_unchecked(ds, tmp_path / "run.nc"))


def test_attributes_that_are_fine_stay_as_they_are():
    attrs = {"tolerance": np.float32(1e-3), "seed": 2**40, "note": "a\tb", "list": ["a", "b"], "array": np.arange(3)}
    got = clean_attributes(attrs, ["val"])
    assert got.pop("array") is attrs.pop("array")
    assert got == attrs


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b" * 1001], "name of 1,001 letters; at most 1,000"),
        ([f"{k}" for k in range(32_769)], "32,769 names; at most 32,768"),
        ([1, 2], "holds int where names"),
    ],
)
def test_names_that_are_refused(names, message):
    with pytest.raises(CorruptError, match=message):
        clean_names(np.array(names, object), "layer")


@pytest.mark.slow
def test_a_file_of_very_many_or_very_long_names(ds, tmp_path):
    layers = np.array([f"l{k}" for k in range(33_000)], object)
    many = ds.drop_dims(["parameter", "layer"]).assign_coords(layer=layers)
    many.to_netcdf(tmp_path / "many.nc")
    with pytest.raises(lk.TrajectoryError, match=r"many\.nc: .*33,000 names"):
        lk.open_trajectory(tmp_path / "many.nc")
    long = ds.assign_coords({"class": np.array(["a", "b", "c" * 10_000_000], object)})
    with pytest.raises(lk.TrajectoryError, match=r"long\.nc: .*10,000,000"):
        lk.open_trajectory(save_unchecked(long, tmp_path / "long.nc"))
