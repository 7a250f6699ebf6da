"""Memory of pages of the explorer that are open and idle: ``python -m tests.support.idle_sessions --pages 20``.

Makes the documents of pages as the server does, one for each, turns each into the message that a browser gets, and says
how much the memory of the process grew for each. The connections are not in it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from pathlib import Path

import panel as pn
from bokeh.document import Document

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.views.explorer import app

FIRST = 2  # pages that also load what all share


def resident() -> int:
    """Return the bytes of memory that this process holds and shares with nobody."""
    lines = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) * 1024


def measure(file: str, pages: int) -> float:
    """Return the MB that each of so many pages takes, beyond what the first ones do."""
    made, held, before = app.Pages(file), [], 0
    for number in range(FIRST + pages):
        if number == FIRST:
            before = resident()
        document = Document()
        held.append((pn.panel(made.new()).server_doc(document), document.to_json()))
    return (resident() - before) / pages / 2**20


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure the memory of idle pages of the explorer.")
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--file", help="a trajectory; by default a small one is made")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    pn.extension()
    with tempfile.TemporaryDirectory() as folder:
        file = args.file or str(lk.save(tiny_trajectory(60), Path(folder) / "run.nc"))
        print(f"{args.pages} pages: {measure(file, args.pages):.1f} MB each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
