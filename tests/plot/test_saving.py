"""Files of pictures are self-contained; drawing shows nothing by itself."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from tests.support.pictures import curves, plot
from tests.support.processes import WITHOUT_TORCH, run


class Fetched(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name == "src" or (tag == "link" and name == "href")]


def fetched(html):
    parser = Fetched()
    parser.feed(html)
    return parser.found


def test_the_search_for_fetched_files_finds_them():
    assert fetched('<link href="a.css"><script src="https://b/c.js"></script>') == ["a.css", "https://b/c.js"]


@pytest.mark.parametrize("suffix", [".html", ".png"])
def test_files_are_self_contained(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    picture = plot.nqm.steps_to_target(curves(), backend=plot.backend_of(path))
    assert plot.save(picture, path) == path
    content = path.read_bytes()
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
    else:
        assert fetched(content.decode()) == []
        assert b"BokehJS" in content


@pytest.mark.slow
def test_pictures_need_no_torch_and_show_nothing():
    code = WITHOUT_TORCH + (
        "import lcakit.plot as plot\nfrom lcakit.landscapes import nqm\n"
        "plot.wedges\n"
        "loss = nqm.expected_loss(nqm.paper_problem(20), nqm.Optimizer(0.5), [1, 10], [1, 10])\n"
        "plot.nqm.expected_loss(loss)\n"
        "from lcakit.testing import tiny_trajectory\n"
        "tiny_trajectory().lk.plot.layers()"
    )
    assert run(code) == ""
