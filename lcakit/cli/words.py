"""Error messages of the library, with options of the command line in place of arguments."""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["in_options", "options_of"]


def __dir__() -> list[str]:
    return __all__


# An argument with its value, such as overwrite=True, classes="unit" or None, keep=("lca", …). Calls stay as they are.
_CALL = r"lk\.[\w.]+\((?:[^()]|\([^()]*\))*\)"
_VALUE = r"""True|False|None|…|\d+(?:\.\d+)?|"[^"]*"|'[^']*'|\([^()]*\)"""
_ARGUMENT = re.compile(rf"{_CALL}|(?<![\w./\\=-])([a-z_]+)=({_VALUE})( or None\b)?(?!\.?[\w/\\])")

_NONE = {"classes": "none", "tolerance": "0"}
"""The value of an option that stands for None."""


def options_of(usage: str) -> frozenset[str]:
    """Return the options of a command, from the line that says how it is used."""
    return frozenset(re.findall(r"--[a-z][a-z-]*", usage))


def in_options(text: str, options: Collection[str]) -> str:
    """Return a message of the library with the options of a command in place of arguments; others stay.

    Examples
    --------
    >>> in_options("Pass overwrite=True to replace it.", {"--overwrite"})
    'Pass --overwrite to replace it.'
    """
    return _ARGUMENT.sub(lambda found: _option(found, options), text)


def _option(found: re.Match[str], options: Collection[str]) -> str:
    name, value, or_none = found.groups()
    flag = f"--{(name or '').replace('_', '-')}"
    if value == "False":
        flag = flag.replace("--", "--no-", 1)
    if name is None or flag not in options or ((value == "None" or or_none) and name not in _NONE):
        return found[0]
    if value in ("True", "False"):
        return flag
    if value == "None":
        return f"{flag} {_NONE[name]}"
    plain = " ".join(re.findall(r"[^\s\"'(),]+", value))
    return f"{flag} {plain}{f' or {_NONE[name]}' if or_none else ''}".rstrip()
