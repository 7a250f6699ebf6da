"""Learning is noisy: how many parameters help, how many hurt (section 3 of the LCA paper)."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import xarray as xr

from lcakit.analysis.kernels.fold import fold
from lcakit.analysis.kernels.layer_counts import outcomes_by_layer
from lcakit.analysis.outcomes import OUTCOMES, count_outcomes, outcome_counts, share_helping
from lcakit.analysis.windows import WINDOWS as WINDOWS
from lcakit.analysis.windows import helping_by_window
from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.class_kind import class_kind
from lcakit.trajectory.require import in_place_of, iterations_there, recorded, require, require_units_by_class
from lcakit.trajectory.schema import split_name, with_suffix

__all__ = [
    "fraction_helping",
    "help_hurt_zero",
    "helped_histogram",
    "helping_by_window",
    "iterations_helped",
    "signs_per_class",
]


def __dir__() -> list[str]:
    return __all__


_ZEROS = ("counted", "ignored")


@of_trajectories
def help_hurt_zero(ds: xr.Dataset, lca: str = "lca", by: str | None = None) -> xr.DataArray:
    r"""Return the fractions of parameters that help, hurt and do neither, in each iteration.

    .. math:: f_{help}[t] = \frac1K \#\{i : A[t, i] < 0\}, \quad f_{hurt}[t] = \frac1K \#\{i : A[t, i] > 0\}

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter), or with counts by layer in its place.
    lca
        Name of the variable; ``"lca_val"`` asks for another objective, ``"lca_class"`` counts each class for itself.
    by
        None for the whole network, or a grouping of :func:`lcakit.aggregate.sum_by`.

    Returns
    -------
    DataArray
        (iteration, outcome[, by]) with outcomes ``helping, hurting, zero``; they sum to 1. Lazy.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``lca`` nor counts that know this grouping.
    ValueError
        For an unknown grouping or variable.

    Notes
    -----
    Section 3 of the paper; helping over helping and hurting is Fig. 3c.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> help_hurt_zero(tiny_trajectory()).sum("outcome").values[:2]
    array([1., 1.])
    """
    counts = outcomes_by_layer(ds, lca, by, OUTCOMES)
    counts = outcome_counts(ds, require(ds, lca), by) if counts is None else counts
    out = counts / counts.sum("outcome")
    return out.rename("fraction").assign_attrs(long_name="fraction of parameters", units="1")


@of_trajectories
def fraction_helping(ds: xr.Dataset, by: str | None = None, lca: str = "lca") -> xr.DataArray:
    r"""Return the fraction of moving parameters that help, averaged over iterations.

    .. math:: \frac1T \sum_t \frac{\#\{i : A[t, i] < 0\}}{\#\{i : A[t, i] \ne 0\}}

    Zeros are ignored; an iteration in which every LCA is zero does not count.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter), or with counts by layer in its place.
    by
        None for the whole network; a grouping of :func:`lcakit.aggregate.sum_by`; or ``"class"``: LCA of each class,
        from ``lca_class`` (parameters), or ``lca="lca_unit_class"`` (sums over units, which cancel inside a unit).
    lca
        Name of the variable.

    Returns
    -------
    DataArray
        Without dimensions, or (by), from 0 to 1; with a leading ``run`` where ``ds`` has one (its mean and standard
        deviation: :func:`lcakit.runs.summary`). Lazy. NaN where nothing ever moves.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``lca`` nor counts that know this grouping, or the variable has no classes to split.
    ValueError
        For an unknown grouping or variable.

    Notes
    -----
    Table 1 of the paper: 50.3 to 57.8 %.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> fraction_helping(tiny_trajectory(), "layer").round(2).values
    array([0.53, 0.62, 0.56])
    """
    if by == "class" and split_name(lca)[0] == "lca":
        lca = with_suffix("lca_class", split_name(lca)[1])
    counts = outcomes_by_layer(ds, lca, by, OUTCOMES)
    if counts is None:
        array = require(ds, lca)
        if by == "class" and "class" not in array.dims:
            raise TrajectoryError(
                f"{lca!r} has dimensions {array.dims}, so no classes; lca_class and lca_unit_class have"
            )
        counts = outcome_counts(ds, array, by)
    out = share_helping(counts).mean("iteration")
    return out.rename("fraction_helping").assign_attrs(long_name="fraction helping (zeros ignored)", units="1")


@of_trajectories
def iterations_helped(ds: xr.Dataset, lca: str = "lca") -> xr.DataArray:
    r"""Count the iterations in which each parameter helps, hurts and does neither.

    .. math:: n_{help}[i] = \#\{t : A[t, i] < 0\}, \quad n_{hurt}[i] = \#\{t : A[t, i] > 0\}

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter), or with the running counts in its place.
    lca
        Name of the variable; ``"lca_val"`` for another objective.

    Returns
    -------
    DataArray
        (outcome, parameter) with outcomes ``helping, hurting, zero``: numbers of recorded iterations, int64; over
        outcomes they sum to T. Lazy. From the running counts of the recording where these stand in place of ``lca``.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``lca`` nor the counts.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> iterations_helped(tiny_trajectory()).isel(parameter=[0, 1]).values
    array([[7, 8],
           [5, 4],
           [0, 0]])
    """
    attrs = {"long_name": recorded(ds, "iterations by outcome"), "units": "1"}
    if found := in_place_of(ds, lca, "helped_count", "hurt_count"):
        helped, hurt = (counts.astype(np.int64) for counts in found)
        parts = [helped, hurt, iterations_there(ds) - helped - hurt]
        out = xr.concat(parts, dim=xr.DataArray(OUTCOMES, dims="outcome", name="outcome"))
        return out.transpose(..., "outcome", "parameter").rename("iterations").assign_attrs(attrs)
    array = require(ds, lca).transpose(..., "iteration", "parameter")
    counts = fold(array.data, count_outcomes, np.add, lambda n: n, np.int64, width=len(OUTCOMES))
    dims = [*array.dims[:-2], "outcome", "parameter"]
    coords: dict[Hashable, object] = {name: c for name, c in array.coords.items() if "iteration" not in c.dims}
    return xr.DataArray(counts, dims=dims, coords=coords | {"outcome": OUTCOMES}, name="iterations", attrs=attrs)


@of_trajectories
def helped_histogram(ds: xr.Dataset, bins: int = 50, lca: str = "lca", zeros: str = "counted") -> xr.DataArray:
    r"""Return the histogram over parameters of the share of recorded iterations helped (Fig. 3d).

    .. math:: n_{help}[i] \,/\, T \quad\text{(counted)}, \qquad n_{help}[i] \,/\, (n_{help}[i] + n_{hurt}[i]) \quad
              \text{(ignored)}

    The paper divides by all T iterations, so that weights that never move, such as those of pixels that are always
    black, are a spike at 0. Among those that move, which help more often than they hurt is seen without the zeros.

    Parameters
    ----------
    ds, lca
        See :func:`iterations_helped`.
    bins
        Number of equal bins from 0 to 1.
    zeros
        ``"counted"``: of all iterations, every parameter; ``"ignored"``: of the iterations in which the parameter's
        LCA is not zero, parameters without any left out.

    Returns
    -------
    DataArray
        (bin), int64 numbers of parameters; ``left`` and ``right`` on ``bin``. The last bin holds its right end.
        With zeros counted they sum to the number of parameters. Lazy.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``lca`` nor the counts of iterations.
    ValueError
        For fewer than one bin, or another way with zeros.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> helped_histogram(tiny_trajectory(), bins=4).values
    array([12, 11, 36,  2])
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if zeros not in _ZEROS:
        raise unknown("treatment of zeros", zeros, _ZEROS)
    counts = iterations_helped(ds, lca)
    helping = counts.sel(outcome="helping", drop=True)
    of = counts.sum("outcome") if zeros == "counted" else counts.drop_sel(outcome="zero").sum("outcome")
    edges = np.linspace(0, 1, bins + 1)
    out: xr.DataArray = xr.apply_ufunc(
        _histogram_of_shares,
        helping,
        of,
        kwargs={"edges": edges},
        input_core_dims=[["parameter"]] * 2,
        output_core_dims=[["bin"]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.int64],
        dask_gufunc_kwargs={"output_sizes": {"bin": bins}, "allow_rechunk": True},
    )
    out = out.assign_coords(left=("bin", edges[:-1]), right=("bin", edges[1:]))
    return out.rename("parameters").assign_attrs(long_name="parameters by share of iterations helped", units="1")


def _histogram_of_shares(helping: np.ndarray, of: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(helping[of > 0] / of[of > 0], edges)
    return counts


@of_trajectories
def signs_per_class(ds: xr.Dataset, of: str = "unit", lca: str = "lca") -> xr.DataArray:
    r"""Return in how many classes a parameter or unit helps at once, as fractions of those that act.

    .. math:: f[t, n] = \#\{u : \#\{c : A_c[t, u] < 0\} = n\} \,/\, \#\{u : \exists c, A_c[t, u] \ne 0\}

    A peak in the middle says that most move some classes down and others up: helping is a trade.

    Parameters
    ----------
    ds
        Trajectory with ``lca_unit_class`` (iteration, unit, class) or ``lca_class`` (iteration, class, parameter).
    of
        ``"unit"`` (from ``lca_unit_class``) or ``"parameter"`` (from ``lca_class``).
    lca
        ``"lca"``, or with a suffix (``"lca_val"``) for another objective.

    Returns
    -------
    DataArray
        (iteration, classes_helped) with classes_helped 0 … C; sums to 1, NaN where nothing acts. Lazy.

    Raises
    ------
    TrajectoryError
        If the trajectory was recorded without these classes.
    ValueError
        For anything else than units and parameters.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> signs_per_class(tiny_trajectory())[0].round(2).values  # at first most units help all three classes
    array([0. , 0. , 0.2, 0.8])
    """
    if of not in ("unit", "parameter"):
        raise unknown("kind of member whose signs are counted", of, ("unit", "parameter"))
    name = with_suffix("lca_unit_class" if of == "unit" else "lca_class", split_name(lca)[1])
    if of == "unit":
        require_units_by_class(ds)
    array = require(ds, name)
    if "class" not in array.dims:
        raise TrajectoryError(f"{name!r} has dimensions {array.dims}, so no classes to count; select several, or none")
    helped = (array < 0).sum("class")
    acts = (array != 0).any("class") & array.notnull().all("class")
    n = array.sizes["class"]
    shares = [((helped == m) & acts).sum(of) for m in range(n + 1)]
    out = xr.concat(shares, dim=xr.DataArray(np.arange(n + 1), dims="classes_helped", name="classes_helped"))
    total = acts.sum(of)
    out = (out / total.where(total > 0)).transpose(..., "iteration", "classes_helped")
    return out.rename("fraction").assign_attrs(
        long_name=f"fraction of {of}s by {class_kind(ds, many=True)} helped", units="1"
    )
