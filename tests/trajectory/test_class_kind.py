"""The dimension of classes may hold groups by another name, which texts say."""

from __future__ import annotations

import pytest

from lcakit.testing import tiny_trajectory
from lcakit.trajectory.class_kind import class_kind
from lcakit.trajectory.select import select
from lcakit.trajectory.selection_notes import part_of
from lcakit.trajectory.summary import summary


@pytest.mark.parametrize(
    ("word", "one", "many"), [("domain", "domain", "domains"), ("", "class", "classes"), ("a\nb", "a\\nb", "a\\nbs")]
)
def test_texts_say_the_word_of_the_file(word, one, many):
    ds = tiny_trajectory().assign_attrs(class_kind=word)
    assert class_kind(ds) == one
    told = summary(ds)
    assert f"3 {many}" in told["sizes"]
    assert told[one] == ", ".join(map(str, ds["class"].values))
    assert part_of(select(ds, cls=[str(ds["class"].values[0])]), "class") == f"1 of 3 {many}"
