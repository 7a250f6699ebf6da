"""The command line: parse, call, print. Everything it does is one call of the library."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lcakit import __version__, cli_files
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
    print(f"\nThe trajectory is in {path}. Look at it again:\n")
    print(f"  lcakit info {path}\n  lcakit account {path}\n  lcakit validate {path}")
    print(f'  python -c "import lcakit as lk; print(lk.layers.layer_lca(lk.open_trajectory({str(path)!r})).compute())"')


def _record(args: argparse.Namespace) -> None:
    from lcakit.studies.training import record_run

    for seed in args.seeds:
        run = _run_of(args, seed)
        path = Path(args.out or f"{args.network.replace('/', '_')}-{args.optimizer}-{seed}.nc")
        if len(args.seeds) > 1 and args.out:
            path = path.with_name(f"{path.stem}-{seed}{path.suffix}")
        if args.resume and len(args.seeds) > 1 and path.exists():
            print(f"{path} is finished")
            continue
        record_run(
            run,
            path,
            device=args.device,
            precision=args.precision,
            rule=args.rule,
            tolerance=args.tolerance or None,
            max_splits=args.max_splits,
            classes=None if args.classes == "none" else args.classes,
            keep=tuple(args.keep),
            every=args.every,
            allocate=args.allocate,
            budget=args.budget,
            resume=args.resume,
            overwrite=args.overwrite,
            compression=args.compression,
        )
        print(path)


def _allocate(args: argparse.Namespace) -> None:
    from lcakit.record.allocate import allocate
    from lcakit.store import open_trajectory
    from lcakit.studies.training import make_model, make_objective, run_of

    run = run_of(open_trajectory(args.file), args.data_root)
    data = run.data()
    model = make_model(run, data)
    objective = make_objective(run, model, data, args.set, device=args.device, precision=args.precision)
    allocate(
        args.file,
        objective,
        rule=args.rule,
        tolerance=args.tolerance or None,
        max_splits=args.max_splits,
        classes=None if args.classes == "none" else args.classes,
        out=args.out,
        name=args.name or ("val" if args.set == "test" else None),
        overwrite=args.overwrite,
    )
    print(args.out or args.file)


def _estimate(args: argparse.Namespace) -> None:
    from lcakit.budget import estimate
    from lcakit.studies.training import make_model, make_objective

    run = _run_of(args, 0).resolved()
    data = run.data()
    objective = make_objective(run, make_model(run, data), data, device=args.device, precision=args.precision)
    classes = None if args.classes == "none" else args.classes
    objective.evaluate(classes=classes is not None)  # once to warm up, once to be timed
    objective.evaluations, objective.seconds = 0, 0.0
    objective.evaluate(classes=classes is not None)
    found = estimate(
        objective,
        int(run.iterations or 0),
        classes=classes,
        keep=tuple(args.keep),
        every=args.every,
        rule=args.rule,
    )
    print(found.to_text())
    if args.budget:
        found.check(args.budget)


def _finish(args: argparse.Namespace) -> None:
    from lcakit.store import finish

    print(finish(args.file, overwrite=args.overwrite, compression=args.compression, quiet=False))


def _reproduce(args: argparse.Namespace) -> None:
    from lcakit.studies.reproduce import findings_to_markdown, reproduce, to_markdown

    rows = reproduce(
        args.network,
        args.out,
        optimizers=args.optimizers,
        seeds=args.seeds,
        data_root=args.data_root,
        device=args.device,
        precision=args.precision,
        iterations=args.iterations,
    )
    print(to_markdown(args.network, rows))
    print(f"\n{findings_to_markdown(args.network, rows)}")


def _bench(args: argparse.Namespace) -> None:
    from lcakit import bench

    options = {"scale": args.scale, "directory": args.dir}
    result, text = bench.run(args.what, **{name: value for name, value in options.items() if value is not None})
    print(json.dumps(result, indent=2) if args.json else text)


def _run_of(args: argparse.Namespace, seed: int) -> Any:
    from lcakit.studies.training import Run

    return Run(
        args.network,
        args.optimizer,
        seed,
        learning_rate=args.learning_rate,
        momentum=args.momentum,
        batch_size=args.batch_size,
        iterations=args.iterations,
        data_root=args.data_root,
    )


# ---- options ---------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lcakit", description="Watch a neural network learn, parameter by parameter.")
    parser.add_argument("--version", action="version", version=f"lcakit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = _command(commands, "demo", _demo, "record a small network on real digits and explain its account")
    demo.add_argument("--out", default=".", metavar="DIR", help="folder to write to")

    record = _command(commands, "record", _record, "train and record one of the studies' networks, such as mnist-fc")
    record.add_argument("--out", metavar="FILE", help="file to write (default: NETWORK-OPTIMIZER-SEED.nc)")
    record.add_argument("--seeds", type=_seeds, default=[0], help="one seed, a list 0,1,2 or a range 0:3")
    _training_options(record)
    _rule_options(record)
    _recording_options(record)
    record.add_argument("--allocate", choices=("online", "later"), default="online", help="while training, or after it")
    record.add_argument("--resume", action="store_true", help="continue an unfinished recording")
    _writing_options(record)

    allocate = _command(commands, "allocate", _allocate, "allocate the loss changes of a recorded file")
    allocate.add_argument("file", metavar="FILE")
    allocate.add_argument("--out", metavar="FILE", help="write here instead of extending the file")
    allocate.add_argument("--set", choices=("train", "test"), default="train", help="the set whose loss is allocated")
    allocate.add_argument("--name", help="suffix of the variables (default for --set test: val)")
    _device_options(allocate)
    _rule_options(allocate)
    allocate.add_argument("--overwrite", action="store_true", help="replace allocations that are there")

    cli_files.add(lambda name, run, text: _command(commands, name, run, text))

    estimate = _command(commands, "estimate", _estimate, "say size and time of a recording before it runs")
    _training_options(estimate)
    _rule_options(estimate)
    _recording_options(estimate)

    finish = _command(commands, "finish", _finish, "make a file of an unfinished recording")
    finish.add_argument("file", metavar="FILE")
    _writing_options(finish)

    reproduce = _command(commands, "reproduce", _reproduce, "the paper's table for a network, paper beside measured")
    reproduce.add_argument("network", metavar="NETWORK")
    reproduce.add_argument("--out", default="runs", metavar="DIR", help="folder that keeps the runs")
    reproduce.add_argument("--optimizers", type=lambda text: text.split(","), help="such as sgd,adam (default: all)")
    reproduce.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="default 0:3")
    reproduce.add_argument("--iterations", type=int, help="shorter runs, for a trial")
    _device_options(reproduce)

    bench = _command(commands, "bench", _bench, "measure speed, as ratios in one run")
    bench.add_argument("what", choices=BENCHMARKS)
    bench.add_argument("--scale", type=float, help="analysis: size against 5 000 iterations × 273 066 parameters")
    bench.add_argument("--dir", metavar="DIR", help="analysis: folder for the file that is measured (10.9 GB × scale)")
    bench.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _command(commands: Any, name: str, run: Callable[..., Any], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data sets (default: $LCAKIT_DATA)")


def _device_options(parser: argparse.ArgumentParser) -> None:
    _data_option(parser)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, …")
    parser.add_argument("--precision", default="float32", help="float32, float64, tf32 or bfloat16")


def _training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NETWORK", help="data set and network: digits-fc, mnist-fc, FILE.npz-fc, …")
    parser.add_argument("--optimizer", default="sgd", help="sgd (momentum 0.9), sgd-mom0 or adam")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--momentum", type=float)
    parser.add_argument("--batch-size", type=int, help="of training")
    parser.add_argument("--iterations", type=int, help="optimizer steps")
    _device_options(parser)


def _rule_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rule", default="rk4", help="first_order, trapezoid, midpoint, rk4 or boole")
    parser.add_argument(
        "--tolerance", type=float, default=1e-3, help="largest residual before refining; 0: never refine"
    )
    parser.add_argument("--max-splits", type=int, default=32)
    parser.add_argument("--classes", choices=("unit", "parameter", "none"), default="unit", help="class resolution")


def _recording_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", nargs="*", default=["theta", "gradient", "lca"], help="what to store per parameter")
    parser.add_argument("--every", type=int, default=1, help="take a snapshot every n-th step")
    parser.add_argument("--budget", help='refuse a larger file, such as "20 GB"')


def _writing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--compression", choices=("zlib",), help="smaller file, slower to write and read")


def _seeds(text: str) -> list[int]:
    try:
        if ":" in text:
            first, last = (int(part) for part in text.split(":"))
            if first >= last:
                raise ValueError
            return list(range(first, last))
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"seeds are 0, a list 0,1,2 or a range 0:3; got {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
