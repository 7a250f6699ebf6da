"""Heavy tails: a few parameters in a few iterations carry much of the learning (Fig. 3b and S10 of the LCA paper).

Distributions are fitted to the counts of a histogram alone, so the data is read once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import optimize, special

from lcakit.analysis._summaries import describe, members
from lcakit.analysis.histograms import histogram, require_histogram, trim
from lcakit.analysis.kurtosis import excess_kurtosis
from lcakit.errors import TrajectoryError
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.require import WHERE_MISSING, require

__all__ = ["MODELS", "PARTS", "excess_kurtosis", "fit_tails", "histogram", "tail_share", "trim"]


def __dir__() -> list[str]:
    return __all__


PARTS = ["all", "helping", "hurting"]
"""What a distribution is fitted to: all LCA, or one sign of it."""

MODELS = ["weibull", "half_normal", "exponential"]
"""Distributions that :func:`fit_tails` fits."""

_Model = Callable[..., np.ndarray]


def fit_tails(histogram: xr.Dataset) -> xr.Dataset:
    r"""Fit distributions to the magnitudes in a histogram, zeros left out, by maximum likelihood.

    .. math:: \log L = \sum_b n_b \log\,(F(r_b) - F(l_b)), \qquad F(x) = 1 - e^{-(x / λ)^k}
              \quad \text{(weibull)}, \quad 1 - e^{-x / λ} \quad \text{(exponential)}, \quad
              \operatorname{erf}\frac{x}{λ\sqrt 2} \quad \text{(half\_normal)}

    For helping and hurting together these are the double Weibull, Laplace and Gaussian distributions of A, but for a
    factor 2 per value, the same for all. A Weibull shape k < 1, which the paper finds, is a tail heavier than
    exponential. The likelihood is that of the counts: wide bins lose a little precision and cause no bias.

    Parameters
    ----------
    histogram
        From :func:`histogram`.

    Returns
    -------
    Dataset
        Over (outcome, model[, by]), with outcomes ``helping, hurting, both``: ``shape`` k (1 for the exponential, NaN
        for the half-normal), ``scale`` λ (unit of the loss), ``log_likelihood`` and ``aic`` :math:`= 2 p - 2 \log L`
        for p parameters. Over (outcome[, by]): ``best``, the model of least AIC (``"none"`` without a fit), and ``n``,
        the number of values. NaN where fewer than three bins are filled or the search does not settle. LCA of
        neighbouring iterations and parameters is dependent, so differences of AIC overstate the evidence. Lazy.

    Raises
    ------
    ValueError
        For no histogram, or, when it is computed, if LCA has values that are not finite.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> fit_tails(histogram(tiny_trajectory(200)))["best"].sel(outcome="both").item()
    'weibull'
    """
    histogram = require_histogram(histogram)
    count = histogram["count"]
    count = xr.concat([count, count.sum("outcome").assign_coords(outcome="both")], dim="outcome")
    fits = xr.apply_ufunc(
        _fit_all,
        count,
        histogram["not_finite"],
        kwargs={"left": histogram["left"].values, "right": histogram["right"].values},
        input_core_dims=[["bin"], []],
        output_core_dims=[["model", "number"]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"model": len(MODELS), "number": 4}, "allow_rechunk": True},
    ).assign_coords(model=MODELS)
    order = [d for d in count.dims if d in fits.dims]
    place = order.index("outcome") + 1
    fits = fits.transpose(*order[:place], "model", *order[place:], "number")
    out = xr.Dataset({name: fits.isel(number=n) for n, name in enumerate(("shape", "scale", "log_likelihood", "aic"))})
    options: dict[str, Any] = {"dask": "parallelized", "output_dtypes": [np.dtype("<U11")]}
    best = xr.apply_ufunc(_best, out["aic"], input_core_dims=[["model"]], **options)
    out = out.assign(best=best, n=count.sum("bin"))
    out = describe(out, shape="shape k", log_likelihood="log-likelihood of the binned magnitudes", n="values")
    out = describe(out, aic="Akaike information criterion", best="model of least AIC")
    return describe(out, histogram["left"].attrs.get("units", "1"), scale="scale of the magnitudes")


def _best(aic: np.ndarray) -> np.ndarray:
    """Return the name of the model (last axis) of least AIC."""
    finite = np.where(np.isnan(aic), np.inf, aic)
    return np.where(np.isinf(finite).all(-1), "none", np.array(MODELS)[finite.argmin(-1)])


def _fit_all(counts: np.ndarray, not_finite: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Fit all models to the counts (bin) of one sample: (model, [shape, scale, log-likelihood, aic])."""
    if not_finite:
        raise TrajectoryError(
            f"LCA has {int(not_finite)} values that are NaN or infinite, so its distribution has no fit: "
            f"fit iterations that have all of it. {WHERE_MISSING}"
        )
    filled = counts > 0
    if filled.sum() < 3:
        return np.full((len(MODELS), 4), np.nan)
    n, left, right = counts[filled].astype(np.float64), left[filled], right[filled]
    middle = np.where(left > 0, np.sqrt(left * right), right / 2)
    weights = n / n.sum()
    mean = weights @ np.log(middle)
    k = np.pi / np.sqrt(6 * (weights @ (np.log(middle) - mean) ** 2))  # by the moments of log x
    models = (
        (_weibull, [mean + np.euler_gamma / k, np.log(k)]),
        (_half_normal, [np.log(weights @ middle**2) / 2]),
        (_weibull, [np.log(weights @ middle)]),
    )
    return np.array([_fit(model, start, left, right, n) for model, start in models])


def _fit(model: _Model, start: list[float], left: np.ndarray, right: np.ndarray, n: np.ndarray) -> list[float]:
    """Return shape, scale, log-likelihood and AIC of one model; its parameters are logarithms, the scale first."""
    total = float(n.sum())
    options = {"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000}
    found = optimize.minimize(
        lambda p: -(n / total) @ model(left, right, *p), start, method="Nelder-Mead", options=options
    )
    if not found.success:
        return [np.nan] * 4
    scale, *shape = (float(x) for x in np.exp(found.x))
    fixed = np.nan if model is _half_normal else 1.0
    return [shape[0] if shape else fixed, scale, -found.fun * total, 2 * (len(start) + found.fun * total)]


def _weibull(left: np.ndarray, right: np.ndarray, log_scale: float, log_shape: float = 0.0) -> np.ndarray:
    """Return log(e⁻ᵃ − e⁻ᵇ), a and b the powers (x/λ)ᵏ of the edges, where both terms may underflow."""
    with np.errstate(divide="ignore"):
        a, b = (np.exp(np.minimum(np.exp(log_shape) * (np.log(x) - log_scale), 600.0)) for x in (left, right))
    out: np.ndarray = -a + np.log(-np.expm1(-np.maximum(b - a, 1e-300)))
    return out


def _half_normal(left: np.ndarray, right: np.ndarray, log_scale: float) -> np.ndarray:
    """Return log(erf(b) − erf(a)): near zero as it stands, further out by the scaled complement."""
    a, b = (x / np.exp(log_scale) / np.sqrt(2) for x in (left, right))
    outside = np.maximum(special.erfcx(a), 1e-300)
    with np.errstate(divide="ignore"):
        near = np.log(special.erf(b) - special.erf(a))
        far = -a * a + np.log(outside) + np.log1p(-np.exp((a - b) * (a + b)) * special.erfcx(b) / outside)
    out: np.ndarray = np.where(a < 1, near, far)
    return out


# ---- moments --------------------------------------------------------------------------------------------------------


@of_trajectories
def tail_share(ds: xr.Dataset, sigmas: float = 3.0, lca: str = "lca") -> xr.DataArray:
    r"""Return which share of the helping and hurting of an iteration comes from its outliers.

    .. math:: s[t] = \frac{\sum_{i : |A[t, i]| > c\, σ[t]} |A[t, i]|}{\sum_i |A[t, i]|}, \qquad
              σ[t] = \text{standard deviation of } A[t, i] \text{ over } i

    and the same over helping and over hurting parameters alone, with the same σ.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter).
    sigmas
        c ≥ 0.
    lca
        Name of the variable; ``"lca_val"`` for another objective.

    Returns
    -------
    DataArray
        (iteration, part) with parts ``all, helping, hurting``, from 0 to 1; the coordinate ``gaussian`` is what a
        Gaussian would give, :math:`e^{-c^2 / 2}`. NaN where a part is empty or a value is not finite. Lazy; holds whole
        rows.

    Raises
    ------
    TrajectoryError
        If the file does not hold ``lca``.
    ValueError
        For a negative or infinite ``sigmas``.

    Notes
    -----
    Section 3 of the paper says that tails have three times the share of a Gaussian's: at ``sigmas=2`` the ratio to
    ``gaussian`` is about that, at 3 it is far larger.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> tail_share(tiny_trajectory(), 0.0).sel(part="all").values[:2]
    array([1., 1.])
    """
    if not 0 <= sigmas < np.inf:
        raise ValueError(f"sigmas must be a finite number, 0 or more, got {sigmas!r}")
    array = require(ds, lca)
    dim, _, _ = members(ds, array, by=None)
    out: xr.DataArray = xr.apply_ufunc(
        _tail_shares,
        array,
        kwargs={"sigmas": float(sigmas)},
        input_core_dims=[[dim]],
        output_core_dims=[["part"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"part": 3}, "allow_rechunk": True},
    )
    out = out.assign_coords(part=PARTS, gaussian=np.exp(-(sigmas**2) / 2))
    return out.rename("tail_share").assign_attrs(long_name=f"share of LCA beyond {sigmas:g} sigma", units="1")


def _tail_shares(block: np.ndarray, sigmas: float) -> np.ndarray:
    rows = block.reshape(-1, block.shape[-1])
    out = np.empty((len(rows), 3))
    for row, to in zip(rows, out, strict=True):
        x = row.astype(np.float64)  # float32 would lose the squares of small LCA
        with np.errstate(invalid="ignore"):
            away = x - x.mean()
            sigma = np.sqrt(np.einsum("i,i", away, away) / x.size)  # BLAS threads would get in Dask's way
            shares = _sums(x[np.abs(x) > sigmas * sigma]) / _sums(x)
        to[:] = shares if np.isfinite(sigma) else np.nan
    return out.reshape(*block.shape[:-1], 3)


def _sums(x: np.ndarray) -> np.ndarray:
    """Return the sums of all magnitudes, of those that help and of those that hurt."""
    helping, hurting = -np.minimum(x, 0).sum(), np.maximum(x, 0).sum()
    return np.array([helping + hurting, helping, hurting])
