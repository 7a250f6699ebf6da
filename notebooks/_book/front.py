"""The picture on the front page and in the README: ``python notebooks/_book/front.py`` draws it anew."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import lcakit as lk

PICTURE = Path(__file__).parents[1] / "_static" / "front.png"
HEIGHT, GAP = 560, 40  # pixels


def pictures() -> list[Any]:
    """Return who does the work: layers over time, and the parameters of the first layer in one iteration."""
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return [
        lk.plot.layers_over_time(ds, backend="matplotlib", title="Which layer lowered the loss?"),
        lk.plot.parameter_map(
            ds, "fc1", iteration=40, backend="matplotlib", title="Iteration 40: who helped (green), who hurt (red)"
        ),
    ]


def beside(paths: list[Path]) -> Image.Image:
    """Return pictures side by side on white, all of one height."""
    images = [Image.open(path).convert("RGB") for path in paths]
    images = [image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.LANCZOS) for image in images]
    whole = Image.new("RGB", (sum(image.width for image in images) + GAP * (len(images) - 1), HEIGHT), "white")
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + GAP
    return whole


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        paths = [lk.plot.save(picture, Path(folder) / f"{n}.png") for n, picture in enumerate(pictures())]
        beside(paths).quantize(256).save(PICTURE, optimize=True)
    print(PICTURE, PICTURE.stat().st_size)
