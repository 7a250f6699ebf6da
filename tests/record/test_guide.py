"""The guide to recording, as typed: each block of its code runs, and what it records is sound."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lcakit as lk

GUIDE = Path(__file__).parents[2] / "notebooks" / "guides" / "record.md"


def blocks() -> dict[str, list[str]]:
    """Return the blocks of code of each section."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^#+ ", GUIDE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        found[section.splitlines()[0]] = re.findall(r"^```python\n(.*?)^```", section, flags=re.M | re.S)
    return found


class Tagger(nn.Module):
    """Token numbers to logits of the next one; where the mask is 0 there is none."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)

    def forward(self, ids, mask=None):
        return self.head(self.embedding(ids).cumsum(1) * mask[..., None])


def net(*sizes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.Tanh(), nn.Linear(sizes[1], sizes[2]))


def play(policy):
    with torch.no_grad():
        state = torch.randn(30, 3)
        action = torch.distributions.Categorical(logits=policy(state)).sample()
    return {"state": state, "action": action, "advantage": state[:, 0] * (2.0 * action - 1)}


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Give what the guide takes for granted, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    x, y = torch.randn(24, 6), torch.arange(24) % 3
    model, generator, critic, policy = net(6, 4, 3), net(2, 4, 6), net(6, 4, 1), net(3, 4, 2)
    dataset = TensorDataset(x, y)
    loader = DataLoader(dataset, batch_size=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {"lk": lk, "torch": torch, "nn": nn, "F": F, "itertools": itertools, "DataLoader": DataLoader} | {
        "model": model,
        "optimizer": optimizer,
        "x_train": x,
        "y_train": y,
        "x_val": x + 0.1,
        "y_val": y,
        "names": ["a", "b", "c"],
        "loader": loader,
        "dataset": dataset,
        "epochs": 1,
        "episodes": 3,
        "play": play,
        "generator": generator,
        "critic": critic,
        "policy": policy,
        "noise": torch.randn(16, 2),
        "batches": x.split(8),
        "critic_optimizer": torch.optim.SGD(critic.parameters(), lr=0.1),
        "generator_optimizer": torch.optim.SGD(generator.parameters(), lr=0.1),
    }


def run(code: str, names: dict[str, object], path: str) -> None:
    exec(compile(code, "record.md", "exec"), names)
    assert lk.validate(path, quiet=True).ok
    assert lk.open_trajectory(path).sizes["iteration"] == 3


def test_three_lines(names):
    run(blocks()["Record your model"][0], names, "run.nc")


def test_any_batch(names):
    ids = torch.randint(7, (12, 5))
    names |= {"data": {"ids": ids, "next": ids.roll(-1, 1), "mask": (ids > 0).long()}, "language": torch.arange(12) % 2}
    names["model"] = model = Tagger()
    code = blocks()["Any batch, any loss"][0]
    exec(compile(code, "record.md", "exec"), names)
    each, weights = names["losses"](model, names["data"])
    assert names["objective"].evaluate().loss == pytest.approx(float((each * weights).sum() / weights.sum()))
    assert names["objective"].class_names == ("de", "en")


@pytest.mark.parametrize(("block", "path"), [(0, "gan.nc"), (1, "policy.nc")])
def test_several_optimizers_and_an_agent(names, block, path):
    names["optimizer"] = torch.optim.SGD(names["policy"].parameters(), lr=0.1)
    run(blocks()["Several optimizers, an agent, or none"][block], names, path)


def test_a_run_that_may_be_stopped(names):
    code = blocks()["A run that may be stopped"][0].replace("batch_size=250", "batch_size=8")
    names["objective"] = lk.Objective(names["model"], (names["x_train"], names["y_train"]))
    run(code, names, "run.nc")


@pytest.mark.slow
def test_the_callback_of_lightning(names):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = names["model"]

        def forward(self, x):
            return self.network(x)

        def training_step(self, batch, _):
            return F.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    names |= {"lightning": lightning, "module": Module()}
    code = blocks()["Somebody else's loop"][1]
    quiet = "accelerator='cpu', logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks="
    run(code.replace("callbacks=", quiet), names, "run.nc")


@pytest.mark.slow
def test_the_callback_of_transformers(names):
    transformers = pytest.importorskip("transformers")
    from transformers import Trainer, TrainingArguments

    ids = torch.randint(7, (12, 5))
    config = transformers.GPT2Config(vocab_size=7, n_positions=5, n_embd=8, n_layer=1, n_head=2, bos_token_id=0)
    names["model"] = transformers.GPT2LMHeadModel(config)
    names["objective"] = lk.Objective(names["model"], {"input_ids": ids, "labels": ids}, batch_loss=lk.losses.causal_lm)
    names |= {"Trainer": Trainer, "train": [{"input_ids": row, "labels": row} for row in ids]}
    names["args"] = TrainingArguments(
        "out", per_device_train_batch_size=4, num_train_epochs=1, report_to=[], save_strategy="no", use_cpu=True
    )
    run(blocks()["Somebody else's loop"][0], names, "run.nc")
