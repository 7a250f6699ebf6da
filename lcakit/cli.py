"""The command line: parse, call, print. Everything it does is one call of the library."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lcakit import __version__, cli_experiments, cli_files, cli_lab, cli_report, cli_studies, cli_view
from lcakit.bench import BENCHMARKS
from lcakit.cli_files import UNREADABLE
from lcakit.errors import LcakitError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status (0 done, 1 unsound file, 2 wrong use or unreadable)."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except (LcakitError, ValueError) as error:
        print(f"lcakit: {error}", file=sys.stderr)
        return UNREADABLE
    except ModuleNotFoundError as error:
        print(f"lcakit: this command needs the package {error.name!r}. Install lcakit[record].", file=sys.stderr)
        return UNREADABLE
    except KeyboardInterrupt:
        return 130


# ---- commands --------------------------------------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> None:
    from lcakit.analysis.account import account
    from lcakit.store import open_trajectory
    from lcakit.studies.training import Run, record_run

    path = Path(args.out) / "digits-fc.nc"
    path.parent.mkdir(parents=True, exist_ok=True)
    print("A small network (100-50-10) learns 1 500 real images of handwritten digits; every change of its loss over")
    print("all of them is allocated to its 12 060 parameters.\n")
    record_run(Run("digits-fc", "sgd"), path, overwrite=True)
    print(account(open_trajectory(path)).to_text(explain=True))
    cli_report.report_of_demo(path)
    print(f"\nThe trajectory is in {path}. Look at it again:\n")
    print(f"  lcakit info {path}\n  lcakit account {path}\n  lcakit validate {path}")
    print(f'  python -c "import lcakit as lk; print(lk.layers.layer_lca(lk.open_trajectory({str(path)!r})).compute())"')


def _bench(args: argparse.Namespace) -> None:
    from lcakit import bench

    options = {"scale": args.scale, "directory": args.dir, "file": args.file}
    options |= {"parameters": args.parameters, "classes": args.classes or None}
    options |= {"network": args.network, "examples": args.examples, "device": args.device}
    result, text = bench.run(args.what, **{name: value for name, value in options.items() if value is not None})
    print(json.dumps(result, indent=2) if args.json else text)


# ---- options ---------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lcakit", description="Watch a neural network learn, parameter by parameter.")
    parser.add_argument("--version", action="version", version=f"lcakit {__version__}")
    command = functools.partial(_command, parser.add_subparsers(required=True, metavar="COMMAND"))

    demo = command("demo", _demo, "record a small network on real digits and explain its account")
    demo.add_argument("--out", default=".", metavar="DIR", help="folder to write to")

    cli_studies.add(command)
    cli_experiments.add(command)
    cli_files.add(command)
    cli_view.add(command)
    cli_report.add(command)
    cli_lab.add(command)

    bench = command("bench", _bench, "measure speed, as ratios in one run")
    bench.add_argument("what", choices=BENCHMARKS)
    bench.add_argument("--scale", type=float, help="size against that of a full measurement, where it can differ")
    bench.add_argument("--dir", metavar="DIR", help="folder for what is written (analysis: 10.9 GB × scale; open: 3)")
    bench.add_argument("--file", metavar="FILE", help="share: a recorded trajectory (default: a synthetic one)")
    bench.add_argument("--parameters", type=int, metavar="N", help="memory: size of the network (default: 100 million)")
    bench.add_argument("--classes", action="store_true", help="memory: split by class, too")
    bench.add_argument("--network", metavar="NAME", help="convolutions: one of lcakit networks (default: resnet20)")
    bench.add_argument("--examples", type=int, metavar="N", help="gradient, convolutions, precision, record, cluster")
    bench.add_argument("--device", help="precision, together: cpu (default) or a GPU such as cuda")
    bench.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _command(commands: Any, name: str, run: Callable[..., Any], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
