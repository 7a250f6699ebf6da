"""Checks of running statistics: sums are those of the loss, and no count is of more iterations than there were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from lcakit.sharing.validation.checks import Check, listed
from lcakit.sharing.validation.conservation import AGAIN, ROUNDING, rounded_to
from lcakit.trajectory.labels import is_whole
from lcakit.trajectory.schema import LAYER_COUNTS, STATISTICS, split_name, with_suffix

__all__ = ["COUNTS", "checks", "objectives", "sums"]


def __dir__() -> list[str]:
    return __all__


COUNTS = tuple(name for name in STATISTICS if name.endswith("_count"))


def sums(ds: xr.Dataset, suffix: str) -> dict[str, Any]:
    """Return, lazy: what the checks of one objective need; empty where it has no running statistics."""
    held = {name: ds[own] for name in STATISTICS if (own := with_suffix(name, suffix)) in ds}
    lazy: dict[str, Any] = {f"{name}_least": array.min("parameter") for name, array in held.items()}
    lazy |= {f"{name}_most": array.max("parameter") for name, array in held.items()}
    if {"helped_count", "hurt_count"} <= set(held):
        lazy["moved_most"] = (held["helped_count"] + held["hurt_count"]).max("parameter")
    if held and is_whole(ds):
        lazy |= {name: held[name].sum("parameter", dtype=np.int64) for name in COUNTS[:2] if name in held}
        lazy |= {name: ds[own] for name in LAYER_COUNTS if (own := with_suffix(name, suffix)) in ds}
        lazy |= _of_lca(ds, held, suffix)
    return lazy


def _of_lca(ds: xr.Dataset, held: Mapping[str, xr.DataArray], suffix: str) -> dict[str, Any]:
    if not {"total_lca", "total_square_lca"} <= set(held):
        return {}
    out: dict[str, Any] = {"total": held["total_lca"].sum("parameter", skipna=False)}
    # Cauchy and Schwarz: the sum of |A| over T iterations is at most √(T Σ A²)
    bound: xr.DataArray = np.sqrt(ds.sizes["iteration"] * held["total_square_lca"].clip(min=0))  # type: ignore[assignment]
    out["magnitude"] = bound.sum("parameter", skipna=False)
    out["excess"] = (abs(held["total_lca"]) - (1 + ROUNDING) * bound).max("parameter", skipna=False)
    short = {name: with_suffix(name, suffix) for name in ("loss", "residual")}
    return out | {name: ds[own] for name, own in short.items() if own in ds}


def checks(ds: xr.Dataset, suffix: str, values: Mapping[str, Any]) -> Iterator[Check]:
    """Yield the checks of one objective, from what :func:`sums` gave, computed."""
    if not values:
        return
    for check in (_sums(ds, values), _counts(ds, values)):
        if check is not None:
            name = f"{check.name} ({suffix})" if suffix else check.name
            yield replace(check, name=name)


def _sums(ds: xr.Dataset, values: Mapping[str, Any]) -> Check | None:
    if "total" not in values or not {"loss", "residual"} <= set(values):
        return None
    wanted = values["loss"].values[..., -1] - values["loss"].values[..., 0] + values["residual"].values.sum(-1)
    total, allowed = values["total"].values, (ROUNDING + rounded_to(ds)) * values["magnitude"].values
    miss = np.abs(total - wanted)
    figure = f"largest miss {np.max(miss):.3g}"
    problems = [f"they sum to {np.ravel(total)[0]:.6g}, {figure}"] if not (miss <= allowed + 1e-12).all() else []
    if not (values["excess"].values <= 0).all() or not (values["total_square_lca_least"].values >= 0).all():
        problems.append("a sum is larger than its sum of squares allows")
    meaning = "LCA summed while recording is the loss change and the residuals, and fits the sums of its squares."
    return listed("running sums", "conservation", problems, figure, meaning, AGAIN)


def _counts(ds: xr.Dataset, values: Mapping[str, Any]) -> Check:
    n = ds.sizes["iteration"]
    most = {"turn_count": max(n - 1, 0)}
    held = [name for name in COUNTS if f"{name}_most" in values]
    problems = [
        f"{name} is outside 0 … {most.get(name, n)}"
        for name in held
        if values[f"{name}_least"].min() < 0 or values[f"{name}_most"].max() > most.get(name, n)
    ]
    if "moved_most" in values and values["moved_most"].max() > n:
        problems.append("a parameter helped and hurt in more iterations than there are")
    problems += [
        text for layer, count in zip(LAYER_COUNTS, COUNTS, strict=False) for text in _layers(values, layer, count)
    ]
    meaning = "Counts are of the iterations of the recording; those of layers and of parameters are of the same signs."
    return listed("running counts", "conservation", problems, f"{', '.join(held)} within bounds", meaning, AGAIN)


def _layers(values: Mapping[str, Any], layer: str, count: str) -> Iterator[str]:
    if layer in values and count in values:
        layers = values[layer]
        if layers.min() < 0 or (layers.sum(("iteration", "layer")) != values[count]).any():
            yield f"{layer} and {count} disagree"


def objectives(ds: xr.Dataset) -> list[str]:
    """Return the suffixes of the objectives that have running statistics."""
    named = (split_name(str(name)) for name in ds.data_vars)
    return list(dict.fromkeys(suffix for base, suffix in named if base in STATISTICS))
