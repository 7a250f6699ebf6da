"""Checks of content: finite numbers, steps in order and without gaps, snapshots that are where they belong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.sharing.validation.checks import Check, listed
from lcakit.storage import segments
from lcakit.storage.npz import damage
from lcakit.text import printable
from lcakit.trajectory.labels import parameter_name
from lcakit.trajectory.schema import STATISTICS, split_name, with_suffix

__all__ = ["AROUND", "DAMAGED", "LEAP", "checks", "leaps", "segment_check"]


def __dir__() -> list[str]:
    return __all__


LEAP, AROUND = 20.0, 16
"""A move is out of proportion if it exceeds the median of the moves around it by the factor; how many those are."""

DAMAGED = "The file was damaged or put together wrongly: get it again, or record it again."


def checks(ds: xr.Dataset, moves: Mapping[Any, Any], sums: Mapping[str, Any]) -> Iterator[Check]:
    """Yield the checks of content.

    Parameters
    ----------
    moves
        What :func:`lcakit.sharing.validation.path_pass.moves` gave, computed.
    sums
        What :func:`lcakit.sharing.validation.conservation.sums` gave for each objective, computed.
    """
    yield _finite_loss(ds)
    yield _steps(ds)
    yield _gaps(ds)
    yield _finite_values(ds, moves, sums)
    yield _reported(ds)
    yield from _splits(ds)
    if None in moves and ds.sizes.get("iteration"):
        yield _repeated(ds, moves[None]["moved"])
        yield _leaps(ds, np.sqrt(moves[None]["distance2"]))


def _finite_loss(ds: xr.Dataset) -> Check:
    names = [str(n) for n in ds.data_vars if split_name(str(n))[0] in ("loss", "loss_class", "residual", "first_order")]
    problems = [f"{n} is not finite {bad.sum()} times{_place(ds, ds[n], bad)}" for n, bad in _unfinite(ds, names)]
    fine = f"{', '.join(names) or 'nothing to check'}: all finite"
    remedy = "The training diverged: cut it before that, with ds.lk.sel(iteration=slice(None, last))."
    return listed("finite loss", "content", problems, fine, "NaN or infinity spoils every sum it enters.", remedy)


def _unfinite(ds: xr.Dataset, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the short variables that have NaN or infinity, and where."""
    for name in names:
        bad = ~np.isfinite(ds[name].values)
        if bad.any():
            yield name, bad


def _place(ds: xr.Dataset, array: xr.DataArray, bad: np.ndarray) -> str:
    """Say where the first of the marked entries of a variable is, by its labels."""
    first = np.argwhere(bad)[0]
    labels = [f"{dim} {_label(ds, array, str(dim), int(k))}" for dim, k in zip(array.dims, first, strict=True)]
    return f", first at {', '.join(labels)}"


def _label(ds: xr.Dataset, array: xr.DataArray, dim: str, place: int) -> str:
    if dim == "parameter" and {"tensor_index", "tensor", "tensor_shape"} <= set(ds.variables):
        whole = int(ds["parameter"].values[place]) if "parameter" in ds.coords else place
        return printable(parameter_name(ds, whole), 80)
    return printable(array[dim].values[place], 40) if dim in array.coords else str(place)


def _reported(ds: xr.Dataset) -> Check:
    """What the loop reports may be missing altogether (NaN), not now and then."""
    bases = ("accuracy", "batch_loss", "learning_rate")
    names = [str(n) for n in ds.data_vars if split_name(str(n))[0] in bases and not np.isnan(ds[n].values).all()]
    problems = [f"{n} is not finite {bad.sum()} times{_place(ds, ds[n], bad)}" for n, bad in _unfinite(ds, names)]
    fine = f"{', '.join(names) or 'nothing reported'}: all finite"
    meaning = "What the loop reported belongs to its step; what is missing is not drawn."
    return listed("reported values", "content", problems, fine, meaning, "Leave these steps out.", worst="warn")


def _splits(ds: xr.Dataset) -> Iterator[Check]:
    names = [str(n) for n in ds.data_vars if split_name(str(n))[0] == "splits"]
    wrong = {n: ~(ds[n].values >= 1) for n in names}
    problems = [f"{n} is below 1 {bad.sum()} times{_place(ds, ds[n], bad)}" for n, bad in wrong.items() if bad.any()]
    if names:
        meaning = "Each move was divided into at least one piece."
        yield listed("splits", "content", problems, "all at least 1", meaning, DAMAGED)


# ---- time ------------------------------------------------------------------------------------------------------


def _steps(ds: xr.Dataset) -> Check:
    names = [n for n in ("snapshot", "iteration") if n in ds.coords]
    problems = [f"{n} does not increase everywhere" for n in names if (np.diff(ds[n].values) <= 0).any()]
    if len(names) == 2 and not problems:
        apart = np.flatnonzero(ds["snapshot"].values[:-1] != ds["iteration"].values)
        first = f", first at iteration {ds['iteration'].values[apart[0]]}" if apart.size else ""
        problems = [f"{apart.size} iterations do not begin at their snapshot{first}"] if apart.size else []
    meaning = "Optimizer steps go forward, and iteration t begins at snapshot t."
    return listed("steps", "content", problems, "strictly increasing", meaning, "Sort or record the run again.")


def _gaps(ds: xr.Dataset) -> Check:
    steps = np.diff(ds["snapshot"].values) if "snapshot" in ds.coords else np.array([])
    usual = int(np.median(steps)) if steps.size else 1
    wide = np.flatnonzero(steps > usual)
    problems = [f"after step {ds['snapshot'].values[t]} the next is {ds['snapshot'].values[t + 1]}" for t in wide]
    meaning = "Snapshots are equally far apart; where some are missing, a move is that of several steps."
    remedy = "Nothing, if the run was recorded at uneven steps; otherwise get the missing part."
    return listed(
        "missing iterations",
        "content",
        problems,
        "every step" if usual == 1 else f"every {usual} steps",
        meaning,
        remedy,
        worst="warn",
    )


# ---- numbers per parameter -------------------------------------------------------------------------------------


def _finite_values(ds: xr.Dataset, moves: Mapping[Any, Any], sums: Mapping[str, Any]) -> Check:
    spoilt = {_of(key): numbers["unfinite"] > 0 for key, numbers in moves.items() if _of(key) in ds}
    for suffix, values in sums.items():
        totals = {name: values[name].sel(part="magnitude") for name in ("lca", "lca_class") if name in values}
        units = "lca_unit_class" if with_suffix("lca_unit_class", suffix) in ds else "unit_lca"
        totals |= {units: values["unit_magnitude"]} if "unit_magnitude" in values else {}
        spoilt |= {with_suffix(name, suffix): ~np.isfinite(total.values) for name, total in totals.items()}
    problems = [_where(ds, name, rows) for name, rows in spoilt.items() if rows.any()]
    problems += [
        f"{n} is not finite {bad.sum()} times{_place(ds, ds[n], bad)}"
        for n, bad in _unfinite(ds, [str(n) for n in ds.data_vars if split_name(str(n))[0] in STATISTICS])
    ]
    fine = f"{', '.join(spoilt) or 'nothing to check'}: all finite"
    return listed("finite values", "content", problems, fine, "NaN or infinity spoils every sum it enters.", DAMAGED)


def _of(key: str | None) -> str:
    return "theta" if key is None else with_suffix("gradient", key)


def _where(ds: xr.Dataset, name: str, spoilt: np.ndarray) -> str:
    """Say in how many rows a variable has numbers that are not finite, and where the first is: that row is read."""
    marked = spoilt.reshape(-1, spoilt.shape[-1])
    rows = np.flatnonzero(marked.any(axis=0))
    dim = next(str(d) for d in ds[name].dims if d in ("snapshot", "iteration"))
    one = ds[name].isel(
        {dim: [int(rows[0])]} | ({"run": [int(marked[:, rows[0]].argmax())]} if "run" in ds.dims else {})
    )
    bad = ~np.isfinite(one.values)
    place = _place(ds, one, bad) if bad.any() else ""
    return f"{name} is not finite in {rows.size} rows{place}"


def _repeated(ds: xr.Dataset, moved: np.ndarray) -> Check:
    still = moved[..., :-1] == 0
    where = np.flatnonzero(still.reshape(-1, still.shape[-1]).any(axis=0))
    steps = ", ".join(str(step) for step in ds["iteration"].values[where[:5]])
    problems = [f"{int(still.sum())} moves change nothing, in iteration {steps}"] if where.size else []
    meaning = "A snapshot equal to the one before, bit by bit, is a step that was skipped, or a row written twice."
    remedy = "Nothing, if training skips steps (gradient scaling, a learning rate of 0); otherwise record it again."
    return listed("repeated snapshots", "content", problems, "none", meaning, remedy, worst="warn")


def _leaps(ds: xr.Dataset, distance: np.ndarray) -> Check:
    times = np.array([leaps(run[:-1]) for run in distance.reshape(-1, distance.shape[-1])])
    worst = f"largest move {np.max(times, initial=0.0):.3g} times those around it"
    where = np.flatnonzero((times > LEAP).any(axis=0))
    steps = ds["iteration"].values
    problems = [f"iteration {steps[t]} moves {times[:, t].max():.3g} times as far as those around it" for t in where]
    meaning = "Two such moves in a row, out and back, are the mark of a snapshot that belongs elsewhere in the run."
    remedy = "Compare the loss there; get the file again, or record it again, if it shows no jump."
    return listed("movement", "content", problems, worst, meaning, remedy, worst="warn")


def leaps(distance: np.ndarray) -> np.ndarray:
    """Return how many times the median of the moves around it each move is; 1 where nothing else moves."""
    out = np.ones(distance.size)
    for t in np.flatnonzero(distance > 0):
        around = np.r_[distance[max(t - AROUND, 0) : t], distance[t + 1 : t + AROUND + 1]]
        near = around[around > 0]
        out[t] = distance[t] / np.median(near) if near.size >= AROUND // 2 else 1.0
    return out


# ---- files -----------------------------------------------------------------------------------------------------


def segment_check(directory: Path) -> Check:
    """Compare every byte of an unfinished recording's segments with the checksums in them; 1 MB at a time."""
    paths = segments.segment_paths(directory)
    problems = [f"{path.name}: {damaged}" for path in paths if (damaged := damage(path))]
    meaning = "A segment keeps a checksum (CRC-32) of each of its variables."
    remedy = "Restore the segment; without it, remove it and all that follow, then resume or finish the recording."
    return listed("segment checksums", "content", problems, f"{len(paths)} segments intact", meaning, remedy)
