"""What the tests of reports share: the trajectory that is reported, and a page as a reader sees it."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

import pytest

pytest.importorskip("holoviews")

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from lcakit.views.report import drawing

__all__ = ["CLASSES", "DOT", "EVIL", "LAYERS", "Page", "both_objectives", "unpainted", "write"]

EVIL = '<script>alert("x")</script>$_{&'
LAYERS = (
    TensorSpec("fc1.weight", (5, 16), "kernel", "fc1", "linear"),
    TensorSpec("fc1.bias", (5,), "bias", "fc1", "linear"),
    TensorSpec(f"{EVIL}.weight", (3, 5), "kernel", EVIL, "linear"),
)
CLASSES = ("a", "<b>", "c & d")
DOT = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


class Page(HTMLParser):
    """What a page shows: its figures with their attributes, resources, scripts, and text outside of scripts."""

    def __init__(self, path):
        super().__init__()
        self.images, self.figures, self.resources, self.scripts, self.text = [], [], [], 0, ""
        self._silent = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.resources += [given[name] for name in ("src", "srcset", "data", "action") if name in given]
        self.resources += [given["href"]] if "href" in given else []
        self._silent = tag in ("script", "style")
        self.scripts += tag == "script"
        if tag == "img":
            self.images.append(given)
        if tag == "figure":
            self.figures.append(given)

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        self.text += "" if self._silent else data


def both_objectives(**options):
    ds = tiny_trajectory(30, layers=LAYERS, classes=CLASSES, **options)
    return ds.assign({f"{name}_val": ds[name] * 1.1 for name in ("lca", "loss")})


def unpainted(monkeypatch):
    """Let pictures be computed and drawn as HoloViews elements, but not painted."""
    monkeypatch.setattr(drawing, "picture", lambda element: (DOT, (60, 38)))


def write(ds, folder, **options):
    return Page(lk.report(ds, folder / "report.html", quiet=True, **options))
