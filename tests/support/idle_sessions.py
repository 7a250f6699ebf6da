"""Memory of pages that are open and idle: ``python -m tests.support.idle_sessions --pages 20 [--file run.nc]``.

Starts ``lcakit view`` on a file (by default a small run), opens pages as a browser does (the page, its socket, the
document), leaves them idle, and says how much the memory of the server grew for each; then closes them, and says how
much is left once their sessions have ended, and after opening and closing as many again.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

import lcakit as lk
from lcakit.testing import tiny_trajectory

ENDED = 40  # seconds after which the sessions of closed pages have ended


def resident(process: int) -> int:
    """Return the bytes of memory that a process holds and shares with nobody."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) * 1024


async def page(port: int) -> Any:
    """Open a page; return its socket, after the document came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", "/")
    token = re.search(r'"token":"([^"]+)"', connection.getresponse().read().decode())[1]
    connection.close()
    headers = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}"}
    request = HTTPRequest(f"ws://127.0.0.1:{port}/ws", headers=headers, request_timeout=300)
    socket = await websocket_connect(request, subprotocols=["bokeh", token], max_message_size=2**30)
    for part in ({"msgid": "1", "msgtype": "PULL-DOC-REQ"}, {}, {}):
        await socket.write_message(json.dumps(part))
    while "PULL-DOC-REPLY" not in (part := await socket.read_message() or "closed"):
        if part == "closed":
            raise RuntimeError("the server closed the page before its document came")
    for _ in range(2 + 2 * json.loads(part)["num_buffers"]):  # metadata, document, and its arrays
        await socket.read_message()
    return socket


async def measure(port: int, process: int, pages: int) -> dict[str, float]:
    """Return MB: of the server with one page, for each further one, left after they ended, and after a second round."""
    first = await page(port)
    found = {"one page": resident(process)}
    for name in ("further", "again"):
        before = resident(process)
        sockets = [await page(port) for _ in range(pages - 1)]
        found[f"{name}, each"] = (resident(process) - before) / len(sockets)
        for socket in sockets:
            socket.close()
        await asyncio.sleep(ENDED)
        found[f"left after {name}"] = resident(process) - found["one page"]
    first.close()
    return {name: size / 2**20 for name, size in found.items()}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure the memory of idle pages of the explorer.")
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--file", help="a trajectory; by default a small one is made")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = args.file or str(lk.save(tiny_trajectory(60), Path(folder) / "run.nc"))
        command = [sys.executable, "-m", "lcakit.cli", "view", file, "--port", "0", "--no-browser"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                port = int(re.search(r":(\d+)/", server.stdout.readline())[1])
                began = time.monotonic()
                for name, size in asyncio.run(measure(port, server.pid, args.pages)).items():
                    print(f"{name:20} {size:8.1f} MB")
                print(f"{2 * args.pages - 1} pages in {time.monotonic() - began:.0f} s")
            finally:
                server.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
