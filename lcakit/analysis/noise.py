"""Learning is noisy: how many parameters help, how many hurt (section 3.1 of the LCA paper)."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit import labels
from lcakit.analysis._check import require
from lcakit.analysis._groups import count_signs
from lcakit.analysis.aggregate import grouped

OUTCOMES = ["helping", "hurting", "zero"]


def _counts(ds: xr.Dataset, lca: str, by: str | None) -> xr.DataArray:
    """Return the number of parameters by outcome (…, iteration, outcome, group)."""
    array = require(ds, lca)
    labels.parameter_coord(ds, "tensor_index")
    if by is None:
        ids, names = np.zeros(array.sizes["parameter"], int), xr.DataArray(["all"], dims="group")
    else:
        ids, names = labels.group_ids(ds, by)
    return grouped(array, "parameter", ids, names, count_signs, ("outcome", OUTCOMES))


def help_hurt_zero(ds: xr.Dataset, lca: str = "lca") -> xr.DataArray:
    r"""Return the fractions of parameters that help, hurt and do neither, in each iteration.

    .. math:: f_{help}[t] = \frac1K \#\{i : A[t, i] < 0\}, \quad f_{hurt}[t] = \frac1K \#\{i : A[t, i] > 0\}

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter).
    lca
        Name of the variable; ``"lca_val"`` asks for another objective.

    Returns
    -------
    DataArray
        (iteration, outcome) with outcomes ``helping, hurting, zero``; they sum to 1. Lazy.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> help_hurt_zero(tiny_trajectory()).sum("outcome").values[:2]
    array([1., 1.])
    """
    counts = _counts(ds, lca, by=None).squeeze("group")
    out = counts / ds.sizes["parameter"]
    return out.rename("fraction").assign_attrs(long_name="fraction of parameters", units="1")


def fraction_helping(ds: xr.Dataset, by: str | None = None, lca: str = "lca") -> xr.DataArray:
    r"""Return the fraction of moving parameters that help, averaged over iterations.

    .. math:: \frac1T \sum_t \frac{\#\{i : A[t, i] < 0\}}{\#\{i : A[t, i] \ne 0\}}

    Zeros are ignored; an iteration in which every LCA is zero does not count.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter).
    by
        None for the whole network, or a grouping of :func:`lcakit.analysis.aggregate.sum_by`.
    lca
        Name of the variable.

    Returns
    -------
    DataArray
        Without dimensions, or (by); with a leading ``run`` where ``ds`` has one. Lazy. NaN where nothing ever
        moves.

    Notes
    -----
    Table 1 of the paper: 50.3 to 57.8 %.
    """
    counts = _counts(ds, lca, by)
    helping, hurting = counts.sel(outcome="helping", drop=True), counts.sel(outcome="hurting", drop=True)
    moving = helping + hurting
    out = (helping / moving.where(moving > 0)).mean("iteration")
    out = out.squeeze("group") if by is None else out
    return out.rename("fraction_helping").assign_attrs(long_name="fraction helping (zeros ignored)", units="1")
