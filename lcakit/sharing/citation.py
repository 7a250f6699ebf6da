"""A citation of a trajectory, and the data-availability line of a paper."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.sharing.describe import OWNER, Source, fingerprint
from lcakit.storage.opening import open_trajectory
from lcakit.text import printable
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.labels import tensor_shapes
from lcakit.trajectory.provenance import config_of

__all__ = ["cite"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
def cite(source: Source) -> str:
    """Return a citation of a trajectory and a data-availability line for a paper, as plain text.

    Parameters
    ----------
    source
        A file, an unfinished recording, or an open dataset. Its attributes ``author``, ``title``, ``year``, ``doi`` or
        ``url`` and ``license`` are used where they are; what is missing is left to fill in, in square brackets.

    Raises
    ------
    TrajectoryError
        If a path cannot be opened as a trajectory.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> print(cite(tiny_trajectory().assign_attrs(author="A. Student", year=2024)).splitlines()[0][:48])
    A. Student (2024). Training trajectory of a netw
    """
    if not isinstance(source, xr.Dataset):
        with open_trajectory(source) as ds:
            return cite(ds)
    own = {name: printable(source.attrs[name]) for name in OWNER if name in source.attrs}
    place = f"https://doi.org/{own['doi']}" if "doi" in own else own.get("url", "[address]")
    made = printable(source.attrs.get("creator", "lcakit, version not stated"), 60)
    year = own.get("year") or printable(source.attrs.get("created_at", ""), 40)[:4] or "[year]"
    form = f"lcakit format {printable(source.attrs.get('schema_version', '?'), 10)}"
    mark = f"fingerprint sha256:{fingerprint(source)}"
    licence = f", under {own['license']}" if "license" in own else ""
    return (
        f"{own.get('author', '[author]')} ({year}). {own.get('title') or _title(source)} [Data set: trajectory, "
        f"{form}, written by {made}]. {place}. {mark[:35].capitalize()}.\n\n"
        f"Data availability: The training trajectory ({_what(source)}) is available at {place}{licence}, as a netCDF-4 "
        f"file in the {form} ({mark}). It can be checked with `lcakit validate` and read by any netCDF library."
    )


def _title(ds: xr.Dataset) -> str:
    config = config_of(ds)
    if isinstance(config.get("network"), str):
        settings = [f"{key} {config[key]}" for key in ("optimizer", "seed") if key in config]
        return printable(f"Training trajectory of {config['network']} ({', '.join(settings)})")
    return f"Training trajectory of a network of {_parameters(ds)} parameters"


def _what(ds: xr.Dataset) -> str:
    loss = printable(ds.attrs.get("loss_name", "not stated"), 60)
    examples = printable(ds.attrs.get("n_examples", "an unknown number of"), 20)
    data = printable(ds.attrs.get("data_fingerprint", "not stated"), 64)
    return (
        f"{ds.sizes.get('iteration', 0):,} iterations of {_parameters(ds)} parameters; loss {loss} over {examples} "
        f"examples, data sha256:{data[:16]}"
    )


def _parameters(ds: xr.Dataset) -> str:
    try:
        return f"{sum(int(np.prod(shape)) for shape in tensor_shapes(ds).values()):,}"
    except TrajectoryError:
        return "an unknown number of"
