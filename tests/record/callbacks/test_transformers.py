"""The callback for transformers' Trainer, with the real package and a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lcakit as lk

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
VOCABULARY, LENGTH = 11, 6


def gpt() -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "n_positions": LENGTH, "n_embd": 8, "n_layer": 1, "n_head": 2}
    off = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **off))


def sequences() -> torch.Tensor:
    return torch.randint(VOCABULARY, (16, LENGTH), generator=torch.Generator().manual_seed(1))


def mean_of_sequence(output, y):
    logits = output.logits[:, :-1].transpose(1, 2)
    return F.cross_entropy(logits, y[:, 1:], reduction="none").mean(1)


def objective_of(model) -> lk.Objective:
    x = sequences()
    return lk.Objective(model, (x, x), loss=mean_of_sequence)


def train(model, folder, callbacks, **changed):
    data = [{"input_ids": row, "labels": row} for row in sequences()]
    given = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 0.05, "report_to": [], "use_cpu": True}
    given |= {"save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no", "lr_scheduler_type": "constant"}
    args = transformers.TrainingArguments(str(folder), **(given | changed))
    trainer = transformers.Trainer(model, args, train_dataset=data, callbacks=callbacks)
    trainer.train()
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()


@pytest.mark.slow
def test_the_trainer_is_recorded_and_not_changed(tmp_path):
    expected = train(gpt(), tmp_path, [])
    model = gpt()
    callback = lk.callbacks.TrainerCallback(tmp_path / "run.nc", objective_of(model), quiet=True)
    np.testing.assert_array_equal(train(model, tmp_path, [callback]), expected)
    assert callback.recorder is None
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert ds["snapshot"].values.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(ds["theta"][-1], expected)
    np.testing.assert_allclose(ds["learning_rate"], 0.05)
    change = float(ds["loss"][-1] - ds["loss"][0])
    np.testing.assert_allclose(float(ds["lca"].astype("f8").sum()), change, atol=4e-3)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"gradient_accumulation_steps": 2}, {"max_grad_norm": 0.1}])
def test_an_iteration_is_an_optimizer_step(tmp_path, changed):
    model = gpt()
    callback = lk.callbacks.TrainerCallback(tmp_path / "run.nc", objective_of(model), quiet=True)
    final = train(model, tmp_path, [callback], **changed)
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert ds.sizes["iteration"] == 4
    np.testing.assert_array_equal(ds["theta"][-1], final)


@pytest.mark.slow
def test_the_objective_may_be_made_when_training_begins(tmp_path):
    callback = lk.callbacks.TrainerCallback(tmp_path / "run.nc", objective_of, quiet=True, keep=("theta",))
    train(gpt(), tmp_path, [callback], max_steps=2)
    assert lk.open_trajectory(tmp_path / "run.nc").sizes["snapshot"] == 3


@pytest.mark.slow
def test_another_model_is_refused_before_training(tmp_path):
    callback = lk.callbacks.TrainerCallback(tmp_path / "run.nc", objective_of(gpt()))
    with pytest.raises(lk.RecordingError, match="another model"):
        train(gpt(), tmp_path, [callback])
    assert not list(tmp_path.glob("run.nc*"))


@pytest.mark.slow
def test_a_training_that_fails_keeps_its_blocks(tmp_path):
    class Failing(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                raise KeyError("broken")

    model = gpt()
    callback = lk.callbacks.TrainerCallback(tmp_path / "run.nc", objective_of(model), quiet=True)
    with pytest.raises(KeyError, match="broken"):
        train(model, tmp_path, [callback, Failing()])
    callback.close()
    assert lk.open_trajectory(tmp_path / "run.nc").sizes["snapshot"] == 3


@pytest.mark.slow
def test_its_checkpoints_are_a_trajectory(tmp_path):
    model = gpt()
    final = train(
        model, tmp_path / "out", [], save_strategy="steps", save_steps=2, logging_strategy="steps", logging_steps=1
    )
    ds = lk.from_checkpoints(tmp_path / "out", gpt())
    assert ds["snapshot"].values.tolist() == [2, 4]
    np.testing.assert_array_equal(ds["theta"][-1], final)
    np.testing.assert_allclose(ds["learning_rate"], [0.05])


@pytest.mark.parametrize(
    ("objective", "options", "says"), [(3, {}, "must be an lk.Objective"), (len, {"optimizer": 1}, "from its trainer")]
)
def test_wrong_arguments(objective, options, says):
    with pytest.raises(lk.RecordingError, match=says):
        lk.callbacks.TrainerCallback("run.nc", objective, **options)
