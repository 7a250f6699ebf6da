"""Several runs of one network as one dataset with a leading ``run`` dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.labels import tensor_shapes
from lcakit.trajectory.schema import STATISTICS, split_name

__all__ = ["ALIGNMENTS", "join"]


def __dir__() -> list[str]:
    return __all__


ALIGNMENTS = ("exact", "shortest")


@checks_arguments
def join(runs: Mapping[str, xr.Dataset], align: str = "exact") -> xr.Dataset:
    r"""Join opened trajectories by name. Lazy where they are.

    .. math:: x[r, \dots] = x_r[\dots], \qquad t \in \bigcap_r \{t_r\}

    An iteration is a move from one snapshot to the next. Iterations of two runs are the same only if they begin *and
    end* at the same steps: of a run recorded with ``every=10`` an iteration is ten of one recorded at every step.

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
        If the runs have other parameters, iterations or loss units, or their iterations are of other numbers of steps;
        the message names the first that differs.
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
        _refuse_other_moves(name, ds, head, first)
        if align == "exact" and not all(_same_labels(ds, first, dim) for dim in ("iteration", "snapshot")):
            ours, theirs = (one.sizes.get("iteration", 0) for one in (ds, first))
            raise TrajectoryError(
                f"{name} has {ours} iterations, {head} has {theirs}, or at other steps. "
                'Pass align="shortest" to keep those that all runs have.'
            )
    runs = _with_the_same_end(runs)
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


def _moves(ds: xr.Dataset) -> dict[int, int]:
    """Return at which step each iteration ends, by the step where it begins; {} for a dataset without both labels."""
    steps = ds["snapshot"].values if "snapshot" in ds.coords else np.zeros(0, int)
    begins = ds["iteration"].values if "iteration" in ds.coords else steps[:-1]
    if begins.size != steps.size - 1:
        return {}
    return dict(zip(begins.tolist(), steps[1:].tolist(), strict=True))


def _refuse_other_moves(name: str, ds: xr.Dataset, head: str, first: xr.Dataset) -> None:
    """Refuse runs whose iterations begin at common steps and end at others; only their last may be cut short."""
    ours, theirs = _moves(ds), _moves(first)
    common = sorted(ours.keys() & theirs.keys())
    apart = [t for t in common if ours[t] != theirs[t]]
    if not apart or (apart == common[-1:] and len(common) > 1):
        return
    t = apart[0]
    raise TrajectoryError(
        f"iteration {t} is {ours[t] - t} steps of {name} and {theirs[t] - t} of {head}, so their LCA cannot be "
        "compared by iteration. Record them with the same every=…; or sum the finer one over windows of as many steps "
        "(lk.aggregate.window_lca), and compare these."
    )


def _with_the_same_end(runs: Mapping[str, xr.Dataset]) -> Mapping[str, xr.Dataset]:
    """Leave out the last common iteration if it ends at other steps: every=10 of a run of 25 steps ends with 5."""
    found = [_moves(ds) for ds in runs.values()]
    common = sorted(set.intersection(*(set(moves) for moves in found)))
    if not common and any(found):
        spans = "; ".join(
            f"{name}: {min(m, default=0)} to {max(m, default=0)}" for name, m in zip(runs, found, strict=True)
        )
        raise TrajectoryError(f"the runs have no iteration in common ({spans}): select the same of all, or none")
    if not common or len({moves[common[-1]] for moves in found}) == 1:
        return runs
    last = common[-1]
    return {
        name: ds.isel(
            iteration=np.flatnonzero(ds["iteration"].values < last),
            snapshot=np.flatnonzero(ds["snapshot"].values <= last),
        )
        for name, ds in runs.items()
    }


def _same_labels(a: xr.Dataset, b: xr.Dataset, dim: str) -> bool:
    ours, theirs = (ds[dim].values if dim in ds.coords else np.zeros(0) for ds in (a, b))
    return np.array_equal(ours, theirs)
