"""From a torch module to labels: its tensors, the role and the units of each, and the kernel of each norm layer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from lcakit.record.objective.with_loss import ModelWithLoss
from lcakit.record.units.lookup import Owned
from lcakit.record.units.seen import Seen, look
from lcakit.record.units.specs import specs_of
from lcakit.trajectory.labels import Labels

__all__ = [
    "couples_batch",
    "describe",
    "make_deterministic",
    "model_fingerprint",
    "name_cleaner",
    "see",
    "tensors_fingerprint",
    "trainable_parameters",
    "unwrap",
    "unwrap_inner",
]


def __dir__() -> list[str]:
    return __all__


_WRAPPERS: tuple[type[nn.Module], ...] = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def _inner(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Return name and module of what a wrapper wraps; None for any other module."""
    compiled = getattr(model, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        return "_orig_mod", compiled
    inner = model.module if isinstance(model, _WRAPPERS) else None
    return ("module", inner) if isinstance(inner, nn.Module) else None


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside DataParallel and ``torch.compile`` wrappers."""
    while (inner := _inner(model)) is not None:
        model = inner[1]
    return model


def unwrap_inner(model: nn.Module) -> nn.Module:
    """Replace, in place, every wrapped submodule of ``model`` by what it wraps."""
    for child_name, child in list(model.named_children()):
        bare = unwrap(child)
        if bare is not child:
            setattr(model, child_name, bare)
        unwrap_inner(bare)
    return model


def name_cleaner(model: nn.Module) -> Callable[[str], str]:
    """Return a function that removes wrappers inside ``model``: ``net._orig_mod.fc.bias`` -> ``net.fc.bias``."""
    wrapped = set()
    for name, module in model.named_modules():
        inner = ("model",) if isinstance(module, ModelWithLoss) else _inner(module)
        if inner is not None:
            wrapped.add(f"{name}.{inner[0]}".lstrip("."))

    def clean(name: str) -> str:
        parts = name.split(".")
        return ".".join(part for k, part in enumerate(parts, 1) if ".".join(parts[:k]) not in wrapped)

    return clean


def trainable_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield (clean name, parameter) of the floating-point tensors that learn, tied ones once, frozen ones never."""
    bare = unwrap(model)
    clean = name_cleaner(bare)
    for name, parameter in bare.named_parameters():
        if parameter.requires_grad and parameter.numel():
            yield clean(name), parameter


def couples_batch(model: nn.Module) -> bool:
    """Say whether a layer of a replica makes the loss of one example depend on the others in its batch (BatchNorm)."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None for m in model.modules())


def make_deterministic(model: nn.Module, norm: str = "auto") -> nn.Module:
    """Make the loss a function of the parameters alone, in place: dropout off, BatchNorm on batch statistics.

    Without running statistics a norm layer in eval mode normalizes by its batch, and has nothing to update. With
    ``norm="running"`` it keeps them, fixed; with ``"auto"`` if it is in eval mode now.
    """
    keeps = {m for m in model.modules() if norm == "running" or (norm == "auto" and not m.training)}
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and not (module in keeps and module.track_running_stats):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
        elif isinstance(module, nn.RNNBase):  # cuDNN has a backward pass for training mode only
            module.dropout = 0.0
            module.train()
    return model


def see(model: nn.Module, run: Callable[[], object]) -> Seen:
    """Return what ``run()``, a forward pass of the model on a few examples, shows of its units and norm layers."""
    return look(_owned(model), model, run, name_cleaner(model))


def describe(model: nn.Module, seen: Seen | None = None) -> Labels:
    """Return the labels of a model's trainable parameters.

    ``seen`` is what a forward pass shows (:func:`see`). Without it a norm layer belongs to the last kernel before it in
    definition order with as many units, and units that only a probe finds are not known.
    """
    return Labels(tuple(specs_of(_owned(model), seen or Seen())))


def _owned(model: nn.Module) -> list[Owned]:
    bare = unwrap(model)
    clean = name_cleaner(bare)
    modules = {clean(name): unwrap(module) for name, module in bare.named_modules()}
    with_root = modules | {"": bare}  # of a loss, which is beside the model and not in it
    beside = f"{bare.loss_name}." if isinstance(bare, ModelWithLoss) else None
    return [
        Owned(name, parameter, with_root if beside and name.startswith(beside) else modules)
        for name, parameter in trainable_parameters(bare)
    ]


def model_fingerprint(model: nn.Module, labels: Labels) -> str:
    """Return a sha256 over the trainable tensors' names and shapes and the model's structure (not its weights)."""
    lines = [f"{t.name} {t.shape} {t.role} {t.layer_kind}" for t in labels.tensors]
    return hashlib.sha256("\n".join([*lines, repr(model)]).encode()).hexdigest()


def tensors_fingerprint(*tensors: torch.Tensor) -> str:
    """Return a sha256 over the dtypes, shapes and bytes of tensors, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
