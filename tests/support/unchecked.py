"""Files that lcakit does not write: of datasets whose parts contradict each other, for opening to refuse."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from lcakit.storage import saving


def save_unchecked(ds: xr.Dataset, path: Path) -> Path:
    """Save a dataset as ``lk.save`` does, without its checks."""
    return saving._save(ds, path, overwrite=False, compression=None, quiet=True, cluster=None)
