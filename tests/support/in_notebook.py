"""Imports HoloViews and Panel as a notebook does: they look, when imported, whether they are in one.

For the process that notebook kernels are forked from; see :mod:`tests.support.forked`.
"""

from __future__ import annotations

import builtins

import IPython

__all__: list[str] = []

builtins.__IPYTHON__, builtins.get_ipython = True, IPython.get_ipython
try:
    import holoviews.plotting.bokeh  # noqa: F401
    import panel  # noqa: F401
finally:
    del builtins.__IPYTHON__, builtins.get_ipython
