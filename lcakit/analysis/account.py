"""The account of a trajectory: do the allocations add up to the loss, and what do they say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.layerwise import layer_lca
from lcakit.analysis.noise import fraction_helping, help_hurt_zero
from lcakit.analysis.outcomes import outcome_counts
from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.text import printable
from lcakit.trajectory.labels import is_whole
from lcakit.trajectory.require import in_place_of, require, source
from lcakit.trajectory.schema import LAYER_COUNTS, loss_unit, split_name, with_suffix
from lcakit.trajectory.selection_notes import part_of

__all__ = ["NO_LCA", "Account", "account"]


def __dir__() -> list[str]:
    return __all__


NO_LCA = (
    "There is no LCA here: no loss change is allocated to parameters. lk.allocate(file, objective) does that where "
    "theta is stored; for a run of lcakit record, so does lcakit allocate."
)
"""What an account says of such a trajectory."""


def _number(label: str, form: str, meaning: str) -> Any:
    return field(default=None, metadata={"label": label, "form": form, "meaning": meaning})


@dataclass(frozen=True)
class Account:
    """The numbers that ``lcakit account`` prints. None where the trajectory cannot tell.

    Errors are :math:`100\\,(ΣA - ΔL) / |ΔL|` for the whole run: negative when the allocations claim a larger
    fall of the loss than there was. Losses and LCA are in ``loss_unit``. A part of the parameters (``part``) cannot add
    up to the loss, so what compares the two is None there.
    """

    loss_unit: str
    iterations: int | None = _number("iterations", "{:,}", "Moves from one recorded snapshot to the next.")
    parameters: int | None = _number("parameters", "{:,}", "Numbers that the training can change.")
    part: str | None = _number(
        "only a part",
        "{}",
        "LCA is that of the selection; of some parameters it cannot add up to the loss, which is of all.",
    )
    loss_first: float | None = _number("loss at the start", "{:.6g} {unit}", "The objective before the first move.")
    loss_last: float | None = _number("loss at the end", "{:.6g} {unit}", "The objective after the last move.")
    accuracy_first: float | None = _number("accuracy at the start", "{:.2%}", "Fraction of examples right at first.")
    accuracy_last: float | None = _number("accuracy at the end", "{:.2%}", "Fraction of examples right at the end.")
    lca_sum: float | None = _number(
        "sum of LCA",
        "{:.6g} {unit}",
        "All allocations together; of a whole network they should equal the change of the loss.",
    )
    buffer_change: float | None = _number(
        "loss change by buffers",
        "{:+.6g} {unit}",
        "What buffers did to the loss, which no parameter did; the allocations should equal the rest of the change.",
    )
    error_percent: float | None = _number(
        "total error",
        "{:+.3g} %",
        "How far that sum is from the loss change; below 1 % the account is closed.",
    )
    first_order_error_percent: float | None = _number(
        "total error, first order", "{:+.4g} %", "The same if each move used only the gradient at its start."
    )
    mean_abs_error: float | None = _number(
        "mean error of an iteration",
        "{:.3g} {unit}",
        "Mean distance between an iteration's LCA and its loss change.",
    )
    first_order_mean_abs_error: float | None = _number(
        "mean error, first order", "{:.3g} {unit}", "The same with first-order allocations."
    )
    worst_residual: float | None = _number(
        "worst residual", "{:+.3g} {unit}", "The iteration whose allocations miss the loss change by most."
    )
    worst_iteration: int | None = _number("  at iteration", "{}", "Where that is.")
    flagged: int | None = _number(
        "iterations over tolerance",
        "{:,}",
        "Their residual stayed too large at the finest quadrature allowed.",
    )
    gradient_evaluations: int | None = _number(
        "full-set gradients", "{:,}", "Passes over the whole evaluation set that the path integrals took."
    )
    helping_percent: float | None = _number(
        "helping",
        "{:.2f} %",
        "Of the parameters with nonzero LCA, those that lower the loss, in the mean iteration.",
    )
    zero_percent: float | None = _number(
        "zero", "{:.2f} %", "Parameters that do not change the loss, in the mean iteration."
    )
    missing_lca: int | None = _number(
        "missing LCA",
        "{:,} numbers",
        "They are NaN, so sums with them are not known; lk.validate says where they are.",
    )
    layers: dict[str, float] = field(default_factory=dict)

    @property
    def has_lca(self) -> bool:
        """Loss changes are allocated to parameters, or to something that they are in."""
        known = (self.lca_sum, self.helping_percent, self.zero_percent, self.missing_lca)
        return any(number is not None for number in known)

    def lines(self, explain: bool = False) -> list[str]:
        """Return one aligned line per number that is known; ``explain`` puts one sentence below each."""
        rows = list(self.rows())
        width = max((len(label) for label, *_ in rows), default=0)
        out = []
        for label, text, meaning in rows:
            out.append(f"{label:<{width}}  {text}")
            out += [f"    {meaning}"] if explain and meaning else []
        return out

    def to_text(self, explain: bool = False) -> str:
        """Return :meth:`lines` as one text; a last line says if there is no LCA."""
        return "\n".join([*self.lines(explain), *([] if self.has_lca else [NO_LCA])])

    def __str__(self) -> str:
        return self.to_text()

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield label, value with its unit, and meaning of each number that is known."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.metadata and value is not None:
                text = item.metadata["form"].format(value, unit=self.loss_unit)
                yield item.metadata["label"], text, item.metadata["meaning"]
        meaning = "Loss change that each layer caused (with its bias and norm): negative helps, positive hurts."
        for name, value in self.layers.items():
            known = not math.isnan(value)
            text = f"{value:+.6g} {self.loss_unit}" if known else "not known: some of it is missing (NaN)"
            yield f"LCA of {printable(name, 60)}", text, meaning
            meaning = ""


@of_trajectories
def account(ds: xr.Dataset, suffix: str | None = None, quiet: bool = False) -> Account:
    r"""Add up a trajectory, in one pass over its data.

    .. math:: \mathrm{error} = 100\, \Big(\sum_{t,i} A[t, i] - ΔL\Big) \Big/ |ΔL|, \qquad ΔL = L(θ_T) - L(θ_0)

    Parameters
    ----------
    ds
        Trajectory of one run; any of its variables may be missing.
    suffix
        Another objective along the same trajectory: ``"val"`` reads ``lca_val``, ``loss_val``, …
    quiet
        No progress bar.

    Returns
    -------
    Account
        Iterations that the run does not have (NaN, as :func:`xarray.concat` pads shorter runs) do not count; where LCA
        is missing otherwise, the sums are None. Of a selection of parameters without the errors, since its sums are not
        those of the loss; ``part`` says how many parameters (or units, where the file is not by parameter) and classes
        the selection has.

    Raises
    ------
    TrajectoryError
        If ``ds`` holds several runs, or has nothing of the objective ``suffix``.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> account(tiny_trajectory()).iterations
    12
    """
    if "run" in ds.dims:
        raise TrajectoryError(
            f"an account is of one run, got {ds.sizes['run']}: pass ds.isel(run=0), or loop over them"
        )
    if suffix and suffix not in (there := _objectives(ds)):
        said = unknown("objective", suffix, there, TrajectoryError)
        raise TrajectoryError(f"{said} Leave it out for the one that the run was recorded with.")
    values = _without_padding(_compute(ds, suffix, quiet))
    loss = values.get("loss")
    missing = _missing(ds)
    change = float(loss[-1] - loss[0]) if not missing and loss is not None and loss.size > 1 else None
    buffers = float(values["buffer_change"].sum()) if "buffer_change" in values and not missing else None
    change = change if change is None or buffers is None else change - buffers
    numbers: dict[str, Any] = {
        "buffer_change": buffers,
        "iterations": int(values["there"].sum()) if "iteration" in ds.dims else None,
        "parameters": ds.sizes.get("parameter"),
        "part": ", ".join(filter(None, [missing, part_of(ds, "class")])) or None,
        **_ends("loss", loss),
        **_ends("accuracy", values.get("accuracy")),
        **_sums(values, change),
        **_quadrature(values),
        **(_residuals(ds, values, suffix) | _first_order(values, loss, change) if not missing else {}),
        **_signs(values),
    }
    known: dict[str, Any] = {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in numbers.items()}
    return Account(loss_unit=printable(loss_unit(ds, with_suffix("loss", suffix)), 20), **known)


def _while_it_runs(ds: xr.Dataset, loss: str) -> xr.DataArray:
    """Say of each iteration whether the run has it: False after the last loss that is there, where NaN fills up."""
    if loss not in ds or "iteration" not in ds.dims:
        return xr.DataArray(np.ones(ds.sizes.get("iteration", 0), bool), dims="iteration")
    there = ds[loss].notnull().drop_vars("snapshot", errors="ignore").isel(snapshot=slice(None, None, -1))
    ends = there.cumsum("snapshot").isel(snapshot=slice(None, None, -1)).isel(snapshot=slice(1, None)) > 0
    return ends.rename(snapshot="iteration")


def _objectives(ds: xr.Dataset) -> list[str]:
    """Return the suffixes of the further objectives along a trajectory."""
    return [suffix for suffix in dict.fromkeys(split_name(str(name))[1] for name in ds.data_vars) if suffix]


def _missing(ds: xr.Dataset) -> str:
    """Return how many parameters of how many there are (or units, in a file without), "" for the whole network."""
    if "parameter" not in ds.dims or "tensor_size" not in ds.variables:
        return part_of(ds, "unit")
    return "" if is_whole(ds) else f"{ds.sizes['parameter']:,} of {int(ds['tensor_size'].values.sum()):,} parameters"


def _compute(ds: xr.Dataset, suffix: str | None, quiet: bool) -> dict[str, Any]:
    """Return everything that needs the data, from one pass."""
    small = ("loss", "accuracy", "residual", "splits", "first_order", "buffer_change")
    names = {base: with_suffix(base, suffix) for base in (*small, "lca")}
    lazy: dict[str, Any] = {base: ds[names[base]] for base in small if names[base] in ds}
    lazy["there"] = _while_it_runs(ds, names["loss"])
    if source(ds, names["lca"]) in ds:
        layers = layer_lca(ds, lca=names["lca"])
        lazy["layers"] = layers.where(lazy["there"], 0.0).sum("iteration", skipna=False)
    if names["lca"] in ds or in_place_of(ds, names["lca"], *LAYER_COUNTS):
        lazy["outcomes"] = help_hurt_zero(ds, names["lca"]).mean("iteration")
        lazy["missing"] = _missing_lca(ds, names["lca"])
        lazy["helping"] = fraction_helping(ds, lca=names["lca"])
    values: dict[str, Any] = compute(lazy, quiet=quiet)
    return values | {base: values[base].values for base in small if base in values}


def _missing_lca(ds: xr.Dataset, lca: str) -> xr.DataArray:
    """Return how many numbers of LCA are NaN in each iteration."""
    if lca not in ds:
        return xr.DataArray(np.zeros(ds.sizes["iteration"], int), dims="iteration")
    there = outcome_counts(ds, require(ds, lca), by=None).sum("outcome")
    return ds.sizes["parameter"] - there.astype(np.int64)


def _without_padding(values: dict[str, Any]) -> dict[str, Any]:
    """Cut series off where the run ends."""
    n = int(values["there"].sum())
    snapshots = {name: values[name][: n + 1] for name in ("loss", "accuracy") if name in values}
    iterations = ("residual", "splits", "first_order", "buffer_change", "missing")
    return values | snapshots | {name: values[name][:n] for name in iterations if name in values}


def _ends(name: str, values: np.ndarray | None) -> dict[str, float]:
    if values is None or not values.size or np.isnan(values).all():  # an accuracy of NaN: the task has none
        return {}
    return {f"{name}_first": float(values[0]), f"{name}_last": float(values[-1])}


def _percent(total: float, change: float | None) -> float | None:
    """Return 100 (ΣA − ΔL) / |ΔL|, or None where the loss did not change."""
    return 100 * (total - change) / abs(change) if change else None


def _sums(values: dict[str, Any], change: float | None) -> dict[str, Any]:
    if "layers" in values:
        layers = {
            str(name): float(x)
            for name, x in zip(values["layers"]["layer"].values, values["layers"].values, strict=True)
        }
        total = sum(layers.values())
    elif "residual" in values and change is not None:
        layers, total = {}, change + float(values["residual"].sum())
    else:
        return {}
    return {"layers": layers, "lca_sum": total, "error_percent": _percent(total, change)}


def _residuals(ds: xr.Dataset, values: dict[str, Any], suffix: str | None) -> dict[str, Any]:
    out: dict[str, Any] = {}
    residual = values.get("residual")
    if residual is not None and np.isnan(residual).any():
        residual = None
    tolerance = float(ds.attrs.get(with_suffix("tolerance", suffix), ds.attrs.get("tolerance", -1)))
    if residual is not None and residual.size:
        worst = int(np.argmax(np.abs(residual)))
        out |= {"mean_abs_error": float(np.abs(residual).mean()), "worst_residual": float(residual[worst])}
        out["worst_iteration"] = int(ds["iteration"].values[worst])
        if tolerance > 0:
            out["flagged"] = int((np.abs(residual) > tolerance).sum())
    return out


def _quadrature(values: dict[str, Any]) -> dict[str, Any]:
    if "splits" not in values or np.isnan(values["splits"]).any():
        return {}
    # neighbouring iterations share the gradient at their common snapshot
    return {"gradient_evaluations": int(values["splits"].sum(dtype=np.int64)) + 1}


def _first_order(values: dict[str, Any], loss: np.ndarray | None, change: float | None) -> dict[str, Any]:
    first = values.get("first_order")
    if first is None or loss is None or not first.size:
        return {}
    error = first - np.diff(loss)
    return {
        "first_order_error_percent": _percent(float(first.sum()), change),
        "first_order_mean_abs_error": float(np.abs(error).mean()),
    }


def _signs(values: dict[str, Any]) -> dict[str, Any]:
    if "outcomes" not in values:
        return {}
    helping = float(values["helping"])
    return {
        "helping_percent": 100 * helping if np.isfinite(helping) else None,
        "zero_percent": 100 * float(values["outcomes"].sel(outcome="zero")),
        "missing_lca": int(values["missing"].sum()) or None,
    }
