"""The command for experiments on toy landscapes: parse, call, print."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from lcakit.errors import unknown

__all__ = ["add"]


def __dir__() -> list[str]:
    return __all__


Command = Callable[..., argparse.ArgumentParser]


def add(command: Command) -> None:
    """Add the command; ``command(name, function, help)`` makes its parser."""
    landscape = command("landscape", _landscape, "experiments on toy landscapes with known answers")
    landscape.add_argument("model", help="nqm (noisy quadratic) or wedges")
    landscape.add_argument("experiment", nargs="?", help="left out: list them")
    landscape.add_argument("--out", metavar="FILE", help=".nc: the result; .png, .svg, .pdf, .html: the picture")
    landscape.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option, as JSON")


def _landscape(args: argparse.Namespace) -> None:
    from lcakit.landscapes import named, tables

    if args.experiment is None:
        if args.model not in named.EXPERIMENTS:
            raise unknown("landscape", args.model, named.EXPERIMENTS)
        print("\n".join(named.EXPERIMENTS[args.model]))
        return
    experiment, result = named.run(args.model, args.experiment, args.out, **dict(map(_setting, args.set)))
    print(tables.to_text(result, experiment.columns))


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"an option is NAME=VALUE, got {text!r}")
    try:
        return name.replace("-", "_"), json.loads(value)
    except json.JSONDecodeError:
        return name.replace("-", "_"), value
