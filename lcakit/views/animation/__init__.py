"""A layer as a film: ``lk.animate(ds, "fc1")`` plays in a notebook, ``out="fc1.gif"`` or ``.mp4`` writes a file.

:mod:`.frames` reads and reduces the numbers, :mod:`.scale` turns them into codes of colours and back, :mod:`.player`
shows the codes in a browser, and :mod:`.film` paints them for a file. No torch here.
"""

from lcakit.views.animation.animation import Animation, animate

__all__ = ["Animation", "animate"]


def __dir__() -> list[str]:
    return __all__
