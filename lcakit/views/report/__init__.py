"""The report of a trajectory: one page with its account, its checks, how it was made, and the figures of all studies.

:mod:`.context` holds the trajectory and what a figure needs to know of it; :mod:`.over_time`, :mod:`.noise` and
:mod:`.units` list the figures of loss and layers over training, of learning noise, and of units and parameters;
:mod:`.drawing` makes pictures of them, :mod:`.tables` and :mod:`.page` write HTML, and :mod:`.writing` puts them
together. No torch here.
"""

from lcakit.views.report.writing import report

__all__ = ["report"]


def __dir__() -> list[str]:
    return __all__
