"""Help, the version and wrong use answer at once: they load nothing heavy."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from lcakit.cli.main import _parser

HEAVY = ("numpy", "xarray", "pandas", "dask", "torch", "bokeh", "panel", "holoviews", "netCDF4", "scipy")


def commands() -> list[str]:
    (choice,) = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return sorted(choice.choices)


def test_there_are_commands():
    assert {"demo", "record", "info", "validate", "view"} <= set(commands())


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        *(([name, "--help"], 0) for name in commands()),
        (["no-such-command"], 2),
        (["info"], 2),
        (["info", "run.nc", "--no-such-option"], 2),
        ([], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_heavy_is_loaded(arguments, status):
    code = (
        "import sys\n"
        "from lcakit.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as stop:\n"
        f"    print('heavy:', [name for name in {HEAVY!r} if name in sys.modules], stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"heavy: [] {status}"


@pytest.mark.parametrize(
    "module", ["text", "errors", "progress", "version", "packages", "storage.paths", "storage.urls"]
)
def test_modules_that_the_command_line_begins_with_are_light(module):
    code = f"import sys, lcakit.{module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
