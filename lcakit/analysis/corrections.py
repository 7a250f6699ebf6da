"""Corrections of p-values for several comparisons."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from lcakit.errors import unknown
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["CORRECTIONS", "corrected", "with_correction"]


def __dir__() -> list[str]:
    return __all__


CORRECTIONS = ("holm", "bh", "none")


@checks_arguments
def corrected(p: xr.DataArray, over: str, correction: str = "holm") -> xr.DataArray:
    r"""Return p-values corrected for the many tests along a dimension.

    Of m p-values, ordered :math:`p_1 \le \dots \le p_m`:

    .. math:: \tilde p_k = \min\!\left(1, \max_{j \le k} (m - j + 1)\, p_j\right) \quad \text{(holm)}, \qquad
              \tilde p_k = \min\!\left(1, \min_{j \ge k} \frac mj\, p_j\right) \quad \text{(bh)}

    Parameters
    ----------
    p
        Probabilities.
    over
        Name of the dimension.
    correction
        ``"holm"`` (family-wise error), ``"bh"`` (Benjamini-Hochberg, false discovery rate) or ``"none"``. NaN stay NaN
        and do not count as tests.

    Returns
    -------
    DataArray
        With the dimensions of ``p``, from 0 to 1. Lazy.

    Raises
    ------
    ValueError
        For an unknown correction.

    Examples
    --------
    >>> corrected(xr.DataArray([0.01, 0.04, 0.03], dims="layer"), "layer").values
    array([0.03, 0.06, 0.06])
    """
    if correction not in CORRECTIONS:
        raise unknown("correction", correction, CORRECTIONS)
    if over not in p.dims:
        raise unknown("dimension of the tests", over, p.dims)
    if correction == "none":
        return p
    out: xr.DataArray = xr.apply_ufunc(
        _correct,
        p,
        kwargs={"how": correction},
        input_core_dims=[[over]],
        output_core_dims=[[over]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    return out.transpose(*p.dims)


def _correct(p: np.ndarray, how: str) -> np.ndarray:
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    if how == "bh":
        out[known] = stats.false_discovery_control(p[known]) if known.size else []
        return out
    order = known[np.argsort(p[known])]
    factors = np.arange(order.size, 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return out


def with_correction(out: xr.Dataset, correction: str, over: str | None) -> xr.Dataset:
    """Return the results of tests with ``p_corrected`` beside ``p``, over the dimension of the many tests."""
    if correction != "none" and over is None:
        raise ValueError(f"correction={correction!r} needs over=…, the dimension along which there are many tests")
    fixed = out["p"] if over is None else corrected(out["p"], over, correction)
    return out.assign(p_corrected=fixed.assign_attrs(long_name=f"p-value ({correction})", units="1"))
