"""Commands that train, record and allocate: parse, call, print."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lcakit.cli.options import (
    device_options,
    gpus,
    keeping_options,
    positive,
    recording_options,
    rule_options,
    seeds,
    training_options,
    writing_options,
)
from lcakit.progress import phase
from lcakit.storage.paths import given_path

__all__ = ["Command", "add"]


def __dir__() -> list[str]:
    return __all__


Command = Callable[..., argparse.ArgumentParser]


def add(command: Command) -> None:
    """Add the commands; ``command(name, function, help)`` makes the parser of one."""
    _add_record(command)
    _add_allocate(command)
    estimate = command("estimate", _estimate, "say size and time of a recording before it runs")
    training_options(estimate)
    rule_options(estimate)
    recording_options(estimate)

    finish = command("finish", _finish, "make a file of an unfinished recording")
    finish.add_argument("file", metavar="FILE")
    writing_options(finish)

    command("networks", _networks, "list data sets and networks with their sizes and default settings")
    _add_reproduce(command)


def _add_record(command: Command) -> None:
    record = command("record", _record, "train and record a network that lcakit has, such as mnist-fc")
    record.add_argument("--out", metavar="FILE", help="file to write (default: NETWORK-OPTIMIZER-SEED.nc)")
    record.add_argument("--seeds", type=seeds, default=[0], help="one seed, a list 0,1,2 or a range 0:3")
    training_options(record)
    rule_options(record)
    recording_options(record)
    record.add_argument("--allocate", choices=("online", "later"), default="online", help="while training, or after it")
    record.add_argument("--resume", action="store_true", help="continue an unfinished recording")
    writing_options(record)


def _add_allocate(command: Command) -> None:
    allocate = command("allocate", _allocate, "allocate the loss changes of a recorded file")
    allocate.add_argument("file", metavar="FILE")
    allocate.add_argument("--out", metavar="FILE", help="write here instead of extending the file")
    allocate.add_argument("--set", choices=("train", "test"), default="train", help="the set whose loss is allocated")
    allocate.add_argument("--name", help="suffix of the variables (default for --set test: val)")
    shared = allocate.add_mutually_exclusive_group()
    shared.add_argument(
        "--scheduler", metavar="ADDRESS", help="share the work on a Dask cluster, such as tcp://host:8786"
    )
    shared.add_argument("--workers", type=positive, metavar="N", help="share the work between N processes here")
    shared.add_argument("--gpus", type=gpus, default=[], metavar="0,1", help="share the work between GPUs here")
    device_options(allocate)
    text = "snapshots to evaluate at once: faster for small networks"
    allocate.add_argument("--together", type=positive, default=1, metavar="N", help=text)
    rule_options(allocate)
    keeping_options(allocate)
    allocate.add_argument("--overwrite", action="store_true", help="replace allocations that are there")


def _add_reproduce(command: Command) -> None:
    reproduce = command("reproduce", _reproduce, "the paper's table for a network, paper beside measured")
    reproduce.add_argument("network", metavar="NETWORK", help="one of the paper's, such as mnist-fc, or all")
    reproduce.add_argument("--out", default="runs", metavar="DIR", help="folder that keeps the runs")
    reproduce.add_argument("--optimizers", type=lambda text: text.split(","), help="such as sgd,adam (default: all)")
    reproduce.add_argument("--seeds", type=seeds, help="default 0:3; 0 at the small scale")
    reproduce.add_argument("--scale", default="paper", help="paper, or small: smaller network, fewer images; minutes")
    reproduce.add_argument("--iterations", type=int, help="shorter runs, for a trial")
    device_options(reproduce)


# ---- commands --------------------------------------------------------------------------------------------------


@phase("working")
def _record(args: argparse.Namespace) -> None:
    with phase("loading PyTorch"):
        from lcakit.experiments.training import record_run

    runs = {_path_of(args, seed): _run_of(args, seed).resolved() for seed in args.seeds}
    finished = _checked(args, runs) if len(args.seeds) > 1 else set()
    for path, run in runs.items():
        if path in finished:
            print(f"{path} is finished")
            continue
        record_run(
            run,
            path,
            device=args.device,
            precision=args.precision,
            validation=args.validation,
            **_rule_of(args),
            keep=tuple(args.keep),
            statistics=args.statistics,
            every=args.every,
            allocate=args.allocate,
            budget=args.budget,
            resume=args.resume,
            overwrite=args.overwrite,
            compression=args.compression,
        )
        print(path)


def _rule_of(args: argparse.Namespace) -> dict[str, Any]:
    classes = None if args.classes == "none" else args.classes
    return {"rule": args.rule, "tolerance": args.tolerance or None, "max_splits": args.max_splits, "classes": classes}


def _path_of(args: argparse.Namespace, seed: int) -> Path:
    path = given_path(args.out or f"{args.network.replace('/', '_')}-{args.optimizer}-{seed}.nc")
    return path.with_name(f"{path.stem}-{seed}{path.suffix}") if len(args.seeds) > 1 and args.out else path


def _checked(args: argparse.Namespace, runs: dict[Path, Any]) -> set[Path]:
    """Refuse what cannot be in any of several runs before the first is trained; return the files that are finished."""
    from lcakit.experiments.existing import refuse_existing, refuse_other_run
    from lcakit.experiments.training import make_model, planned
    from lcakit.record.allocation.settings import AllocationSettings
    from lcakit.record.objective.describe import describe

    settings = AllocationSettings(**_rule_of(args)).attrs()
    settings |= {"precision": args.precision, "keep": " ".join(args.keep), "every": args.every}
    first = next(iter(runs.values()))
    labels = describe(make_model(first, first.data()))  # the network is the same with every seed
    for path, run in runs.items():
        planned(run, labels)
        if args.resume:
            refuse_other_run(path, run, **settings)
        elif not args.overwrite:
            refuse_existing(path)
    return {path for path in runs if args.resume and _is_finished(path, args.validation)}


def _is_finished(path: Path, validation: bool) -> bool:
    from lcakit.storage.opening import open_trajectory

    return path.exists() and (not validation or "loss_val" in open_trajectory(path))


@phase("working")
def _allocate(args: argparse.Namespace) -> None:
    from lcakit.record.allocation.allocate import allocate
    from lcakit.record.allocation.spec import ObjectiveSpec
    from lcakit.storage.opening import open_trajectory

    if args.gpus and args.device:
        raise ValueError(f"--gpus already says where to compute: leave out --device {args.device}")
    open_trajectory(args.file).close()  # before workers are started, which would each fail on it
    options = {"path": str(given_path(args.file).absolute()), "part": args.set, "data_root": args.data_root}
    options |= {"device": args.device, "devices": [f"cuda:{number}" for number in args.gpus]}
    options |= {"precision": args.precision, "together": args.together}
    spec = ObjectiveSpec("lcakit.experiments.training:objective_of", options)
    with _client(args) as client:
        allocate(
            args.file,
            spec,
            **_rule_of(args),
            out=args.out,
            name=args.name or ("val" if args.set == "test" else None),
            keep=tuple(args.keep),
            statistics=args.statistics,
            overwrite=args.overwrite,
            cluster=client,
        )
    print(args.out or args.file)


def _client(args: argparse.Namespace) -> Any:
    """Return a context with the client of the cluster that was asked for, or None."""
    if args.scheduler is None and not (args.workers or args.gpus):
        return contextlib.nullcontext()
    from lcakit.record.allocation.cluster import connected

    return connected(args.scheduler, args.workers or len(args.gpus))


@phase("working")
def _estimate(args: argparse.Namespace) -> None:
    from lcakit.experiments.training import make_model, make_objective, make_optimizer

    run = _run_of(args, 0).resolved()
    data = run.data()
    model = make_model(run, data)
    make_optimizer(run, model)  # refuses interventions that cannot be
    for part in ("train", "test") if args.validation else ("train",):
        objective = make_objective(run, model, data, part, device=args.device, precision=args.precision)
        found = _timed_estimate(args, objective, int(run.iterations or 0), part)
        print(found.to_text() if part == "train" else f"validation: {found.to_text()}")
        if args.budget:
            found.check(args.budget)


def _timed_estimate(args: argparse.Namespace, objective: Any, iterations: int, part: str) -> Any:
    from lcakit.record.budget import estimate

    classes = None if args.classes == "none" else args.classes
    objective.warm_up()
    objective.evaluate(classes=classes is not None)
    keep = tuple(name for name in args.keep if part == "train" or name != "theta")
    options = {"every": args.every, "rule": args.rule, "statistics": args.statistics}
    return estimate(objective, iterations, classes=classes, keep=keep, **options)


@phase("working")
def _finish(args: argparse.Namespace) -> None:
    from lcakit.storage.saving import finish

    print(finish(args.file, overwrite=args.overwrite, compression=args.compression, quiet=False))


@phase("working")
def _reproduce(args: argparse.Namespace) -> None:
    from lcakit.experiments.reproduce import STUDIES, reproduce
    from lcakit.experiments.runs_table import costs_to_markdown, findings_to_markdown, to_markdown

    for network in STUDIES if args.network == "all" else [args.network]:
        rows = reproduce(
            network,
            args.out,
            optimizers=args.optimizers,
            seeds=args.seeds,
            scale=args.scale,
            data_root=args.data_root,
            device=args.device,
            precision=args.precision,
            iterations=args.iterations,
        )
        tables = (to_markdown, findings_to_markdown, costs_to_markdown)
        print("\n\n".join(table(network, rows) for table in tables), end="\n\n", flush=True)


def _networks(args: argparse.Namespace) -> None:
    from lcakit.experiments.catalogue import catalogue, to_text

    print(to_text(catalogue()))


def _run_of(args: argparse.Namespace, seed: int) -> Any:
    from lcakit.experiments.training import Run

    run = Run(
        args.network,
        args.optimizer,
        seed,
        learning_rate=args.learning_rate,
        momentum=args.momentum,
        batch_size=args.batch_size,
        iterations=args.iterations,
        train_examples=args.train_examples,
        validation_examples=args.validation_examples,
        interventions=tuple(_interventions(args)),
        data_root=args.data_root,
    )
    return dataclasses.replace(run, interventions=(*run.interventions, *_frozen_at_argmin(args, run)))


def _interventions(args: argparse.Namespace) -> list[Any]:
    from lcakit.experiments.interventions import Intervention

    found = [Intervention(layer, freeze=start) for layer, start in args.freeze]
    found += [Intervention(layer, lr_factor=value) for layer, value in args.lr_factor]
    found += [Intervention(layer, momentum=value) for layer, value in args.own_momentum]
    return found + [Intervention(layer, delay=value) for layer, value in args.delay]


def _frozen_at_argmin(args: argparse.Namespace, run: Any) -> list[Any]:
    from lcakit.experiments.interventions import freeze_at_argmin
    from lcakit.experiments.training import make_model
    from lcakit.record.objective.describe import describe

    if not args.freeze_argmin:
        return []
    run = run.resolved()
    labels = describe(make_model(run, run.data()))
    files = [(layer, file.replace("{seed}", str(run.seed))) for layer, file in args.freeze_argmin]
    return [freeze_at_argmin(layer, file, run.network, labels) for layer, file in files]
