"""Servers that drip, redirect, change, flood: each read ends in time, in little memory, with an error that names it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.sharing.fetching import fetch, read_registry
from lcakit.storage import remote
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.server import Server, serving

for needed in ("pooch", "aiohttp", "h5netcdf", "zarr"):
    pytest.importorskip(needed)

pytestmark = pytest.mark.timeout(60)

ENDLESS = ("dripping headers", "continuing")
"""Servers that go on and on, so that however long one waits for them, the answer is never there."""

MODES = [*(pytest.param(mode, marks=pytest.mark.slow) for mode in ENDLESS), "redirecting"]


def patience(mode):
    """Return seconds to wait: others answer, though perhaps late, when this machine is busy."""
    return 0.25 if mode in ENDLESS else 1.0


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return tiny_trajectory(60, layers=(TensorSpec("w", (2000,), "bias", "w"),), classes=("a",))


@pytest.fixture(scope="module")
def folder(ds, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    lk.save(ds, folder / "run.nc")
    lk.save(ds, folder / "run.zarr")
    return folder


@pytest.fixture
def server(folder, monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "TIMEOUT", 1.0)
    monkeypatch.setattr(remote, "PATIENCE", 2)
    monkeypatch.setattr(remote, "BLOCK_BYTES", 2**15)
    with serving(folder) as server:
        yield server


@pytest.mark.parametrize("name", ["run.nc", "run.zarr"])
@pytest.mark.parametrize("mode", [*MODES, "endless parts"])
def test_opening_ends_in_time_and_little_memory(server, monkeypatch, mode, name):
    monkeypatch.setattr(remote, "TIMEOUT", patience(mode))
    server.lie(mode)
    began = time.monotonic()
    with pytest.raises(lk.TrajectoryError, match=rf"http.*{name}"):
        lk.open_trajectory(server.url(name))
    assert time.monotonic() - began < 20
    assert server.sent < 2**29


@pytest.mark.parametrize("mode", MODES)
def test_fetching_ends_in_time(server, tmp_path, mode):
    registry = tmp_path / "registry.txt"
    registry.write_text(f"run.nc {server.url('run.nc')} {'0' * 64}\n")
    server.lie(mode)
    began = time.monotonic()
    with pytest.raises(lk.TrajectoryError, match=r"http.*run\.nc"):
        fetch("run.nc", registry, tmp_path / "cache", timeout=patience(mode), quiet=True)
    with pytest.raises(lk.TrajectoryError, match=r"http.*run\.nc"):
        read_registry(server.url("run.nc"), timeout=patience(mode))
    assert time.monotonic() - began < 20
    assert not list((tmp_path / "cache").glob("*"))


def test_an_endless_download_ends(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "MOST_UNANNOUNCED", 2**22)
    server.lie("endless")
    with (tmp_path / "file").open("wb") as file, pytest.raises(lk.TrajectoryError, match="over 4,194,304 bytes"):
        remote.download(server.url("run.nc"), file)
    assert server.sent < 2**26


@pytest.mark.skipif(not hasattr(os, "fstatvfs"), reason="free space is asked for as on Unix")
def test_a_download_leaves_room_on_the_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "_KEPT_FREE", 2**60)
    with (tmp_path / "file").open("wb") as file, pytest.raises(lk.TrajectoryError, match=r"run\.nc: has .*room for 0"):
        remote.download(server.url("run.nc"), file)
    server.lie("endless")
    with (tmp_path / "file").open("wb") as file, pytest.raises(lk.TrajectoryError, match="more than is accepted"):
        remote.download(server.url("run.nc"), file)


@pytest.mark.parametrize("kept", [3, 4, 5])
def test_a_file_that_changes_between_requests_is_noticed(ds, server, kept):
    server.kept = kept
    server.lie("changing")
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc.*changed since"):
        got = lk.open_trajectory(server.url("run.nc"))
        for name in got.data_vars:
            np.testing.assert_array_equal(got[name].values, ds[name].values)


def test_a_mark_that_differs_between_mirrors_is_no_alarm(ds, server, monkeypatch):
    seen = []

    def header(self, name, value, real=server.RequestHandlerClass.send_header):
        seen.append(name)
        real(self, name, f'"{len(seen)}"' if name == "ETag" else value)
        if name == "ETag":
            real(self, "Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")

    monkeypatch.setattr(server.RequestHandlerClass, "send_header", header)
    np.testing.assert_array_equal(lk.open_trajectory(server.url("run.nc"))["lca"].values, ds["lca"])
    assert seen.count("ETag") > 2


@pytest.mark.slow
def test_a_packed_answer_is_not_taken_for_the_file(server):
    server.lie("packed")
    with pytest.raises(lk.TrajectoryError, match=r"http.*run\.nc"):
        lk.open_trajectory(server.url("run.nc"))


def test_parts_are_refused_from_a_server_that_stops_sending_them(server):
    got = lk.open_trajectory(server.url("run.nc"))
    server.lie("endless parts")
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc.*more than"):
        got["lca"].load()
    server.lie("whole")
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc.*whole file where a part"):
        got["theta"].load()
    assert server.sent < 2**26


def test_what_was_fetched_is_still_compared(ds, server, folder, tmp_path):
    right = hashlib.sha256((folder / "run.nc").read_bytes()).hexdigest()
    (tmp_path / "registry.txt").write_text(f"run.nc {server.url('run.nc')} {right}\n")
    path = fetch("run.nc", tmp_path / "registry.txt", tmp_path / "cache", quiet=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == right
    server.lie("whole")
    with pytest.warns(LcakitWarning, match="cannot be read in parts"):
        np.testing.assert_array_equal(lk.open_trajectory(server.url("run.nc"))["lca"], ds["lca"])


@pytest.mark.skipif(os.name != "posix", reason="pipes are those of Unix")
def test_registries_and_files_beside_them_are_plain_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(lk.TrajectoryError, match=r"pipe.*not a file"):
        read_registry(tmp_path / "pipe")
    (tmp_path / "registry.txt").write_text(f"run.nc pipe {'0' * 64}\n")
    with pytest.raises(lk.TrajectoryError, match=r"pipe.*not a file"):
        fetch("run.nc", tmp_path / "registry.txt", tmp_path)
