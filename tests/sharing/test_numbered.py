from __future__ import annotations

import re

import pytest

from lcakit.errors import TrajectoryError
from lcakit.sharing.importers.numbered import numbered


@pytest.mark.parametrize(
    ("names", "pattern", "order"),
    [
        (["step10.pt", "step9.pt", "step100.pt"], None, [9, 10, 100]),
        (["run2-epoch3-step0100.pt", "run2-epoch2-step0050.pt"], None, [50, 100]),
        (["model.7.safetensors", "model.12.safetensors"], None, [7, 12]),
        (["epoch=2-loss=0.25.ckpt", "epoch=1-loss=0.31.ckpt"], "epoch=([0-9]+)", [1, 2]),
        (["00.bin", "1.bin"], None, [0, 1]),
    ],
)
def test_checkpoints_are_ordered_by_their_number(names, pattern, order):
    found = numbered(names, pattern)
    assert list(found) == order
    assert all(re.search(rf"0*{n}\b", path.name) for n, path in found.items())


@pytest.mark.parametrize(
    ("names", "pattern", "says"),
    [
        (["a1.pt", "b1.pt"], None, "a1.pt and b1.pt have the same number 1"),
        (["shard-1-of-2.pt", "shard-2-of-2.pt"], None, "have the same number 2"),
        (["a1.pt", "last.pt"], None, r"last.pt: the name has no clear number\. Say with pattern"),
        (["epoch=1-loss=0.25.ckpt", "epoch=2-loss=0.21.ckpt"], None, r"no clear number \('0.25'\)"),
        (["a1.pt", "a2.pt"], "step([0-9]+)", "a1.pt: the name has no clear number"),
        (["a1.pt", "a2.pt"], "(a)", r"no clear number \('a'\)"),
        ([f"a{'9' * 30}.pt", "a2.pt"], None, "no clear number"),
        (["a1.pt", "a2.txt"], None, "a2.txt: not a checkpoint: its name must end in .safetensors, .pt"),
        (["a1.pt"], None, r"1 checkpoint in.*at least two\. Give their folder"),
        ([], None, "0 checkpoints in"),
    ],
)
def test_unclear_numbers_are_refused(names, pattern, says):
    with pytest.raises(TrajectoryError, match=says):
        numbered(names, pattern)


def test_a_pattern_needs_a_group():
    with pytest.raises(ValueError, match="pattern needs one group"):
        numbered(["a1.pt", "a2.pt"], "a[0-9]+")
