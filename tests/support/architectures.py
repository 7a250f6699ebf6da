"""Small models of the kinds that people train, written by hand, each with data and a loss of batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

import lcakit as lk


@dataclass(frozen=True)
class Case:
    """A model, its examples, and how an objective is made of them."""

    model: nn.Module
    data: Any
    batch_loss: Callable[[nn.Module, Any], Any]
    how: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.1


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def images(n: int = 24, size: int = 8, channels: int = 1) -> torch.Tensor:
    return torch.rand(n, channels, size, size, generator=generator())


def tokens(n: int = 16, length: int = 6, vocabulary: int = 9) -> torch.Tensor:
    return torch.randint(1, vocabulary, (n, length), generator=generator())


def classes(n: int = 24, count: int = 3) -> torch.Tensor:
    return torch.randint(count, (n,), generator=generator())


class Attention(nn.Module):
    """Several heads, with packed projections; causal or not."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.packed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.packed(x).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.before, self.attention = nn.LayerNorm(width), Attention(width, heads, causal)
        self.between, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        x = x + self.attention(self.before(x))
        return x + self.down(F.gelu(self.up(self.between(x))))


class Transformer(nn.Module):
    """Tokens or patches to outputs at every position, with embeddings of places; dropout as people have it."""

    def __init__(self, entry: nn.Module, outputs: int, *, width=8, length=6, causal=False, blocks=2, tied=False):
        super().__init__()
        self.entry, self.place = entry, nn.Parameter(0.1 * torch.randn(length, width))
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.Sequential(*(Block(width, 2, causal) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs, bias=not tied)
        if tied:
            self.head.weight = entry.weight

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.drop(self.entry(x) + self.place))))


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(1, 8, 4, 4)

    def forward(self, x):
        return self.project(x).flatten(2).transpose(1, 2)


def supervised(model, batch):
    x, y = batch
    return lk.losses.cross_entropy(model(x), y)


def lenet() -> Case:
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3)),
    )
    return Case(model, (images(), classes()), supervised, {"groups": classes()})


def gpt() -> Case:
    x = tokens()
    model = Transformer(nn.Embedding(9, 8), 9, causal=True, tied=True)
    return Case(model, x, lk.losses.causal_lm, {"groups": x[:, 1:] % 2, "group_kind": "parity"})


def bert() -> Case:
    """Hidden tokens are to be found; the others do not count."""
    x = tokens()
    hidden = torch.rand(x.shape, generator=generator()) < 0.3
    hidden[:, 0] = True
    batch = (x.masked_fill(hidden, 0), x.masked_fill(~hidden, -100))
    return Case(Transformer(nn.Embedding(9, 8), 9), batch, lk.losses.token_classification)


def t5() -> Case:
    """An encoder and a decoder that share their embedding, and attention across."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Embedding(9, 8)
            self.body = nn.Transformer(8, 2, 1, 1, 12, dropout=0.1, batch_first=True)
            self.head = nn.Linear(8, 9)

        def forward(self, source, target):
            causal = self.body.generate_square_subsequent_mask(target.shape[1]).to(self.shared.weight)
            return self.head(self.body(self.shared(source), self.shared(target), tgt_mask=causal))

    def loss(model, batch):
        out = model(batch["source"], batch["target"][:, :-1])
        return F.cross_entropy(out.transpose(1, 2), batch["target"][:, 1:], reduction="none")

    return Case(Both(), {"source": tokens(), "target": tokens(length=4)}, loss)


def vit() -> Case:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Transformer(Patches(), 3, length=4)

        def forward(self, x):
            return self.body(x).mean(1)

    return Case(Pooled(), (images(), classes()), lk.losses.sequence_classification)


def convnext() -> Case:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise, self.norm = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.LayerNorm(4)
            self.up, self.down, self.scale = nn.Linear(4, 8), nn.Linear(8, 4), nn.Parameter(0.1 * torch.ones(4))

        def forward(self, x):
            y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
            return x + (self.scale * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)

    model = nn.Sequential(nn.Conv2d(1, 4, 2, 2), Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return Case(model, (images(), classes()), supervised)


def batch_norm_net() -> Case:
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(108, 3))
    )
    return Case(model, (images(), classes()), supervised, {"batch_size": 12})


def recurrent(kind: type[nn.RNNBase]) -> Case:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.entry, self.body = nn.Embedding(9, 5), kind(5, 6, 2, batch_first=True, dropout=0.1, bidirectional=True)
            self.head = nn.Linear(12, 3)

        def forward(self, x):
            return self.head(self.body(self.entry(x))[0][:, -1])

    return Case(Reader(), (tokens(24), classes()), lk.losses.sequence_classification)


def vae() -> Case:
    class Variational(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(64, 4), nn.Linear(2, 64)

        def forward(self, x):
            mean, spread = self.encoder(x.flatten(1)).chunk(2, 1)
            return self.decoder(mean + spread.exp() * torch.randn(mean.shape).to(mean)), mean, spread

    def loss(model, x):
        logits, mean, spread = model(x)
        back = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1)
        return back + 0.5 * (mean**2 + (2 * spread).exp() - 1 - 2 * spread).sum(1)

    return Case(Variational(), images(), loss, {"fixed_noise": True, "batch_size": 8}, rate=0.003)


def segmentation() -> Case:
    masks = torch.randint(3, (24, 8, 8), generator=generator())
    masks[:, 0] = 255

    def loss(model, batch):
        return lk.losses.segmentation(model, batch, ignore_index=255)

    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GELU(), nn.ConvTranspose2d(4, 3, 3, padding=1))
    return Case(model, (images(), masks), loss, {"groups": masks.clamp(max=2), "group_kind": "label"})


def lora() -> Case:
    """Frozen kernels with adapters of low rank as parametrizations."""

    class Adapter(nn.Module):
        def __init__(self, rows: int, columns: int) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(2, columns)), nn.Parameter(0.1 * torch.randn(rows, 2))

        def forward(self, kernel):
            return kernel + self.b @ self.a

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)).requires_grad_(False)
    for layer in (model[1], model[3]):
        parametrize.register_parametrization(layer, "weight", Adapter(*layer.weight.shape))
    return Case(model, (images(), classes()), supervised)


CASES: dict[str, Callable[[], Case]] = {
    "LeNet": lenet,
    "GPT": gpt,
    "BERT": bert,
    "T5": t5,
    "ViT": vit,
    "ConvNeXt": convnext,
    "BatchNorm": batch_norm_net,
    "LSTM": lambda: recurrent(nn.LSTM),
    "GRU": lambda: recurrent(nn.GRU),
    "VAE": vae,
    "segmentation": segmentation,
    "LoRA": lora,
}


def build(name: str) -> Case:
    torch.manual_seed(0)
    return CASES[name]()
