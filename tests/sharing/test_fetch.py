from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr

import lcakit as lk
from lcakit.sharing import fetching
from lcakit.sharing.fetching import fetch, read_registry
from tests.support.served import HANGING, patience, same, small_run, write_both
from tests.support.server import Server, serving

for needed in ("pooch", "aiohttp", "h5netcdf"):
    pytest.importorskip(needed)
h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.timeout(60)  # a server that hangs must not hang us


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return small_run()


@pytest.fixture(scope="module")
def folder(ds, tmp_path_factory) -> Path:
    return write_both(ds, tmp_path_factory.mktemp("served"))


@pytest.fixture
def server(folder) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


def registry_of(server: Server, place: Path, name: str = "run.nc", sha256: str | None = None) -> Path:
    sha256 = sha256 or hashlib.sha256((server.folder / "run.nc").read_bytes()).hexdigest()
    place.write_text(f"# trajectories\n\n{name} {server.url('run.nc')} {sha256}\n")
    return place


@pytest.fixture
def registry(server, tmp_path) -> Path:
    return registry_of(server, tmp_path / "registry.txt")


@pytest.mark.slow
def test_what_is_fetched_is_kept(ds, server, registry, tmp_path):
    path = fetch("run.nc", registry, tmp_path / "cache", quiet=True)
    assert path == tmp_path / "cache" / "run.nc"
    assert same(lk.open_trajectory(path), ds)
    count = len(server.requests)
    assert fetch("run.nc", registry, tmp_path / "cache", quiet=True) == path
    assert len(server.requests) == count
    path.write_bytes(b"something else")  # a file that was changed is fetched anew
    assert same(lk.open_trajectory(fetch("run.nc", registry, tmp_path / "cache", quiet=True)), ds)
    server.lie("failing")
    assert fetch("run.nc", registry, tmp_path / "cache", quiet=True) == path
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["run.nc"]


@pytest.mark.parametrize("mode", ["wrong", "cut", "failing", *HANGING])
def test_lying_servers_leave_nothing_behind(server, registry, tmp_path, mode):
    server.lie(mode)
    with pytest.raises(lk.TrajectoryError, match=r"http://127\.0\.0\.1.*run\.nc") as error:
        fetch("run.nc", registry, tmp_path / "cache", timeout=patience(mode), quiet=True)
    assert ("in time" in str(error.value)) == (mode in HANGING)
    assert ("sha256" in str(error.value)) == (mode == "wrong")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("mode", ["wrong", "cut", "silent"])
def test_a_failed_fetch_leaves_the_older_file(server, registry, tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "run.nc").write_bytes(b"older")
    server.lie(mode)
    with pytest.raises(lk.TrajectoryError):
        fetch("run.nc", registry, tmp_path / "cache", timeout=patience(mode), quiet=True)
    assert [p.read_bytes() for p in (tmp_path / "cache").iterdir()] == [b"older"]


def test_another_hash_than_promised(server, tmp_path):
    registry = registry_of(server, tmp_path / "registry.txt", sha256="0" * 64)
    with pytest.raises(lk.TrajectoryError, match=r"sha256 is not 0000.*Nothing of it was kept"):
        fetch("run.nc", registry, tmp_path / "cache", quiet=True)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written(registry, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(lk.TrajectoryError, match="another cache"):
        fetch("run.nc", registry, tmp_path / "cache", quiet=True)


def test_registries_behind_urls(ds, server, registry, tmp_path, monkeypatch):
    (server.folder / "registry.txt").write_bytes(registry.read_bytes())
    url = server.url("registry.txt")
    assert list(read_registry(url)) == ["run.nc"]
    assert same(lk.open_trajectory(fetch("run.nc", url, tmp_path / "cache", quiet=True)), ds)
    assert list(read_registry(registry.as_uri())) == ["run.nc"]
    monkeypatch.setattr(fetching, "MOST_REGISTRY_BYTES", 50)
    for where in (url, registry):
        with pytest.raises(lk.TrajectoryError, match="over 50 bytes"):
            read_registry(where)
    server.lie("silent")
    with pytest.raises(lk.TrajectoryError, match=r"registry\.txt.*in time"):
        read_registry(url, timeout=0.3)


def test_files_beside_their_registry(ds, server, folder, tmp_path):
    (tmp_path / "run.nc").write_bytes((folder / "run.nc").read_bytes())
    sha256 = hashlib.sha256((tmp_path / "run.nc").read_bytes()).hexdigest()
    line = f"mine.nc run.nc {sha256}\n"
    (tmp_path / "registry.txt").write_text(line)
    for registry in (tmp_path / "registry.txt", (tmp_path / "registry.txt").as_uri()):
        assert fetch("mine.nc", registry, tmp_path / "cache") == tmp_path / "run.nc"  # as it is, no copy
    assert not (tmp_path / "cache").exists()
    (server.folder / "beside.txt").write_text(line)
    path = fetch("mine.nc", server.url("beside.txt"), tmp_path / "cache", quiet=True)
    assert path == tmp_path / "cache" / "mine.nc"
    assert same(lk.open_trajectory(path), ds)
    (tmp_path / "run.nc").write_bytes(b"changed")
    with pytest.raises(lk.TrajectoryError, match=rf"run\.nc: its sha256 is .*, not {sha256}"):
        fetch("mine.nc", tmp_path / "registry.txt")
    (tmp_path / "run.nc").unlink()
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc: cannot be read"):
        fetch("mine.nc", tmp_path / "registry.txt")


def test_names_that_are_not_there(registry, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"'rum\.nc'.*'run\.nc'"):
        fetch("rum.nc", registry, tmp_path / "cache")
    with pytest.raises(lk.TrajectoryError, match=r"none\.txt.*registry="):
        fetch("run.nc", tmp_path / "none.txt", tmp_path / "cache")
    monkeypatch.setattr(fetching, "REGISTRY", tmp_path / "missing.txt")
    with pytest.raises(lk.TrajectoryError, match=r"missing\.txt"):
        fetch("run.nc")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(lk.TrajectoryError, match=r"bytes\.txt"):
        read_registry(tmp_path / "bytes.txt")


HASH = "a" * 64


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("run.nc https://h/run.nc", "2 words"),
        (f"run.nc https://h/run.nc {HASH} more", "4 words"),
        (f"../run.nc https://h/run.nc {HASH}", "not a valid file name"),
        (f"/etc/run.nc https://h/run.nc {HASH}", "not a valid file name"),
        (f".hidden https://h/run.nc {HASH}", "not a valid file name"),
        (f"a\\b https://h/run.nc {HASH}", "not a valid file name"),
        (f"a\x1b[2J https://h/run.nc {HASH}", "not a valid file name"),
        (f"{'n' * 300} https://h/run.nc {HASH}", "not a valid file name"),
        (f"run.nc file:///etc/passwd {HASH}", "neither a URL that begins with https://"),
        (f"run.nc /etc/passwd {HASH}", "neither a URL that begins with https://"),
        (f"run.nc ../run.nc {HASH}", "neither a URL that begins with https://"),
        (f"run.nc https://h/run.nc {HASH[1:]}", "not a sha256"),
        (f"run.nc https://h/run.nc {HASH[1:]}g", "not a sha256"),
        (f"ok.nc https://h/run.nc {HASH}", "listed twice"),
    ],
)
def test_lines_that_are_no_entries(tmp_path, line, problem):
    (tmp_path / "registry.txt").write_text(f"ok.nc https://h/ok.nc {HASH.upper()}\n{line}\n")
    with pytest.raises(lk.TrajectoryError, match=rf"registry\.txt, line 2: .*{problem}.*name url sha256") as error:
        read_registry(tmp_path / "registry.txt")
    assert str(error.value).isprintable()
    (tmp_path / "registry.txt").write_text(f"ok.nc https://h/ok.nc {HASH.upper()}\n")
    assert read_registry(tmp_path / "registry.txt")["ok.nc"].sha256 == HASH
