"""Checks of the numbers: finite losses, steps in order, allocations that add up to the loss change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
import xarray as xr

from lcakit.analysis._check import require
from lcakit.analysis._groups import sum_runs_and_magnitudes
from lcakit.analysis.aggregate import grouped, sum_by
from lcakit.schema import split_name, with_suffix
from lcakit.validation.checks import Check, listed
from lcakit.validation.structure import is_whole

TOTAL_ERROR = 0.01
"""The account of a run is closed if it misses the loss change by less than 1 % (section 1 of the design)."""

ROUNDING = 2e-6
"""Float32 allocations, summed in float32 inside a block, may miss by this fraction of Σ|A|: measured 1e-7."""

LOSS_ROUNDING = 1e-6
"""Losses are sums of float32 losses of examples: the classes may miss the loss by this fraction."""

AGAIN = "The numbers and the loss do not belong together: the file is damaged or was put together wrongly."


def checks(ds: xr.Dataset) -> Iterator[Check]:
    """Yield the checks of content and conservation, the latter for every objective in the file."""
    yield _finite(ds)
    yield _steps(ds)
    for suffix in dict.fromkeys(split_name(str(name))[1] for name in ds.data_vars):
        yield from _objective_checks(ds, suffix)


def _finite(ds: xr.Dataset) -> Check:
    names = [str(n) for n in ds.data_vars if split_name(str(n))[0] in ("loss", "loss_class", "residual")]
    problems = [f"{n} is not finite {bad} times" for n in names if (bad := int((~np.isfinite(ds[n])).sum()))]
    fine = f"{', '.join(names) or 'nothing to check'}: all finite"
    remedy = "The training diverged: cut it before that, with ds.lk.sel(iteration=slice(None, last))."
    return listed("finite loss", "content", problems, fine, "NaN or infinity spoils every sum it enters.", remedy)


def _steps(ds: xr.Dataset) -> Check:
    names = [n for n in ("snapshot", "iteration") if n in ds.coords]
    problems = [f"{n} does not increase everywhere" for n in names if (np.diff(ds[n].values) <= 0).any()]
    meaning = "Optimizer steps go forward; otherwise moves would join snapshots that are no neighbours."
    return listed("steps", "content", problems, "strictly increasing", meaning, "Sort or record the run again.")


def _objective_checks(ds: xr.Dataset, suffix: str) -> Iterator[Check]:
    values = _compute(ds, suffix)
    found = (
        _total(values),
        _iterations(values),
        _tolerance(ds, values),
        *_classes(values),
        _loss_classes(values),
    )
    for check in found:
        if check is not None:
            name = f"{check.name} ({suffix})" if suffix else check.name
            yield Check(name, check.group, check.status, check.figure, check.meaning, check.remedy)


def _compute(ds: xr.Dataset, suffix: str) -> dict[str, Any]:
    """Return, from one pass: short variables, Σ A and Σ|A| of each iteration, how far classes miss them."""
    names = {base: with_suffix(base, suffix) for base in ("loss", "residual", "lca", "lca_unit_class", "lca_class")}
    lazy: dict[str, Any] = {base: ds[names[base]] for base in ("loss", "residual") if names[base] in ds}
    loss_class = with_suffix("loss_class", suffix)
    if loss_class in ds and "class" in ds.dims:
        lazy["loss_class"] = ds[loss_class].sum("class")
    if is_whole(ds) or "parameter" not in ds.dims:
        lazy |= {base: total for base in ("lca", "lca_class") if (total := _sums(ds, names[base])) is not None}
        lazy |= _unit_sums(ds, names)
    (values,) = dask.compute(lazy)
    return values


def _sums(ds: xr.Dataset, name: str) -> xr.DataArray | None:
    """Return Σ A and Σ|A| of each iteration (…, iteration, part), over parameters (and classes)."""
    if name not in ds or ("class" in name and "class" not in ds.dims):
        return None
    array = require(ds, name)
    ids, names = np.zeros(array.sizes["parameter"], int), xr.DataArray(["all"], dims="group")
    parts = ("part", ["sum", "magnitude"])
    out = grouped(array, "parameter", ids, names, sum_runs_and_magnitudes, parts).squeeze("group", drop=True)
    return out.sum("class") if "class" in out.dims else out


def _unit_sums(ds: xr.Dataset, names: dict[str, str]) -> dict[str, xr.DataArray]:
    """Return Σ over units and classes of each iteration, and the largest miss of a single unit."""
    if names["lca_unit_class"] not in ds or "class" not in ds.dims:
        return {}
    units = ds[names["lca_unit_class"]].astype(np.float64).sum("class")
    out = {"unit_total": units.sum("unit"), "unit_magnitude": abs(ds[names["lca_unit_class"]]).sum(("unit", "class"))}
    if names["lca"] in ds:
        held = sum_by(ds, "unit", names["lca"])
        out["unit_miss"] = abs(units - held).max("unit")
    return out


def _change(values: dict[str, Any]) -> np.ndarray | None:
    return np.diff(values["loss"].values) if "loss" in values else None


def _allocated(values: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return Σ A of each iteration, and its rounding error, from the best source there is."""
    for base in ("lca", "lca_class"):
        if base in values:
            total = values[base]
            return total.sel(part="sum").values, ROUNDING * total.sel(part="magnitude").values
    change = _change(values)
    if change is None or "residual" not in values:
        return None
    return change + values["residual"].values, np.zeros(change.shape)


def _total(values: dict[str, Any]) -> Check | None:
    change, allocated = _change(values), _allocated(values)
    if change is None or allocated is None or change.size == 0:
        return None
    total, loss = allocated[0].sum(-1), change.sum(-1)
    error = np.abs(total - loss)
    bad = ~(error <= TOTAL_ERROR * np.abs(loss) + allocated[1].sum(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = float(np.max(100 * error / np.abs(loss)))
    figure = f"sum of LCA {_shown(total)}, loss change {_shown(loss)}: {percent:.3g} % apart"
    meaning = "Over the run the allocations must equal the change of the loss to 1 %."
    remedy = "Record with rk4 and a smaller tolerance or more splits; first-order allocations cannot pass."
    return listed("total", "conservation", [figure] if bad.any() else [], figure, meaning, remedy)


def _shown(values: np.ndarray) -> str:
    return ", ".join(f"{v:.6g}" for v in np.atleast_1d(values)[:3])


def _iterations(values: dict[str, Any]) -> Check | None:
    change = _change(values)
    if change is None or "lca" not in values or "residual" not in values:
        return None
    total, rounding = _allocated(values) or (change, change)
    scale = np.abs(values["loss"].values[..., 1:])
    miss = np.abs(total - values["residual"].values - change)
    meaning = "In each iteration, the sum of LCA minus the residual is the loss change, up to rounding."
    return _missed("iterations", miss, rounding + 1e-12 * scale, meaning)


def _missed(name: str, miss: np.ndarray, allowed: np.ndarray, meaning: str) -> Check:
    """Make a check of a miss per iteration (or snapshot) against what rounding explains."""
    bad = ~(miss <= allowed)
    worst = f"largest miss {np.max(miss, initial=0.0):.3g}"
    problems = [f"{int(bad.sum())} of {miss.size} do not add up, {worst}"] if bad.any() else []
    return listed(name, "conservation", problems, worst, meaning, AGAIN)


def _tolerance(ds: xr.Dataset, values: dict[str, Any]) -> Check | None:
    tolerance = float(ds.attrs.get("tolerance", -1))
    if "residual" not in values or tolerance <= 0:
        return None
    flagged = int((~(np.abs(values["residual"].values) <= tolerance)).sum())
    fine = f"all residuals within {tolerance:g}"
    problems = [f"{flagged} of {values['residual'].size} residuals above {tolerance:g}"] if flagged else []
    meaning = "Where the residual is above the tolerance, the finest quadrature was not enough."
    remedy = "Read these iterations with care, or record with more splits (max_splits)."
    return listed("residual", "conservation", problems, fine, meaning, remedy, worst="warn")


def _classes(values: dict[str, Any]) -> Iterator[Check]:
    """Compare the sums over classes with the LCA they split."""
    reference = _allocated(values)
    if reference is None:
        return
    total, rounding = reference
    meaning = "LCA by class, summed over classes and units, is the LCA; so it is for each unit."
    if "unit_total" in values:
        miss = np.abs(values["unit_total"].values - total)
        miss = np.maximum(miss, values["unit_miss"].values) if "unit_miss" in values else miss
        yield _missed("unit classes", miss, rounding + ROUNDING * values["unit_magnitude"].values, meaning)
    if "lca_class" in values and "lca" in values:
        miss = np.abs(values["lca_class"].sel(part="sum").values - total)
        magnitude = values["lca_class"].sel(part="magnitude").values
        yield _missed(
            "classes", miss, rounding + ROUNDING * magnitude, "LCA by class, summed over classes, is the LCA."
        )


def _loss_classes(values: dict[str, Any]) -> Check | None:
    if "loss_class" not in values or "loss" not in values:
        return None
    loss = values["loss"].values
    miss = np.abs(values["loss_class"].values - loss)
    return _missed("loss of classes", miss, LOSS_ROUNDING * np.abs(loss), "The parts of the classes sum to the loss.")
