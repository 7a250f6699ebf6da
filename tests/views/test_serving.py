"""`lcakit view` answers only who asks for its own address, survives clients that misbehave, and watches its files."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("panel")

from tornado.httpclient import HTTPError, HTTPRequest
from tornado.websocket import WebSocketClosedError, websocket_connect

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.views.explorer import app, serving, sources
from tests.support import browser, idle_sessions
from tests.support.explorers import QUIET, text

pytestmark = [QUIET, pytest.mark.slow]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return lk.save(tiny_trajectory(5), tmp_path_factory.mktemp("served") / "run.nc")


class Served:
    def __init__(self, address):
        self.port = int(re.search(r":(\d+)/", address)[1])

    def get(self, host=None, method="GET", place="/"):
        """Return status and text of an answer; ``host`` may be a list, for several or no headers of that name."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, place, skip_host=True)
        for name in [host or f"127.0.0.1:{self.port}"] if not isinstance(host, list) else host:
            connection.putheader("Host", name)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def token(self):
        return re.search(r'"token":"([^"]+)"', self.get()[1])[1]

    async def socket(self, token, host=None, origin=None):
        headers = {"Host": host or f"127.0.0.1:{self.port}", "Origin": origin or f"http://127.0.0.1:{self.port}"}
        request = HTTPRequest(f"ws://127.0.0.1:{self.port}/ws", headers=headers)
        return await websocket_connect(request, subprotocols=["bokeh", token])


@pytest.fixture(scope="module")
def served(path, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "log"
    with browser.view(str(path), log=log) as address:
        yield Served(address)
    assert log.read_text() == ""  # whatever clients did, the server had nothing to complain about


def test_another_name_gets_nothing(served):
    own = f"127.0.0.1:{served.port}"
    for host in ("evil.example", f"evil.example:{served.port}", "127.0.0.1", f"127.0.0.1.evil.example:{served.port}"):
        for place in ("/", "/ws", "/static/js/bokeh.min.js", "/autoload.js"):
            status, said = served.get(host, place=place)
            assert status == 403, (host, place)
            assert own in said
            assert "token" not in said
    for hosts in ([], [own, "evil.example"]):
        assert served.get(hosts)[0] in (400, 403)
    assert served.get("evil.example", "POST")[0] == 403
    assert served.get(f"LOCALHOST:{served.port}", place="/static/js/bokeh.min.js")[0] == 200


def test_sockets_of_others_are_refused(served):
    token = served.token()

    async def refused(**other):
        with pytest.raises(HTTPError) as error:
            await served.socket(token, **other)
        return error.value.code

    evil = f"evil.example:{served.port}"
    assert asyncio.run(refused(host=evil, origin=f"http://{evil}")) == 403
    assert asyncio.run(refused(origin="http://evil.example")) == 403


def test_only_tokens_of_this_server_get_the_document(served):
    token = served.token()
    head, _, tail = token.partition(".")

    async def first(token):
        socket = await served.socket(token)
        return await socket.read_message()

    for forged in (f"{head}.{tail[::-1]}", head, f"{head[:-2]}.{tail}"):
        assert asyncio.run(first(forged)) is None
    assert json.loads(asyncio.run(first(token)))["msgtype"] == "ACK"


def test_clients_that_misbehave(served):
    async def misbehave():
        for junk in ("{}", "not json", "[1]", "null", "\0" * 100, '{"msgtype": 1}', b"\xff\xfe"):
            socket = await served.socket(token)
            with contextlib.suppress(WebSocketClosedError):
                for _ in range(3):
                    await socket.write_message(junk, binary=isinstance(junk, bytes))
            socket.close()
        for _ in range(3):  # gone before the answer is there
            socket = await served.socket(token)
            for part in (json.dumps({"msgid": "1", "msgtype": "PULL-DOC-REQ"}), "{}", "{}"):
                await socket.write_message(part)
            socket.protocol.stream.close()

    token = served.token()
    asyncio.run(misbehave())
    for n in range(5):  # gone before the page is there
        connection = http.client.HTTPConnection("127.0.0.1", served.port)
        connection.request("GET", f"/?{n}")
        connection.close()
    assert served.get()[0] == 200


def test_there_are_only_so_many_pages(path, monkeypatch):
    monkeypatch.setattr(serving, "MOST_SESSIONS", 2)
    server = serving.server_of(app.Pages(str(path)).new, 0, "tiny")
    try:
        crowd, matches = [], serving._Crowded(server)
        monkeypatch.setattr(server, "get_sessions", lambda _: crowd)
        page = type("Request", (), {"path": "/"})
        assert matches.match(page) is None
        crowd += [1, 2]
        assert matches.match(page) == {}
        assert matches.match(type("Request", (), {"path": "/ws"})) is None
    finally:
        server.stop()


# ---- files -----------------------------------------------------------------------------------------------------


def test_what_happens_to_a_file_is_said(tmp_path):
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    pages = app.Pages(path)
    page = pages.new()._explorer
    assert text(page.notice) == ""
    other = lk.save(tiny_trajectory(7, seed=1), tmp_path / "other.nc")
    shutil.copy(other, tmp_path / "new.nc")
    (tmp_path / "new.nc").replace(path)
    page.controls.live.iteration = 2
    assert "run.nc has been replaced" in text(page.notice)
    newer = pages.new()._explorer
    assert text(newer.notice) == ""
    assert newer.model.iterations.size == 7
    path.unlink()
    for one in (page, newer):
        one.look()
        assert "run.nc has been deleted or moved" in text(one.notice)
    last = pages.new()._explorer
    assert "no such file" in text(last.notice)
    assert last.model.iterations.size == 7


def test_a_file_changed_in_place_is_seen(tmp_path):
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    found = sources.Sources(path)
    found.open()
    assert found.trouble() == ""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert "replaced or changed" in found.trouble()


def test_files_and_patterns_are_runs(tmp_path):
    for name in ("a", "b"):
        lk.save(tiny_trajectory(5 + len(name)), tmp_path / f"{name}.nc")
    pages = app.Pages(tmp_path / "*.nc")
    assert pages.title == "2 files"
    assert pages.new().selection.param.run.objects == ["a", "b"]
    with pytest.raises(lk.TrajectoryError, match="no file matches"):
        app.Pages(tmp_path / "*.zarr")
    with pytest.raises(lk.TrajectoryError, match="given twice"):
        app.Pages([tmp_path / "a.nc", tmp_path / "*.nc"])


def test_runs_of_different_networks_are_shown_one_at_a_time(tmp_path):
    from tests.support.explorers import IMAGES

    small = lk.save(tiny_trajectory(5, layers=IMAGES), tmp_path / "small.nc")
    large = lk.save(tiny_trajectory(9), tmp_path / "large.nc")
    ex = lk.explore([small, large])
    assert (ex.selection.layer, ex.selection.window) == ("a", (0, 4))
    ex.selection.run = "large"
    assert (ex.selection.layer, ex.selection.window) == ("conv1", (0, 8))
    total = tiny_trajectory(9)["lca_unit_class"].values.astype(np.float64).sum()
    assert f"{total:+.4g}".replace("-", "−") in text(ex._explorer.summary)


def test_losses_of_runs_are_laid_over_each_other(tmp_path):
    runs = {name: tiny_trajectory(5 + 3 * seed, seed=seed) for seed, name in enumerate(("a", "b", "c"))}
    runs["c"] = runs["c"].assign_attrs(loss_unit="bits")
    ex = lk.explore([lk.save(ds, tmp_path / f"{name}.nc") for name, ds in runs.items()])
    view = ex._explorer.loss
    assert list(view.overlay.lines.data["name"]) == ["b"]  # c measures in another unit
    assert "Thin: 1 other run; of the other 1 it is not drawn" in text(view.caption)
    np.testing.assert_array_equal(view.overlay.lines.data["ys"][0], runs["b"]["loss"].values)
    ex.selection.classes = ["b"]
    np.testing.assert_allclose(view.overlay.lines.data["ys"][0], runs["b"]["loss_class"].values[:, 1])
    own = view.overlay.lines.data["color"]
    ex.selection.run = "b"
    assert list(view.overlay.lines.data["name"]) == ["a"]
    assert view.glyph.line_color == own[0]
    np.testing.assert_allclose(view.curve.data["y"], runs["b"]["loss_class"].values[:, 1])


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory of a process is read from /proc")
def test_an_idle_page_takes_little_memory(path):
    assert idle_sessions.measure(str(path), 3) < idle_sessions.MOST_MB
