"""A full-set gradient of a small language model against a loop by hand: ``lcakit bench gradient --network gpt``."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lcakit.bench.devices import chosen, heading, on, torch_machine
from lcakit.bench.timing import Works, medians
from lcakit.errors import DataError
from lcakit.record.objective.losses import causal_lm
from lcakit.record.objective.objective import Objective

__all__ = ["BOUND", "GPT", "by_hand", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


BOUND = 1.3
"""What a gradient with groups may cost at most, in loops by hand that do the same."""

_VOCABULARY, _LENGTH, _WIDTH, _HEADS, _LAYERS = 65, 64, 128, 4, 4  # 0.8 million parameters
_BATCHES = (16, 32, 64)
_GROUPS = 4
_HAND, _SEQUENCES, _TOKENS = "by hand", "ours, groups of sequences", "ours, groups of tokens"


class GPT(nn.Module):
    """A language model as people write it: token numbers (n, T) to logits (n, T, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(_VOCABULARY, _WIDTH), nn.Embedding(_LENGTH, _WIDTH)
        self.blocks = nn.Sequential(*(_Block() for _ in range(_LAYERS)))
        self.norm, self.head = nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, _VOCABULARY, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next token at each position."""
        x = self.token(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        logits: torch.Tensor = self.head(self.norm(self.blocks(x)))
        return logits


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.packed, self.out = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(-1, (_HEADS, -1)).transpose(1, 2) for part in self.packed(self.before(x)).chunk(3, -1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        out: torch.Tensor = x + self.mlp(self.between(x))
        return out


def run(examples: int = 256, repeats: int = 5, device: str = "cpu") -> dict[str, Any]:
    """Time full-set gradients of a GPT on random sequences of 64 tokens, in alternating repeats.

    By hand: batches, ``F.cross_entropy`` and ``backward()``, in the best of three batch sizes; for groups of tokens one
    backward pass for each group. Ours: a plain gradient, one with groups of sequences, one with groups of tokens.

    Parameters
    ----------
    examples
        Number of sequences.
    repeats
        Measurements of each; medians are reported.
    device
        ``"cpu"`` or a GPU.

    Returns
    -------
    dict
        ``machine``, ``device``, ``seconds``, ``ratios``, ``bounds``, and ``disagreement``, the largest difference from
        the gradients by hand relative to their largest entry.
    """
    if examples < _GROUPS or repeats < 1:
        raise DataError(f"examples must be at least {_GROUPS} and repeats positive, got {examples} and {repeats}")
    where = chosen(device)
    torch.manual_seed(0)
    model, ids = GPT().to(where), torch.randint(_VOCABULARY, (examples, _LENGTH))
    of_tokens = ids[:, 1:] % _GROUPS
    make = partial(Objective, model, ids, batch_loss=causal_lm, device=where)
    plain, positions = make(), make(groups=of_tokens)
    sequences = make(groups=torch.arange(examples) % _GROUPS)
    tokens, groups = ids.to(where), of_tokens.to(where)
    works: Works = {
        "ours": partial(plain.evaluate, accuracy=False),
        _SEQUENCES: partial(sequences.evaluate, classes=True, accuracy=False),
        _TOKENS: partial(positions.evaluate, classes=True, accuracy=False),
        **{f"{_HAND}, {size}": partial(by_hand, model, tokens, None, size) for size in _BATCHES},
        **{f"{_HAND}, groups, {size}": partial(by_hand, model, tokens, groups, size) for size in _BATCHES},
    }
    return {
        "network": "gpt",
        "machine": torch_machine(where),
        "device": device,
        "examples": examples,
        "parameters": plain.n_parameters,
        "repeats": repeats,
        **_compared(medians(on(where, works), repeats)),
        "disagreement": {
            "plain": _far(plain.gradient(), by_hand(model, tokens, None, 32)),
            "groups of tokens": _far(positions.gradient(classes=True), by_hand(model, tokens, groups, 32)),
        },
    }


def _compared(seconds: dict[str, float]) -> dict[str, Any]:
    """Return the times with their ratios to those by hand, in the best batch size, and the bounds of these."""
    hand, by_group = (min(seconds[f"{name}, {size}"] for size in _BATCHES) for name in (_HAND, f"{_HAND}, groups"))
    ratios = {
        f"ours / {_HAND}": seconds["ours"] / hand,
        f"{_SEQUENCES} / {_HAND}": seconds[_SEQUENCES] / hand,
        f"{_TOKENS} / {_HAND}, groups": seconds[_TOKENS] / by_group,
    }
    return {"seconds": seconds, "ratios": ratios, "bounds": {name: BOUND for name in ratios if "groups" in name}}


def by_hand(model: nn.Module, ids: torch.Tensor, groups: torch.Tensor | None, size: int) -> torch.Tensor:
    """Add up the gradient of the mean over tokens, (K,), or those of the parts of groups of tokens, (C, K)."""
    parameters = list(model.parameters())
    count = ids[:, 1:].numel()
    total = torch.zeros(1 if groups is None else _GROUPS, sum(p.numel() for p in parameters), device=ids.device)
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        logits = model(some)[:, :-1].transpose(1, 2)
        losses = functional.cross_entropy(logits, some[:, 1:], reduction="none")
        for k, row in enumerate(total):
            part = losses if groups is None else losses * (groups[start : start + size] == k)
            found = torch.autograd.grad(part.sum() / count, parameters, retain_graph=k < len(total) - 1)
            row += torch.cat([gradient.flatten() for gradient in found])
    return total[0] if groups is None else total


def _far(ours: np.ndarray, theirs: torch.Tensor) -> float:
    return float(np.abs(ours - theirs.cpu().numpy()).max() / theirs.abs().max())


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    lines = [
        heading(result["machine"]),
        f"GPT of {result['parameters']:,} parameters, float32, {result['examples']} sequences of {_LENGTH} tokens; "
        f"seconds, medians of {result['repeats']} repeats",
    ]
    lines += [f"{name:44}{value:8.4f}" for name, value in result["seconds"].items()]
    for name, ratio in result["ratios"].items():
        bound = result["bounds"].get(name)
        verdict = "" if bound is None else f"   ({'within' if ratio <= bound else 'ABOVE'} the bound {bound})"
        lines.append(f"{name:44}{ratio:8.3f}{verdict}")
    far = ", ".join(f"{name} {value:.1e}" for name, value in result["disagreement"].items())
    return "\n".join([*lines, f"largest difference from the loop by hand, relative: {far}"])
