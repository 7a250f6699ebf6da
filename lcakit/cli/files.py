"""Commands on files that people send each other: parse, call, print."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["SOUND", "UNREADABLE", "UNSOUND", "Command", "add", "iterations"]


def __dir__() -> list[str]:
    return __all__


SOUND, UNSOUND, UNREADABLE = 0, 1, 2
Command = Callable[..., argparse.ArgumentParser]


def add(command: Command) -> None:
    """Add the commands; ``command(name, function, help)`` makes the parser of one."""
    info = command("info", _info, "say what a file is and how it was made; fast for any size of file")
    info.add_argument("file", metavar="FILE")
    info.add_argument("--json", action="store_true", help="as JSON")

    account = command("account", _account, "print the account of a file: loss, LCA, errors, layers")
    account.add_argument("file", metavar="FILE")
    account.add_argument("--objective", metavar="NAME", help="another objective in the file, such as val")
    account.add_argument("--explain", action="store_true", help="one sentence below each number")
    account.add_argument("--json", action="store_true", help="as JSON")

    validate = command("validate", _validate, "check a file (exit 0 sound, 1 unsound, 2 unreadable)")
    validate.add_argument("file", metavar="FILE")
    validate.add_argument("--groups", nargs="+", metavar="GROUP", help="structure, content, conservation")
    validate.add_argument("--json", action="store_true", help="as JSON")

    share = command("share", _share, "write a compact copy of a file, for sending")
    share.add_argument("file", metavar="FILE")
    share.add_argument("-o", "--out", required=True, metavar="FILE", help="file to write")
    share.add_argument("--resolution", choices=("parameter", "unit", "layer"), default="parameter")
    share.add_argument("--iterations", type=iterations, metavar="FIRST:LAST", help="labels, both included")
    share.add_argument("--layers", nargs="+", metavar="LAYER", help="only these layers, such as fc3")
    share.add_argument("--keepbits", type=int, help="mantissa bits that gradient and LCA keep")
    share.add_argument("--drop", nargs="*", default=[], metavar="VARIABLE", help="variables to leave out")
    share.add_argument("--norms", action="store_true", help="of units or layers: norms of gradient and movement, too")
    share.add_argument("--overwrite", action="store_true", help="replace what is there")

    fetch = command("fetch", _fetch, "download a file listed in a registry, check it, and print its path")
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument("--registry", metavar="FILE", help="lines of name, url, sha256 (default: this project's)")
    fetch.add_argument("--cache", metavar="DIR", help="folder to keep files in")

    imported = command("import", _import, "make a trajectory from files of another format")
    imported.add_argument("kind", choices=("lca-hdf5", "checkpoints"))
    imported.add_argument("sources", nargs="+", metavar="SOURCE", help="a folder (lca-hdf5), or checkpoint files")
    imported.add_argument("-o", "--out", required=True, metavar="FILE", help="file to write")
    imported.add_argument("--overwrite", action="store_true", help="replace what is there")

    cite = command("cite", _cite, "print a citation and a data-availability line for a file")
    cite.add_argument("file", metavar="FILE")


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Import without garbage collection: xarray and Dask leave none, and looking takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _json(data: Any) -> str:
    """Return data as JSON, which cannot express numbers that are not finite: they become null."""
    return json.dumps(_finite(data), indent=2, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _info(args: argparse.Namespace) -> None:
    with _uncollected():
        from lcakit.sharing.describe import describe

    found = describe(args.file)
    print(_json(found.to_dict()) if args.json else found.to_text())


def _account(args: argparse.Namespace) -> None:
    from lcakit.analysis.account import account
    from lcakit.storage.opening import open_trajectory

    ds = open_trajectory(args.file)
    numbers = account(ds, args.objective)
    if args.json:
        print(_json(dataclasses.asdict(numbers)))
        return
    if ds.attrs.get("partial"):
        print("this recording is not finished: lcakit finish, or record with --resume\n")
    print(numbers.to_text(explain=args.explain))


def _validate(args: argparse.Namespace) -> int:
    from lcakit.sharing.validation import GROUPS, validate

    report = validate(args.file, groups=args.groups or GROUPS)
    print(_json(report.to_dict()) if args.json else report.to_text())
    return SOUND if report.ok else UNSOUND


def iterations(text: str) -> slice:
    """Read FIRST:LAST, labels of iterations, both included."""
    try:
        first, last = (int(label) if label else None for label in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"iterations are FIRST:LAST, such as 0:219; got {text!r}") from None
    if first is not None and last is not None and first > last:
        raise argparse.ArgumentTypeError(f"iterations are FIRST:LAST, FIRST at most LAST; got {text!r}")
    return slice(first, last)


def _share(args: argparse.Namespace) -> None:
    from lcakit.sharing.copies import share

    options = {"resolution": args.resolution, "iterations": args.iterations, "keepbits": args.keepbits}
    options |= {"norms": args.norms}
    with _layers_of(args.file, args.layers) as source:
        print(share(source, args.out, **options, drop=args.drop, overwrite=args.overwrite, quiet=False))


@contextlib.contextmanager
def _layers_of(file: str, layers: list[str] | None) -> Iterator[Any]:
    """Give a file, or a selection of its layers."""
    if layers is None:
        yield file
        return
    from lcakit.storage.opening import open_trajectory
    from lcakit.trajectory.select import select

    with open_trajectory(file) as ds:
        yield select(ds, layer=layers)


def _fetch(args: argparse.Namespace) -> None:
    from lcakit.sharing.fetching import fetch

    print(fetch(args.name, args.registry, args.cache))


def _import(args: argparse.Namespace) -> None:
    if args.kind == "checkpoints":
        from lcakit.sharing.importers.checkpoints import from_checkpoints

        sources = args.sources if len(args.sources) > 1 else args.sources[0]
        from_checkpoints(sources, out=args.out, overwrite=args.overwrite)
        print(
            "lcakit: the file holds the parameters of each checkpoint (theta), and no LCA. To allocate the changes of "
            f"a loss to them: lk.allocate({args.out!r}, objective), with an lk.Objective of your model and data "
            "(lcakit allocate does it for the networks of lcakit record only).",
            file=sys.stderr,
        )
    else:
        from lcakit.sharing.importers import read_lca_hdf5
        from lcakit.storage.saving import save

        if len(args.sources) > 1:
            raise ValueError(f"lca-hdf5 takes one folder, got {len(args.sources)}")
        save(read_lca_hdf5(args.sources[0]), args.out, overwrite=args.overwrite, quiet=False)
    print(Path(args.out))


def _cite(args: argparse.Namespace) -> None:
    from lcakit.sharing.citation import cite

    print(cite(args.file))
