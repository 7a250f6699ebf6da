"""Packages that are only needed for some things: imported where they are used, and named with the remedy if missing."""

from __future__ import annotations

import importlib
from typing import Any

from lcakit.errors import MissingPackageError

EXTRAS = {
    "record": ("torch", "torchvision", "sklearn"),
    "lab": ("holoviews", "panel", "bokeh", "jupyter_bokeh", "jupyterlab", "matplotlib", "PIL"),
    "share": ("pooch", "fsspec", "aiohttp", "requests", "h5netcdf", "h5py", "zarr", "safetensors", "pandas", "pyarrow"),
}
"""What can be imported with each extra of lcakit."""


def package(name: str, purpose: str) -> Any:
    """Return a module of an optional package.

    Raises
    ------
    MissingPackageError
        If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "lcakit":
            raise  # no package to install, but a fault
        raise missing(error, purpose) from error


def missing(error: ModuleNotFoundError, purpose: str) -> MissingPackageError:
    """Return the error that says which package ``purpose`` needs and how to install it."""
    name = str(error.name)
    extra = next((extra for extra, names in EXTRAS.items() if name.partition(".")[0] in names), None)
    remedy = f"'lcakit[{extra}]'" if extra else name
    return MissingPackageError(f"{purpose} needs the package {name}: pip install {remedy}", name=name)
