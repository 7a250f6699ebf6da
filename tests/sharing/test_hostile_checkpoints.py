"""Checkpoints and what lies beside them, made to hang or to fill the memory: refused with the name of the file."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
import torch

from lcakit.errors import DataError, TrajectoryError
from lcakit.experiments import data
from lcakit.sharing.importers import states
from lcakit.storage.guard import plain
from tests.support.networks import dense


@pytest.fixture
def path(tmp_path):
    return tmp_path / "step-1.pt"


def test_a_mapping_that_holds_itself_has_an_end(path):
    state = dense().state_dict()
    loop = {"state_dict": {}, "tensors": dict(state)}
    loop["state_dict"]["model"] = loop
    torch.save(loop, path)
    with pytest.raises(TrajectoryError, match=r"step-1\.pt: no tensors in it"):
        states.read_state(path)
    assert {name.rpartition(".")[2] for name, _ in states.flattened(states.load(path))} >= {"weight", "bias"}


def test_mappings_that_are_shared_are_visited_once(path):
    inner = {"w": torch.zeros(2)}
    for _ in range(60):  # 2**60 ways lead to it
        inner = {"a": inner, "b": inner}
    torch.save(inner, path)
    assert len(list(states.flattened(states.load(path)))) == 1


def test_one_number_that_stands_for_many_is_refused(path):
    torch.save({"weight": torch.zeros(1).expand(2**20, 2**20)}, path)
    with pytest.raises(
        TrajectoryError, match=r"'weight' of the shape \(1048576, 1048576\) would take 4,398,046,511,104"
    ):
        states.read_state(path)
    torch.save({"weight": torch.zeros(1).expand(8)}, path)  # small ones are as good as others
    assert states.read_state(path)["weight"].shape == (8,)


def bomb(path, member):
    """An archive whose member says, and holds, 40 MB of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, bytes(40 * 2**20))
    return path


@pytest.mark.parametrize("twice", [False, True])
def test_archives_that_inflate_beyond_their_size_are_refused(path, tmp_path, monkeypatch, twice):
    torch.save(dense().state_dict(), path)
    assert states.read_state(path)
    monkeypatch.setattr(plain, "MOST_INFLATED", 2**20)
    says = "would inflate to 41,943,040 bytes"
    if twice:
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
            archive.writestr(archive.namelist()[0], b"")
        says = "holds a part twice"
    else:
        bomb(path, "archive/data.pkl")
    with pytest.raises(TrajectoryError, match=rf"step-1\.pt: .*{says}"):
        states.read_state(path)
    bomb(tmp_path / "images.npz", "x_train.npy")
    with pytest.raises(DataError, match=r"images\.npz cannot be read .*would inflate"):
        data.load(tmp_path / "images.npz")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("trainer_state.json", lambda path: states.trainer_state(path.parent)),
        ("model.safetensors.index.json", states.load),
    ],
)
def test_json_is_bounded(tmp_path, monkeypatch, name, read):
    file = tmp_path / name
    file.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(TrajectoryError, match=rf"{name}: .*nested too deep"):
        read(file)
    monkeypatch.setattr(plain, "_MOST_JSON", 10)
    file.write_text('{"weight_map": {}}' + " " * 20)
    with pytest.raises(TrajectoryError, match=rf"{name}: .*at most 10 of JSON"):
        read(file)


def test_only_plain_files_are_read_and_links_to_them(path, tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "blob")
    path.symlink_to(tmp_path / "blob")  # as in the caches of published models
    np.testing.assert_array_equal(states.read_state(path)["w"], np.ones(3))
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(TrajectoryError, match="no such file"):
        states.load(tmp_path / "pipe.pt")
