"""The same experiment on several surfaces, side by side in one result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import xarray as xr

from lcakit.landscapes.wedges.surface import Surface
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["Result", "compare"]


def __dir__() -> list[str]:
    return __all__


Result = TypeVar("Result", xr.DataArray, xr.Dataset)


@checks_arguments
def compare(surfaces: Mapping[str, Surface], experiment: Callable[..., Result], **options: Any) -> Result:
    """Run an experiment on several surfaces and join the results.

    Parameters
    ----------
    surfaces
        Surfaces by name: wedges, a network.
    experiment
        Anything that takes a surface first and returns labelled results without a ``parameter`` dimension (θ of
        different surfaces cannot be joined; drop it, or run the surfaces one by one).
    options
        Its further arguments, the same for all.

    Returns
    -------
    DataArray or Dataset
        With a leading dimension ``surface``. Coordinates that only some surfaces have are joined, and NaN fills what
        the others lack.

    Raises
    ------
    ValueError
        For no surfaces, or results by parameter.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges, reachable_loss
    >>> surfaces = {"thin": Wedges(30, 10), "thick": Wedges(30, 20)}
    >>> compare(surfaces, reachable_loss, plane_dimensions=[5, 15]).sizes["surface"]
    2
    """
    if not surfaces:
        raise ValueError("surfaces is empty; give one or more surfaces by name")
    found = [experiment(surface, **options) for surface in surfaces.values()]
    if any("parameter" in result.dims for result in found):
        raise ValueError(
            "the experiment returns values by parameter, which surfaces do not share. "
            "Compare what it says of them (drop 'theta', reduce over 'parameter')."
        )
    name = xr.DataArray(list(surfaces), dims="surface", name="surface", attrs={"long_name": "loss surface"})
    how: dict[str, Any] = {"join": "outer", "coords": "all", "compat": "equals", "combine_attrs": "drop_conflicts"}
    return xr.concat(found, dim=name, **how)
