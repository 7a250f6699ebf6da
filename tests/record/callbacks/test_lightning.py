"""The callback for Lightning's Trainer, with the real package and a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lcakit as lk
from tests.support.networks import dense, examples


@pytest.fixture(scope="module")
def given():
    pytest.importorskip("lightning.pytorch")
    from tests.support import lightning_training

    return lightning_training


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Module", "ByHand"])
def test_the_trainer_is_recorded_and_not_changed(tmp_path, given, name):
    kind = getattr(given, name)
    expected = given.fit(kind(), tmp_path, [])
    module = kind()
    objective = lk.Objective(module.net, examples())
    callback = lk.callbacks.LightningCallback(tmp_path / "run.nc", objective, quiet=True)
    np.testing.assert_array_equal(given.fit(module, tmp_path, [callback]), expected)
    ds = lk.open_trajectory(tmp_path / "run.nc")
    steps = ds.sizes["iteration"]
    assert steps == 2 * -(-len(examples()[0]) // (len(examples()[0]) // 3))
    np.testing.assert_array_equal(ds["theta"][-1], expected)
    assert np.isfinite(ds["batch_loss"]).all()
    if name == "Module":
        np.testing.assert_allclose(ds["learning_rate"], np.repeat([0.1, 0.05], steps // 2), rtol=1e-6)
    change = float(ds["loss"][-1] - ds["loss"][0])
    np.testing.assert_allclose(float(ds["lca"].astype("f8").sum()), change, atol=1e-3 * steps)


@pytest.mark.slow
def test_the_loss_is_that_of_the_batch_before_its_step(tmp_path, given):
    module, (x, y) = given.Module(), examples()
    parts = [slice(k * (len(x) // 3), (k + 1) * (len(x) // 3)) for k in range(2)]
    with torch.no_grad():
        first = np.mean([float(F.cross_entropy(module.net(x[part]), y[part])) for part in parts])
    callback = lk.callbacks.LightningCallback(
        tmp_path / "run.nc", lambda own: lk.Objective(own.net, (x, y)), quiet=True, keep=("theta",)
    )
    given.fit(module, tmp_path, [callback], max_epochs=1, accumulate_grad_batches=2)
    np.testing.assert_allclose(float(lk.open_trajectory(tmp_path / "run.nc")["batch_loss"][0]), first, rtol=1e-6)


def test_a_training_that_fails_keeps_its_blocks(tmp_path, given):
    module = given.Module(fails_at=2)
    objective = lk.Objective(module.net, examples())
    callback = lk.callbacks.LightningCallback(tmp_path / "run.nc", objective, quiet=True)
    with pytest.raises(KeyError, match="broken"):
        given.fit(module, tmp_path, [callback])
    assert lk.open_trajectory(tmp_path / "run.nc").sizes["snapshot"] == 3


def test_another_model_is_refused_before_training(tmp_path, given):
    callback = lk.callbacks.LightningCallback(tmp_path / "run.nc", lk.Objective(dense(), examples()))
    with pytest.raises(lk.RecordingError, match="another model"):
        given.fit(given.Module(), tmp_path, [callback])


def test_its_checkpoints_are_a_trajectory(tmp_path, given):
    saving = given.lightning.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, every_n_epochs=1)
    module = given.Module()
    final = given.fit(module, tmp_path, [saving], enable_checkpointing=True, max_epochs=3)
    ds = lk.from_checkpoints(tmp_path / "*.ckpt", dense())
    assert ds.sizes["snapshot"] == 3
    np.testing.assert_array_equal(ds["theta"][-1], final)
    assert np.isfinite(ds["learning_rate"]).all()
