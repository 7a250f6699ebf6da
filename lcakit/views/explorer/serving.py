"""A page served to this machine: only to browsers that asked for this address, and to a bounded number of them."""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Callable
from typing import Any

import panel as pn
from bokeh.protocol.exceptions import ProtocolError
from bokeh.server.views.ws import WSHandler
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import RequestHandler

from lcakit.errors import LcakitError

__all__ = ["ADDRESS", "MOST_SESSIONS", "server_of"]


def __dir__() -> list[str]:
    return __all__


ADDRESS = "127.0.0.1"
MOST_SESSIONS = 40
"""Most pages open at once: each takes up to 30 MB."""
_UNUSED_MILLISECONDS = 60_000
"""A page whose browser has gone is forgotten after this time."""
_OF_CLIENTS = ("tornado.access", "bokeh.server.views.ws", "bokeh.protocol")
"""Who would log that a client asks for what is not there, is refused, or sends what is not a message."""
_MOST_MESSAGE = 2**20
"""Longest message of a browser, in bytes: moves and names of widgets need a hundredth of it."""


def server_of(page: Callable[[], Any], port: int, title: str, show: bool = False, dark: bool = False) -> Any:
    """Return a server of a page at http://127.0.0.1:port/; ``start()`` it and its ``io_loop``.

    - It listens on this machine only, and answers only requests whose ``Host`` is its own address or ``localhost``: a
      page of another name that is made to point here (DNS rebinding) gets 403 and nothing of the file.
    - A page's token is signed with a key of this server, and good for one page.
    - Of more than :data:`MOST_SESSIONS` pages at once the last one is refused (503); a page that is left ends after
      a minute: a slow browser may take some of it to load and connect.

    Raises
    ------
    LcakitError
        If the port is in use, or may not be used.
    """
    pn.extension(theme="dark" if dark else None)
    for name in _OF_CLIENTS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {
        "sign_sessions": True,
        "secret_key": secrets.token_urlsafe(48).encode(),
        "unused_session_lifetime_milliseconds": _UNUSED_MILLISECONDS,
        "check_unused_sessions_milliseconds": _UNUSED_MILLISECONDS // 2,
        "websocket_max_message_size": _MOST_MESSAGE,
    }
    try:
        server = pn.io.server.get_server(
            page, address=ADDRESS, port=port, title=title, show=show, start=False, verbose=False, **options
        )
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "is in use" if error.errno == errno.EADDRINUSE else "may not be used by you"
        raise LcakitError(
            f"port {port} {why}. Choose another with --port N; --port 0 takes any that is free."
        ) from error
    _guard(server)
    return server


def _guard(server: Any) -> None:
    """Put the refusals before all that the server answers."""
    names = (ADDRESS, "localhost")
    hosts = {f"{name}:{server.port}" for name in names} | (set(names) if server.port == 80 else set())
    for rule in server._tornado.wildcard_router.rules:
        if isinstance(rule.target, type) and issubclass(rule.target, WSHandler):
            rule.target = _Socket
    rules = server._tornado.default_router.rules
    rules.insert(0, Rule(_Crowded(server), _Refused, {"status": 503, "text": _CROWDED}))
    text = f"This page is shown only at http://{ADDRESS}:{server.port}/ ."
    rules.insert(0, Rule(_ForAnother(hosts), _Refused, {"status": 403, "text": text}))


_CROWDED = f"{MOST_SESSIONS} pages of this explorer are open: close one, wait a little, and load this page again."


_NO_MESSAGE = (ValueError, TypeError, LookupError, AttributeError)
"""What Bokeh raises for text that is no JSON, or JSON that is no message or token."""


class _Socket(WSHandler):
    """A connection that a client may misuse or drop at any time: it is closed, and nothing is raised in the server."""

    def open(self) -> None:
        """Begin a session, or close the connection where its token is not one of this server."""
        try:
            super().open()
        except (ProtocolError, *_NO_MESSAGE):
            self.close()

    async def _receive(self, fragment: str | bytes) -> Any:
        try:
            return await super()._receive(fragment)
        except _NO_MESSAGE:
            self._protocol_error("this is no message of a page")
            return None

    def on_close(self) -> None:
        """Let the session end, if it had begun."""
        if self.connection is not None and self.connection._session is not None:
            super().on_close()


class _ForAnother(Matcher):
    """Requests that are not for the address of this server."""

    def __init__(self, hosts: set[str]) -> None:
        self._hosts = hosts

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Return {} for such a request, also for one that names no host or several."""
        named = request.headers.get_list("Host")
        return None if len(named) == 1 and named[0].lower() in self._hosts else {}


class _Crowded(Matcher):
    """Requests for one more page where there are too many."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Return {} for such a request; pages that are open go on to work."""
        return {} if request.path == "/" and len(self._server.get_sessions("/")) >= MOST_SESSIONS else None


class _Refused(RequestHandler):
    """An answer of one line."""

    def initialize(self, status: int, text: str) -> None:
        """Keep what is to be said."""
        self._status, self._text = status, text

    def prepare(self) -> None:
        """Refuse the request, whatever its method, with nothing of the file."""
        self.set_status(self._status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Connection", "close")
        self.finish(self._text)
