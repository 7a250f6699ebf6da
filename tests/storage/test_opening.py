"""Files opened: damaged, foreign, of other versions; several runs as one dataset."""

from __future__ import annotations

import re
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_damaged_files(ds, tmp_path, keep):
    path = lk.save(ds, tmp_path / "run.nc")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc"):
        lk.open_trajectory(path)


def test_other_netcdf_files_and_missing_ones(tmp_path):
    xr.Dataset({"x": ("y", [1.0])}).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(lk.TrajectoryError, match="not an lcakit trajectory"):
        lk.open_trajectory(tmp_path / "other.nc")
    with pytest.raises(lk.TrajectoryError, match="no such file"):
        lk.open_trajectory(tmp_path / "none.nc")


def test_what_a_newcomer_meets_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run-0.nc").touch()
    (tmp_path / "other.nc.partial").mkdir()
    np.savez(tmp_path / "arrays.npz", theta=np.zeros(3))
    says = {
        "run_0.nc": r"no such file.*Did you mean run-0\.nc\?",
        "othr.nc": r"Did you mean other\.nc\?",
        "nowhere/run.nc": "the folder nowhere does not exist",
        "run-0.nc": r"it is empty \(0 bytes\)",
        "seed-*.nc": f"no file matches this pattern.*{re.escape(str(tmp_path))}",
        "arrays.npz": r"zip archive.*lk\.from_checkpoints.*lk\.from_arrays",
    }
    for name, message in says.items():
        with pytest.raises(lk.TrajectoryError, match=message):
            lk.open_trajectory(name)


def set_version(path: Path, version: str) -> None:
    with netCDF4.Dataset(path, "a") as file:
        file.schema_version = version


def test_versions(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc")
    set_version(path, "1.0")
    lk.open_trajectory(path).close()  # without a word: warnings are errors
    set_version(path, "1.9")
    with pytest.warns(LcakitWarning, match=r"1\.9.*1\.1"):
        got = lk.open_trajectory(path)
    assert np.array_equal(got["lca"], ds["lca"])
    got.close()
    set_version(path, "2.0")
    with pytest.raises(lk.TrajectoryError, match=r"2\.0.*1\.1"):
        lk.open_trajectory(path)


# ---- several runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [lk.save(tiny_trajectory(6, seed=seed), tmp_path / f"run{seed}.nc") for seed in (0, 1)]


def test_open_runs_by_list_and_by_pattern(runs):
    for source in (runs, str(runs[0].parent / "run*.nc")):
        both = lk.open_trajectory(source)
        assert both["run"].values.tolist() == ["run0", "run1"]
        assert both["lca"].dims == ("run", "iteration", "parameter")
        assert both["layer_index"].dims == ("parameter",)
        assert both["lca"].chunks
        assert lk.layers.layer_lca(both).dims == ("run", "iteration", "layer")
        assert np.array_equal(both["lca"].sel(run="run1"), tiny_trajectory(6, seed=1)["lca"])
    with pytest.raises(lk.TrajectoryError, match="no file matches"):
        lk.open_trajectory(str(runs[0].parent / "x*.nc"))
    with pytest.raises(lk.TrajectoryError, match="empty"):
        lk.open_runs([])


def test_open_runs_alignment(runs, tmp_path):
    short = lk.save(tiny_trajectory(4, seed=2).assign_attrs(created_at="yesterday"), tmp_path / "short.nc")
    with pytest.raises(lk.TrajectoryError, match="shortest"):
        lk.open_runs([runs[0], short])
    both = lk.open_runs([runs[0], short], align="shortest")
    assert both.sizes["iteration"] == 4
    assert both.sizes["snapshot"] == 5
    assert "created_at" not in both.attrs  # the runs differ in it
    assert lk.validate(both).ok
    assert not lk.validate(both.assign_attrs(schema_version="none")).ok
    with pytest.raises(ValueError, match="exact"):
        lk.open_runs(runs, align="longest")


def test_open_runs_refuses_other_networks(runs, tmp_path):
    other = tiny_trajectory(6, layers=(TensorSpec("fc.weight", (2, 2), "kernel", "fc"),))
    path = lk.save(other, tmp_path / "other.nc")
    with pytest.raises(lk.TrajectoryError, match="other parameters"):
        lk.open_runs([runs[0], path])
