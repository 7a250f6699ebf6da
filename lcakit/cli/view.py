"""The command that shows a trajectory in a browser: parse, call, serve."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lcakit.cli.options import port
from lcakit.errors import LcakitError

__all__ = ["ADDRESS", "PORT", "Command", "add", "serve"]


def __dir__() -> list[str]:
    return __all__


Command = Callable[..., argparse.ArgumentParser]
ADDRESS = "127.0.0.1"
PORT = 5006


def add(command: Command) -> None:
    """Add the command; ``command(name, function, help)`` makes its parser."""
    view = command("view", _view, "explore a file in a browser, on this machine only")
    view.add_argument("file", metavar="FILE", nargs="+", help="a file, an unfinished recording, or several runs")
    view.add_argument("--port", type=port, default=PORT, help=f"default {PORT}; 0 takes any that is free")
    view.add_argument("--no-browser", action="store_true", help="print the address only")
    view.add_argument("--dark", action="store_true", help="light letters on a dark page")


def _view(args: argparse.Namespace) -> None:
    from lcakit.storage.opening import open_trajectory
    from lcakit.views.explorer.app import Explorer, Models

    name = Path(args.file[0]).name if len(args.file) == 1 else f"{len(args.file)} files"
    models = Models(open_trajectory(args.file[0] if len(args.file) == 1 else args.file))
    Explorer(models)  # reports what is wrong with the file, and computes its sums once for all pages
    serve(lambda: Explorer(models, name).panel, args.port, f"lcakit: {name}", show=not args.no_browser, dark=args.dark)


def serve(page: Callable[[], Any], port: int, title: str, show: bool, dark: bool = False) -> None:
    """Serve a page to this machine until interrupted.

    Raises
    ------
    LcakitError
        If the port is in use, or may not be used.
    """
    import panel as pn

    pn.extension(theme="dark" if dark else None)
    try:
        server = pn.serve(page, address=ADDRESS, port=port, title=title, show=show, start=False, verbose=False)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "is in use" if error.errno == errno.EADDRINUSE else "may not be used by you"
        raise LcakitError(
            f"port {port} {why}. Choose another with --port N; --port 0 takes any that is free."
        ) from error
    print(f"http://{ADDRESS}:{server.port}/   (stop with Ctrl-C)", flush=True)
    server.start()
    server.io_loop.start()
