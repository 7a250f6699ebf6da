"""Results on one loss surface, or on several: one picture for each, side by side, since their losses share no scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lcakit.plot._style import beside, load

FLOOR = 1e-10
"""Loss below which a surface counts as free of loss in a picture; logarithmic axes end there."""


def each_surface(backend: str, result: Any, draw: Callable[..., Any], title: str) -> Any:
    """Draw a result, or each surface of it, side by side."""
    load(backend)
    if "surface" not in result.dims:
        return draw(result, title)
    names = [str(name) for name in result["surface"].values]
    parts = [draw(result.isel(surface=n, drop=True), f"{title}: {name}") for n, name in enumerate(names)]
    return beside(backend, parts)
