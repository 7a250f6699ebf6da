"""Pictures of the noisy quadratic and of wedges show the numbers they are given, on both backends."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from lcakit.landscapes import nqm, wedges
from lcakit.plot._surfaces import FLOOR
from tests.support.pictures import QUICK_BACKENDS, curves, hv, marks, plot

PROBLEM = nqm.paper_problem(50)
TOY = wedges.Wedges(20, 10)
NAMES = [f"{module}.{name}" for module in ("nqm", "wedges") for name in getattr(plot, module).__all__]


def connected(surface):
    return wedges.connect(surface, *wedges.optima(surface, 2), steps=30).drop_dims("vertex")


def changed_labels():
    """Shares along two paths, as of :func:`wedges.label_changes`."""
    shares = xr.DataArray(
        [[0.0, 0.5, 0.2]] * 2, {"path": ["a", "b"], "position": [0.0, 0.5, 1.0]}, ["path", "position"]
    )
    return xr.Dataset(dict.fromkeys(("from_start", "from_end", "from_both", "accuracy"), shares))


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
    changes = changed_labels()
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
        "wedges.label_changes": [(changes,), (changes.isel(path=0, drop=True),)],
    }


def function(name):
    module, _, last = name.partition(".")
    return getattr(getattr(plot, module), last)


def test_every_picture_is_tested(results):
    assert set(results) == set(NAMES)


@pytest.mark.parametrize("backend", QUICK_BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_picture_renders(results, name, backend):
    for arguments in results[name]:
        picture = function(name)(*arguments, backend=backend)
        assert isinstance(picture, hv.core.Dimensioned)
        assert hv.render(picture, backend=backend) is not None


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
    assert line.dimension_values(1)[-1] == FLOOR
