"""Paths as users give them: nothing, the home folder, a folder, one file as two runs, what is finished already."""

from __future__ import annotations

from pathlib import Path

import pytest

import lcakit as lk
from lcakit.storage import paths
from lcakit.storage.paths import allocation_partial, partial_path, writable_path
from lcakit.testing import tiny_trajectory


@pytest.fixture
def run(tmp_path) -> Path:
    return lk.save(tiny_trajectory(5), tmp_path / "run.nc")


def test_no_name_is_said():
    for call in (lk.open_trajectory, lk.finish, lk.validate, partial_path):
        with pytest.raises(lk.TrajectoryError, match="name of the file is empty"):
            call("")
    for call in (paths.writable_now, writable_path, lambda path: lk.save(tiny_trajectory(5), path)):
        with pytest.raises(lk.RecordingError, match="name of the file is empty"):
            call("")


IMPOSSIBLE = [("a\0b.nc", "a null character"), ("x" * 256 + ".nc", "has 259 bytes"), ("é" * 128, "has 256 bytes")]


@pytest.mark.parametrize(("name", "why"), [*IMPOSSIBLE, ("a\udcff.nc", "no text")])
def test_names_that_no_file_can_have_are_told(tmp_path, name, why):
    path = f"{tmp_path}/{name}"
    for call in (lk.open_trajectory, lk.finish, lk.validate):
        with pytest.raises(lk.TrajectoryError, match=f"cannot be the name of a file: .*{why}"):
            call(path)
    with pytest.raises(lk.RecordingError, match=f"cannot be the name of a file: .*{why}"):
        lk.save(tiny_trajectory(5), path)
    assert not list(tmp_path.iterdir())


def test_there_must_be_room_for_the_longer_name_beside_a_file(tmp_path):
    path = tmp_path / ("x" * 250)
    with pytest.raises(lk.RecordingError, match=r"is too long by .* Choose a shorter one"):
        lk.save(tiny_trajectory(5), path)
    assert lk.save(tiny_trajectory(5), tmp_path / ("x" * 120 + ".nc")).is_file()


def test_the_home_folder_is_meant_by_a_tilde(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert lk.save(tiny_trajectory(5), "~/copy.nc") == tmp_path / "copy.nc"
    assert partial_path("~/a.nc") == tmp_path / "a.nc.partial"
    assert allocation_partial("~/a.nc", "val") == tmp_path / "a.nc.val.allocation.partial"
    assert lk.open_trajectory("~/copy.nc").sizes["iteration"] == 5
    assert lk.open_trajectory("~/*.nc")["run"].values.tolist() == ["copy", "run"]
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("name", ["plain", "plain/", ".", "/", "run*"])
def test_a_folder_is_called_one(tmp_path, monkeypatch, name):
    (tmp_path / "plain").mkdir()
    (tmp_path / "run*").mkdir()
    monkeypatch.chdir(tmp_path)
    for call in (lk.open_trajectory, lk.validate, lk.finish):
        with pytest.raises(lk.TrajectoryError, match=r"is a folder.* Give a file") as error:
            call(name)
        assert str(error.value).startswith(f"{Path(name)} is")
        assert "partial" not in str(error.value)


def test_what_cannot_be_finished_is_said(run):
    for name in (run, f"{run}.partial"):
        with pytest.raises(lk.TrajectoryError, match=r"run\.nc is finished already"):
            lk.finish(name)
    with pytest.raises(lk.TrajectoryError, match=r"there is no recording .*none\.nc"):
        lk.finish(run.with_name("none.nc"))


def test_one_file_is_not_two_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "link.nc"
    link.symlink_to(run)
    for other in (run, "run.nc", "./run.nc", link, run.as_uri(), "run.nc.partial"):
        with pytest.raises(lk.TrajectoryError, match=r"run\.nc.* is given twice"):
            lk.open_runs([run, other])
    copy = lk.save(tiny_trajectory(5), tmp_path / "there" / "run.nc")
    assert lk.open_runs([run, copy])["run"].values.tolist() == [str(run), str(copy)]
    assert paths.run_names(["https://a.org/x.nc", "https://b.org/y.zarr"]) == ["x", "y"]


def test_where_a_file_can_be_written_is_tried_before_work(tmp_path):
    assert paths.writable_now(tmp_path / "new" / "a.html") == tmp_path / "new" / "a.html"
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(lk.RecordingError, match=r"cannot write .*a\.html: .* Choose another place"):
        paths.writable_now(tmp_path / "file" / "a.html")
    with pytest.raises(lk.RecordingError, match="new is a folder"):
        paths.writable_now(tmp_path / "new")


def test_the_home_folder_is_that_of_a_copy_and_its_original(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    lk.save(tiny_trajectory(5), "~/run.nc")
    assert (tmp_path / "run.nc").exists()
    with pytest.raises(lk.RecordingError, match="is the original"):
        lk.share("~/run.nc", tmp_path / "run.nc", overwrite=True)
    assert lk.share("~/run.nc", "~/small.nc")
    assert (tmp_path / "small.nc").exists()
