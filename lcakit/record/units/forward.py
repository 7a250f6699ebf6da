"""What one forward pass shows: where each parameter is used, and which parameters the data has passed before.

Modules say little about that: some are never called (the output projection of an attention layer), some twice, and a
fast path calls none. So the pass is followed operation by operation, and each tensor carries along which parameters it
has met, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["ForwardPass", "Use", "watch"]


def __dir__() -> list[str]:
    return __all__


Met = dict[str, int]
"""Parameters that a tensor's data has met -> the step at which it met them last."""


@dataclass(frozen=True)
class Use:
    """The first operation that a parameter meets data in.

    ``before`` are the parameters that the data had met, ``beside`` those that the operation takes too.
    """

    before: Met
    beside: frozenset[str]
    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass
class ForwardPass:
    """A forward pass on a few examples.

    ``uses`` has the parameters by name, ``entered`` the parameters that the inputs of each module had met, ``inputs``
    the arguments of the modules that were to be kept. All of it is of the first call.
    """

    uses: dict[str, Use] = field(default_factory=dict)
    entered: dict[str, Met] = field(default_factory=dict)
    inputs: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)


def watch(
    model: nn.Module,
    run: Callable[[], object],
    keep: Iterable[str] = (),
    unknown: Iterable[str] = (),
    clean: Callable[[str], str] = str,
) -> ForwardPass:
    """Follow ``run()``, which calls the model.

    Parameters
    ----------
    model
        The model; nothing of it is changed.
    run
        Makes the forward pass, best with two examples.
    keep
        Names of modules whose inputs are kept.
    unknown
        Names of parameters whose operation is kept, with its arguments.
    clean
        Turns names in the model into those that are used here.
    """
    seen = ForwardPass()
    names = {clean(name): parameter for name, parameter in model.named_parameters()}
    follower = _Follower(names, seen, frozenset(unknown))
    wanted, handles = frozenset(keep), []

    def hook(name: str) -> Callable[..., None]:
        def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.entered.setdefault(name, follower.met(tree_leaves((args, kwargs))))
            if name in wanted:
                seen.inputs.setdefault(name, (args, kwargs))

        return enter

    fast = torch.backends.mha.get_fastpath_enabled()
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(hook(clean(name)), with_kwargs=True))
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # one operation for a whole layer would tell nothing
        with follower:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()
    return seen


class _Follower(TorchDispatchMode):
    """Follows every operation: tensors are told apart by their storage, which views and in-place results share."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say no: to keep PyTorch's compiler away from it, PyTorch would import the compiler, which takes a second."""
        return False

    def __init__(self, parameters: Mapping[str, torch.Tensor], seen: ForwardPass, unknown: frozenset[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen, self._unknown, self._step = seen, unknown, 0
        self._parameters: dict[int, list[tuple[int, int, str]]] = {}
        for name, parameter in parameters.items():
            if (place := _storage(parameter)) is not None:
                start = int(parameter.storage_offset())
                self._parameters.setdefault(place, []).append((start, start + parameter.numel(), name))
        self._made_of: dict[int, frozenset[str]] = {}  # tensors that parameters alone went into, such as 1 + weight
        self._met: dict[int, Met] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._note(func, args, kwargs, [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)])
        return result

    def met(self, values: Iterable[Any]) -> Met:
        """Return the parameters that the tensors among ``values`` have met."""
        found: Met = {}
        for value in values:
            if isinstance(value, torch.Tensor):
                for name, step in self._met.get(_storage(value) or 0, {}).items():
                    found[name] = max(step, found.get(name, 0))
        return found

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[torch.Tensor]) -> None:
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        parameters = [self._of_parameters(t) for t in tensors]
        names = frozenset().union(*(p for p in parameters if p is not None))
        met = self.met(t for t, p in zip(tensors, parameters, strict=True) if p is None)
        if None in parameters and names:
            self._step += 1
            for name in names:
                kept = (args, kwargs) if name in self._unknown else ((), {})
                self._seen.uses.setdefault(name, Use(met, names - {name}, func, *kept))
            met = met | dict.fromkeys(names, self._step)
        for result in results:
            place = _storage(result)
            if place is None or place in self._parameters:
                continue
            self._made_of.pop(place, None)
            self._met.pop(place, None)
            if tensors and None not in parameters:
                self._made_of[place] = names
            else:
                self._met[place] = met

    def _of_parameters(self, tensor: torch.Tensor) -> frozenset[str] | None:
        """Return the parameters that alone make up a tensor, or None where data does."""
        place = _storage(tensor)
        if place is None:
            return None
        at = tensor.storage_offset() if place in self._parameters else 0
        for start, stop, name in self._parameters.get(place, ()):
            if start <= at < stop:
                return frozenset((name,))
        return self._made_of.get(place)


def _storage(tensor: torch.Tensor) -> int | None:
    """Return what tells the memory of a tensor from others, or None where it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):  # sparse, or not a tensor with memory
        return None
