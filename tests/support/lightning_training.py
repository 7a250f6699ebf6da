"""A tiny model in Lightning, and its training. Apart from the tests, because Lightning takes seconds to import."""

from __future__ import annotations

import lightning.pytorch as lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.support.networks import dense, examples


class Module(lightning.LightningModule):
    def __init__(self, fails_at: int = -1) -> None:
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
