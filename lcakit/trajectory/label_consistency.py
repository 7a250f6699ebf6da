"""Do the labels of the parameters say what the tables say? They are read once, in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import xarray as xr

from lcakit.trajectory.columns import LABELS, parts
from lcakit.trajectory.labels import runs_of
from lcakit.trajectory.unit_axes import PLAIN_UNITS

__all__ = ["label_problems"]


def __dir__() -> list[str]:
    return __all__


_PLACE = ("unit_index", "input_index", "tap_index")
"""With the tensor these name each entry once."""

_MOST_PLACES = 16
"""Places for each parameter up to which all of them are marked in a table; beyond that parameters are sorted."""

_Part = Mapping[str, np.ndarray]
"""Label columns of some parameters, and ``parameter``: their indices in the whole network."""


def label_problems(ds: xr.Dataset) -> list[str]:
    """Compare the labels of the parameters with the tables."""
    problem = _selection_problem(ds)
    if problem:
        return [problem]
    places = _Places(ds)
    for part in _parts_of(ds):
        for checks in _STAGES:
            problems = [text for check in checks for text in check(ds, part)]
            if problems:
                return problems
        places.add(part)
    return list(places.problems(ds))


def _selection_problem(ds: xr.Dataset) -> str:
    total, size = int(ds["tensor_size"].values.sum()), ds.sizes["parameter"]
    if "parameter" not in ds.coords:
        return "" if size == total else f"{size} parameters, but the tensor table has {total}"
    where = ds["parameter"].values  # the index in the whole network, kept by ds.lk.sel
    sorted_ = where.dtype.kind in "iu" and not (np.diff(where.astype(np.int64)) <= 0).any()
    if not sorted_ or (where.size and (where[0] < 0 or where[-1] >= total)):
        return f"parameter is not strictly increasing from 0 to at most {total - 1}"
    return ""


def _parts_of(ds: xr.Dataset) -> Iterator[_Part]:
    selected = ds["parameter"].values if "parameter" in ds.coords else None
    for place in parts(ds.sizes["parameter"]):
        columns = {name: ds[name].variable[place].values for name in LABELS}
        where = np.arange(place.start, place.stop) if selected is None else selected[place]
        yield columns | {"parameter": where}


# ---- each part -------------------------------------------------------------------------------------------------


def _outside(ds: xr.Dataset, part: _Part) -> Iterator[str]:
    largest = int(ds["tensor_size"].values.max(initial=1))
    limits = {"tensor_index": (0, ds.sizes["tensor"]), "layer_index": (0, ds.sizes["layer"])}
    limits |= {"input_index": (-1, largest), "tap_index": (-1, largest)}
    for name, (least, size) in limits.items():
        bad = (part[name] < least) | (part[name] >= size)
        if bad.any():
            yield f"{name} points outside its table ({part[name][bad][0]} of {size} rows)"


def _of_other_tensors(ds: xr.Dataset, part: _Part) -> Iterator[str]:
    tensor = part["tensor_index"]
    if not np.array_equal(np.searchsorted(ds["tensor_offset"].values, part["parameter"], side="right") - 1, tensor):
        yield "tensor_index disagrees with tensor_offset"
    elif not np.array_equal(ds["tensor_layer"].values[tensor], part["layer_index"]):
        yield "layer_index disagrees with tensor_layer"


def _of_other_units(ds: xr.Dataset, part: _Part) -> Iterator[str]:
    units, index = ds["unit"].values, part["unit_index"]
    if not units.size:
        yield "the unit table is empty"
        return
    row = np.searchsorted(units, index).clip(max=units.size - 1)
    if not np.array_equal(units[row], index):
        yield "unit_index names units that are not in the unit table"
    elif not np.array_equal(ds["unit_layer"].values[row], part["layer_index"]):
        yield "unit_index points to units of other layers"


def _of_other_axes(ds: xr.Dataset, part: _Part) -> Iterator[str]:
    """Tensors of two axes or more have inputs, of three or more taps; the entries of others have none (-1).

    Where units are not rows (gates of one neuron, rows of one head), what tells their entries apart may be either.
    """
    tensor = part["tensor_index"]
    rank = (ds["tensor_shape"].values > 0).sum(axis=1)
    usual = np.ones(rank.size, bool)
    if "tensor_unit" in ds.coords:
        usual = np.isin(ds["tensor_unit"].values.astype(str), ("", *PLAIN_UNITS))
    for name, least in (("input_index", 2), ("tap_index", 3)):
        if (((part[name] >= 0) != (rank >= least)[tensor]) & usual[tensor]).any():
            yield f"{name} is not -1 in exactly the tensors of fewer than {least} axes"


_Check = Callable[[xr.Dataset, _Part], Iterator[str]]
_STAGES: tuple[tuple[_Check, ...], ...] = ((_outside,), (_of_other_tensors, _of_other_units), (_of_other_axes,))
"""Each needs the ones before it to hold."""


# ---- all parts -------------------------------------------------------------------------------------------------


class _Places:
    """The places of the entries of each tensor, gathered part by part: is one there twice, and are all there?"""

    def __init__(self, ds: xr.Dataset) -> None:
        tensors = ds.sizes["tensor"]
        self._count = np.zeros(tensors, np.int64)
        self._low = np.full((len(_PLACE), tensors), np.iinfo(np.int64).max)
        self._high = np.full((len(_PLACE), tensors), np.iinfo(np.int64).min)
        self._in_order = np.ones(tensors, bool)
        self._last = np.full((len(_PLACE) + 1, 1), -1)

    def add(self, part: _Part) -> None:
        """Take the next parameters."""
        columns = np.stack([part[name] for name in ("tensor_index", *_PLACE)]).astype(np.int64)
        starts, rows = runs_of(columns[0])
        self._count[rows] += np.diff(starts, append=columns.shape[1])
        self._low[:, rows] = np.minimum(self._low[:, rows], np.minimum.reduceat(columns[1:], starts, axis=1))
        self._high[:, rows] = np.maximum(self._high[:, rows], np.maximum.reduceat(columns[1:], starts, axis=1))
        steps = np.diff(columns, axis=1, prepend=self._last)
        after = np.zeros(columns.shape[1], bool)
        for step in steps[::-1]:  # in C order, the usual one, places grow from entry to entry: no need to sort them
            after = (step > 0) | ((step == 0) & after)
        self._in_order[columns[0, ~after]] = False
        self._last = columns[:, -1:]

    def problems(self, ds: xr.Dataset) -> Iterator[str]:
        """Yield what is wrong with them."""
        if any(self._is_repeated(ds, int(row)) for row in np.flatnonzero(~self._in_order)):
            yield "two parameters have the same tensor, unit, input and tap"
        elif "parameter" not in ds.coords and self._count.any():
            yield from self._gaps(ds)

    def _is_repeated(self, ds: xr.Dataset, row: int) -> bool:
        start, count = int(self._count[:row].sum()), int(self._count[row])
        spans = self._high[:, row] - self._low[:, row] + 1
        total = int(np.prod(spans.astype(object)))
        if total > 2**62:
            return False  # no disk holds such a network
        marked = np.zeros(total, bool) if total <= _MOST_PLACES * count else None
        keys = []
        for part in parts(count):
            place = slice(start + part.start, start + part.stop)
            key = np.zeros(place.stop - place.start, np.int64)
            for name, span, low in zip(_PLACE, spans, self._low[:, row], strict=True):
                key = key * span + (ds[name].variable[place].values - low)
            if marked is None:
                keys.append(key)
            else:
                marked[key] = True
        held = np.unique(np.concatenate(keys)).size if marked is None else int(marked.sum())
        return held < count

    def _gaps(self, ds: xr.Dataset) -> Iterator[str]:
        """In each whole tensor there are units × inputs × taps entries (but for transposed convolutions in groups)."""
        held = self._count > 0
        places = np.prod(self._high[:, held] - self._low[:, held] + 1, axis=0)
        kinds = ds["layer_kind"].values[ds["tensor_layer"].values[held]]
        usual = np.array(["transpose" not in str(kind) for kind in kinds])
        if (places[usual] != ds["tensor_size"].values[held][usual]).any():
            yield "unit_index, input_index and tap_index do not span their tensors"
