from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.join import ALIGNMENTS, join

STEPS = 24
FULL = tiny_trajectory(STEPS)


def thinned(every: int, steps: int = STEPS) -> xr.Dataset:
    """Record the same training at every n-th step: moves are sums of moves, the last one of what is left."""
    ends = [*range(0, steps, every), steps]
    out = FULL.isel(snapshot=ends, iteration=ends[:-1])
    sums = [FULL["lca"].isel(iteration=slice(a, b)).sum("iteration") for a, b in pairwise(ends)]
    lca = xr.concat(sums, "iteration").transpose("iteration", "parameter").astype(np.float32)
    return out.assign(lca=(lca.dims, lca.values)).assign_attrs(every=every)


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("other", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("every", [1, 2, 5, 7])
def test_what_is_joined_are_the_same_moves(every, other, align):
    """Each run's LCA over common iterations is what it is alone; else there is an error that says what to do."""
    runs = {"a": thinned(every), "b": thinned(other)}
    try:
        both = join(runs, align)
    except lk.TrajectoryError as error:
        assert every != other
        assert "every" in str(error) or "shortest" in str(error)  # noqa: PT017
        return
    assert both.sizes["snapshot"] == both.sizes["iteration"] + 1
    change = both["loss"].isel(snapshot=-1) - both["loss"].isel(snapshot=0)
    np.testing.assert_allclose(both["lca"].sum(["iteration", "parameter"]), change, rtol=1e-4)


def test_runs_of_other_steps_are_refused_however_they_are_aligned():
    for align in ALIGNMENTS:
        with pytest.raises(lk.TrajectoryError, match=r"iteration 0 is 2 steps of fine and 6 of coarse.*every") as error:
            join({"coarse": thinned(6), "fine": thinned(2)}, align)
        assert "shortest" not in str(error.value)


def test_the_last_iteration_may_be_cut_short_and_is_left_out():
    runs = {"a": thinned(10), "b": thinned(10, steps=23), "c": thinned(10, steps=20)}
    both = join(runs, "shortest")
    assert both["iteration"].values.tolist() == [0, 10]
    assert both["snapshot"].values.tolist() == [0, 10, 20]
    both = join({"a": thinned(10), "b": thinned(10, steps=23)}, "shortest")
    assert both["iteration"].values.tolist() == [0, 10]
    np.testing.assert_array_equal(both["lca"].sel(run="a"), thinned(10)["lca"][:2])


def test_runs_without_a_common_iteration_are_refused():
    early, late = (FULL.lk.sel(iteration=part) for part in (slice(0, 9), slice(10, 23)))
    with pytest.raises(lk.TrajectoryError, match="no iteration in common"):
        join({"early": early, "late": late}, "shortest")


def test_files_with_other_steps_are_refused_on_opening(tmp_path):
    paths = [lk.save(thinned(every), tmp_path / f"{every}.nc") for every in (1, 3)]
    for align in ALIGNMENTS:
        with pytest.raises(lk.TrajectoryError, match="window_lca"):
            lk.open_trajectory(str(tmp_path / "*.nc"), align=align)
    assert lk.open_runs(paths[:1])["iteration"].size == STEPS
