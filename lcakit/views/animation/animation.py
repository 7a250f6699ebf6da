"""``lk.animate``: a layer over the course of training, in a notebook or as a file."""

from __future__ import annotations

import html
import os
from pathlib import Path

import xarray as xr

from lcakit.errors import unknown
from lcakit.storage.atomic import written
from lcakit.storage.paths import writable_now, writable_path
from lcakit.views.animation import film, player
from lcakit.views.animation.frames import Frames, frames_of

SUFFIXES = (".gif", ".mp4", ".html")


class Animation:
    """A film that a notebook shows: end a cell with it. Space plays and pauses, the arrow keys step."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __repr__(self) -> str:
        return f"<Animation: {self.frames.title}, {len(self.frames.codes)} frames>"

    def _repr_html_(self) -> str:
        """Return a frame of the page that holds the player: no script of it touches the notebook."""
        page = html.escape(player.page(self.frames), quote=True)
        high = player.height(self.frames)
        title = html.escape(self.frames.title, quote=True)
        style = f"width: 100%; max-width: {player.WIDTH}px; height: {high}px; border: 0"
        return f'<iframe title="{title}" style="{style}" srcdoc="{page}"></iframe>'

    def save(self, path: str | os.PathLike[str], fps: float = 10.0, quiet: bool = False) -> Path:
        """Write the film to a file: see ``out`` of :func:`animate`."""
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
    """Return which kind of film a file will be, if there is such a kind."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise unknown("suffix of a film", path.suffix, SUFFIXES)
    if not fps > 0:
        raise ValueError(f"fps is the number of frames in a second, above 0; got {fps!r}")
    return suffix


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
) -> Animation | Path:
    """Show a layer over the course of training: one frame for each iteration, or for each ``step`` of them.

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
        Slice of labels, both ends included; None for the whole run.
    step
        Iterations of one frame; nothing is left out between frames. LCA is summed over them, gradients are averaged,
        movement is from the start of the first to the end of the last, the others are at the end.
    quantity
        ``"lca"``, ``"cumulative"``, ``"gradient"``, ``"movement"`` or ``"theta"``: see
        :func:`lcakit.plot.parameter_map`.
    tensor
        Name of a tensor, instead of a layer.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    out
        File to write: ``.gif``; ``.mp4`` (needs the package imageio-ffmpeg); ``.html``, a page with the player. None:
        a player for a notebook. All frames are in the page, one byte a number, so it plays without the kernel.
    fps
        Frames in a second, of a ``.gif`` or ``.mp4``; the page of an ``.html`` has a choice of its own.
    quiet
        No progress bars.

    Returns
    -------
    Animation, or the Path of the file

    Raises
    ------
    ValueError
        For more than 64 MB of frames, or 2 GB of the numbers they are made of: the message says which ``step`` fits.
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
    film_of = Animation(frames_of(ds, layer, iterations, step, quantity, tensor, lca, quiet))
    return film_of if out is None else film_of.save(out, fps, quiet)
