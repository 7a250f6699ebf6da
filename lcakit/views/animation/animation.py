"""``lk.animate``: a layer over the course of training, in a notebook or as a file."""

from __future__ import annotations

import html
import os
from dataclasses import replace
from pathlib import Path

import xarray as xr

from lcakit.errors import unknown
from lcakit.plot._classes import Classes, as_list, in_words, of_classes
from lcakit.storage.atomic import written
from lcakit.storage.given import of_trajectories
from lcakit.storage.paths import writable_now, writable_path
from lcakit.text import printable
from lcakit.views.animation import film, player
from lcakit.views.animation.frames import Frames, frames_of

__all__ = ["Animation", "animate"]


def __dir__() -> list[str]:
    return __all__


_SUFFIXES = (".gif", ".mp4", ".html")


class Animation:
    """A film of a layer, made by :func:`animate`: end a notebook cell with it.

    Space plays and pauses, the arrow keys step. ``frames`` holds the film as numbers.
    """

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __repr__(self) -> str:
        return f"<Animation: {self.frames.title}, {len(self.frames.codes)} frames>"

    def _repr_html_(self) -> str:
        """Return an inline frame with the player, whose scripts cannot reach the notebook."""
        page = html.escape(player.page(self.frames), quote=True)
        high = player.height(self.frames)
        title = html.escape(self.frames.title, quote=True)
        style = f"width: 100%; max-width: {player.WIDTH}px; height: {high}px; border: 0"
        return f'<iframe title="{title}" style="{style}" srcdoc="{page}"></iframe>'

    def save(self, path: str | os.PathLike[str], fps: float = 10.0, quiet: bool = False) -> Path:
        """Write the film to a file.

        Parameters
        ----------
        path, fps, quiet
            See ``out``, ``fps`` and ``quiet`` of :func:`animate`.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ValueError
            For another suffix, or ``fps`` not above 0.
        LcakitError
            If the file cannot be written, or the package that it needs is missing.
        """
        path = writable_path(path)
        suffix = _suffix(path, fps)
        with written(path) as temporary:
            if suffix == ".gif":
                film.write_gif(self.frames, temporary, fps, quiet)
            elif suffix == ".mp4":
                film.write_mp4(self.frames, temporary, fps, quiet)
            else:
                temporary.write_text(player.page(self.frames), encoding="utf-8")
        return path


def _suffix(path: Path, fps: float) -> str:
    """Return the suffix of a film, which says its kind; raise ValueError for others and for a wrong ``fps``."""
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise unknown("suffix of a film", path.suffix, _SUFFIXES)
    if not fps > 0:
        raise ValueError(f"fps is the number of frames per second, above 0; got {fps!r}")
    return suffix


@of_trajectories
def animate(
    ds: xr.Dataset,
    layer: str | None = None,
    iterations: slice | None = None,
    step: int = 1,
    quantity: str = "lca",
    tensor: str | None = None,
    lca: str = "lca",
    out: str | os.PathLike[str] | None = None,
    fps: float = 10.0,
    quiet: bool = False,
    classes: Classes = None,
) -> Animation | Path:
    """Show a layer over the course of training: one frame for each iteration, or for every ``step`` of them.

    Units of a first linear layer on square images are images, convolution kernels a grid of tiles, other layers a
    matrix. Colours are signed logarithms, the same scale in all frames: green helps, red hurts, only exact zero is
    white.

    Parameters
    ----------
    ds
        Trajectory of one run.
    layer
        Name of a layer: its kernel is shown. None: the first kernel.
    iterations
        Slice of labels of iterations, both ends included; None for the whole run.
    step
        Iterations in one frame; none is skipped. LCA is summed over them, gradients are averaged, movement goes from
        the start of the first to the end of the last, cumulative LCA and parameters are those at the end.
    quantity
        ``"lca"``, ``"cumulative"``, ``"gradient"``, ``"movement"`` or ``"theta"``: see
        :func:`lcakit.plot.parameter_map`.
    tensor
        Name of a tensor, instead of a layer.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    out
        File to write: ``.gif``; ``.mp4`` (needs the package imageio-ffmpeg); ``.html``, a page with the player. None:
        a player for a notebook. The page holds all frames, one byte per number, so it plays without the kernel.
    fps
        Frames per second of a ``.gif`` or ``.mp4``; the player has a control for it.
    quiet
        No progress bars.
    classes
        Names of classes (or one name): LCA and loss are theirs; the file needs to be recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    Animation or Path
        A player for a notebook; with ``out``, the file.

    Raises
    ------
    TrajectoryError
        If the file does not hold the quantity, only a part of the tensor, or several runs.
    ValueError
        For an unknown layer, tensor, quantity or suffix, iterations that the run does not have, ``step`` below 1 or
        ``fps`` not above 0; for more than 64 MB of frames, or 2 GB of numbers behind them (the message says which
        ``step`` fits).
    LcakitError
        If the file cannot be written, or the package that it needs is missing.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> animate(tiny_trajectory(), "fc", quiet=True)
    <Animation: LCA of fc.weight, 12 frames>
    """
    if out is not None:
        if _suffix(writable_path(out), fps) == ".mp4":
            film.require_encoder()
        writable_now(out)
    frames = frames_of(of_classes(ds, classes), layer, iterations, step, quantity, tensor, lca, quiet)
    if classes is not None:
        frames = replace(frames, title=f"{frames.title}, {printable(in_words(as_list(classes), ds), 60)}")
    film_of = Animation(frames)
    return film_of if out is None else film_of.save(out, fps, quiet)
