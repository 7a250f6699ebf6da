"""Who does most, and who does nothing: the strongest helpers and hurters, and units that have gone dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import grouped, sum_by
from lcakit.analysis.kernels.groups import count_signs
from lcakit.errors import unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory import labels
from lcakit.trajectory.require import in_place_of, require, require_iterations, require_tables
from lcakit.trajectory.select import select_iterations

__all__ = ["SIDES", "dead_units", "extremes", "last_active_iteration"]


def __dir__() -> list[str]:
    return __all__


SIDES = ["helping", "hurting"]
"""The two ends of a ranking, as :func:`extremes` labels them."""

_LABEL = np.dtype("U96")


@of_trajectories
def extremes(
    ds: xr.Dataset, by: str = "unit", k: int = 10, iterations: slice | int | None = None, lca: str = "lca"
) -> xr.Dataset:
    r"""Return the k members that help most and the k that hurt most, by their LCA summed over iterations.

    .. math:: S[g] = \sum_t \sum_{i \in g} A[t, i]

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter), or with running sums in its place.
    by
        ``"parameter"``, or a grouping of :func:`lcakit.aggregate.sum_by`.
    k
        How many on each side, at most the number of members.
    iterations
        Label slice, both ends included; the whole run by default, for which running sums will do.
    lca
        Name of the variable; ``"lca_val"`` for another objective.

    Returns
    -------
    Dataset
        ``lca`` (outcome, rank): S in the unit of the loss, strongest first, NaN where fewer than k members are on that
        side (those of which some LCA is missing are on none); ``index``: the member's coordinate value (parameter,
        unit) or position in the table, -1 there; ``label``: its name, such as ``fc1.weight[3, 17]``, "" there. Lazy.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``lca`` nor, for the whole run, its sums.
    ValueError
        For a k that is not between 1 and the number of members, iterations outside the run, or an unknown grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> extremes(tiny_trajectory(), "layer", k=2)["label"].sel(outcome="helping", rank=0).item()
    'conv1'
    """
    found = in_place_of(ds, lca, "total_lca") if iterations is None else []
    if not found:
        require(ds, lca)
    require_tables(ds)
    part = ds if iterations is None else select_iterations(ds, iterations)
    totals = _sums_of(ds, by, found[0]) if found else _totals(part, by, lca)
    dim = str(totals.dims[-1])
    if not 1 <= k <= totals.sizes[dim]:
        raise ValueError(f"k must be 1 to {totals.sizes[dim]}, the number of members ({by}), got {k}")
    options: dict[str, Any] = {
        "dask": "parallelized",
        "dask_gufunc_kwargs": {"output_sizes": {"outcome": 2, "rank": k}, "allow_rechunk": True},
    }
    positions, values = xr.apply_ufunc(
        _strongest,
        totals,
        kwargs={"k": k},
        input_core_dims=[[dim]],
        output_core_dims=[["outcome", "rank"]] * 2,
        output_dtypes=[np.int64, np.float64],
        **options,
    )
    index, names = _members(part, by, totals)
    lookup = xr.apply_ufunc(
        _look_up, positions, kwargs={"table": index, "missing": -1}, dask="parallelized", output_dtypes=[np.int64]
    )
    named = xr.apply_ufunc(
        _names, positions, kwargs={"name": names}, dask="parallelized", output_dtypes=[np.dtype("U96")]
    )
    out = xr.Dataset({"lca": values, "index": lookup, "label": named})
    out["lca"].attrs = totals.attrs | {"long_name": "loss change allocation, summed over iterations"}
    out["index"].attrs = {"long_name": f"{by} coordinate or position", "units": "1"}
    out["label"].attrs = {"long_name": f"name of the {by}", "units": "1"}
    return out.assign_coords(outcome=SIDES, rank=np.arange(k))


def _sums_of(ds: xr.Dataset, by: str, total: xr.DataArray) -> xr.DataArray:
    """Return running sums of parameters by member."""
    _check_member_kind(by)
    return total if by == "parameter" else sum_by(ds, by, str(total.name))


def _check_member_kind(by: str) -> None:
    if by != "parameter" and by not in labels.GROUPINGS:
        raise unknown("grouping", by, ("parameter", *labels.GROUPINGS))


def _totals(ds: xr.Dataset, by: str, lca: str) -> xr.DataArray:
    if by == "parameter":
        return ds[lca].sum("iteration", dtype=np.float64, keep_attrs=True, skipna=False).transpose(..., "parameter")
    _check_member_kind(by)
    return sum_by(ds, by, lca).sum("iteration", keep_attrs=True, skipna=False).transpose(..., by)


def _strongest(totals: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and values of the k most negative and the k most positive entries of the last axis.

    Entries that are missing (NaN) are on neither side: sorted in the place of zeros.
    """
    order = np.argsort(np.where(np.isnan(totals), 0, totals), axis=-1, kind="stable")
    positions = np.stack([order[..., :k], order[..., ::-1][..., :k]], axis=-2)
    values = np.take_along_axis(totals[..., None, :], positions, axis=-1)
    wrong = ~(values * np.array([[-1.0], [1.0]]) > 0)
    return np.where(wrong, -1, positions), np.where(wrong, np.nan, values)


def _look_up(positions: np.ndarray, table: np.ndarray, missing: int) -> np.ndarray:
    return np.where(positions < 0, missing, table[positions])


def _names(positions: np.ndarray, name: Callable[[int], str]) -> np.ndarray:
    names = ["" if p < 0 else name(int(p)) for p in positions.ravel()]
    return np.array(names, dtype=_LABEL).reshape(positions.shape)


def _members(ds: xr.Dataset, by: str, totals: xr.DataArray) -> tuple[np.ndarray, Callable[[int], str]]:
    """Return the coordinate value of each member, and a function from its position to its name."""
    if by == "parameter":
        whole = ds["parameter"].values if "parameter" in ds.coords else np.arange(ds.sizes["parameter"])
        return whole, lambda p: labels.parameter_name(ds, int(whole[p]))
    if by == "unit":
        units = totals["unit"].values
        layer = ds["layer"].values[totals["unit_layer"].values]
        channel = totals["unit_channel"].values
        return units, lambda p: f"{layer[p]}[{channel[p]}]"
    names = totals[by].values.astype(str)
    return np.arange(names.size), lambda p: str(names[p])


@of_trajectories
def last_active_iteration(ds: xr.Dataset, by: str = "unit", lca: str = "lca") -> xr.DataArray:
    r"""Return the last iteration in which any parameter of a group has LCA.

    .. math:: \max \{t : \exists i \in g, A[t, i] \ne 0\}

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter).
    by
        A grouping of :func:`lcakit.aggregate.sum_by`.
    lca
        Name of the variable; ``"lca_val"`` for another objective.

    Returns
    -------
    DataArray
        (by), labels of ``iteration`` (optimizer steps taken before it) as float64; NaN for a group that never has LCA.
        Lazy.

    Raises
    ------
    TrajectoryError
        If there is no iteration, or the file does not hold ``lca``.
    ValueError
        For an unknown grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> last_active_iteration(tiny_trajectory(), "layer").values
    array([11., 11., 11.])
    """
    counts = _counts(ds, by, lca)
    active = counts.sel(outcome=SIDES).sum("outcome") > 0
    out = active["iteration"].where(active).max("iteration")
    return out.rename("last_active_iteration").assign_attrs(long_name="last iteration with LCA", units="1")


def _counts(ds: xr.Dataset, by: str, lca: str) -> xr.DataArray:
    """Return the numbers of members of each group that help, hurt and are zero, in each iteration."""
    array = require(ds, lca)
    require_iterations(array)
    require_tables(ds)
    return grouped(array, "parameter", *labels.group_ids(ds, by), count_signs, ("outcome", [*SIDES, "zero"]))


@of_trajectories
def dead_units(ds: xr.Dataset, after: int, by: str = "unit", lca: str = "lca") -> xr.DataArray:
    r"""Say which units have no LCA from an iteration on: every parameter's A is exactly zero.

    .. math:: \mathrm{dead}[u] = (A[t, i] = 0 \text{ for all } i \in u, t \ge \mathrm{after})

    Parameters
    ----------
    ds, by, lca
        See :func:`last_active_iteration`.
    after
        Label of an iteration of the run.

    Returns
    -------
    DataArray
        (by), bool. Lazy.

    Raises
    ------
    TrajectoryError
        If there is no iteration, or the file does not hold ``lca``.
    ValueError
        For an iteration outside the run, or an unknown grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory()
    >>> ds["lca"] = ds["lca"].where((ds["iteration"] < 6) | (ds["unit_index"] != 2), 0)
    >>> dead_units(ds, after=6).values.nonzero()[0].tolist()
    [2]
    """
    require_iterations(ds)
    first, last = ds["iteration"].values[[0, -1]]
    if not first <= after <= last:
        raise ValueError(f"iteration {after} is not in the run: the dataset has {first} to {last}")
    counts = _counts(ds, by, lca).sel(iteration=slice(after, None)).sum("iteration")
    out = (counts.sel(outcome=SIDES).sum("outcome") == 0) & (counts.sel(outcome="zero", drop=True) > 0)
    return out.rename("dead").assign_attrs(long_name=f"no LCA from iteration {after} on", units="1")
