"""Checkpoints as trainers write them: folders, shards, nested states, steps and learning rates beside the tensors."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

import lcakit as lk
from lcakit.errors import TrajectoryError
from lcakit.sharing.importers.checkpoints import from_checkpoints
from tests.support.networks import dense, examples, flat

safetensors = pytest.importorskip("safetensors.torch")
STEPS = (5, 40, 100)  # 100 sorts before 40 as text


def states(n: int = 3):
    """Yield n states of a network, and the model with each of them."""
    model = dense()
    for _ in range(n):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.9)
        yield {name: value.clone() for name, value in model.state_dict().items()}


def theta_of(all_states) -> np.ndarray:
    model, rows = dense(), []
    for state in all_states:
        model.load_state_dict(state)
        rows.append(flat(model).numpy().copy())
    return np.array(rows)


def trainer_folders(folder, name="checkpoint-{}", write=None) -> np.ndarray:
    """Write what Hugging Face's Trainer writes, also beside the checkpoints; return the snapshots."""
    found = list(states())
    for step, state in zip(STEPS, found, strict=True):
        own = folder / name.format(step)
        own.mkdir(parents=True)
        (write or (lambda state, own: safetensors.save_file(state, own / "model.safetensors")))(state, own)
        torch.save({"step": step}, own / "optimizer.pt")
        torch.save({}, own / "training_args.bin")
        torch.save({}, own / "rng_state.pth")
    return theta_of(found)


def sharded(suffix):
    def write(state, own):
        names = list(state)
        parts = {f"model-0000{k}-of-00002{suffix}": names[k - 1 :: 2] for k in (1, 2)}
        save = safetensors.save_file if suffix == ".safetensors" else torch.save
        for part, own_names in parts.items():
            save({n: state[n] for n in own_names}, own / part)
        stem = "model" if suffix == ".safetensors" else "pytorch_model"
        where = {n: part for part, own_names in parts.items() for n in own_names}
        (own / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))

    return write


WRITERS = {
    "safetensors": None,
    "bin": lambda state, own: torch.save(state, own / "pytorch_model.bin"),
    "sharded safetensors": sharded(".safetensors"),
    "sharded bin": sharded(".bin"),
    "any single file": lambda state, own: torch.save(state, own / "weights.pt"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", ["checkpoint-{}", "step{}"])
def test_a_folder_for_each_checkpoint(tmp_path, kind, name):
    theta = trainer_folders(tmp_path / "out", name, WRITERS[kind])
    for paths in (tmp_path / "out", tmp_path / "out" / "*", [*(tmp_path / "out").iterdir()]):
        ds = from_checkpoints(paths, dense())
        assert ds["snapshot"].values.tolist() == list(STEPS)
        np.testing.assert_array_equal(ds["theta"], theta)


@pytest.mark.parametrize("options", [{}, {"pattern": "checkpoint-([0-9]+)"}, {"pattern": "checkpoint-([0-9]+)/"}])
@pytest.mark.parametrize("glob", ["checkpoint-*/model.safetensors", "checkpoint-*/*.safetensors", "checkpoint-*"])
def test_patterns_of_files_in_folders(tmp_path, glob, options):
    theta = trainer_folders(tmp_path)
    ds = from_checkpoints(tmp_path / glob, dense(), **options)
    assert ds["snapshot"].values.tolist() == list(STEPS)
    np.testing.assert_array_equal(ds["theta"], theta)


def test_the_final_model_beside_the_checkpoints_is_not_one_of_them(tmp_path):
    theta = trainer_folders(tmp_path)
    safetensors.save_file(next(states()), tmp_path / "model.safetensors")
    torch.save({}, tmp_path / "training_args.bin")
    np.testing.assert_array_equal(from_checkpoints(tmp_path, dense())["theta"], theta)


def test_step_and_learning_rate_of_the_trainer(tmp_path):
    trainer_folders(tmp_path, "part-{}")
    logged = [{"step": step, "learning_rate": 1e-3 / step, "loss": 1.0} for step in (1, 20, 30, 200, 700)]
    for place, folder in zip((10, 40, 1000), (f"part-{n}" for n in STEPS), strict=True):
        state = {"global_step": place, "log_history": [e for e in logged if e["step"] <= place] + [{"step": 3}]}
        (tmp_path / folder / "trainer_state.json").write_text(json.dumps(state))
    ds = from_checkpoints(tmp_path, dense())
    assert ds["snapshot"].values.tolist() == [10, 40, 1000]  # the steps, not the numbers of the names
    expected = [(1e-3 / 20 + 1e-3 / 30) / 2, (1e-3 / 200 + 1e-3 / 700) / 2]
    np.testing.assert_allclose(ds["learning_rate"], expected, rtol=1e-6)
    assert lk.validate(ds).ok
    (tmp_path / "part-5" / "trainer_state.json").write_text("{")
    with pytest.raises(TrajectoryError, match=r"trainer_state\.json: cannot be read"):
        from_checkpoints(tmp_path, dense())


def lightning(state, step, lr):
    return {
        "epoch": 1,
        "global_step": step,
        "pytorch-lightning_version": "2.0",
        "state_dict": {f"net.{name}": value for name, value in state.items()} | {"metric.total": torch.ones(3)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": lr, "params": [0]}]}],
        "hyper_parameters": {"width": 3},
    }


def test_checkpoints_of_lightning(tmp_path):
    found = list(states())
    names = ["epoch=0-step=5.ckpt", "epoch=1-val_loss=0.25.ckpt", "last.ckpt"]
    for name, state, step in zip(names, found, STEPS, strict=True):
        torch.save(lightning(state, step, 0.1 / step), tmp_path / name)
    ds = from_checkpoints(tmp_path, dense())
    assert ds["snapshot"].values.tolist() == list(STEPS)
    np.testing.assert_array_equal(ds["theta"], theta_of(found))
    np.testing.assert_allclose(ds["learning_rate"], [0.1 / 40, 0.1 / 100], rtol=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"checkpoint": {"model": s, "step": 3}},
        lambda s: {"state": {"networks": {"policy": s}}},
        lambda s: {"model": {name.split(".")[0]: _part(s, name.split(".")[0]) for name in s}},
        lambda s: {"state_dict": {f"model.net.{name}": value for name, value in s.items()}},
        lambda s: {"model": {"state_dict": s}, "ema": s},
    ],
)
def test_states_in_nested_dicts(tmp_path, wrap):
    found = list(states())
    for step, state in enumerate(found):
        torch.save(wrap(state), tmp_path / f"{step}.pt")
    np.testing.assert_array_equal(from_checkpoints(tmp_path, dense())["theta"], theta_of(found))


def _part(state, first):
    return {name.partition(".")[2]: value for name, value in state.items() if name.partition(".")[0] == first}


def test_of_several_states_the_user_says_which(tmp_path):
    found = list(states())
    for step, state in enumerate(found):
        average = {name: value / 2 for name, value in state.items()}
        torch.save({"online": state, "average": average}, tmp_path / f"{step}.pt")
    with pytest.raises(TrajectoryError, match=r"several times, under 'online.', 'average.'. Say with prefix="):
        from_checkpoints(tmp_path, dense())
    ds = from_checkpoints(tmp_path, dense(), prefix="average.")
    np.testing.assert_array_equal(ds["theta"], theta_of(found) / 2)
    with pytest.raises(TrajectoryError, match=r"no state of the model under prefix='shadow\.'"):
        from_checkpoints(tmp_path, dense(), prefix="shadow.")


def test_the_time_of_files_is_an_order_only_when_asked(tmp_path):
    found = list(states())
    for name, state, written in zip(("start", "middle", "best"), found, (1000, 2000, 3000), strict=True):
        torch.save(state, tmp_path / f"{name}.pt")
        os.utime(tmp_path / f"{name}.pt", (written, written))
    with pytest.raises(TrajectoryError, match=r'no clear number.*order="time"'):
        from_checkpoints(tmp_path, dense())
    ds = from_checkpoints(tmp_path, dense(), order="time")
    assert ds["snapshot"].values.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(ds["theta"], theta_of(found))
    os.utime(tmp_path / "best.pt", (2000, 2000))
    with pytest.raises(TrajectoryError, match="at the same time"):
        from_checkpoints(tmp_path, dense(), order="time")
    with pytest.raises(ValueError, match="number"):
        from_checkpoints(tmp_path, dense(), order="name")


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ('{"weight_map": {"0.weight": "../model.safetensors"}}', "must be beside it"),
        ('{"weight_map": {}}', "must be beside it, got 'none'"),
        ("{}", "cannot be read as the index"),
        ("[", "cannot be read as the index"),
        ('{"weight_map": {"0.weight": "gone.safetensors"}}', "there is no such file"),
    ],
)
def test_damaged_indexes_are_named(tmp_path, index, says):
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.safetensors.index.json").write_text(index)
    with pytest.raises(TrajectoryError, match=says):
        from_checkpoints(tmp_path, dense())


def test_a_folder_without_a_checkpoint_says_what_it_holds(tmp_path):
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "notes.txt").write_text("")
    with pytest.raises(TrajectoryError, match=r"no checkpoint in this folder; it holds notes\.txt"):
        from_checkpoints(tmp_path / "checkpoint-*", dense())


def test_folders_are_allocated_and_add_up(tmp_path):
    trainer_folders(tmp_path)
    model = dense()
    objective = lk.Objective(model, examples())
    ds = from_checkpoints(tmp_path, objective=objective, out=tmp_path / "run.nc", quiet=True, max_splits=64)
    assert ds["snapshot"].values.tolist() == list(STEPS)
    change = objective.loss(ds["theta"].values[-1]) - objective.loss(ds["theta"].values[0])
    np.testing.assert_allclose(float(ds["lca"].sum()), change, atol=2e-3)
