"""Oscillation: weights turn around and gradients cross zero every few iterations (section 3, Table S2).

A sign change is counted between neighbouring *nonzero* values: a zero takes the sign of the last nonzero
value before it, and zeros at the start are skipped; so are missing values (NaN). What happens between two recorded
snapshots is not seen: with ``every=10`` an iteration is ten optimizer steps. Counts are exact across blocks: each block
reports its count and its first and last nonzero signs, and blocks are merged in order, in a tree.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import grouped
from lcakit.analysis.kernels.fold import fold
from lcakit.analysis.kernels.signs import Signs, columns, merge, movement_signs, value_signs
from lcakit.analysis.phase import phase_lag
from lcakit.storage.given import of_trajectories
from lcakit.trajectory import labels
from lcakit.trajectory.require import in_place_of, iterations_there, recorded, require, require_tables

__all__ = [
    "gradient_crossings",
    "iterations_per_crossing",
    "iterations_per_turn",
    "oscillation_detail",
    "phase_lag",
    "weight_turns",
]


def __dir__() -> list[str]:
    return __all__


_Summarize = Callable[[np.ndarray], Signs]


@of_trajectories
def weight_turns(ds: xr.Dataset) -> xr.DataArray:
    r"""Count how often each parameter turns around, from one recorded iteration to the next.

    .. math:: n_i = \#\{t : \operatorname{sign}(θ_{t+1} - θ_t)_i \ne \text{the last nonzero sign before}\}

    Parameters
    ----------
    ds
        Trajectory with ``theta`` (snapshot, parameter), or with the running count in its place.

    Returns
    -------
    DataArray
        (parameter), int64, numbers of turns. Lazy. A step of exactly zero is not a turn, nor does it hide one.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``theta`` nor the count.

    Notes
    -----
    Section 3 of the paper.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> int(weight_turns(tiny_trajectory())[0]) >= 0
    True
    """
    name, long_name = "weight_turns", "turns of the weight"
    return _turns(ds)[0].rename(name).assign_attrs(long_name=long_name, units="1")


@of_trajectories
def gradient_crossings(ds: xr.Dataset) -> xr.DataArray:
    r"""Count how often the full gradient of each parameter changes its sign, over all snapshots.

    .. math:: n_i = \#\{t : \operatorname{sign}(∇L(θ_t))_i \ne \text{the last nonzero sign before}\}

    Parameters
    ----------
    ds
        Trajectory with ``gradient`` (snapshot, parameter), or with the running count in its place.

    Returns
    -------
    DataArray
        (parameter), int64, numbers of crossings. Lazy. A gradient of exactly zero is not a crossing, nor does it
        hide one.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``gradient`` nor the count.

    Notes
    -----
    Section 3 of the paper.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> gradient_crossings(tiny_trajectory())[:5].values  # the last of these does not move
    array([3, 0, 4, 2, 0])
    """
    name, long_name = "gradient_crossings", "sign changes of the gradient"
    return _crossings(ds)[0].rename(name).assign_attrs(long_name=long_name, units="1")


@of_trajectories
def iterations_per_turn(ds: xr.Dataset, by: str | None = None) -> xr.DataArray:
    r"""Return the recorded iterations per weight turn (Table S2; by layer Fig. S7).

    .. math:: T \Big/ \frac1{|g|} \sum_{i \in g} n_i

    with n of :func:`weight_turns`; T is the number of moves that are there, of each parameter.

    Parameters
    ----------
    ds
        Trajectory with ``theta`` (snapshot, parameter), or with the running count in its place.
    by
        None for the whole network, or a grouping of :func:`lcakit.aggregate.sum_by`.

    Returns
    -------
    DataArray
        Without dimensions, or (by), float64, recorded iterations for each turn (of a run recorded with ``every=10``,
        each of 10 optimizer steps); with a leading ``run`` where ``ds`` has one. Infinite where nothing turns. Lazy.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``theta`` nor the count.
    ValueError
        For an unknown grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> iterations_per_turn(tiny_trajectory(), "kernel_layer").round(2).values
    array([2.61, 2.75])
    """
    return _iterations_per(ds, *_turns(ds), by, "iterations per weight turn")


@of_trajectories
def iterations_per_crossing(ds: xr.Dataset, by: str | None = None) -> xr.DataArray:
    r"""Return the recorded iterations per gradient crossing (Table S2).

    .. math:: T \Big/ \frac1{|g|} \sum_{i \in g} n_i

    with n of :func:`gradient_crossings`; T is one less than the gradients that are there, of each parameter.

    Parameters
    ----------
    ds
        Trajectory with ``gradient`` (snapshot, parameter), or with the running count in its place.
    by
        None for the whole network, or a grouping of :func:`lcakit.aggregate.sum_by`.

    Returns
    -------
    DataArray
        Without dimensions, or (by), float64, recorded iterations for each crossing (of a run recorded with
        ``every=10``, each of 10 optimizer steps); with a leading ``run`` where ``ds`` has one. Infinite where nothing
        crosses. Lazy.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``gradient`` nor the count.
    ValueError
        For an unknown grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> iterations_per_crossing(tiny_trajectory(), "layer").round(2).values
    array([4.44, 3.6 , 3.91])
    """
    return _iterations_per(ds, *_crossings(ds), by, "iterations per gradient crossing")


def _iterations_per(
    ds: xr.Dataset, counts: xr.DataArray, there: xr.DataArray | int, by: str | None, long_name: str
) -> xr.DataArray:
    mean, iterations = _mean_by(ds, counts, by), there
    if isinstance(there, xr.DataArray):
        iterations = _mean_by(ds, there, by) if "parameter" in there.dims else there
    out = iterations / mean.where(mean > 0, np.nan)
    out = out.fillna(np.inf).where(xr.DataArray(iterations) > 0).rename(long_name.replace(" ", "_"))
    return out.assign_attrs(long_name=recorded(ds, long_name), units="1")


def _mean_by(ds: xr.Dataset, counts: xr.DataArray, by: str | None) -> xr.DataArray:
    if by is None:
        return counts.mean("parameter")
    require_tables(ds)
    ids, names = labels.group_ids(ds, by)
    members = np.unique(ids, return_counts=True)[1]
    return grouped(counts, "parameter", ids, names) / xr.DataArray(members, dims=names.dims)


@of_trajectories
def oscillation_detail(ds: xr.Dataset, parameter: int | str, lca: str = "lca") -> xr.Dataset:
    r"""Return one parameter's movement, gradient and LCA over the run (Fig. S8).

    .. math:: m[t] = θ_{t+1, i} - θ_{t, i}, \qquad C[t] = \sum_{s \le t} A[s, i]

    Parameters
    ----------
    ds
        Trajectory with ``theta`` (snapshot, parameter).
    parameter
        i: its index in the whole network, or its name: ``"fc1.weight[3, 17]"``.
    lca
        Name of the variable; ``"lca_val"`` for another objective.

    Returns
    -------
    Dataset
        ``theta`` (snapshot), ``movement`` m (iteration, float64), and of what the file has: ``gradient`` (snapshot),
        ``lca`` and ``cumulative_lca`` C (iteration), these three in the unit of the loss. The attribute ``parameter``
        is the name. Lazy.

    Raises
    ------
    TrajectoryError
        If ``theta`` was not recorded.
    ValueError
        For a parameter that the network or this selection of it does not have.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> found = oscillation_detail(tiny_trajectory(), "fc.weight[1, 2]")
    >>> found["movement"][:3].round(2).values
    array([0.95, 0.07, 0.19])
    """
    theta = require(ds, "theta")
    require_tables(ds)
    index = labels.parameter_index(ds, parameter) if isinstance(parameter, str) else int(parameter)
    name = labels.parameter_name(ds, index)
    held = ds["parameter"].values if "parameter" in ds.coords else np.arange(ds.sizes["parameter"])
    place = np.flatnonzero(held == index)
    if place.size == 0:
        raise ValueError(f"{name} (parameter {index}) is not in this selection of {held.size} parameters")
    one = {"parameter": int(place[0])}
    values = theta.isel(one, drop=True)
    moves = values.astype(np.float64).diff("snapshot").rename(snapshot="iteration")
    moves = moves.assign_coords(iteration=ds["iteration"]).assign_attrs(long_name="movement", units="1")
    out = xr.Dataset({"theta": values, "movement": moves})
    if "gradient" in ds:
        out["gradient"] = ds["gradient"].isel(one, drop=True)
    if lca in ds:
        out["lca"] = ds[lca].isel(one, drop=True)
        total = out["lca"].astype(np.float64).cumsum("iteration", skipna=False)
        out["cumulative_lca"] = total.assign_attrs(out["lca"].attrs | {"long_name": "cumulative LCA"})
    scalars = [c for c in out.coords if out[c].ndim == 0]
    return out.drop_vars(scalars).assign_attrs(parameter=name)


def _turns(ds: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray | int]:
    """Return the turns of each parameter, and of how many iterations (an own number for each, or one for all)."""
    if found := in_place_of(ds, "theta", "turn_count"):
        return _counted(found[0]), iterations_there(ds)
    return _count(require(ds, "theta"), movement_signs)


def _crossings(ds: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray | int]:
    if found := in_place_of(ds, "gradient", "crossing_count"):
        return _counted(found[0]), iterations_there(ds)
    counts, there = _count(require(ds, "gradient"), value_signs)
    return counts, (there - 1).clip(min=0)


def _counted(count: xr.DataArray) -> xr.DataArray:
    return count.transpose(..., "parameter").astype(np.int64)


def _count(array: xr.DataArray, summarize: _Summarize) -> tuple[xr.DataArray, xr.DataArray]:
    array = array.transpose(..., "snapshot", "parameter")
    data = fold(array.data, summarize, merge, columns, np.int64, width=2)
    coords = {key: c for key, c in array.coords.items() if "snapshot" not in c.dims}
    dims = [d for d in array.dims if d != "snapshot"]
    counts, there = (xr.DataArray(data[..., k, :], dims=dims, coords=coords) for k in range(2))
    return counts, there
