"""Hooks on a copied model: those that compute something of the model stay, those that watch it go."""

from __future__ import annotations

import dis
import functools
import types
import warnings
from typing import Any

from torch import nn

from lcakit.errors import LcakitWarning

__all__ = ["drop_hooks", "users_hooks"]


def __dir__() -> list[str]:
    return __all__


_GIVES_NOTHING = {"append", "extend", "insert", "add", "update", "put", "write", "print", "setattr", "__setitem__"}
_GIVES_NOTHING |= {"debug", "info", "log", "add_scalar", "add_histogram"}
"""Names of what watching functions call, and what returns None."""


def drop_hooks(model: nn.Module) -> None:
    """Remove, in place, the hooks that a user has registered on a model.

    Hooks on gradients would change them. Forward hooks are monitors as a rule, and would count every evaluation as a
    pass of the training; those of PyTorch itself (pruning, the older weight and spectral norm) compute weights, and
    stay. What a hook returns replaces an output: where one may return something, a warning says that it is left out.
    """
    for module in model.modules():
        for hooks in _tables(module):
            for key, hook in list(hooks.items()):
                if not _is_of_torch(hook):
                    del hooks[key]
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()


def users_hooks(model: nn.Module) -> list[Any]:
    """Return the hooks that the user registered, and warn of forward hooks that may return something."""
    found = []
    for name, module in model.named_modules():
        for hooks in _tables(module):
            for hook in (hook for hook in hooks.values() if not _is_of_torch(hook)):
                found.append(hook)
                if _may_return(hook):
                    _warn(name, hook)
        found += [*module._backward_hooks.values(), *module._backward_pre_hooks.values()]
    return found


def _tables(module: nn.Module) -> tuple[dict[int, Any], ...]:
    return module._forward_pre_hooks, module._forward_hooks


def _is_of_torch(hook: Any) -> bool:
    if isinstance(hook, types.FunctionType | types.MethodType):
        return str(hook.__module__).partition(".")[0] == "torch"
    return any(base.__module__.partition(".")[0] == "torch" for base in type(hook).__mro__)


def _may_return(hook: Any) -> bool:
    """Say whether a hook may return anything but None, as far as its code tells.

    A lambda that watches returns what its call returns, such as that of ``list.append``: those are known by name.
    """
    while isinstance(hook, functools.partial):
        hook = hook.func
    code = getattr(hook, "__code__", None)
    if code is None:  # an object that is called
        code = getattr(getattr(type(hook), "__call__", None), "__code__", None)  # noqa: B004  it is not asked whether
    if code is None:
        return False
    watches = code.co_name == "<lambda>" and not _GIVES_NOTHING.isdisjoint(code.co_names)
    last = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RETURN_VALUE" and not (_loads_none(last) or (watches and _calls(last))):
            return True
        last = instruction
    return False


def _calls(instruction: dis.Instruction | None) -> bool:
    return instruction is not None and instruction.opname.startswith("CALL")


def _loads_none(instruction: dis.Instruction | None) -> bool:
    return instruction is not None and instruction.opname == "LOAD_CONST" and instruction.argval is None


def _warn(name: str, hook: Any) -> None:
    what = getattr(hook, "__qualname__", type(hook).__name__)
    warnings.warn(
        f"the forward hook {what} on {name or 'the model'!r} does not run when the loss is evaluated, and it may "
        "return another output. If it does, make it part of a module's forward: the loss recorded is that without it.",
        LcakitWarning,
        stacklevel=2,
    )
