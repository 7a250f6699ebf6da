"""Steps to a target with the best settings for each batch size: the curve of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import unknown
from lcakit.landscapes.nqm.optimizer import Optimizer
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of
from lcakit.landscapes.nqm.search import Search, Setting
from lcakit.landscapes.nqm.spectrum import Spectrum
from lcakit.landscapes.nqm.steps import MAX_STEPS, check_target, first_passage
from lcakit.progress import progress
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["PRESETS", "compare_optimizers", "tuned_steps"]


def __dir__() -> list[str]:
    return __all__


_MOMENTUM_LIMIT = 0.999
_AVERAGING_LIMIT = 1 - 2.0**-20

PRESETS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"momentum": None},
    "preconditioning": {"preconditioning": 0.5},
    "averaging": {"averaging": None},
}
"""The optimizers that are compared, as options of :func:`tuned_steps`."""

_ATTRS = {
    "steps": ("steps to the target loss", "steps"),
    "examples": ("examples to the target loss", "examples"),
    "learning_rate": ("best learning rate", "1"),
    "effective_learning_rate": ("best effective learning rate α/(1−β)", "1"),
    "momentum": ("best momentum", "1"),
    "averaging": ("best decay of the average", "1"),
}


@checks_arguments
def tuned_steps(
    problem: NoisyQuadratic,
    batch_sizes: Any,
    target: float = 0.01,
    *,
    momentum: float | None = 0.0,
    averaging: float | None = 0.0,
    preconditioning: float = 0.0,
    momentum_limit: float = _MOMENTUM_LIMIT,
    averaging_limit: float = _AVERAGING_LIMIT,
    max_steps: int = MAX_STEPS,
    quiet: bool = False,
) -> xr.Dataset:
    r"""Return the steps to a target loss with the settings that need fewest, for each batch size.

    .. math:: S(B) = \min_{α[, β][, γ]} \min \{t : E\,L(t) \le \text{target}\}

    The settings come from a search on a grid that is refined around its best point (deterministic, smooth in the
    problem; about 1 % in α); the steps are then those of :func:`steps_to_target`, exactly. A larger batch never
    needs more steps.

    Parameters
    ----------
    batch_sizes
        One or several, in any order.
    target
        Loss, below the initial one.
    momentum, averaging
        β and γ; None to tune them too.
    preconditioning
        p.
    momentum_limit, averaging_limit
        The largest values that are tried.
    max_steps
        Where to give up.
    quiet
        No progress bar.

    Returns
    -------
    Dataset
        Over batch_size: ``steps`` (infinite where the target is out of reach), ``examples`` = batch size × steps,
        ``learning_rate``, ``effective_learning_rate``, ``momentum``, ``averaging`` (NaN there).

    Raises
    ------
    ValueError
        For a target that the start has reached already, or settings outside their ranges.

    Notes
    -----
    Zhang et al. (2019), section 3. Momentum beyond 0.999 would still save a sixth of the steps at small batches of the
    paper's problem, by accelerating the flattest directions.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import paper_problem
    >>> tuned_steps(paper_problem(100), [10, 1000, 100_000], quiet=True)["steps"].values.astype(int)
    array([3239,   94,   69])
    """
    sizes = batch_sizes_of(batch_sizes)
    if not check_target(target) < problem.initial_loss:
        raise ValueError(f"the target {target:g} must be below the initial loss, which is {problem.initial_loss:g}")
    betas = _span("momentum", momentum, momentum_limit)
    gammas = _span("averaging", averaging, averaging_limit)
    Optimizer(1.0, preconditioning=preconditioning)
    full = Spectrum.of(problem, preconditioning)
    ascending, order = np.unique(sizes, return_inverse=True)
    search = Search(full.merged(), betas, gammas, target, max_steps)
    rows: list[Setting] = []
    with progress(ascending.size, "tuning", unit="batch size", quiet=quiet) as bar:
        for size, setting in zip(ascending, search.run(ascending), strict=True):
            tried = [_exactly(search, full, preconditioning, s, size) for s in (setting, *rows[-1:])]
            rows.append(min(tried, key=_steps))
            bar.update()
    return _table([rows[n] for n in order], sizes, target)


def _steps(setting: Setting) -> float:
    return setting.steps


def _exactly(search: Search, full: Spectrum, preconditioning: float, setting: Setting, size: float) -> Setting:
    """Return a setting with its exact steps at a batch size, on the whole spectrum."""
    if np.isinf(setting.steps):
        return setting
    optimizer = Optimizer(setting.learning_rate, setting.momentum, preconditioning, setting.averaging)
    steps = first_passage(full, optimizer, np.array([size]), search.target, search.max_steps)
    return replace(setting, steps=float(steps[0]))


def _span(name: str, value: float | None, limit: float) -> tuple[float, float]:
    """Return the range of log(1 − β) or log(1 − γ) to search."""
    given = limit if value is None else value
    if not 0 <= given < 1:
        raise ValueError(f"{name} (or its limit) must be at least 0 and less than 1, got {given}")
    last = float(np.log1p(-given))
    return (0.0 if value is None else last), last


def _table(rows: list[Setting], sizes: np.ndarray, target: float) -> xr.Dataset:
    steps = np.array([row.steps for row in rows])
    settings = np.array([(row.learning_rate, row.momentum, row.averaging) for row in rows])
    rate, momentum, averaging = np.where(np.isinf(steps), np.nan, settings.T)
    columns = {
        "steps": steps,
        "examples": steps * sizes,
        "learning_rate": rate,
        "effective_learning_rate": rate / (1 - momentum),
        "momentum": momentum,
        "averaging": averaging,
    }
    coords = {"batch_size": xr.DataArray(sizes, dims="batch_size", attrs={"units": "examples"})}
    data = {
        name: ("batch_size", values, dict(zip(("long_name", "units"), _ATTRS[name], strict=True)))
        for name, values in columns.items()
    }
    return xr.Dataset(data, coords=coords, attrs={"target": target})


@checks_arguments
def compare_optimizers(
    problem: NoisyQuadratic,
    batch_sizes: Any,
    target: float = 0.01,
    optimizers: Mapping[str, Mapping[str, Any]] | list[str] | None = None,
    *,
    quiet: bool = False,
    **options: Any,
) -> xr.Dataset:
    """Return the tuned curves of several optimizers side by side.

    Parameters
    ----------
    batch_sizes, target
        As for :func:`tuned_steps`.
    optimizers
        Names of :data:`PRESETS`, all by default; or a name and the options of :func:`tuned_steps` for each.
    options
        Go to :func:`tuned_steps` for all of them.

    Returns
    -------
    Dataset
        The variables of :func:`tuned_steps` over (optimizer, batch_size).

    Raises
    ------
    ValueError
        For an unknown name.
    """
    chosen = list(PRESETS) if optimizers is None else optimizers
    for name in chosen:
        if not isinstance(chosen, Mapping) and name not in PRESETS:
            raise unknown("optimizer", name, PRESETS)
    given = chosen if isinstance(chosen, Mapping) else {name: PRESETS[name] for name in chosen}
    curves = [tuned_steps(problem, batch_sizes, target, quiet=quiet, **{**options, **how}) for how in given.values()]
    return xr.concat(curves, dim=xr.DataArray(list(given), dims="optimizer", name="optimizer"))
