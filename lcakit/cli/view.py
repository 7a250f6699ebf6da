"""The command that shows a trajectory in a browser: parse, call, serve."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from lcakit.cli.options import port

__all__ = ["PORT", "Command", "add"]


def __dir__() -> list[str]:
    return __all__


Command = Callable[..., argparse.ArgumentParser]
PORT = 5006


def add(command: Command) -> None:
    """Add the command; ``command(name, function, help)`` makes its parser."""
    view = command("view", _view, "explore a file in a browser, on this machine only")
    view.add_argument("file", metavar="FILE", nargs="+", help="files, unfinished recordings, or patterns of them")
    view.add_argument("--port", type=port, default=PORT, help=f"default {PORT}; 0 takes any that is free")
    view.add_argument("--no-browser", action="store_true", help="print the address only")
    view.add_argument("--dark", action="store_true", help="light letters on a dark page")


def _view(args: argparse.Namespace) -> None:
    from lcakit.views.explorer.app import Pages
    from lcakit.views.explorer.serving import ADDRESS, server_of

    pages = Pages(
        args.file, os.getcwd()
    )  # what is wrong with the file is said here, and its sums are made once for all pages
    server = server_of(pages.new, args.port, f"lcakit: {pages.title}", not args.no_browser, args.dark)
    print(f"http://{ADDRESS}:{server.port}/   (stop with Ctrl-C)", flush=True)
    server.start()
    server.io_loop.start()
