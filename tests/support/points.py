"""Points of a loss landscape."""

from __future__ import annotations

from typing import Any

import numpy as np


def support(points: Any) -> np.ndarray:
    """Say which coordinates are not zero."""
    return np.abs(np.asarray(points)) > 1e-6
