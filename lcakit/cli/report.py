"""Commands that write a page or a film of a trajectory: parse, call, print."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from lcakit.cli.files import iterations
from lcakit.errors import LcakitError
from lcakit.packages import package

__all__ = ["Command", "add", "report_of_demo"]


def __dir__() -> list[str]:
    return __all__


Command = Callable[..., argparse.ArgumentParser]


def add(command: Command) -> None:
    """Add the commands; ``command(name, function, help)`` makes the parser of one."""
    report = command("report", _report, "write a page with the account, the checks and all figures of a file")
    report.add_argument("file", metavar="FILE", nargs="+", help="a file, an unfinished recording, or several runs")
    report.add_argument("-o", "--out", metavar="FILE", help="page to write (default: FILE.html in this folder)")
    report.add_argument("--layers", nargs="*", metavar="NAME", help="layers with own figures (default: up to 12)")
    report.add_argument("--classes", nargs="*", metavar="NAME", help="classes with own figures, likewise")

    animate = command("animate", _animate, "write a film of a layer over the iterations: .gif, .mp4 or .html")
    animate.add_argument("file", metavar="FILE")
    animate.add_argument("--layer", metavar="NAME", help="default: the first")
    animate.add_argument(
        "-o", "--out", required=True, metavar="FILE", help="film to write; its suffix chooses the kind (.gif, .mp4, …)"
    )
    animate.add_argument("--iterations", type=iterations, metavar="FIRST:LAST", help="labels, both included")
    animate.add_argument("--step", type=int, default=1, metavar="N", help="iterations of one frame")
    animate.add_argument("--quantity", default="lca", help="lca, cumulative, gradient, movement or theta")
    animate.add_argument("--classes", nargs="+", metavar="NAME", help="LCA and loss of these classes (default: all)")
    animate.add_argument("--fps", type=float, default=10.0, help="frames in a second")


def _report(args: argparse.Namespace) -> None:
    report = package("lcakit.views.report", "a report").report
    source = args.file[0] if len(args.file) == 1 else args.file
    out = args.out or Path(args.file[0]).with_suffix(".html").name
    print(report(source, out, args.layers, args.classes))


def _animate(args: argparse.Namespace) -> None:
    from lcakit.storage.opening import open_trajectory

    animate = package("lcakit.views.animation", "a film").animate
    options = {"iterations": args.iterations, "step": args.step, "quantity": args.quantity, "fps": args.fps}
    print(animate(open_trajectory(args.file), args.layer, out=args.out, classes=args.classes, **options))


def report_of_demo(path: Path) -> None:
    """Write the report of the demo beside its file, or say in one line why not."""
    try:
        report = package("lcakit.views.report", "its report").report
        page = report(path, path.with_suffix(".html"), layers=[], classes=[], quiet=True)
        print(f"\nThe report, with figures, is {page}: open it in a browser.")
    except LcakitError as error:
        print(f"\nThe report could not be written: {error}")
