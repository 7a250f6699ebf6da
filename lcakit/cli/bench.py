"""The command that measures speed. The table of benchmarks says which takes which option."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from lcakit.bench import BENCHMARKS, OPTIONS

__all__ = ["Command", "add"]


def __dir__() -> list[str]:
    return __all__


Command = Callable[..., argparse.ArgumentParser]


def add(command: Command) -> None:
    """Add the command; ``command(name, function, help)`` makes its parser."""
    bench = command("bench", _bench, "measure speed, as ratios in one run")
    bench.add_argument("what", choices=BENCHMARKS)
    _option(bench, "scale", "size against that of a full measurement", type=float)
    _option(bench, "directory", "folder for what is written (analysis: 11.1 GB × scale; open: 3)", metavar="DIR")
    _option(bench, "file", "a recorded trajectory (default: a synthetic one)", metavar="FILE")
    _option(bench, "parameters", "size of the network (default: 100 million)", type=int, metavar="N")
    _option(bench, "classes", "split by class, too", action="store_true", default=None)
    _option(bench, "network", "one of lcakit networks (default: resnet20; for gradient fc or gpt)", metavar="NAME")
    _option(bench, "examples", "number of made-up images", type=int, metavar="N")
    _option(bench, "iterations", "optimizer steps", type=int, metavar="N")
    _option(bench, "repeats", "measurements of each", type=int, metavar="N")
    _option(bench, "device", "cpu (default) or a GPU such as cuda")
    _option(bench, "precision", "float32 (default), bfloat16, or on a GPU tf32")
    bench.add_argument("--json", action="store_true", help="print JSON instead of text")
    bench.add_argument("--save", metavar="FILE", help="write the result as JSON to FILE, too")


def _option(parser: argparse.ArgumentParser, name: str, text: str, **how: Any) -> None:
    flag = {"directory": "dir"}.get(name, name)
    parser.add_argument(f"--{flag}", dest=name, help=f"{', '.join(OPTIONS[name])}: {text}", **how)


def _bench(args: argparse.Namespace) -> None:
    from lcakit import bench
    from lcakit.storage.atomic import written
    from lcakit.storage.paths import writable_path

    given = {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}
    result, text = bench.run(args.what, **given)
    as_json = json.dumps(result, indent=2)
    if args.save:
        with written(writable_path(args.save)) as temporary:
            temporary.write_text(as_json + "\n", encoding="utf-8")
    print(as_json if args.json else text)
