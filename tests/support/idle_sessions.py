"""Memory of pages of the explorer that are open and idle: ``python -m tests.support.idle_sessions --pages 20``.

Starts ``lcakit view``, opens pages as a browser does, each with a connection of its own that stays open and has been
sent the whole page, and says how much the memory of the server grew for each.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

import lcakit as lk
from lcakit.testing import tiny_trajectory
from tests.support.browser import stopped

__all__ = ["MOST_MB", "measure"]

FIRST = 2  # pages that also load what all share
MOST_MB = 30
"""What a page may take."""


def resident(process: int) -> float:
    """Return the MB of memory that a process holds and shares with nobody."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


async def _opened(address: str):
    """Open a page and let the server send it; return its connection."""
    asked = asyncio.to_thread(lambda: urllib.request.urlopen(address, timeout=120).read().decode())
    token = re.search(r'"token":"([^"]+)"', await asked)[1]
    headers = {"Origin": address.rstrip("/")}
    request = HTTPRequest(address.replace("http", "ws", 1) + "ws", headers=headers)
    socket = await websocket_connect(request, subprotocols=["bokeh", token])
    await _message(socket)  # that the session has begun
    for part in ('{"msgid": "1", "msgtype": "PULL-DOC-REQ"}', "{}", "{}"):
        await socket.write_message(part)
    sent = await _message(socket)
    assert "PULL-DOC-REPLY" in sent[0]
    return socket


async def _message(socket) -> list[str]:
    return [await socket.read_message() for _ in range(3)]


async def _growth(address: str, process: int, pages: int) -> float:
    sockets = []
    try:
        for _ in range(FIRST):
            sockets.append(await _opened(address))
        before = resident(process)
        for _ in range(pages):
            sockets.append(await _opened(address))
        await asyncio.sleep(1)
        return (resident(process) - before) / pages
    finally:
        for socket in sockets:
            socket.close()


def measure(file: str, pages: int) -> float:
    """Return the MB that each of so many pages takes, beyond what the first ones do."""
    command = [sys.executable, "-m", "lcakit.cli", "view", file, "--port", "0", "--no-browser"]
    with stopped(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as server:
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        return asyncio.run(_growth(address, server.pid, pages))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure the memory of idle pages of the explorer.")
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--file", help="a trajectory; by default a small one is made")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = args.file or str(lk.save(tiny_trajectory(60), Path(folder) / "run.nc"))
        found = measure(file, args.pages)
    print(f"{args.pages} pages: {found:.1f} MB each")
    return int(found > MOST_MB)


if __name__ == "__main__":
    sys.exit(main())
