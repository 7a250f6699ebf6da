"""How a trajectory came to be: the call that made it, the versions of the libraries, the configuration of the run.

Recording stores (attributes): ``created_by`` (the command or call with its options), ``versions`` (of Python and of the
libraries), ``creator``, ``created_at``, ``seed``, fingerprints of data and model; an allocation adds ``allocated_by``.
The owner may add ``author``, ``title``, ``year``, ``url`` or ``doi``, ``license``: ``ds.attrs["author"] = "…"``, then
``lk.save``. Older files lack some of these. :mod:`lcakit.sharing` describes and cites files by them.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import RecordingError

__all__ = ["checked_config", "command_line", "config_of", "made_by", "versions", "with_config"]


def __dir__() -> list[str]:
    return __all__


_LIBRARIES = ("numpy", "torch", "xarray", "netCDF4", "lcakit")
_NONE_IS_A_CHOICE = ("tolerance", "classes")  # options whose None is worth storing


def made_by(call: str, **options: Any) -> dict[str, str]:
    """Return the attributes ``created_by`` and ``versions`` for what is being made.

    Parameters
    ----------
    call
        Public name of the function or class, such as ``lk.Recorder``; the typed command stands in its place where
        lcakit was run as one.
    options
        Those of its arguments that a line of text can hold.

    Examples
    --------
    >>> made_by("lk.Recorder", rule="rk4", every=1)["created_by"]
    "lk.Recorder(rule='rk4', every=1)"
    """
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    told = ", ".join(
        f"{name}={value!r}" for name, value in plain.items() if value is not None or name in _NONE_IS_A_CHOICE
    )
    return {"created_by": command_line() or f"{call}({told})", "versions": versions()}


def command_line() -> str:
    """Return the command that was typed, if this process is ``lcakit`` or ``python -m lcakit.cli``; else nothing."""
    program = Path(sys.argv[0])
    typed = "lcakit" in program.name or program.parts[-3:] == ("lcakit", "cli", "__main__.py")
    return shlex.join(["lcakit", *sys.argv[1:]]) if typed else ""


def versions() -> str:
    """Return the versions of Python and of the libraries that are loaded, such as ``python 3.12.1, numpy 2.1.0``."""
    loaded = [name for name in _LIBRARIES if name in sys.modules]
    return ", ".join([f"python {platform.python_version()}", *(f"{name} {_version(name)}" for name in loaded)])


def _version(library: str) -> str:
    own = getattr(sys.modules[library], "__version__", None)
    return str(own) if own else importlib.metadata.version(library)


def checked_config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a configuration to store; raise RecordingError where JSON cannot hold it."""
    config = dict(config or {})
    for key, value in config.items():
        try:
            json.dumps({key: value})
        except (TypeError, ValueError) as error:
            raise RecordingError(
                f"config[{key!r}] cannot be stored: {error}. Allowed: texts, numbers, True, False, None, and lists and "
                "dicts of these; str(…) makes a text of anything."
            ) from error
    return config


def with_config(ds: xr.Dataset, config: Mapping[str, Any]) -> xr.Dataset:
    """Return ``ds`` with a configuration, as JSON; without one, ``ds`` itself."""
    if not config:
        return ds
    attrs = {"long_name": "configuration of the run, as JSON", "units": "1"}
    return ds.assign(config=xr.Variable((), json.dumps(config), attrs))


def config_of(ds: xr.Dataset) -> dict[str, Any]:
    """Return the configuration stored in a file; {} where there is none, or none that can be read."""
    try:
        config = json.loads(str(ds["config"].values)) if "config" in ds else {}
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
