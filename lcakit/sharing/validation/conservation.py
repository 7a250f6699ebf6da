"""Checks of conservation: allocations add up to the loss change, over classes and over units, and to 0 at rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import grouped, sum_by
from lcakit.analysis.kernels.groups import sum_runs_and_magnitudes
from lcakit.sharing.validation import class_columns
from lcakit.sharing.validation.checks import Check, Status, listed
from lcakit.trajectory.labels import is_whole
from lcakit.trajectory.require import require
from lcakit.trajectory.schema import split_name, with_suffix

__all__ = [
    "AGAIN",
    "FEW_ITERATIONS",
    "LOSS_ROUNDING",
    "LOW_ORDER",
    "MANTISSA_BITS",
    "PRODUCT_ROUNDING",
    "ROUNDING",
    "TOTAL_ERROR",
    "checks",
    "objectives",
    "rounded_to",
    "rounding_check",
    "sums",
]


def __dir__() -> list[str]:
    return __all__


TOTAL_ERROR = 0.01
"""The account of a run is closed if it misses the loss change by less than 1 %."""

FEW_ITERATIONS = 20
"""A run of so few may miss the loss change by the tolerance of each iteration; of a longer one, errors cancel out."""

ROUNDING = 2e-6
"""Float32 allocations, summed in float32 inside a block, may miss by this fraction of Σ|A|: measured 1e-7."""

PRODUCT_ROUNDING = 1e-5
"""Σ g Δθ, summed in float32 inside a tile, may miss by this fraction of |g||Δθ|: measured below 1e-6."""

LOSS_ROUNDING = 1e-6
"""Losses are sums of float32 losses of examples: the classes may miss the loss by this fraction."""

MANTISSA_BITS = 23  # of float32
LOW_ORDER = ("first_order", "trapezoid", "midpoint")
"""Rules whose allocations need not add up to the loss change: their error is what they are recorded for."""

AGAIN = "The numbers and the loss do not belong together: the file is damaged or was put together wrongly."


def objectives(ds: xr.Dataset) -> list[str]:
    """Return the suffixes of the objectives that a trajectory has variables of; "" is the first."""
    return list(dict.fromkeys(split_name(str(name))[1] for name in ds.data_vars))


def sums(ds: xr.Dataset, suffix: str) -> dict[str, Any]:
    """Return, lazy: short variables, Σ A and Σ|A| of each iteration, how far classes miss them."""
    names = {base: with_suffix(base, suffix) for base in ("lca", "unit_lca", "lca_unit_class", "lca_class")}
    short = {base: with_suffix(base, suffix) for base in ("loss", "residual", "first_order", "buffer_change")}
    lazy: dict[str, Any] = {base: ds[name] for base, name in short.items() if name in ds}
    loss_class = with_suffix("loss_class", suffix)
    if loss_class in ds and "class" in ds.dims:
        lazy["loss_class"] = ds[loss_class].sum("class", skipna=False)
    if is_whole(ds) or "parameter" not in ds.dims:
        lazy |= {base: total for base in ("lca", "lca_class") if (total := _sums(ds, names[base])) is not None}
        lazy |= _unit_sums(ds, names)
        lazy |= {f"columns {name}": sums for name, sums in _columns(ds, names, loss_class).items()}
    return lazy


def checks(ds: xr.Dataset, suffix: str, values: Mapping[str, Any], moves: Mapping[Any, Any]) -> Iterator[Check]:
    """Yield the checks of one objective.

    Parameters
    ----------
    values
        What :func:`sums` gave, computed.
    moves
        What :func:`lcakit.sharing.validation.path_pass.moves` gave, computed.
    """
    rounding = ROUNDING + rounded_to(ds)
    loss_class = with_suffix("loss_class", suffix)
    found = (
        _total(values, rounding, str(_attribute(ds, "rule", suffix)), _tolerance(ds, suffix)),
        _iterations(values, rounding),
        _residual(ds, suffix, values),
        *_classes(values, rounding),
        _loss_classes(values),
        class_columns.check(ds, loss_class, values),
        _first_order(ds, values, moves, suffix),
        _stuck(ds, moves.get(suffix, {}), suffix),
    )
    for check in found:
        if check is not None:
            name = f"{check.name} ({suffix})" if suffix else check.name
            yield replace(check, name=name)


def rounded_to(ds: xr.Dataset) -> float:
    """Return the relative error that the numbers of a rounded copy may have; 0 where nothing is rounded.

    Rounding to nearest with ``keepbits`` bits of mantissa is off by 2^−(keepbits+1) at most; a copy of a copy states up
    to twice that, as ``largest_relative_error``. More is not believed.
    """
    bits = ds.attrs.get("keepbits", MANTISSA_BITS)
    if not isinstance(bits, int | np.integer) or not 1 <= bits < MANTISSA_BITS:
        return 0.0
    once, stated = 2.0 ** -(int(bits) + 1), ds.attrs.get("largest_relative_error")
    return min(float(stated), 2 * once) if isinstance(stated, float | np.floating) and stated > once else once


def rounding_check(ds: xr.Dataset) -> Check | None:
    """Say how coarse a rounded copy is: with 5 bits or fewer, its sums say little."""
    error = rounded_to(ds)
    if not error:
        return None
    figure = f"{ds.attrs['keepbits']} bits of mantissa kept: each number to {100 * error:.2g} %"
    meaning = "This is a rounded copy, so its sums are compared as closely as its numbers are known."
    coarse = [figure] if error > TOTAL_ERROR else []
    return listed("rounding", "conservation", coarse, figure, meaning, "Ask for a finer copy.", worst="warn")


def _attribute(ds: xr.Dataset, name: str, suffix: str) -> Any:
    """Return an attribute of an objective: its own, or that of the file."""
    return ds.attrs.get(with_suffix(name, suffix), ds.attrs.get(name))


def _sums(ds: xr.Dataset, name: str) -> xr.DataArray | None:
    """Return Σ A and Σ|A| of each iteration (…, iteration, part), over parameters (and classes)."""
    if name not in ds or ("class" in name and "class" not in ds.dims):
        return None
    array = require(ds, name)
    ids, names = np.zeros(array.sizes["parameter"], int), xr.DataArray(["all"], dims="group")
    parts = ("part", ["sum", "magnitude"])
    out = grouped(array, "parameter", ids, names, sum_runs_and_magnitudes, parts).squeeze("group", drop=True)
    return out.sum("class", skipna=False) if "class" in out.dims else out


def _columns(ds: xr.Dataset, names: dict[str, str], loss_class: str) -> dict[str, xr.DataArray]:
    """Return LCA of each class (…, iteration, class), where the losses of the classes are there to compare with."""
    if loss_class not in ds or "class" not in ds[loss_class].dims:
        return {}
    held = [names[base] for base in ("lca_unit_class", "lca_class") if names[base] in ds]
    return {name: sum_by(ds, "class", name) for name in held if "class" in ds[name].dims}


def _unit_sums(ds: xr.Dataset, names: dict[str, str]) -> dict[str, xr.DataArray]:
    """Return Σ over units and classes of each iteration, and the largest miss of a single unit."""
    by_class = names["lca_unit_class"] in ds and "class" in ds.dims
    if not by_class and names["unit_lca"] not in ds:
        return {}
    held = ds[names["lca_unit_class" if by_class else "unit_lca"]].astype(np.float64)
    units = held.sum("class", skipna=False) if by_class else held
    magnitude = abs(held).sum(("unit", "class") if by_class else "unit", skipna=False)
    out = {"unit_total": units.sum("unit", skipna=False), "unit_magnitude": magnitude}
    if names["lca"] in ds and held.size:
        out["unit_miss"] = abs(units - sum_by(ds, "unit", names["lca"])).max("unit", skipna=False)
    return out


def _change(values: Mapping[str, Any]) -> np.ndarray | None:
    """Return the loss change of each iteration that parameters caused: without that of buffers."""
    if "loss" not in values:
        return None
    change: np.ndarray = np.diff(values["loss"].values)
    return change - values["buffer_change"].values if "buffer_change" in values else change


def _allocated(values: Mapping[str, Any], rounding: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Return Σ A of each iteration, and its rounding error, from the best source there is."""
    for base in ("lca", "lca_class"):
        if base in values:
            total = values[base]
            return total.sel(part="sum").values, rounding * total.sel(part="magnitude").values
    change = _change(values)
    if change is None or "residual" not in values:
        return None
    return change + values["residual"].values, np.zeros(change.shape)


def _tolerance(ds: xr.Dataset, suffix: str) -> float:
    """Return by how much an iteration may miss the change of the loss before it is refined; 0 where it never is."""
    stated = _attribute(ds, "tolerance", suffix)
    return float(stated) if isinstance(stated, float | int | np.number) and 0 < stated < np.inf else 0.0


def _total(values: Mapping[str, Any], rounding: float, rule: str, tolerance: float) -> Check | None:
    change, allocated = _change(values), _allocated(values, rounding)
    if change is None or allocated is None or change.size == 0:
        return None
    total, loss = allocated[0].sum(-1), change.sum(-1)
    error = np.abs(total - loss)
    bad = ~(error <= TOTAL_ERROR * np.abs(loss) + allocated[1].sum(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = float(np.max(100 * error / np.abs(loss)))
    figure = f"sum of LCA {_shown(total)}, loss change {_shown(loss)}: {percent:.3g} % apart"
    meaning = "Over the run the allocations must equal the change of the loss to 1 %."
    remedy = f"Record with rk4 and a smaller tolerance (tolerance={tolerance / 10 or 1e-4:.0e}) or more splits."
    worst: Status = "fail"
    few = min(change.shape[-1], FEW_ITERATIONS**2 / change.shape[-1])
    accepted = error <= tolerance * few + TOTAL_ERROR * np.abs(loss) + allocated[1].sum(-1)
    if bad.any() and accepted.all():
        worst = "warn"
        meaning += " The run is short, and each iteration may miss its change by the tolerance it was recorded with."
    if rule in LOW_ORDER:
        worst, figure = "warn", f"{figure}, by the rule {rule!r}"
        meaning = f"The rule {rule!r} does not close the account, so this says nothing against the file."
        remedy = "For allocations that add up, record or allocate with rk4."
    return listed("total", "conservation", [figure] if bad.any() else [], figure, meaning, remedy, worst=worst)


def _shown(values: np.ndarray) -> str:
    return ", ".join(f"{v:.6g}" for v in np.atleast_1d(values)[:3])


def _iterations(values: Mapping[str, Any], rounding: float) -> Check | None:
    change, allocated = _change(values), _allocated(values, rounding)
    if change is None or allocated is None or "residual" not in values or not {"lca", "lca_class"} & set(values):
        return None
    miss = np.abs(allocated[0] - values["residual"].values - change)
    allowed = allocated[1] + 1e-12 * np.abs(values["loss"].values[..., 1:])
    meaning = "In each iteration, the sum of LCA minus the residual is the loss change, up to rounding."
    return _missed("iterations", miss, allowed, meaning)


def _missed(name: str, miss: np.ndarray, allowed: np.ndarray, meaning: str) -> Check:
    """Make a check of a miss per iteration (or snapshot) against what rounding explains."""
    bad = ~(miss <= allowed)
    worst = f"largest miss {np.max(miss, initial=0.0):.3g}"
    problems = [f"{int(bad.sum())} of {miss.size} do not add up, {worst}"] if bad.any() else []
    return listed(name, "conservation", problems, worst, meaning, AGAIN)


def _residual(ds: xr.Dataset, suffix: str, values: Mapping[str, Any]) -> Check | None:
    tolerance = _attribute(ds, "tolerance", suffix)
    if "residual" not in values or not isinstance(tolerance, int | float | np.number) or tolerance <= 0:
        return None
    flagged = int((~(np.abs(values["residual"].values) <= tolerance)).sum())
    fine = f"all residuals within {tolerance:g}"
    problems = [f"{flagged} of {values['residual'].size} residuals above {tolerance:g}"] if flagged else []
    meaning = "Where the residual is above the tolerance, the finest quadrature was not enough."
    remedy = "Read these iterations with care, or record with more splits (max_splits)."
    return listed("residual", "conservation", problems, fine, meaning, remedy, worst="warn")


def _classes(values: Mapping[str, Any], rounding: float) -> Iterator[Check]:
    """Compare the sums over classes with the LCA they split."""
    reference = _allocated(values, rounding)
    if reference is None:
        return
    total, allowed = reference
    meaning = "LCA of units (by class), summed over all, is the LCA; so it is for each unit."
    if "unit_total" in values:
        miss = np.abs(values["unit_total"].values - total)
        miss = np.maximum(miss, values["unit_miss"].values) if "unit_miss" in values else miss
        yield _missed("unit classes", miss, allowed + rounding * values["unit_magnitude"].values, meaning)
    if "lca_class" in values and "lca" in values:
        miss = np.abs(values["lca_class"].sel(part="sum").values - total)
        magnitude = values["lca_class"].sel(part="magnitude").values
        meaning = "LCA by class, summed over classes, is the LCA."
        yield _missed("classes", miss, allowed + rounding * magnitude, meaning)


def _loss_classes(values: Mapping[str, Any]) -> Check | None:
    if "loss_class" not in values or "loss" not in values:
        return None
    loss = values["loss"].values
    miss = np.abs(values["loss_class"].values - loss)
    return _missed("loss of classes", miss, LOSS_ROUNDING * np.abs(loss), "The parts of the classes sum to the loss.")


def _first_order(ds: xr.Dataset, values: Mapping[str, Any], moves: Mapping[Any, Any], suffix: str) -> Check | None:
    """Compare Σ g Δθ, from the gradients and snapshots in the file, with what was stored while recording."""
    there = with_suffix("gradient", suffix) in ds and "theta" in ds and "first_order" in values and moves
    if not there or not is_whole(ds):
        return None
    own, distance = moves[suffix], np.sqrt(moves[None]["distance2"][..., :-1])
    miss = np.abs(own["first_order"][..., :-1] - values["first_order"].values)
    allowed = (PRODUCT_ROUNDING + rounded_to(ds)) * np.sqrt(own["norm2"][..., :-1]) * distance
    meaning = "Gradient times move, summed, is the first-order change that was stored: both rows are where they belong."
    return _missed("first order", miss, allowed, meaning)


def _stuck(ds: xr.Dataset, own: Mapping[str, Any], suffix: str) -> Check | None:
    if with_suffix("lca", suffix) not in ds or "theta" not in ds or not own:
        return None
    iterations = int((own["stuck"] > 0).sum())
    problems = [f"{int(own['stuck'].sum()):,} entries in {iterations} iterations"] if iterations else []
    meaning = "A parameter that does not move has an LCA of exactly zero."
    return listed("zero moves", "conservation", problems, "LCA is 0 wherever nothing moves", meaning, AGAIN)
