"""The explorer of a trajectory: ``lk.explore(ds)`` in a notebook, ``lcakit view FILE`` in a browser.

:mod:`~lcakit.views.explorer.model`, :mod:`~lcakit.views.explorer.tensors` and :mod:`~lcakit.views.explorer.reading`
know what is read for which selection, without Panel; :mod:`~lcakit.views.explorer.over_time`,
:mod:`~lcakit.views.explorer.network` and :mod:`~lcakit.views.explorer.details` draw it;
:mod:`~lcakit.views.explorer.controls` holds the selection and :mod:`~lcakit.views.explorer.app` links them. No torch
here.
"""

from lcakit.views.explorer.app import explore

__all__ = ["explore"]


def __dir__() -> list[str]:
    return __all__
