"""Compact copies of a trajectory, for sending: fewer bits, sums instead of parameters, fewer iterations.

What makes them small (``lcakit bench share``, and whole MNIST-FC runs of 880 iterations × 84 060 parameters):

* The last bits of ``gradient`` and LCA are set to zero: 9 of 23 bits of the mantissa stay, which is a relative error
  below 1e-3 for every single number. Zeros, signs and ``theta`` stay exactly what they were.
* Each parameter's series is contiguous (time is the last dimension), and bytes of equal significance lie together
  (the shuffle filter): in the order of the recording copies are an eighth to a sixth larger. Portable zlib does the
  rest: ``theta`` becomes 2.0 times smaller, the others 2.8 times, all three together 2.5 times.

A copy is an ordinary netCDF-4 file that any reader of the format reads; ``lk.open_trajectory`` gives its variables the
usual order of dimensions.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from xarray.backends.locks import HDF5_LOCK

from lcakit.analysis.resolution import RESOLUTIONS, aggregated
from lcakit.errors import RecordingError, TrajectoryError, unknown
from lcakit.progress import progress
from lcakit.sharing.rounding import MANTISSA, relative_error, rounded
from lcakit.storage.atomic import remove_stale, writable_parent, written_whole
from lcakit.storage.netcdf import opened, write_columns, write_netcdf
from lcakit.storage.opening import open_trajectory
from lcakit.storage.paths import given_path, writable_path
from lcakit.text import format_bytes
from lcakit.trajectory import schema
from lcakit.trajectory.arguments import checks_arguments, checks_itself
from lcakit.trajectory.columns import LABELS, is_held
from lcakit.trajectory.select import select_iterations

__all__ = [
    "CHUNK_ENTRIES",
    "CHUNK_ROWS",
    "KEEPBITS",
    "LEVEL",
    "ROUNDED",
    "TIMES",
    "WINDOW_ENTRIES",
    "ShareReport",
    "layout",
    "share",
]


def __dir__() -> list[str]:
    return __all__


KEEPBITS = 9
"""Bits of the mantissa that stay: half a unit of the last one is 2**-10 of the number, so below 1e-3."""

ROUNDED = ("gradient", "lca", "unit_lca", "lca_unit_class", "lca_class")
TIMES = ("snapshot", "iteration")
CHUNK_ROWS, CHUNK_ENTRIES = 256, 2**18  # 1 MB: whole series save 2 % more, and make one iteration slow to read
WINDOW_ENTRIES = 2**22
LEVEL = 4  # of zlib: 6 saves 2 % and takes 2.4 times as long, 1 costs 3 % and takes 0.75 of the time
_PACKED: dict[str, Any] = {"compression": "zlib", "complevel": LEVEL, "shuffle": True}


@dataclass(frozen=True)
class ShareReport:
    """What :func:`share` wrote: sizes in bytes, and the largest relative error of each variable.

    ``bytes_before`` counts the numbers of the source, not packed; ``bytes_after`` is the size of the copy.
    """

    path: Path
    bytes_before: int
    bytes_after: int
    resolution: str
    keepbits: int
    largest_relative_error: dict[str, float] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times smaller the copy is."""
        return self.bytes_before / self.bytes_after

    def to_text(self) -> str:
        """Return the report as lines to print."""
        much = f"{self.ratio:.2f} times smaller"
        if self.ratio < 1:
            much = f"{1 / self.ratio:.2f} times larger: labels and tables outweigh so few numbers"
        lines = [
            f"{self.path}: {format_bytes(self.bytes_before)} of numbers -> {format_bytes(self.bytes_after)}, "
            f"{much} ({self.resolution} resolution)"
        ]
        for name, error in self.largest_relative_error.items():
            told = f"largest relative error {error:.2g}" if error else "lossless"
            lines.append(f"  {name:20} {told}")
        lines += [f"  {name:20} left out" for name in self.dropped]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.to_text()


@checks_arguments
@checks_itself(keepbits=float | None)
def share(
    source: str | os.PathLike[str] | xr.Dataset,
    out: str | os.PathLike[str],
    *,
    resolution: str = "parameter",
    iterations: slice | int | None = None,
    keepbits: int | None = None,
    drop: Sequence[str] = (),
    norms: bool = False,
    overwrite: bool = False,
    quiet: bool = True,
) -> ShareReport:
    r"""Write a compact copy of a trajectory, piece by piece, whole or not at all.

    .. math:: |x' - x| \le 2^{-(k+1)} |x| \quad \text{for k = keepbits}

    Parameters
    ----------
    source
        File, recording, store, URL or dataset of one run.
    out
        The netCDF-4 file to write.
    resolution
        ``"parameter"``: everything. ``"unit"`` or ``"layer"``: LCA summed over each unit or layer, by class where the
        source has it so, without anything per parameter (:mod:`lcakit.analysis.resolution`).
    iterations
        Labels to keep, both ends included; the snapshots at both ends of each stay.
    keepbits
        Bits of the mantissa of ``gradient`` and LCA that stay, 1 … 23; 9 by default, 23 is lossless.
    drop
        Names of variables to leave out, such as ``("theta",)``.
    norms
        At the resolution of units or layers: also keep the L2 norms of gradient and movement, and of the effective
        gradient by class (from ``lca_class``), so that :mod:`lcakit.analysis.synchronization` finds their peaks.
    overwrite
        Replace an older file.
    quiet
        No progress bar.

    Returns
    -------
    ShareReport
        Sizes and errors. The copy has them as attributes, too: ``resolution``, ``keepbits``,
        ``largest_relative_error`` (of the whole file, and on each variable) and ``shared_from``.

    Raises
    ------
    ValueError
        For an unknown resolution or variable, iterations outside the run, or a number of bits that does not exist.
    TrajectoryError
        If the source is not a trajectory of one run, or lacks what the resolution needs.
    RecordingError
        If ``out`` exists (and not ``overwrite``), is the source itself, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from lcakit.testing import tiny_trajectory
    >>> report = share(tiny_trajectory(), tempfile.mkdtemp() + "/small.nc")
    >>> report.largest_relative_error["lca"] < 1e-3
    True
    """
    if resolution not in RESOLUTIONS:
        raise unknown("resolution", resolution, RESOLUTIONS)
    bits = KEEPBITS if keepbits is None else keepbits
    if not 1 <= bits <= MANTISSA or bits != int(bits):
        raise ValueError(f"keepbits must be 1 to {MANTISSA} ({MANTISSA} is lossless), got {keepbits!r}")
    path = writable_path(out)
    _refuse(path, source, overwrite)
    if isinstance(source, xr.Dataset):
        return _share(source, path, resolution, norms, iterations, int(bits), drop, quiet)
    with open_trajectory(source) as ds:
        return _share(ds, path, resolution, norms, iterations, int(bits), drop, quiet)


def _refuse(path: Path, source: Any, overwrite: bool) -> None:
    if path.suffix == ".zarr":
        raise ValueError(f"a compact copy is a netCDF file, got {path}. Save it as a store afterwards: lk.save(ds, …)")
    if path.exists() and not overwrite:
        raise RecordingError(f"{path} exists already. Choose another name, or pass overwrite=True to replace it.")
    name = source.encoding.get("source", "") if isinstance(source, xr.Dataset) else source
    original = given_path(name) if name else Path()
    if path.exists() and original.exists() and path.samefile(original):
        raise RecordingError(f"{path} is the original, which a compact copy cannot replace. Choose another name.")
    writable_parent(path)


def _share(
    ds: xr.Dataset,
    path: Path,
    resolution: str,
    norms: bool,
    iterations: slice | int | None,
    keepbits: int,
    drop: Sequence[str],
    quiet: bool,
) -> ShareReport:
    if "run" in ds.dims:
        raise TrajectoryError("a compact copy holds one run; this dataset has several: take one, ds.isel(run=0)")
    schema.check_version(ds.attrs, "the dataset to share")
    before = ds.nbytes
    dropped = tuple([drop] if isinstance(drop, str) else drop)
    for name in dropped:
        if name not in ds.data_vars:
            raise unknown("variable to leave out", name, [str(n) for n in ds.data_vars])
    copy = aggregated(ds.drop_vars(dropped), resolution, norms)
    copy = copy if iterations is None else select_iterations(copy, iterations)
    try:
        remove_stale(path)
        with written_whole(path) as temporary:
            errors = _write(copy, temporary, keepbits, f"writing {path.name}", quiet)
            attrs = _attributes(ds, resolution, keepbits, max(errors.values(), default=0.0))
            with HDF5_LOCK, netCDF4.Dataset(temporary, "a") as file:
                file.setncatts(attrs)
    except (OSError, RuntimeError) as error:
        raise RecordingError(
            f"cannot write {path}: {error}. Nothing was changed; free some space and try again."
        ) from error
    return ShareReport(path, before, path.stat().st_size, resolution, keepbits, errors, dropped)


def _attributes(ds: xr.Dataset, resolution: str, keepbits: int, error: float) -> dict[str, Any]:
    """Return what a copy says of itself; a copy of a copy counts the errors of both, and names the original."""
    earlier = float(ds.attrs.get("largest_relative_error", 0.0))
    names = ("created_at", "creator", "data_fingerprint", "model_fingerprint")
    origin = ", ".join(f"{name} {ds.attrs[name]}" for name in names if name in ds.attrs)
    return {
        "resolution": resolution,
        "keepbits": min(keepbits, int(ds.attrs.get("keepbits", MANTISSA))),
        "largest_relative_error": earlier + error + earlier * error,
        "shared_from": str(ds.attrs.get("shared_from", origin)),
        "created_at": schema.now(),
        "creator": schema.creator(),
    }


# ---- writing ---------------------------------------------------------------------------------------------------


def layout(dims: Sequence[str], sizes: dict[str, int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the order of a large variable's dimensions in the file (time last), and its chunks of about 1 MB."""
    order = tuple(sorted(dims, key=lambda dim: dim in TIMES))
    rows = max(sizes.get(dim, 1) for dim in TIMES)
    room, chunk = CHUNK_ENTRIES, []
    for dim in reversed(order):
        # equal heights, the same for iterations and snapshots, so that blocks of both lie side by side
        size = -(-rows // -(-rows // CHUNK_ROWS)) if dim in TIMES else 1 << (room.bit_length() - 1)
        chunk.append(min(size, sizes[dim]))
        room = max(1, room // chunk[-1])
    return order, tuple(reversed(chunk))


def _write(ds: xr.Dataset, path: Path, keepbits: int, what: str, quiet: bool) -> dict[str, float]:
    """Write a dataset; return the largest relative error of each large variable."""
    large = [str(name) for name in ds.data_vars if {"parameter", "unit"} & set(ds[name].dims)]
    columns = [name for name in LABELS if name in ds.coords and not is_held(ds[name].size)]
    small = ds.drop_vars([*large, *columns]).load().drop_encoding()
    small.attrs = {k: v for k, v in ds.attrs.items() if k != "partial"} | schema.names_stored(ds)
    write_netcdf(small, path, {name: _encoding(array) for name, array in small.variables.items()})
    with opened(path) as file:
        write_columns(file, ds, columns, **_PACKED)
    sizes = {str(dim): n for dim, n in ds.sizes.items()}
    errors: dict[str, float] = {}
    with progress(sum(ds[name].nbytes for name in large), what, unit="B", quiet=quiet) as bar:
        for name in large:
            bits = keepbits if schema.split_name(name)[0] in ROUNDED else None
            errors[name] = _write_variable(path, ds[name], sizes, bits, bar)
    return errors


def _encoding(array: xr.Variable) -> dict[str, Any]:
    """Return how a small variable is stored: labels of parameters hold long runs of equal numbers."""
    return {"_FillValue": None, **(_PACKED if "parameter" in array.dims else {})}


def _write_variable(path: Path, array: xr.DataArray, sizes: dict[str, int], keepbits: int | None, bar: Any) -> float:
    """Write a large variable, window by window, rounded or as it is; return its largest relative error."""
    order, chunk = layout([str(dim) for dim in array.dims], sizes)
    _create(path, array, order, chunk, sizes, array.dtype.newbyteorder("=") if keepbits is None else np.dtype("f4"))
    error = 0.0
    for window in _windows(array.transpose(*order), chunk):
        place = dict(zip(order, window, strict=True))
        exact = np.asarray(array.isel(place).transpose(*order).values)  # in this order Dask reads no more than that
        stored = exact if keepbits is None else rounded(exact, keepbits)
        error = error if keepbits is None else max(error, relative_error(exact, stored))
        with HDF5_LOCK, netCDF4.Dataset(path, "a") as file:
            variable = file[str(array.name)]
            variable.set_auto_maskandscale(False)
            variable[window] = stored
        bar.update(exact.nbytes)
    return error


def _create(
    path: Path,
    array: xr.DataArray,
    order: tuple[str, ...],
    chunk: tuple[int, ...],
    sizes: dict[str, int],
    dtype: np.dtype[Any],
) -> None:
    coords = " ".join(str(c) for c in array.coords if c not in array.dims)
    with HDF5_LOCK, netCDF4.Dataset(path, "a") as file:
        for dim in order:
            if dim not in file.dimensions:
                file.createDimension(dim, sizes[dim])
        variable = file.createVariable(str(array.name), dtype, order, chunksizes=chunk, **_PACKED)
        variable.setncatts(array.attrs | ({"coordinates": coords} if coords else {}))


def _windows(array: xr.DataArray, chunk: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cut a variable into windows of whole chunks: many parameters, or all units at once, since these may be sums."""
    window = list(chunk)
    for axis in reversed(range(array.ndim - 1)):
        room = WINDOW_ENTRIES // int(np.prod(window))
        whole = array.dims[axis] in ("unit", "class") and "parameter" not in array.dims
        window[axis] = array.shape[axis] if whole else min(array.shape[axis], window[axis] * max(1, room))
    for start in itertools.product(*(range(0, n, w) for n, w in zip(array.shape, window, strict=True))):
        yield tuple(slice(a, min(a + w, n)) for a, w, n in zip(start, window, array.shape, strict=True))
