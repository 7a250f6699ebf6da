"""Exact counts of LCA in logarithmic bins, in one pass, without a range to be found first."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from scipy import sparse

from lcakit.analysis._summaries import describe, labelled, map_blocks, members
from lcakit.analysis.kernels.groups import reduce_groups
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.arguments import checks_itself
from lcakit.trajectory.require import require

__all__ = ["OUTCOMES", "SLAB", "histogram", "require_histogram", "trim"]


def __dir__() -> list[str]:
    return __all__


_FINEST = 128  # bins per octave: float32 has 7 mantissa bits in its upper half
SLAB = 1 << 16  # values counted at a time: temporaries stay in the cache, calls stay rare
OUTCOMES = ["helping", "hurting"]
"""The two sides of a histogram of LCA, as they are labelled."""


@of_trajectories
@checks_itself(bins_per_octave=float | str)
def histogram(ds: xr.Dataset, by: str | None = None, lca: str = "lca", bins_per_octave: int = 4) -> xr.Dataset:
    r"""Count LCA in logarithmic bins, helping and hurting apart: exact, in one pass, for any range.

    .. math:: n[o, b] = \#\{(t, i) : \operatorname{sign} A[t, i] = o,\ l_b \le |A[t, i]| < r_b\}, \qquad
              l_{e,j} = 2^e (1 + j / m), \quad 0 \le j < m

    The upper bits of a float32 (sign, exponent, first bits of the mantissa) are the number of its bin, so that no range
    has to be found first. Below 2⁻¹²⁶ the bins have equal widths.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter). float64 data is rounded to float32, which the format stores.
    by
        None for the whole network, or a grouping of :func:`lcakit.aggregate.sum_by`.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    bins_per_octave
        m, a power of two from 1 to 128.

    Returns
    -------
    Dataset
        ``count`` (outcome, bin[, by]), int64, with outcomes ``helping, hurting``; ``zero`` ([by]), exact zeros, which
        no bin counts; ``not_finite`` ([by]), NaN and infinite values, nor these. ``left`` and ``right`` on ``bin`` are
        magnitudes in the unit of the loss; the first bin has no zero. All 255 m bins of float32 are there
        (:func:`trim` cuts the empty ends); with ``by``, 4 kB m a group. A leading ``run`` stays. Lazy.

    Raises
    ------
    TrajectoryError
        If the file does not hold ``lca``.
    ValueError
        For another number of bins, or an unknown grouping.

    Notes
    -----
    Fig. 3b of the paper.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> h = histogram(tiny_trajectory())
    >>> int(h["count"].sum()), int(h["zero"]), 12 * 61
    (588, 144, 732)
    """
    shift = _shift(bins_per_octave)
    array = require(ds, lca)
    dim, ids, names = members(ds, array, by)
    array = array.transpose(..., "iteration", dim)
    codes = 1 << (32 - shift)
    blocks, columns = map_blocks(array.data, ids, partial(_count_block, shift=shift), codes + 1, False, np.int64)
    data = reduce_groups(blocks.sum(axis=-3), columns, names.size).astype(np.int64)  # int64 sums, exact up to 2⁵³
    counts = labelled(data, array, "bin", names)
    hurting, helping = (counts.isel(bin=slice(a, a + codes // 2)) for a in (0, codes // 2))
    finite = codes // 2 - codes // 512  # the highest exponent is that of infinity and NaN
    count = xr.concat(
        [part.isel(bin=slice(finite)) for part in (helping, hurting)],
        dim=xr.DataArray(OUTCOMES, dims="outcome", name="outcome"),
    )
    dims = [d for d in counts.dims if d != "bin"]
    out = xr.Dataset(
        {
            "count": count.transpose(*[d for d in dims if d not in names.dims], "outcome", "bin", ...),
            "zero": counts.isel(bin=codes),
            "not_finite": (helping + hurting).isel(bin=slice(finite, None)).sum("bin"),
        },
        attrs={"bins_per_octave": codes // 512},
    )
    out = describe(
        out, count="values by magnitude", zero="values of zero", not_finite="values that are NaN or infinite"
    )
    return _with_edges(out, shift, finite, str(array.attrs.get("units", "1")))


def _shift(bins_per_octave: int) -> int:
    """Return how many low bits of a float32 a bin ignores."""
    powers = [1 << n for n in range(_FINEST.bit_length())]
    if bins_per_octave not in powers:
        raise ValueError(f"bins_per_octave must be one of {', '.join(map(str, powers))}; got {bins_per_octave!r}")
    return 24 - int(bins_per_octave).bit_length()


def _with_edges(ds: xr.Dataset, shift: int, bins: int, units: str) -> xr.Dataset:
    left = (np.arange(bins, dtype=np.uint32) << np.uint32(shift)).view(np.float32).astype(np.float64)
    edges = {"left": left, "right": np.append(left[1:], 2.0**128)}
    described = {name: {"long_name": f"{name} edge of the bin of magnitudes", "units": units} for name in edges}
    return ds.assign_coords({name: ("bin", values, described[name]) for name, values in edges.items()})


def _count_block(block: np.ndarray, starts: np.ndarray, place: np.ndarray, shift: int) -> np.ndarray:
    """Count a block (…, t, 1, k) by group: (…, 1, codes + 1, groups); the last row has the zeros."""
    lead = block.shape[:-3]
    out = np.zeros((*lead, place.max(initial=-1) + 1, (1 << (32 - shift)) + 1), np.int64)
    for index in np.ndindex(*lead):
        parts = np.split(block[index][:, 0], starts[1:], axis=1)
        for part, group in zip(parts, place, strict=True):
            _count(part, shift, out[(*index, group)])
    return np.moveaxis(out, -1, -2)[..., None, :, :]


def _count(part: np.ndarray, shift: int, counts: np.ndarray) -> None:
    """Add the counts of an array, slab by slab.

    A sparse matrix of one column, with ones in the rows that the codes name, times 1: SciPy adds the ones up row by
    row. That is more than twice as fast as ``np.bincount`` and ``np.add.at``, and unlike these lets other threads run.
    """
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is counted as that
        bits = np.ascontiguousarray(part, np.float32).reshape(-1).view(np.uint32)
    whole = bits.size - bits.size % SLAB
    for slabs in (bits[:whole].reshape(-1, SLAB), bits[whole:].reshape(1, -1)):
        _count_slabs(slabs, shift, counts)


def _count_slabs(slabs: np.ndarray, shift: int, counts: np.ndarray) -> None:
    """Add the counts of slabs of one size: SciPy's matrix is made once, and its rows are written anew for each slab."""
    codes, size = counts.size - 1, slabs.shape[1]
    one, equal = np.ones(1, np.int32), np.empty(size, bool)
    column = sparse.csc_array(
        (np.ones(size, np.int32), np.zeros(size, np.int32), np.array([0, size], np.int32)), shape=(codes, 1)
    )
    rows = column.indices.view(np.uint32)
    for slab in slabs:
        np.right_shift(slab, np.uint32(shift), out=rows)
        found = column @ one
        counts[:-1] += found
        for code in (0, codes // 2):  # of 0 and -0
            if found[code]:
                zeros = np.count_nonzero(np.equal(slab, np.uint32(code << shift), out=equal))
                counts[code] -= zeros
                counts[-1] += zeros


def trim(histogram: xr.Dataset) -> xr.Dataset:
    """Compute a histogram and cut the bins at both ends that are empty everywhere: for plotting.

    Parameters
    ----------
    histogram
        From :func:`histogram`; runs and groups keep common bins.

    Returns
    -------
    Dataset
        The same, in memory. Without bins if nothing is counted.

    Raises
    ------
    ValueError
        For no histogram.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> int(trim(histogram(tiny_trajectory()))["count"].isel(bin=0).sum()) > 0
    True
    """
    histogram = require_histogram(histogram).compute()
    count = histogram["count"]
    filled = np.flatnonzero(count.any([d for d in count.dims if d != "bin"]))
    return histogram.isel(bin=slice(filled[0], filled[-1] + 1) if filled.size else slice(0))


def require_histogram(histogram: xr.Dataset) -> xr.Dataset:
    """Return a histogram of this room, or say that it is none."""
    wanted = ("count", "zero", "not_finite", "left", "right")
    missing = [name for name in wanted if name not in getattr(histogram, "variables", ())]
    if missing:
        raise ValueError(
            f"this is not a histogram of LCA (it lacks {', '.join(missing)}): pass the Dataset of tails.histogram(ds)"
        )
    return histogram
