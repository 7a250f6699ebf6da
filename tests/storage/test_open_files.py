"""A file that is opened again while it is open, replaced, overwritten, closed or dropped."""

from __future__ import annotations

import gc
import pickle
import shutil

import numpy as np
import pytest

import lcakit as lk
from lcakit.storage.local import LocalFile
from lcakit.storage.state import State
from lcakit.testing import tiny_trajectory
from tests.support import forked
from tests.support.descriptors import descriptors
from tests.support.same import assert_same


def again_and_again(path: str) -> None:
    for turn in range(15):
        a, b = (lk.open_trajectory(path) for _ in range(2))
        a.close()
        c = lk.open_trajectory(path)
        for one in (c, b):
            assert one["lca"][:, turn].values.shape == (5,)
        lk.validate(path, groups=("structure",), quiet=True)
        b.close()
        d = lk.open_trajectory(path)
        c.close()
        assert d["theta"].shape == (6, 61)
        d.close()


@pytest.mark.slow
def test_a_file_can_be_opened_and_closed_again_and_again(tmp_path):
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    forked.run(again_and_again, str(path))


def test_the_last_one_closes_the_file(tmp_path):
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    first, second = lk.open_trajectory(path), lk.open_trajectory(path)
    expected = first["lca"].values
    first.close()
    path.unlink()  # what is open stays readable
    np.testing.assert_array_equal(second["lca"].values, expected)
    second.close()
    assert descriptors(path) == 0


def test_a_file_is_the_same_under_all_its_names(tmp_path):
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    (tmp_path / "link.nc").symlink_to(path)
    (tmp_path / "folder").mkdir()
    names = [path, tmp_path / "link.nc", tmp_path / "folder" / ".." / "run.nc"]
    opened = [lk.open_trajectory(name) for name in names]
    shutil.copyfile(lk.save(tiny_trajectory(9), tmp_path / "other.nc"), path)
    for ds in opened:
        with pytest.raises(lk.TrajectoryError, match="overwritten while it is open"):
            lk.open_trajectory(path)
        with pytest.raises(lk.TrajectoryError, match="overwritten while it is open"):
            ds["lca"].load()
        ds.close()
    with lk.open_trajectory(path) as got:
        assert got.sizes["iteration"] == 9
    assert descriptors(path) == 0


@pytest.mark.slow
def test_a_dataset_that_was_dropped_does_not_keep_the_file_open(tmp_path):
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    lk.open_trajectory(path)
    gc.collect()
    with lk.open_trajectory(path):
        lk.open_trajectory(path)
        gc.collect()
    assert descriptors(path) == 0


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_that_was_replaced_is_another_file(tmp_path, compression):
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc", compression=compression)
    with lk.open_trajectory(path) as older:
        before = older["lca"].values
        lk.save(tiny_trajectory(9, seed=1), path, overwrite=True, compression=compression)
        with lk.open_trajectory(path) as newer:
            assert newer.sizes["iteration"] == 9
        np.testing.assert_array_equal(older["lca"].values, before)
        lk.save(tiny_trajectory(5, seed=2), path, overwrite=True, compression=compression)
        np.testing.assert_array_equal(older["lca"].values, before)
        path.unlink()
        np.testing.assert_array_equal(older["lca"].values, before)
    lca = older["lca"]
    lk.save(tiny_trajectory(5, seed=2), path, compression=compression)
    with pytest.raises(lk.TrajectoryError, match=r"(replaced|overwritten).* open it again|Open it again"):
        lca.load()  # closed, and another file has its name


@pytest.mark.slow
def test_an_array_keeps_its_file_open_without_its_dataset(tmp_path):
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    lca = lk.open_trajectory(path)["lca"]
    gc.collect()
    with lk.open_trajectory(path) as other:
        expected = other["lca"].values
    np.testing.assert_array_equal(lca.values, expected)
    del lca, other
    gc.collect()
    assert descriptors(path) == 0


def test_a_lazy_trajectory_can_be_sent_to_another_process(tmp_path):
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    with lk.open_trajectory(path) as ds:
        sent = pickle.loads(pickle.dumps(ds["lca"]))
        np.testing.assert_array_equal(sent.values, ds["lca"].values)


@pytest.mark.parametrize("new", [tiny_trajectory(5, seed=1), tiny_trajectory(9)], ids=["as long", "longer"])
def test_a_file_that_was_overwritten_while_it_is_open_is_refused_until_it_is_closed(tmp_path, new):
    path, other = lk.save(tiny_trajectory(5), tmp_path / "run.nc"), lk.save(new, tmp_path / "other.nc")
    (tmp_path / "hard.nc").hardlink_to(path)
    ds = lk.open_trajectory(path)
    ds["lca"].load()
    shutil.copyfile(other, path)  # the same inode, as cp and rsync --inplace write
    theta = ds["theta"]
    for read in (
        lambda: lk.open_trajectory(path),
        lambda: lk.open_trajectory(tmp_path / "hard.nc"),
        theta[:, 3].compute,
        theta.load,
    ):
        with pytest.raises(lk.TrajectoryError, match=r"overwritten while it is open.*ds\.close\(\)"):
            read()
    ds.close()
    with lk.open_trajectory(path) as got:
        assert_same(got, new)


@pytest.mark.slow
def test_a_dropped_dataset_of_an_overwritten_file_leaves_nothing_of_it(tmp_path):
    path, other = (lk.save(tiny_trajectory(5, seed=k), tmp_path / f"{k}.nc") for k in range(2))
    lk.open_trajectory(path)["lca"].load()
    gc.collect()
    shutil.copyfile(other, path)
    with lk.open_trajectory(path) as got:
        np.testing.assert_array_equal(got["lca"], tiny_trajectory(5, seed=1)["lca"])


def test_a_file_that_is_replaced_between_its_check_and_its_opening_is_refused(tmp_path):
    path, other = (lk.save(tiny_trajectory(5, seed=k), tmp_path / f"{k}.nc") for k in range(2))
    state = State.of(path)
    other.replace(path)
    with pytest.raises(lk.TrajectoryError, match=r"0\.nc was replaced since"):
        LocalFile(str(path), state)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_worker_does_not_read_a_file_that_took_the_place_of_the_one_it_was_sent(tmp_path, compression):
    path, other = (lk.save(tiny_trajectory(5, seed=k), tmp_path / f"{k}.nc", compression=compression) for k in range(2))
    with lk.open_trajectory(path) as ds:
        sent = pickle.dumps(ds["lca"])
    other.replace(path)
    with pytest.raises(lk.TrajectoryError, match=r"0\.nc was replaced since"):
        pickle.loads(sent).load()
