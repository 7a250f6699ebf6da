"""The explorer of a trajectory: ``lk.explore(ds)`` in a notebook, ``lcakit view FILE`` in a browser.

The room is called ``explorer`` because a package called like its function would hide it. :mod:`~lcakit.explorer.model`,
:mod:`~lcakit.explorer.tensors` and :mod:`~lcakit.explorer.reading` know what is read for which selection, without
Panel; :mod:`~lcakit.explorer.over_time`, :mod:`~lcakit.explorer.network` and :mod:`~lcakit.explorer.details` draw it;
:mod:`~lcakit.explorer.controls` holds the selection and :mod:`~lcakit.explorer.app` links them. No torch here.
"""

from lcakit.explorer.app import explore

__all__ = ["explore"]
