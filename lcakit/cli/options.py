"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

__all__ = [
    "LAST_PORT",
    "device_options",
    "gpus",
    "keeping_options",
    "port",
    "positive",
    "recording_options",
    "rule_options",
    "seeds",
    "splits_option",
    "training_options",
    "writing_options",
]


def __dir__() -> list[str]:
    return __all__


LAST_PORT = 65535


def device_options(parser: argparse.ArgumentParser) -> None:
    """Add where the data is, and where and how to compute."""
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data sets (default: $LCAKIT_DATA)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, …")
    parser.add_argument("--precision", type=_precision, default="float32", help="float32, float64, tf32 or bfloat16")


def _precision(text: str) -> str:
    return {"bf16": "bfloat16", "fp32": "float32", "fp64": "float64"}.get(text, text)


def training_options(parser: argparse.ArgumentParser) -> None:
    """Add what describes one training run."""
    parser.add_argument("network", metavar="NETWORK", help="data set and network: digits-fc, mnist-fc, FILE.npz-fc, …")
    parser.add_argument("--optimizer", default="sgd", help="sgd (momentum 0.9), sgd-mom0 or adam")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--momentum", type=float)
    parser.add_argument("--batch-size", type=int, help="of training")
    parser.add_argument("--iterations", type=int, help="optimizer steps")
    parser.add_argument("--train-examples", type=int, metavar="N", help="a subset, equally many of each class")
    parser.add_argument("--validation", action="store_true", help="allocate the test loss too, after training")
    parser.add_argument("--validation-examples", type=int, metavar="N", help="a subset of the test set for that")
    _intervention_options(parser)
    device_options(parser)


def _intervention_options(parser: argparse.ArgumentParser) -> None:
    def option(name: str, kind: Callable[[str], Any], metavar: str, text: str) -> None:
        parser.add_argument(name, type=kind, action="append", default=[], metavar=metavar, help=f"{text}; repeatable")

    option("--freeze", _freezing, "LAYER[@STEP]", "do not train a layer (a name, first or last), or not from a step on")
    option(
        "--freeze-argmin",
        _assignment(str),
        "LAYER=FILE",
        "freeze it where its cumulative LCA was smallest in an earlier run ({seed} in FILE is the seed)",
    )
    option("--lr-factor", _assignment(float), "LAYER=FACTOR", "multiply the learning rate of a layer")
    option("--own-momentum", _assignment(float), "LAYER=MOMENTUM", "give a layer its own momentum")
    option("--delay", _assignment(int), "LAYER=D", "the same as D iterations: momentum D / (D + 1)")


def _freezing(text: str) -> tuple[str, str | int]:
    layer, at, step = text.partition("@")
    if at and not step.isdecimal():
        raise argparse.ArgumentTypeError(f"freezing is LAYER or LAYER@STEP, such as last@500; got {text!r}")
    return layer, int(step) if at else "start"


def _assignment(kind: type) -> Callable[[str], tuple[str, Any]]:
    def read(text: str) -> tuple[str, Any]:
        layer, _, value = text.partition("=")
        try:
            if not (layer and value):
                raise ValueError
            return layer, kind(value)
        except ValueError:
            what = {str: "a file", float: "a number", int: "a whole number"}[kind]
            raise argparse.ArgumentTypeError(f"expected LAYER=VALUE with {what}, got {text!r}") from None

    return read


def rule_options(parser: argparse.ArgumentParser) -> None:
    """Add how loss changes are allocated."""
    parser.add_argument("--rule", default="rk4", help="first_order, trapezoid, midpoint, rk4 or boole")
    parser.add_argument(
        "--tolerance", type=float, default=1e-3, help="largest residual before refining; 0: never refine"
    )
    splits_option(parser)
    parser.add_argument("--classes", choices=("unit", "parameter", "none"), default="unit", help="class resolution")


def splits_option(parser: argparse.ArgumentParser) -> None:
    """Add how far a move is refined at most."""
    parser.add_argument("--max-splits", type=int, default=32, metavar="N", help="most splits of a move in refining it")


def recording_options(parser: argparse.ArgumentParser) -> None:
    """Add what is stored."""
    keeping_options(parser)
    parser.add_argument("--every", type=int, default=1, help="take a snapshot every n-th step")
    parser.add_argument("--budget", help='refuse a larger file, such as "20 GB"')


def keeping_options(parser: argparse.ArgumentParser) -> None:
    """Add what is stored per parameter."""
    parser.add_argument(
        "--keep",
        nargs="*",
        action=_Keep,
        default=["theta", "gradient", "lca"],
        metavar="NAME",
        help="what to store per parameter and iteration: of theta, gradient, lca; or none",
    )
    parser.add_argument(
        "--statistics",
        action=argparse.BooleanOptionalAction,
        help="running statistics per parameter (default: where lca is not kept)",
    )


class _Keep(argparse.Action):
    """Read names of variables, separated by spaces or commas; ``none`` gives an empty list."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        names = [name for value in values for name in value.split(",") if name]
        setattr(namespace, self.dest, [] if names == ["none"] else names)


def writing_options(parser: argparse.ArgumentParser) -> None:
    """Add how a file is written."""
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--compression", choices=("zlib",), help="smaller file, slower to write and read")


def gpus(text: str) -> list[int]:
    """Read numbers of GPUs: ``0`` or ``0,1,2``."""
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"GPUs are numbers such as 0 or 0,1; got {text!r}")
    return [int(number) for number in numbers]


def port(text: str) -> int:
    """Read the number of a port; 0 is any that is free."""
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to {LAST_PORT}, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def seeds(text: str) -> list[int]:
    """Read seeds: ``3``, ``0,1,2`` or ``0:3``."""
    try:
        if ":" in text:
            first, last = (int(part) for part in text.split(":"))
            if first >= last:
                raise ValueError
            return list(range(first, last))
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"seeds are 0, a list 0,1,2 or a range 0:3; got {text!r}") from None
