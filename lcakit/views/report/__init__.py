"""The report of a trajectory: one page with its account, its checks, how it was made, and the figures of all studies.

The room is called ``reporting`` because a room called like its function would hide the function. :mod:`.subject` says
what is reported; :mod:`.course`, :mod:`.noise` and :mod:`.parts` list figures of the course of training, of learning
noise, and of units and parameters; :mod:`.drawing` makes pictures of them, :mod:`.tables` and :mod:`.page` write HTML,
and :mod:`.writing` puts them together. No torch here.
"""

from lcakit.views.report.writing import report

__all__ = ["report"]
