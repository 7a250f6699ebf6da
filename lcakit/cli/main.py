"""The command line: parse, call, print. Everything it does is one call of the library."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lcakit.cli import bench, experiments, files, lab, landscape, report, training, view
from lcakit.cli.files import UNREADABLE
from lcakit.cli.words import in_options, options_of
from lcakit.errors import LcakitError
from lcakit.packages import missing
from lcakit.progress import phase
from lcakit.version import __version__

__all__ = ["main"]


def __dir__() -> list[str]:
    return __all__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status (0 done, 1 unsound file, 2 wrong use or unreadable)."""
    arguments = _parser().parse_args(argv)
    try:
        status = int(arguments.run(arguments) or 0)
        sys.stdout.flush()
        return status
    except (LcakitError, ValueError) as error:
        print(f"lcakit: {in_options(str(error), options_of(arguments.usage()))}", file=sys.stderr)
        return UNREADABLE
    except ModuleNotFoundError as error:
        print(f"lcakit: {missing(error, 'this command')}", file=sys.stderr)
        return UNREADABLE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# ---- commands --------------------------------------------------------------------------------------------------


@phase("working")
def _demo(args: argparse.Namespace) -> None:
    from lcakit.storage.paths import given_path, writable_now

    folder = given_path(args.out)
    if folder.exists() and not folder.is_dir():
        raise LcakitError(f"{folder} is a file, and the demo writes several. Give a folder: --out DIR.")
    path = writable_now(folder / "digits-fc.nc")
    print("A small network (100-50-10) learns 1 500 real images of handwritten digits; every change of its loss over")
    print("all of them is allocated to its 12 060 parameters.\n", flush=True)
    with phase("loading PyTorch"):
        from lcakit.analysis.account import account
        from lcakit.experiments.training import Run, record_run
        from lcakit.storage.opening import open_trajectory
    record_run(Run("digits-fc", "sgd"), path, overwrite=True)
    with phase("adding up"):
        print(account(open_trajectory(path)).to_text(explain=True), flush=True)
    with phase("drawing the report"):
        report.report_of_demo(path)
    print(f"\nThe trajectory is in {path}. Look at it again:\n")
    print(f"  lcakit view {path}      # the explorer, in a browser")
    print(f"  lcakit info {path}\n  lcakit account {path}\n  lcakit validate {path}")
    print(f'  python -c "import lcakit as lk; print(lk.layers.layer_lca(lk.open_trajectory({str(path)!r})).compute())"')
    print("\nWalks through what such a file tells, in JupyterLab:\n\n  lcakit lab")


# ---- options ---------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lcakit", description="Watch a neural network learn, parameter by parameter.")
    parser.add_argument("--version", action="version", version=f"lcakit {__version__}")
    command = functools.partial(_command, parser.add_subparsers(required=True, metavar="COMMAND"))

    demo = command("demo", _demo, "record a small network on real digits and explain its account")
    demo.add_argument("--out", default=".", metavar="DIR", help="folder to write to")

    training.add(command)
    experiments.add(command)
    files.add(command)
    landscape.add(command)
    view.add(command)
    report.add(command)
    lab.add(command)
    bench.add(command)
    return parser


def _command(commands: Any, name: str, run: Callable[..., Any], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run, usage=parser.format_usage)
    return parser
