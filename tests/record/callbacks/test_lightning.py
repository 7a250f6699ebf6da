"""The callback for Lightning's Trainer, with the real package and a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import lcakit as lk
from tests.support.networks import dense, examples

lightning = pytest.importorskip("lightning.pytorch")


class Module(lightning.LightningModule):
    def __init__(self, fails_at: int = -1):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.fails_at = dense(), fails_at

    def training_step(self, batch, index):
        if index == self.fails_at:
            raise KeyError("broken")
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class ByHand(Module):
    """Two optimizers, stepped by the module itself."""

    automatic_optimization = False

    def training_step(self, batch, index):
        loss = super().training_step(batch, index)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net[0], self.net[2])]


def fit(module, folder, callbacks, **changed):
    x, y = examples()
    given = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "barebones": False}
    given |= {"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": str(folder)}
    trainer = lightning.Trainer(callbacks=callbacks, **(given | changed))
    trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=len(x) // 3))
    return torch.nn.utils.parameters_to_vector(module.net.parameters()).detach().numpy()


@pytest.mark.parametrize("kind", [Module, ByHand])
def test_the_trainer_is_recorded_and_not_changed(tmp_path, kind):
    expected = fit(kind(), tmp_path, [])
    module = kind()
    objective = lk.Objective(module.net, examples())
    callback = lk.callbacks.LightningCallback(tmp_path / "run.nc", objective, quiet=True)
    np.testing.assert_array_equal(fit(module, tmp_path, [callback]), expected)
    ds = lk.open_trajectory(tmp_path / "run.nc")
    steps = ds.sizes["iteration"]
    assert steps == 2 * -(-len(examples()[0]) // (len(examples()[0]) // 3))
    np.testing.assert_array_equal(ds["theta"][-1], expected)
    assert np.isfinite(ds["batch_loss"]).all()
    if kind is Module:
        np.testing.assert_allclose(ds["learning_rate"], np.repeat([0.1, 0.05], steps // 2), rtol=1e-6)
    change = float(ds["loss"][-1] - ds["loss"][0])
    np.testing.assert_allclose(float(ds["lca"].astype("f8").sum()), change, atol=1e-3 * steps)


def test_the_loss_is_that_of_the_batch_before_its_step(tmp_path):
    module, (x, y) = Module(), examples()
    parts = [slice(k * (len(x) // 3), (k + 1) * (len(x) // 3)) for k in range(2)]
    with torch.no_grad():
        first = np.mean([float(F.cross_entropy(module.net(x[part]), y[part])) for part in parts])
    callback = lk.callbacks.LightningCallback(
        tmp_path / "run.nc", lambda own: lk.Objective(own.net, (x, y)), quiet=True, keep=("theta",)
    )
    fit(module, tmp_path, [callback], max_epochs=1, accumulate_grad_batches=2)
    np.testing.assert_allclose(float(lk.open_trajectory(tmp_path / "run.nc")["batch_loss"][0]), first, rtol=1e-6)


def test_a_training_that_fails_keeps_its_blocks(tmp_path):
    module = Module(fails_at=2)
    objective = lk.Objective(module.net, examples())
    callback = lk.callbacks.LightningCallback(tmp_path / "run.nc", objective, quiet=True)
    with pytest.raises(KeyError, match="broken"):
        fit(module, tmp_path, [callback])
    assert lk.open_trajectory(tmp_path / "run.nc").sizes["snapshot"] == 3


def test_another_model_is_refused_before_training(tmp_path):
    callback = lk.callbacks.LightningCallback(tmp_path / "run.nc", lk.Objective(dense(), examples()))
    with pytest.raises(lk.RecordingError, match="another model"):
        fit(Module(), tmp_path, [callback])


def test_its_checkpoints_are_a_trajectory(tmp_path):
    saving = lightning.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, every_n_epochs=1)
    module = Module()
    final = fit(module, tmp_path, [saving], enable_checkpointing=True, max_epochs=3)
    ds = lk.from_checkpoints(tmp_path / "*.ckpt", dense())
    assert ds.sizes["snapshot"] == 3
    np.testing.assert_array_equal(ds["theta"][-1], final)
    assert np.isfinite(ds["learning_rate"]).all()
