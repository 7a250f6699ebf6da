"""What a network predicts along a path between two optima."""

from __future__ import annotations

from typing import Any

import torch
import xarray as xr

from lcakit.landscapes.wedges.network import NetworkSurface
from lcakit.landscapes.wedges.paths import path_points
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["label_changes"]


def __dir__() -> list[str]:
    return __all__


_ATTRS = {
    "from_start": "predicted otherwise than at the start",
    "from_end": "predicted otherwise than at the end",
    "from_both": "predicted otherwise than at either end",
    "accuracy": "classified correctly",
}


@checks_arguments
def label_changes(
    surface: NetworkSurface, vertices: Any, x: torch.Tensor, y: torch.Tensor, positions: int = 41
) -> xr.Dataset:
    r"""Return how many predicted labels change on the way between two optima.

    .. math:: \frac1N \#\{n : \hat y_n(t) \ne \hat y_n(0)\}, \qquad
              \hat y_n(t) = \operatorname*{argmax}_c f_c(x_n; γ(t))

    If two optima lie in different wedges, which meet in the middle of their connector, then the function changes from
    that of the one to that of the other there, and labels change in the middle. On data that both have learned nothing
    changes wherever the loss is low; take data that neither has seen.

    Parameters
    ----------
    surface
        A network.
    vertices
        Ends and bends of the path, (V, D): the ``theta`` of :func:`~lcakit.landscapes.wedges.paths.connect`, or two
        optima for the straight line.
    x, y
        Examples and their labels.
    positions
        Points of the path, ends included.

    Returns
    -------
    Dataset
        ``from_start``, ``from_end``, ``from_both`` (different from either end) and ``accuracy``, each (position), as
        shares of the examples.

    Raises
    ------
    ValueError
        For points of another dimension or not finite, or fewer than 2 positions.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import digits_network
    >>> surface = digits_network(20)
    >>> ends = [surface.initial(seed).numpy() for seed in (0, 1)]
    >>> found = label_changes(surface, ends, surface.x, surface.y, positions=3)
    >>> float(found["from_start"][0]), float(found["from_end"][-1])
    (0.0, 0.0)
    """
    points, position = path_points(surface, vertices, positions)
    labels = torch.stack([surface.predict(point, x) for point in points])
    start, end = (labels != labels[k] for k in (0, -1))
    shares = {"from_start": start, "from_end": end, "from_both": start & end, "accuracy": labels == y.cpu()}
    values = {
        name: ("position", share.double().mean(1).numpy(), {"long_name": _ATTRS[name], "units": "1"})
        for name, share in shares.items()
    }
    attrs = {"long_name": "position on the path", "units": "1"}
    return xr.Dataset(values, coords={"position": ("position", position.numpy(), attrs)})
