"""Pictures show the numbers they are given, on both backends; the colour language holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

hv = pytest.importorskip("holoviews")

from lcakit import plot  # noqa: E402
from lcakit.landscapes import nqm, wedges  # noqa: E402
from lcakit.plot import _colours, _style  # noqa: E402
from tests.test_import import WITHOUT_TORCH, run  # noqa: E402

BACKENDS = ("bokeh", "matplotlib")
PROBLEM = nqm.paper_problem(50)
TOY = wedges.Wedges(20, 10)


def curves():
    sizes = 2.0 ** np.arange(12)
    steps = np.stack([1000 * (1 + 64 / sizes), 100 * (1 + 640 / sizes)])
    steps[1, 0] = np.inf
    data = {"steps": (("optimizer", "batch_size"), steps, {"long_name": "steps to the target loss", "units": "steps"})}
    return xr.Dataset(data, {"optimizer": ["sgd", "momentum"], "batch_size": sizes}, {"target": 0.01})


def connected(surface):
    return wedges.connect(surface, *wedges.optima(surface, 2), steps=30).drop_dims("vertex")


@pytest.fixture(scope="module")
def results():
    both = {"a": TOY, "b": wedges.Wedges(15, 5)}
    snapshots = [1, 3, 10, 30]
    optimizer = nqm.Optimizer(0.5)
    helping = nqm.expected_helping(PROBLEM, optimizer, [1, 10], [5, 10, 20])
    over = helping["helping"].mean("direction")
    ends = wedges.optima(TOY, 3)
    counts = wedges.short_directions(TOY, wedges.connect_all(TOY, ends))
    reached = wedges.reachable_loss(TOY, [4, 8, 12], 2)
    schedule = nqm.scheduled_steps(PROBLEM, [4, 64], pieces=4, quiet=True)
    size = xr.DataArray([10.0, 15.0, 17.5], dims="size", coords={"size": [1, 2, 3]})
    return {
        "nqm.steps_to_target": [(curves(),), (curves().isel(optimizer=0),)],
        "nqm.speed_ups": [(curves(),)],
        "nqm.expected_loss": [
            (
                nqm.expected_loss(PROBLEM, optimizer, [1, 10], snapshots),
                nqm.simulate(PROBLEM, optimizer, [1, 10], snapshots, runs=4),
            ),
            (nqm.expected_loss(PROBLEM, optimizer, 1, snapshots),),
        ],
        "nqm.scheduled_steps": [(schedule,)],
        "nqm.schedules": [(schedule,)],
        "nqm.helping": [
            (helping.isel(iteration=1), helping["helping"].isel(iteration=1)),
            (helping.isel(iteration=1, batch_size=0),),
        ],
        "nqm.helping_over_training": [(over, over), (over.isel(batch_size=0),)],
        "wedges.paths": [(connected(TOY),), (wedges.compare(both, connected),)],
        "wedges.reachable": [({"toy": reached}, {"toy": 10}), (reached,)],
        "wedges.cut": [(wedges.plane_cut(TOY, *ends[:2], resolution=11),)],
        "wedges.spectrum": [
            (wedges.spectrum(TOY, ends[0]), 10),
            (wedges.compare(both, lambda s: wedges.spectrum(s, wedges.optima(s, 1)[0])), {"a": 10}),
        ],
        "wedges.radius": [(wedges.radius_effect(TOY, [1, 2, 4], 5),)],
        "wedges.short_directions": [(counts, size), (counts,)],
        "wedges.averages": [(wedges.averaging(TOY, 3),)],
    }


def function(name):
    room, _, last = name.partition(".")
    return getattr(getattr(plot, room), last)


def test_every_picture_is_tested(results):
    names = {f"{room}.{name}" for room in ("nqm", "wedges") for name in getattr(plot, room).__all__}
    assert set(results) == names


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_picture_renders(results, backend):
    for name, calls in results.items():
        for arguments in calls:
            picture = function(name)(*arguments, backend=backend)
            assert isinstance(picture, hv.core.Dimensioned), name
            assert hv.render(picture, backend=backend) is not None


def marks(picture, kind):
    return picture.traverse(lambda element: element, [kind])


def test_steps_to_target_shows_the_numbers_the_guide_and_the_critical_batch_size():
    picture = plot.nqm.steps_to_target(curves())
    lines = {element.label: element for element in marks(picture, hv.Curve) if element.label}
    np.testing.assert_array_equal(lines["sgd"].dimension_values(1), curves()["steps"][0])
    shown = lines["momentum"].dimension_values(1)
    assert np.isnan(shown[0])  # infinite: out of reach
    guide = next(element for element in marks(picture, hv.Curve) if not element.label)
    x, y = (guide.dimension_values(n) for n in (0, 1))
    np.testing.assert_allclose(x * y, 1000 * 65)
    diamonds = [element.dimension_values(0)[0] for element in marks(picture, hv.Scatter)]
    np.testing.assert_allclose(diamonds, nqm.critical_batch_size(curves()).values)


def test_colours_of_an_optimizer_are_the_same_in_both_pictures():
    def colour(picture):
        (element,) = (e for e in marks(picture, hv.Curve) if e.label == "momentum")
        return hv.Store.lookup_options("bokeh", element, "style").kwargs["color"]

    assert colour(plot.nqm.steps_to_target(curves())) == colour(plot.nqm.speed_ups(curves()))


def test_surfaces_stand_side_by_side(results):
    layout = plot.wedges.paths(*results["wedges.paths"][1])
    assert isinstance(layout, hv.Layout)
    assert len(layout) == 2


def test_reachable_marks_the_threshold_and_the_floor(results):
    picture = plot.wedges.reachable(*results["wedges.reachable"][0])
    assert [element.data for element in marks(picture, hv.VLine)] == [10.0]
    (line,) = marks(picture, hv.Curve)
    assert line.dimension_values(1)[-1] == plot.wedges.FLOOR


@pytest.mark.parametrize("scheme", [*_colours.SIGNS])
def test_zero_is_exactly_white_between_helping_and_hurting(scheme):
    cmap, colours = plot.sign_cmap(scheme), plot.sign_colours(scheme)
    assert len(cmap) == 255
    assert (cmap[0], cmap[127], cmap[-1]) == (colours["helping"], "#ffffff", colours["hurting"])


def test_the_colour_scheme_can_be_chosen_for_all():
    before = plot.sign_colours()
    try:
        plot.use_colours("blue-orange")
        assert plot.sign_colours() == plot.sign_colours("blue-orange") != before
    finally:
        plot.use_colours("green-red")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.use_colours("green-rad"), "Did you mean 'green-red'"),
        (lambda: plot.sign_cmap(n=256), "odd"),
        (lambda: plot.nqm.steps_to_target(curves(), backend="plotly"), "unknown backend 'plotly'"),
        (lambda: plot.save(None, "picture.gif"), "unknown suffix of a picture '.gif'"),
        (lambda: _style.rows(xr.DataArray(np.zeros((2, 3, 4)), dims=("a", "b", "x")), "x"), "at most one more"),
        (
            lambda: _style.rows(xr.DataArray(np.zeros((99, 4)), dims=("a", "x"), coords={"a": range(99)}), "x"),
            "too many",
        ),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"long_name": "loss", "units": "nats"}, "loss (nats)"),
        ({"long_name": "steps to the target", "units": "steps"}, "steps to the target"),
        ({"units": "1"}, "some name"),
    ],
)
def test_labels_come_from_the_attributes(attrs, text):
    assert _style.label(xr.DataArray(0, name="some_name", attrs=attrs)) == text


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
