"""What the explorer knows about a trajectory, and what it reads for a selection. No Panel here.

Sums over layers, classes and iterations are made once; a picture of single parameters reads only its own tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import sum_by
from lcakit.analysis.resolution import ALL as ONE_CLASS
from lcakit.errors import TrajectoryError
from lcakit.trajectory.labels import parameter_coord
from lcakit.trajectory.require import require_tables
from lcakit.trajectory.schema import loss_unit, split_name, with_suffix
from lcakit.trajectory.select import select, with_class_dimension
from lcakit.views.explorer.inputs import kernel_of, saliency_of
from lcakit.views.explorer.names import shown
from lcakit.views.explorer.reading import Reader
from lcakit.views.explorer.selection import ALL, CUMULATIVE, GRADIENT, LCA, MOVEMENT, QUANTITIES, WEIGHT, Selection
from lcakit.views.explorer.signs import CLASS_BYTES, Signs, by_class, helping_share

__all__ = ["SMALL_BYTES", "WINDOW_BYTES", "Model", "Summary", "objectives"]


def __dir__() -> list[str]:
    return __all__


SMALL_BYTES = 4 * 2**30
"""Largest LCA, in bytes, that is read as a whole to count signs."""
WINDOW_BYTES = 2**30
"""Largest span of a larger file, in bytes of LCA, whose signs are counted."""


@dataclass(frozen=True)
class Summary:
    """The numbers beside the pictures; None if the file does not hold them; ``no_helping`` is the reason."""

    lca: float | None
    loss_change: float | None
    loss_change_all: float | None
    helping: float | None
    no_helping: str = ""


def objectives(ds: xr.Dataset) -> list[str]:
    """Return the suffixes of the objectives in a file; ``""`` is the one it was recorded with."""
    found = [split_name(str(name)) for name in ds.data_vars]
    return list(dict.fromkeys(suffix for base, suffix in found if base in ("lca", "lca_unit_class", "loss"))) or [""]


def _with_sums(ds: xr.Dataset, objective: str) -> xr.Dataset:
    """Return ``ds`` with LCA of single parameters, where the file holds it by class only. Lazy."""
    lca, by_class = with_suffix("lca", objective), with_suffix("lca_class", objective)
    if lca in ds or by_class not in ds:
        return ds
    return ds.assign({lca: ds[by_class].sum("class", dtype=np.float64, skipna=False)})


class Model:
    """One run and one objective.

    Parameters
    ----------
    ds
        Trajectory of one run, or a selection of one.
    objective
        Suffix of its variables.
    """

    def __init__(self, ds: xr.Dataset, objective: str = "") -> None:
        if not ds.sizes.get("iteration", 0):
            raise TrajectoryError("this trajectory has no iteration yet, so there is nothing to explore")
        require_tables(ds)
        ds = _with_sums(with_class_dimension(ds), objective)
        self.ds, self.objective = ds, objective
        self.runs: Any = None  # the models of the runs beside it (Models), where it is one of several
        self.reader = Reader(ds)
        self.signs = Signs(self.name("lca"), SMALL_BYTES, WINDOW_BYTES)
        self.iterations: np.ndarray = ds["iteration"].values
        names = ds["layer"].values.astype(str)
        self._kernel_of_layer = ds["kernel_layer"].values
        present = np.unique(self._kernel_of_layer[parameter_coord(ds, "unit_layer")])
        self.layers = tuple(names[present].tolist())
        self.unit = shown(loss_unit(ds, with_suffix("loss", objective)))
        self._require_units()

    def _require_units(self) -> None:
        """Raise TrajectoryError where a layer has parameters but no unit: a norm layer without the kernel it serves."""
        bare = [name for name in self.layers if not self._unit_rows(name).size]
        if bare:
            raise TrajectoryError(
                f"this selection has parameters that serve {shown(bare[0])!r}, but no unit of it. Select whole kernel "
                f"layers: ds.lk.sel(kernel_layer={shown(bare[0])!r})."
            )

    def name(self, base: str) -> str:
        """Return the name of a variable for this objective."""
        return with_suffix(base, self.objective)

    def has(self, base: str) -> bool:
        """Return whether the file holds a variable of this objective; ``theta`` belongs to all."""
        return (base if base == "theta" else self.name(base)) in self.ds.data_vars

    def ends(self, window: tuple[int, int]) -> tuple[float, float]:
        """Return where a span begins and ends on the axis of iterations: at the snapshot after its last iteration."""
        first, last = (self.iterations[n] for n in window)
        snapshots = self.ds["snapshot"].values
        after = snapshots[snapshots > last]
        return float(first), float(after[0] if after.size else last + 1)

    # ---- what there is -----------------------------------------------------------------------------------------

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that sums can be split by; empty where the file has none."""
        if not self.has("lca_unit_class") and not self.has("lca_class"):
            return ()
        names = tuple(str(name) for name in self.ds["class"].values)
        return () if names == (ONE_CLASS,) else names

    def class_rows(self, classes: tuple[str, ...]) -> list[int] | None:
        """Return the positions of classes whose LCA of single parameters is to be summed; None for the sum over all.

        None also where the file has no LCA by class and parameter: what is shown is then of all classes.
        """
        if not self.by_class or set(classes) == set(self.classes):
            return None
        return [self.classes.index(name) for name in classes]

    @property
    def by_class(self) -> bool:
        """Whether the file holds LCA of single parameters by class."""
        return bool(self.classes) and self.has("lca_class")

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Roles of tensors that sums can be narrowed to."""
        if not self.has("lca"):
            return (ALL,)
        return (ALL, *dict.fromkeys(self.ds["tensor_role"].values.astype(str)[self._tensors].tolist()))

    @property
    def has_parameters(self) -> bool:
        """Whether the file holds anything for single parameters."""
        return "parameter" in self.ds.dims and any(self.has(name) for name in ("lca", "theta", "gradient"))

    @property
    def has_lca(self) -> bool:
        """Whether the file holds LCA in any resolution."""
        return any(self.has(name) for name in ("lca", "lca_unit_class", "lca_class"))

    @cached_property
    def quantities(self) -> tuple[str, ...]:
        """Quantities that the file can show."""
        needs = {LCA: self.has_lca, CUMULATIVE: self.has_lca, GRADIENT: self.has("gradient")}
        needs |= {MOVEMENT: self.has("theta"), WEIGHT: self.has("theta")}
        return tuple(name for name in QUANTITIES if needs[name])

    def channels(self, layer: str) -> np.ndarray:
        """Return the channel numbers of the units of a layer, without those of norm layers that serve it."""
        return np.asarray(self.ds["unit_channel"].values[self._unit_rows(layer)])

    def _unit_rows(self, layer: str) -> np.ndarray:
        row = self.ds["layer"].values.astype(str).tolist().index(layer)
        return np.flatnonzero(self.ds["unit_layer"].values == row)

    # ---- sums over parameters ----------------------------------------------------------------------------------

    @cached_property
    def _class_sums(self) -> np.ndarray:
        """LCA (iteration, layer, class); without classes there is one of everything."""
        variable = next(name for name in ("lca_unit_class", "lca_class") if self.has(name))
        sums = sum_by(self.ds, "kernel_layer", self.name(variable))
        return np.asarray(sums.transpose("iteration", "kernel_layer", "class").values)

    def _tensor_sums(self, classes: tuple[str, ...]) -> np.ndarray:
        """Return LCA (iteration, tensor) of the tensors that the dataset holds, of classes where the file has them."""
        ds, own = self._of_classes(classes)
        if self.signs.small(ds, own):
            return self.signs.all(ds, own).sums
        key = ("tensor sums", own)
        return self.reader.keep(key, lambda: np.asarray(sum_by(ds, "tensor", self.name("lca")).values))

    def _of_classes(self, classes: tuple[str, ...]) -> tuple[xr.Dataset, tuple[str, ...]]:
        """Return the dataset whose ``lca`` is that of classes, and these; where the file has no such, of all: ()."""
        if self.class_rows(classes) is None:
            return self.ds, ()
        needed = self.name("lca"), self.name("lca_class")
        held = self.ds.drop_vars([name for name in self.ds.data_vars if name not in needed])
        return select(held, cls=list(classes)), classes

    @cached_property
    def _tensors(self) -> np.ndarray:
        """Rows of the tensor table that the dataset holds parameters of."""
        return np.unique(parameter_coord(self.ds, "tensor_index"))

    def _chosen(self, layers: tuple[str, ...], role: str) -> np.ndarray:
        """Return the mask of ``_tensors`` that lie in these layers and have this role."""
        owner = self._kernel_of_layer[self.ds["tensor_layer"].values[self._tensors]]
        inside = np.isin(self.ds["layer"].values.astype(str)[owner], layers)
        return inside if role == ALL else inside & (self.ds["tensor_role"].values.astype(str)[self._tensors] == role)

    def layer_sums(self, classes: tuple[str, ...], role: str) -> np.ndarray:
        """Return LCA (iteration, layer), summed over classes, and over the tensors of a role. float64.

        With a role the classes matter only where the file holds them for single parameters.
        """
        if role == ALL and (self.has("lca_unit_class") or self.has("lca_class")):
            if not self.classes:
                return np.asarray(self._class_sums.sum(-1))
            chosen = [self.classes.index(name) for name in classes]
            return np.asarray(self._class_sums[..., chosen].sum(-1))
        sums = self._tensor_sums(classes)
        columns = [sums[:, self._chosen((name,), role)].sum(1) for name in self.layers]
        return np.column_stack(columns)

    def summary(self, selection: Selection) -> Summary:
        """Return the numbers of the selected span, layers and classes."""
        first, last = selection.window
        helping, reason = self._helping(selection)
        lca = None
        if self.has_lca:
            rows = [self.layers.index(name) for name in selection.layers]
            lca = float(self.layer_sums(selection.classes, selection.role)[first : last + 1, rows].sum())
        whole = self._loss_change("loss", first, last)
        return Summary(lca, self._class_loss_change(selection, whole), whole, helping, reason)

    def _loss_change(self, name: str, first: int, last: int) -> float | None:
        if not self.has(name):
            return None
        loss = self.over_time(name)
        return float(loss[last + 1] - loss[first])

    def over_time(self, base: str) -> np.ndarray:
        """Return a variable of the whole network in all iterations or snapshots (…, class), which is then kept."""
        array = self.ds[self.name(base)]
        ordered = array.transpose(..., "class", missing_dims="ignore")
        return self.reader.keep(("all", array.name), lambda: np.asarray(ordered.values))

    def _class_loss_change(self, selection: Selection, whole: float | None) -> float | None:
        """Return the loss change of the selected classes; None where the sums are not theirs or the file has it not."""
        if not self.classes or set(selection.classes) == set(self.classes):
            return whole
        found = self.class_loss(selection.classes)
        if (selection.role != ALL and not self.by_class) or found is None:
            return None
        first, last = selection.window
        return float(found[last + 1] - found[first])

    def class_loss(self, classes: tuple[str, ...]) -> np.ndarray | None:
        """Return the part (snapshot) of the loss that classes have; None where the file holds it not."""
        if not self.has("loss_class"):
            return None
        every = self.over_time("loss_class")
        return np.asarray(every[:, [self.classes.index(name) for name in classes]].sum(1, dtype=np.float64))

    def _helping(self, selection: Selection) -> tuple[float | None, str]:
        """Return the share of moving parameters that help, as in Table 1, or None and the reason."""
        if not self.has("lca"):
            return None, "this file holds no LCA of single parameters"
        chosen = self.class_rows(selection.classes)
        if chosen is not None:
            outcomes = self._class_outcomes(chosen, *selection.window)
        else:
            outcomes = self.signs.between(self.ds, (), *selection.window)
        if isinstance(outcomes, int):
            return None, f"counted in spans of up to {outcomes} iterations of this large file"
        share = helping_share(outcomes[..., self._chosen(selection.layers, selection.role)])
        return share, "" if share is not None else "no parameter moves"

    def _class_outcomes(self, chosen: list[int], first: int, last: int) -> np.ndarray | int:
        """Return the counts of a span for some classes; where that takes too long, the most iterations counted."""
        most = max(1, CLASS_BYTES // (4 * self.ds.sizes["parameter"] * len(chosen)))
        if last - first + 1 > most:
            return most
        return by_class(self.reader, self.ds, self.name("lca_class"), tuple(chosen), first, last)

    # ---- units -------------------------------------------------------------------------------------------------

    def unit_series(self, layer: str, classes: tuple[str, ...], role: str = ALL) -> np.ndarray:
        """Return LCA (iteration, unit) of the units of a layer, summed over classes and the tensors of a role.

        With a role the classes matter only where the file holds them for single parameters.
        """
        found = self._unit_class(layer, role)
        chosen = [self.classes.index(name) for name in classes] if found.shape[-1] == len(self.classes) else [0]
        return np.asarray(found[..., chosen].sum(-1, dtype=np.float64))

    def _unit_class(self, layer: str, role: str = ALL) -> np.ndarray:
        """Return LCA (iteration, unit, class) of the units of a layer; one class where the file has none by unit."""
        return self.reader.keep(("units of", layer, role), lambda: self._read_units(layer, role))

    def _read_units(self, layer: str, role: str) -> np.ndarray:
        if role == ALL and self.has("lca_unit_class"):
            rows = self._unit_rows(layer)
            array = self.ds[self.name("lca_unit_class")].isel(unit=slice(int(rows[0]), int(rows[-1]) + 1))
            return np.asarray(array.transpose("iteration", "unit", "class").values)
        variable = "lca_class" if self.has("lca_class") else "lca"
        part = select(self.ds, layer=layer) if role == ALL else select(self.ds, layer=layer, role=role)
        sums = sum_by(part, "unit", self.name(variable))
        sums = sums if "class" in sums.dims else sums.expand_dims("class", axis=-1)
        return np.asarray(sums.transpose("iteration", "unit", "class").values)

    def class_curves(self, layer: str, unit: int, role: str = ALL) -> np.ndarray:
        """Return cumulative LCA (iteration, class) of one unit, by its channel number; one class where it has none."""
        return self._unit_class(layer, role)[:, self.channels(layer).tolist().index(unit)].cumsum(0, dtype=np.float64)

    def saliency(self, layer: str, unit: int, window: tuple[int, int], classes: tuple[str, ...] = ()) -> xr.DataArray:
        """Return minus the LCA of the weights of a unit over a span, as an image; inputs that are none in one row.

        It is that of classes where the file holds them for single parameters, else of all.
        """
        chosen = self.class_rows(classes or self.classes)
        source = self.name("lca" if chosen is None else "lca_class"), chosen
        named = layer, unit, self._unit_number(layer, unit)
        return saliency_of(self.ds, self.reader, self.name("lca"), named, window, source)

    def inputs_of(self, layer: str, unit: int) -> tuple[str | None, tuple[int, int] | None]:
        """Return the kernel with the weights of a unit's inputs, and the shape of the inputs as one row.

        None instead of the kernel where the layer has one, and instead of the shape where the inputs may be an image.
        """
        _, tensor, shape = kernel_of(self.ds, layer, self._unit_number(layer, unit))
        return tensor, shape

    def _unit_number(self, layer: str, unit: int) -> int:
        """Return the number in the file of a unit, by its channel number."""
        return int(self.ds["unit"].values[self._unit_rows(layer)][self.channels(layer) == unit][0])
