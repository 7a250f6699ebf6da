"""From a torch module to labels: its tensors, the role of each, and the kernel that each norm layer belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from lcakit.trajectory.labels import Labels, TensorSpec

__all__ = [
    "call_order",
    "couples_batch",
    "describe",
    "make_deterministic",
    "model_fingerprint",
    "name_cleaner",
    "tensors_fingerprint",
    "trainable_parameters",
    "unwrap",
    "unwrap_inner",
]


def __dir__() -> list[str]:
    return __all__


_WRAPPERS: tuple[type[nn.Module], ...] = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


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
        inner = _inner(module)
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
    """Say whether a layer makes the loss of one example depend on the others in its batch (BatchNorm)."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def make_deterministic(model: nn.Module) -> nn.Module:
    """Make the loss a function of the parameters alone, in place: dropout off, BatchNorm on batch statistics.

    Without running statistics a norm layer in eval mode normalizes by its batch, and has nothing to update.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
        elif isinstance(module, nn.RNNBase):  # cuDNN has a backward pass for training mode only
            module.dropout = 0.0
            module.train()
    return model


def _owner(name: str, modules: dict[str, nn.Module]) -> tuple[str, str, nn.Module]:
    """Return layer name, parameter name and module of a tensor; a parametrized tensor belongs to the outer layer."""
    path, _, leaf = name.rpartition(".")
    if ".parametrizations." in f".{path}.":
        path, _, rest = f".{path}".partition(".parametrizations.")
        path, leaf = path.lstrip("."), rest
    return path, leaf, modules[path]


def _role(leaf: str, parameter: torch.Tensor, module: nn.Module) -> str:
    if isinstance(module, _NORMS):
        return "norm_shift" if leaf.startswith("bias") else "norm_scale"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if "bias" in leaf:
        return "bias"
    return "kernel" if parameter.dim() >= 2 else "other"


def _kind(module: nn.Module) -> str:
    return type(module).__name__.lower()


def call_order(model: nn.Module, run: Callable[[], object]) -> list[str]:
    """Return the names of the modules in the order in which ``run()`` first calls them."""
    order: dict[str, None] = {}
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: order.setdefault(name)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return list(order)


def describe(model: nn.Module, order: Iterable[str] = ()) -> Labels:
    """Return the labels of a model's trainable parameters.

    ``order`` is the call order of its modules (:func:`call_order`): a norm layer belongs to the last kernel called
    before it whose units it can scale, failing that to the last such kernel in definition order.
    """
    bare = unwrap(model)
    clean = name_cleaner(bare)
    modules = {clean(name): unwrap(module) for name, module in bare.named_modules()}
    found = []
    for name, parameter in trainable_parameters(bare):
        layer, leaf, module = _owner(name, modules)
        found.append((name, layer or "(root)", _role(leaf, parameter, module), parameter, module))
    width = {
        layer: _width(parameter, module)
        for _, layer, role, parameter, module in found
        if role in ("kernel", "embedding")
    }
    norms = {
        layer: len(parameter) for _, layer, role, parameter, _ in found if role == "norm_scale" and parameter.dim()
    }
    called = [name or "(root)" for name in order]
    defined = list(dict.fromkeys(layer for _, layer, *_ in found))
    sequence = called if set(defined) <= set(called) else defined
    kernel_of = _merge_norms(sequence, width, norms)
    specs = [
        TensorSpec(
            name,
            tuple(parameter.shape),
            role,
            layer,
            _kind(module),
            kernel_of.get(layer, layer),
            transposed=isinstance(module, _TRANSPOSED) and role == "kernel",
            groups=int(module.groups) if isinstance(module, _TRANSPOSED) and role == "kernel" else 1,
        )
        for name, layer, role, parameter, module in found
    ]
    return Labels(tuple(specs))


def _width(parameter: torch.Tensor, module: nn.Module) -> int:
    if isinstance(module, _TRANSPOSED):
        return int(module.out_channels)
    return int(parameter.shape[0])


def _merge_norms(sequence: list[str], width: dict[str, int], norms: dict[str, int]) -> dict[str, str]:
    """Return, for each norm layer, the last kernel before it with as many units (or the last kernel at all)."""
    merged: dict[str, str] = {}
    kernels: list[str] = []
    for layer in sequence:
        if layer in width:
            kernels.append(layer)
        elif layer in norms and kernels:
            fitting = [k for k in kernels if width[k] == norms[layer]]
            merged[layer] = (fitting or kernels)[-1]
    return merged


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
