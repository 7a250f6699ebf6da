"""Train against validation: the same moves, allocated to the loss on the training set and on another one.

A trajectory holds the other objective as ``lca_val`` (``lk.allocate(path, objective, name="val")``).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import series as lca_series
from lcakit.analysis.aggregate import windowed
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.require import require
from lcakit.trajectory.schema import with_suffix

__all__ = ["STATES", "overfitting_map", "train_validation"]


def __dir__() -> list[str]:
    return __all__


STATES = ("helps_both", "helps_train_hurts_validation", "hurts_train_helps_validation", "hurts_both", "nothing")


@of_trajectories
def train_validation(ds: xr.Dataset, by: str | None = "kernel_layer", val: str = "val") -> xr.Dataset:
    r"""Return the LCA of each group over the run, on the training and on the validation objective.

    .. math:: S[g] = \sum_t \sum_{i \in g} A[t, i], \quad S_{val}[g] = \sum_t \sum_{i \in g} A_{val}[t, i], \quad
              \mathrm{gap} = S_{val} - S

    Parameters
    ----------
    ds
        Trajectory with ``lca`` and ``lca_val``.
    by
        A grouping of :func:`lcakit.aggregate.sum_by`, ``"parameter"``, or None for the whole network.
    val
        Suffix of the validation objective.

    Returns
    -------
    Dataset
        ``train``, ``validation``, ``gap``, each ([by]), in the unit of the loss. A positive gap: the group did less
        for the validation loss than for the training loss. Lazy.

    Raises
    ------
    TrajectoryError
        If the file does not hold both.
    ValueError
        For an empty suffix, or an unknown grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory()
    >>> ds = ds.assign(lca_val=ds["lca"] / 2)
    >>> float(train_validation(ds, by=None)["gap"] / train_validation(ds, by=None)["train"])
    -0.5
    """
    train, validation = (series.sum("iteration", keep_attrs=True, skipna=False) for series in _both(ds, by, val))
    gap = (validation - train).assign_attrs(train.attrs | {"long_name": "validation LCA minus training LCA"})
    return xr.Dataset({"train": train, "validation": validation, "gap": gap})


@of_trajectories
def overfitting_map(
    ds: xr.Dataset, by: str | None = "kernel_layer", window: int | None = None, val: str = "val"
) -> xr.Dataset:
    r"""Say where and when a group helps the training loss and hurts the validation loss.

    .. math:: \mathrm{state}[w, g] = 2\, [S_w[g] > 0] + [S_{val,w}[g] > 0], \qquad
              S_w[g] = \sum_{t \in w} \sum_{i \in g} A[t, i]

    A bracket is 1 where it is true and 0 where it is not; 4 stands where one of the two sums is 0, or NaN: there is
    no LCA, or it is not known.

    Parameters
    ----------
    ds, by, val
        As in :func:`train_validation`.
    window
        Iterations summed to one entry; by default a twentieth of the run.

    Returns
    -------
    Dataset
        ``train`` and ``validation`` (window[, by]): LCA summed over windows, in the unit of the loss; ``state``
        (window[, by]) int8 with CF ``flag_values`` and ``flag_meanings``: 0 helps both, 1 helps train and hurts
        validation (overfits), 2 hurts train and helps validation, 3 hurts both, 4 in none of these states. Lazy.

    Raises
    ------
    TrajectoryError
        If there is no iteration, or the file does not hold both.
    ValueError
        For a window that is longer than the run or not a whole number, an empty suffix, or an unknown grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory()
    >>> ds = ds.assign(lca_val=-ds["lca"])
    >>> overfitting_map(ds, window=4)["state"].values
    array([[1, 1],
           [1, 2],
           [2, 2]], dtype=int8)
    """
    both = _both(ds, by, val)
    size = max(1, ds.sizes["iteration"] // 20) if window is None else window
    train, validation = (windowed(series, size) for series in both)
    state = (train > 0) * 2 + (validation > 0)
    known = (abs(train) > 0) & (abs(validation) > 0)  # neither 0 nor NaN
    state = state.where(known, STATES.index("nothing")).astype(np.int8)
    attrs = {
        "long_name": "training against validation",
        "units": "1",
        "flag_values": np.arange(len(STATES), dtype=np.int8),
        "flag_meanings": " ".join(STATES),
    }
    return xr.Dataset({"train": train, "validation": validation, "state": state.assign_attrs(attrs)})


def _both(ds: xr.Dataset, by: str | None, val: str) -> tuple[xr.DataArray, xr.DataArray]:
    name = with_suffix("lca", val)
    if not val:
        raise ValueError("val is the suffix of the validation objective, such as 'val' for lca_val; got an empty one")
    require(ds, "lca")
    require(ds, name)
    first, second = lca_series(ds, by, "lca"), lca_series(ds, by, name)
    return first, second.rename(first.name)
