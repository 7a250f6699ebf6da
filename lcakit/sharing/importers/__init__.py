"""Other people's formats in: each importer gives a trajectory like any other, lazy where the source is large.

``from_arrays`` takes arrays in memory or from Dask, ``read_lca_hdf5`` the HDF5 files of the original LCA code. A series
of checkpoints is read by ``lk.from_checkpoints``, which needs torch and so lives in ``lcakit.record``. What a source
does not state (the loss, the data, …) is ``"not stated"`` in the attributes, -1 where it is a number, and can be given
with ``attrs={…}``. Write the result with ``lk.save`` and look at it with ``lk.validate``.
"""

from __future__ import annotations

from lcakit.sharing.importers.arrays import from_arrays
from lcakit.sharing.importers.lca_hdf5 import read_lca_hdf5

__all__ = ["from_arrays", "read_lca_hdf5"]
