"""The command for declared experiments: parse, call, print."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from lcakit.cli.options import device_options, seeds, splits_option
from lcakit.progress import phase

__all__ = ["DONE", "SOME_FAILED", "Command", "add"]


def __dir__() -> list[str]:
    return __all__


DONE, SOME_FAILED = 0, 1
Command = Callable[..., argparse.ArgumentParser]


def add(command: Command) -> None:
    """Add the command; ``command(name, function, help)`` makes its parser."""
    experiment = command(
        "experiment",
        _experiment,
        "run an experiment of the paper or its reviewers: what is missing of it, then a table",
    )
    experiment.add_argument("name", nargs="?", metavar="NAME", help="left out: list them")
    experiment.add_argument("--scale", default="small", help="small (minutes on two cores) or paper")
    experiment.add_argument("--out", metavar="DIR", help="folder that keeps the runs (default: experiments/NAME-SCALE)")
    experiment.add_argument("--seeds", type=seeds, help="such as 0:3 (default: those of the experiment)")
    experiment.add_argument("--jobs", type=_jobs, metavar="N", help="runs side by side (default: one per core)")
    device_options(experiment)
    splits_option(experiment)


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"jobs is a number of runs, at least 1; got {text!r}")
    return int(text)


@phase("working")
def _experiment(args: argparse.Namespace) -> int:
    with phase("loading PyTorch"):
        from lcakit.experiments.declared import EXPERIMENTS, run_experiment

    if args.name is None:
        print(
            "\n".join(
                f"{one.name:18}{one.title} ({one.source})\n{'':18}varied: {one.varied}" for one in EXPERIMENTS.values()
            )
        )
        return DONE
    outcome = run_experiment(
        args.name,
        Path(args.out or f"experiments/{args.name}-{args.scale}"),
        args.scale,
        seeds=args.seeds,
        jobs=args.jobs,
        data_root=args.data_root,
        device=args.device,
        precision=args.precision,
        max_splits=args.max_splits,
    )
    print(outcome.text)
    return SOME_FAILED if outcome.failed else DONE
