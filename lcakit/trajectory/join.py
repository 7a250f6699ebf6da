"""Several runs of one network as one dataset with a leading ``run`` dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.trajectory.labels import tensor_shapes
from lcakit.trajectory.schema import STATISTICS, split_name

__all__ = ["ALIGNMENTS", "join"]


def __dir__() -> list[str]:
    return __all__


ALIGNMENTS = ("exact", "shortest")


def join(runs: Mapping[str, xr.Dataset], align: str = "exact") -> xr.Dataset:
    r"""Join opened trajectories by name. Lazy where they are.

    .. math:: x[r, \dots] = x_r[\dots], \qquad t \in \bigcap_r \{t_r\}

    Parameters
    ----------
    runs
        Name to trajectory; the names become the ``run`` coordinate.
    align
        ``"exact"``: the runs must have the same iterations. ``"shortest"``: keep the iterations that all have.

    Returns
    -------
    Dataset
        The variables that every run has, each with a leading ``run``; attributes that differ are dropped.

    Raises
    ------
    TrajectoryError
        If the runs have other parameters, iterations or loss units; the message names the first that differs.
    ValueError
        For another alignment.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> runs = join({"short": tiny_trajectory(8), "long": tiny_trajectory(12)}, align="shortest")
    >>> runs["loss"].dims, runs.sizes["iteration"]
    (('run', 'snapshot'), 8)
    """
    if align not in ALIGNMENTS:
        raise ValueError(f'align must be "exact" or "shortest", got {align!r}')
    if not runs:
        raise TrajectoryError("no runs to join: the list is empty")
    (head, first), *others = runs.items()
    for name, ds in others:
        _refuse_other_network(name, ds, head, first)
        if align == "exact" and not all(_same_labels(ds, first, dim) for dim in ("iteration", "snapshot")):
            ours, theirs = (one.sizes.get("iteration", 0) for one in (ds, first))
            raise TrajectoryError(
                f"{name} has {ours} iterations, {head} has {theirs}, or at other steps. "
                'Pass align="shortest" to keep those that all runs have.'
            )
    how: Any = "inner" if align == "shortest" else "exact"
    if not all(_same_labels(ds, first, "iteration") for ds in runs.values()):
        # running statistics are of whole recordings
        runs = {
            name: ds.drop_vars([n for n in ds.data_vars if split_name(str(n))[0] in STATISTICS])
            for name, ds in runs.items()
        }
    shared = [name for name in first.data_vars if all(name in ds for ds in runs.values())]
    return xr.concat(
        [ds.drop_vars([n for n in ds.data_vars if n not in shared]) for ds in runs.values()],  # ds[shared] drops tables
        dim=xr.DataArray(list(runs), dims="run", name="run"),
        join=how,
        data_vars="all",
        coords="minimal",
        compat="override",
        combine_attrs="drop_conflicts",
    )


def _refuse_other_network(name: str, ds: xr.Dataset, head: str, first: xr.Dataset) -> None:
    if tensor_shapes(ds) != tensor_shapes(first):
        raise TrajectoryError(f"{name} has other parameters than {head}; open runs of one network together")
    for dim, of in (("class", "classes"), ("unit", "units")):
        if not _same_labels(ds, first, dim):
            raise TrajectoryError(f"{name} has other {of} than {head}; select the same of all runs, or none")
    ours, theirs = ds.attrs.get("loss_unit"), first.attrs.get("loss_unit")
    if ours != theirs:
        raise TrajectoryError(f"{name} measures its loss in {ours}, {head} in {theirs}; their LCA cannot be compared")


def _same_labels(a: xr.Dataset, b: xr.Dataset, dim: str) -> bool:
    ours, theirs = (ds[dim].values if dim in ds.coords else np.zeros(0) for ds in (a, b))
    return np.array_equal(ours, theirs)
