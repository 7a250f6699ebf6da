"""Importers of other formats: each gives a trajectory like any other, lazy where the source is large.

``from_arrays`` takes arrays in memory or from Dask, ``read_lca_hdf5`` the HDF5 files of the original LCA code,
``from_checkpoints`` a series of checkpoints (the only one that needs torch). What a source
does not state (the loss, the data, …) is ``"not stated"`` in the attributes, -1 where it is a number, and can be given
with ``attrs={…}``. Write the result with ``lk.save`` and look at it with ``lk.validate``.
"""

from __future__ import annotations

from lcakit.packages import faces

_PUBLIC = {
    "from_arrays": "lcakit.sharing.importers.arrays",
    "from_checkpoints": "lcakit.sharing.importers.checkpoints",
    "read_lca_hdf5": "lcakit.sharing.importers.lca_hdf5",
}
__all__ = [*_PUBLIC]

__getattr__, __dir__ = faces(__name__, _PUBLIC, "lk.interop")
