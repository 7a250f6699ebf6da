"""Modules by name: those that need an optional package, those imported when first used, and those that have moved.

Also where the files are that come with lcakit beside its code.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from lcakit.errors import MissingPackageError

__all__ = ["EXTRAS", "GONE", "MOVED", "bundled", "faces", "find_moved", "missing", "package", "register_accessor"]


def __dir__() -> list[str]:
    return __all__


EXTRAS = {
    "record": ("torch", "torchvision", "sklearn"),
    "lab": ("holoviews", "panel", "bokeh", "jupyter_bokeh", "jupyterlab", "matplotlib", "PIL"),
    "share": ("pooch", "fsspec", "aiohttp", "requests", "zarr", "safetensors", "pandas", "pyarrow"),
    "transformers": ("transformers", "accelerate"),
    "lightning": ("lightning",),
}
"""What can be imported with each extra of lcakit."""


def bundled(folder: str) -> Path:
    """Return a folder that comes with lcakit: inside the installed package, or beside it in the repository."""
    library = Path(__file__).resolve().parent
    return library / folder if (library / folder).is_dir() else library.parent / folder


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


def register_accessor() -> None:
    """Register ``ds.lk`` once xarray is there; importing xarray for it would make ``import lcakit`` slow."""
    if "xarray" in sys.modules:
        importlib.import_module("lcakit.analysis.accessor")


def faces(module: str, public: Mapping[str, str], shown: str | None = None) -> tuple[Callable[[str], Any], Any]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose public names are imported when they are first used.

    Parameters
    ----------
    module
        Name of the package, its ``__name__``.
    public
        Public name -> module it lives in. Where that module defines nothing of the name, the module itself is meant.
    shown
        The package as users write it, such as ``lk.experiments``; for the error where an optional package is missing.
    """

    def get(name: str) -> Any:
        if name not in public:
            if _kept_name(f"{module}.{name}".partition(".")[2]) is not None:
                return importlib.import_module(f"{module}.{name}")
            begun = sorted(known for known in public if known.startswith(name))
            close = list(dict.fromkeys([*get_close_matches(name, public, n=3), *begun]))[:3]
            hint = f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise AttributeError(f"module {module!r} has no attribute {name!r}{hint}")
        owner = package(public[name], f"{shown or module}.{name}")
        member = vars(owner).get(name, owner)
        value = owner if isinstance(member, ModuleType) else member  # a module of the name inside it is not meant
        setattr(sys.modules[module], name, value)
        return value

    return get, lambda: sorted(public)


# ---- modules that have moved -----------------------------------------------------------------------------------

MOVED = {"budget": "record.budget", "fetching": "sharing.fetching", "studies": "experiments"}
"""Old module -> new module, for those that notebooks, the README or recorded files name: they keep working."""

_RENAMED = {
    "experiments.experiments": "experiments.declared",
    "experiments.experiments.declared": "experiments.declared.experiment",
    "experiments.stored": "experiments.existing",
}
"""Module inside a package that has moved, under the package's new name -> its own new name."""

GONE = {
    "accessor": "analysis.accessor",
    "aggregated": "analysis.resolution",
    "analysis._check": "trajectory.require",
    "animation": "views.animation",
    "archives": "storage.npz",
    "blocks": "storage.blocks",
    "computing": "analysis.computing",
    "explorer": "views.explorer",
    "guard": "storage.guard",
    "handles": "storage.netcdf_reading",
    "interop": "sharing.importers",
    "join": "trajectory.join",
    "labels": "trajectory.labels",
    "netcdfstore": "storage.netcdf",
    "output": "storage.atomic",
    "paths": "storage.paths",
    "provenance": "trajectory.provenance",
    "record.allocate": "record.allocation.allocate",
    "record.allocator": "record.allocation.allocator",
    "record.arriving": "record.host_copy",
    "record.beginning": "record.resume",
    "record.checkpoints": "sharing.importers.checkpoints",
    "record.chunks": "record.objective.chunks",
    "record.cluster": "record.allocation.cluster",
    "record.data": "record.objective.data",
    "record.describe": "record.objective.describe",
    "record.integral": "record.allocation.integral",
    "record.isolation": "record.objective.isolation",
    "record.losses": "record.objective.losses",
    "record.pieces": "record.allocation.axis_blocks",
    "record.probe": "record.objective.checks",
    "record.quadrature": "record.allocation.quadrature",
    "record.spec": "record.allocation.spec",
    "record.statistics": "record.allocation.statistics",
    "record.sweep": "record.objective.sweep",
    "record.together": "record.objective.together",
    "record.tuning": "record.objective.layout",
    "remote": "storage.remote",
    "remote_netcdf": "storage.netcdf_reading",
    "reporting": "views.report",
    "rounding": "sharing.rounding",
    "schema": "trajectory.schema",
    "segments": "storage.segments",
    "select": "trajectory.select",
    "store": "storage.opening",
    "summary": "trajectory.summary",
    "tables": "analysis.tables",
    "validation": "sharing.validation",
    "wholefiles": "storage.atomic",
    "workers": "storage.workers",
    "zarrcluster": "storage.zarr_cluster",
    "zarrstore": "storage.zarr_store",
}
"""Old module -> new module, for those that only the library itself used: importing one raises an error."""


class _Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find modules by their old names, and give the module of the new name for them."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Return a spec for an old name; raise ModuleNotFoundError for one that is gone, naming the new one."""
        top, _, old = fullname.partition(".")
        if top != "lcakit" or not old:
            return None
        if _kept_name(old) is not None:
            return ModuleSpec(fullname, self, is_package=True)
        new = _new_name(old, GONE)
        if new is not None:
            raise ModuleNotFoundError(f"the module {fullname} has moved: import lcakit.{new}", name=fullname)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module under its new name; Python then sets ``__spec__`` to ``spec``."""
        old = spec.name.partition(".")[2]
        new = f"lcakit.{_kept_name(old)}"
        if old in MOVED:  # once for all that is inside; Python shows FutureWarnings to users, not only to developers
            warnings.warn(f"the module {spec.name} has moved: import {new}", FutureWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Execute nothing, the module has been under its new name; give it back its own ``__spec__``."""
        if module.__spec__ is not None:
            module.__spec__ = self._specs.pop(module.__spec__.name)


def _kept_name(old: str) -> str | None:
    """Return the new name of a module whose old name keeps working; None for every other name."""
    moved = _new_name(old, MOVED) or old
    new = _new_name(moved, _RENAMED) or moved
    return new if new != old else None


def _new_name(old: str, table: Mapping[str, str]) -> str | None:
    """Return the new name of an old module, by the longest part of its name that the table has."""
    known, rest = old, ""
    while known not in table:
        known, _, last = known.rpartition(".")
        rest = f".{last}{rest}"
        if not known:
            return None
    return table[known] + rest


def find_moved() -> None:
    """Let Python find modules by their old names."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Moved())  # first: the new package has its old modules on its path
