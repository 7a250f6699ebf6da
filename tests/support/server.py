"""A web server of a folder on this machine, honest or lying, for tests of what comes from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MODES = {
    "honest": "sends whole files and parts of them",
    "whole": "ignores what part is asked for, as simple servers do",
    "refusing": "says that it sends no parts",
    "wrong": "changes a byte in every 64",
    "cut": "announces everything, sends half, and hangs up",
    "cut parts": "sends half of every part, and says that this is all",
    "too much": "sends eight bytes more of every part than asked for",
    "silent": "accepts the connection and says nothing",
    "stalling": "sends half and then nothing, without hanging up",
    "trickling": "sends one byte in a while",
    "failing": "answers 500",
    "dripping headers": "sends one byte of its headers in a while",
    "continuing": "says 100 Continue again and again",
    "redirecting": "sends to another address, and from there to another",
    "changing": "has another file from the second request on",
    "endless": "does not say how much it has, and never stops",
    "endless parts": "answers each request for a part with everything, without an end",
    "packed": "sends all packed by gzip, though it was asked not to",
}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.mode = folder, "honest"
        self.over = threading.Event()
        self.requests: list[tuple[str, str | None]] = []
        self.sent, self.most = 0, 2**40
        self.odd: dict[str, str] = {}  # headers, and a "status", that replace the right ones
        self.context: Any = None
        self.kept = 1  # requests that the changing server answers from the first file

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def lie(self, mode: str) -> None:
        assert mode in MODES, mode
        self.mode = mode

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up on a liar is no error here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        mode = self.server.mode
        self.server.requests.append((self.path, self.headers["Range"]))
        path = self.server.folder / unquote(self.path).lstrip("/")
        if self.misbehave(mode, body):
            return
        if mode == "failing" or not path.is_file():
            self.reply(500 if mode == "failing" else 404, {"Content-Length": "0"})
            return
        data = path.read_bytes()
        if mode == "wrong":
            changed = bytearray(data)
            changed[63::64] = bytes(b ^ 0x55 for b in data[63::64])
            data = bytes(changed)
        if mode == "changing" and len(self.server.requests) > self.server.kept:
            data = bytes(b ^ 1 for b in data)
        mark = hashlib.sha256(data).hexdigest()
        if mode == "packed":
            data = gzip.compress(data)
        part = self.part(len(data)) if mode not in ("whole", "refusing") else None
        headers = {"ETag": f'"{mark}"'} | ({"Accept-Ranges": "none"} if mode == "refusing" else {})
        headers |= {"Content-Encoding": "gzip"} if mode == "packed" else {}
        if part is not None:
            start, end = part
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            data = data[start : start + (end - start) // 2] if mode == "cut parts" else data[start:end]
            data += bytes(8) if mode == "too much" else b""
        self.reply(200 if part is None else 206, headers | {"Content-Length": str(len(data))})
        if body:
            self.send(data, mode)

    def misbehave(self, mode: str, body: bool) -> bool:
        """Answer in a way that has nothing to do with the file; say whether that was one."""
        if mode == "silent":
            self.server.over.wait()
            return True
        if mode in ("dripping headers", "continuing"):
            self.drip(
                b"HTTP/1.1 200 OK\r\nX-Wait: " + b"a" * 10**6
                if mode[0] == "d"
                else b"HTTP/1.1 100 Continue\r\n\r\n" * 10**5
            )
            return True
        if mode == "redirecting":
            self.reply(302, {"Location": self.server.url(f"{len(self.server.requests)}.nc"), "Content-Length": "0"})
            return True
        if mode in ("endless", "endless parts") and body:
            self.flood(206 if mode == "endless parts" and self.headers["Range"] else 200)
            return True
        return False

    def part(self, size: int) -> tuple[int, int] | None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if found is None or int(found[1]) >= size:
            return None
        return int(found[1]), min(size, int(found[2] or size - 1) + 1)

    def reply(self, status: int, headers: dict[str, str]) -> None:
        odd = dict(self.server.odd)
        status, headers = int(odd.pop("status", status)), headers | odd
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, data: bytes, mode: str) -> None:
        if mode in ("cut", "stalling"):
            self.write(data[: len(data) // 2])
        elif mode == "trickling":
            for byte in data:
                self.write(bytes([byte]))
                if self.server.over.wait(0.05):
                    break
        else:
            self.write(data)
        if mode == "stalling":
            self.server.over.wait()
        if mode in ("cut", "stalling", "trickling"):
            self.close_connection = True

    def drip(self, data: bytes) -> None:
        self.close_connection = True
        for start in range(0, len(data), 25):
            self.write(data[start : start + 25])
            if self.server.over.wait(0.02):
                break

    def flood(self, status: int) -> None:
        self.close_connection = True
        self.reply(status, {"Content-Range": "bytes 0-99/100"} if status == 206 else {})
        while not self.server.over.is_set() and self.server.sent < self.server.most:
            self.write(bytes(2**16))

    def write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()
        self.server.sent += len(data)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
