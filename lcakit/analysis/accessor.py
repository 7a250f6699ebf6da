"""``ds.lk``: selections by the names of the network, and one-line forwards to the studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import xarray as xr

from lcakit.analysis.aggregate import sum_by
from lcakit.packages import package
from lcakit.trajectory import select, summary
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.require import require
from lcakit.trajectory.select import Iterations, Names, Units

if TYPE_CHECKING:
    from lcakit.plot import OfDataset

__all__ = ["TrajectoryAccessor"]


def __dir__() -> list[str]:
    return __all__


@xr.register_dataset_accessor("lk")
class TrajectoryAccessor:
    """Selections and sums of a trajectory by layer, tensor, unit and class: ``ds.lk``."""

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def __repr__(self) -> str:
        return summary.as_text(self._ds)

    def _repr_html_(self) -> str:
        return summary.as_html(self._ds)

    def sel(
        self,
        layer: Names = None,
        kernel_layer: Names = None,
        tensor: Names = None,
        unit: Units = None,
        cls: Names = None,
        role: Names = None,
        iteration: Iterations | None = None,
    ) -> xr.Dataset:
        """Return the part of the trajectory that all given names have in common. Lazy.

        Parameters
        ----------
        layer, kernel_layer, tensor, role
            A name or several. ``kernel_layer`` includes the biases and norm layers that serve the kernel. The
            ``unit`` dimension keeps the units of the layers that remain (their values are those of the whole
            unit).
        unit
            Channel numbers inside the selected layers; values of the ``unit`` coordinate if no layer or
            tensor is named.
        cls
            A class (its dimension goes) or several. Where these are not all, sums over all classes do not pass for
            those of the selected ones: ``lca`` and ``loss`` become the sums of ``lca_class`` and ``loss_class`` over
            the selected classes, and go where the file does not hold these; ``gradient``, ``accuracy``,
            ``first_order``, ``residual``, ``unit_lca``, ``unit_gradient_norm`` and running statistics of LCA and
            gradients go. So studies of layers and units (from ``lca_unit_class``) are of the selected classes, and
            those of parameters need a file with ``classes="parameter"``.
        iteration
            Label slice, both ends included, one label, or a list of neighbours; the snapshots at both ends of every
            iteration stay.

        Returns
        -------
        Dataset
            With the coordinate ``parameter`` (index in the whole network); the tables stay whole. Of some classes or
            units, with the attribute ``all_classes`` or ``all_units``, their number before.

        Raises
        ------
        ValueError
            For a name that does not exist (with the closest that do) or is not text, a unit that is not a number, or if
            nothing is left.

        Examples
        --------
        >>> from lcakit.testing import tiny_trajectory
        >>> tiny_trajectory().lk.sel(layer="fc", unit=[0, 2], cls="a")["lca_unit_class"].sizes
        Frozen({'iteration': 12, 'unit': 2})
        """
        return select.select(self._ds, layer, kernel_layer, tensor, unit, cls, role, iteration)

    @checks_arguments
    def unflatten(self, tensor: str, variable: str = "lca") -> xr.DataArray:
        """Return a variable of one tensor in its natural shape. Lazy.

        Returns
        -------
        DataArray
            The leading dimensions of the variable, then those of the tensor: ``out, in, ky, kx`` for a 2-D
            convolution, ``out, in`` for a linear kernel, ``out`` for a bias (``in, out, …`` for a transposed
            convolution).

        Raises
        ------
        ValueError
            For an unknown tensor or variable, or if the dataset holds only a part of the tensor.
        """
        return select.unflatten(self._ds, tensor, require(self._ds, variable))

    @checks_arguments
    def by(self, grouping: str, variable: str = "lca") -> xr.DataArray:
        """Return sums by tensor, layer, kernel_layer, unit or role: :func:`lcakit.aggregate.sum_by`."""
        return sum_by(self._ds, grouping, variable)

    @property
    def plot(self) -> OfDataset:
        """Pictures of the trajectory: ``ds.lk.plot.layers()`` is ``lk.plot.layers(ds)`` (needs HoloViews)."""
        pictures = package("lcakit.plot", "ds.lk.plot")  # imported when the first is wanted: HoloViews takes its time
        return cast("OfDataset", pictures.OfDataset(self._ds))
