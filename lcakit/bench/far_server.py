"""A web server of one folder that takes its time: ``python -m lcakit.bench.far_server FOLDER MILLISECONDS``.

It runs in a process of its own, so that what it sends costs the reader nothing but the waiting, and prints its port.
"""

from __future__ import annotations

import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

__all__ = ["FarServer"]


def __dir__() -> list[str]:
    return __all__


class FarServer(ThreadingHTTPServer):
    """Sends files of a folder, and parts of them, each answer after a time; on this machine only, at any free port."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.seconds = folder, seconds


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FarServer

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Answer with headers alone."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Answer with a file or a part of it."""
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        time.sleep(self.server.seconds)
        path = self.server.folder / Path(unquote(self.path)).name
        if not path.is_file():
            self.send_error(404)
            return
        start, end = 0, path.stat().st_size
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        self.send_response(206 if part else 200)
        if part:
            self.send_header("Content-Range", f"bytes {part[1]}-{part[2]}/{end}")
            start, end = int(part[1]), min(int(part[2]) + 1, end)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if body:
            with path.open("rb") as file:
                self.wfile.flush()
                self.connection.sendfile(file, start, end - start)


if __name__ == "__main__":
    with FarServer(Path(sys.argv[1]), float(sys.argv[2]) / 1000) as serving:
        print(serving.server_address[1], flush=True)
        serving.serve_forever()
