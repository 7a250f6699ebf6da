"""Several runs in an explorer: configurations, curves of all, maps of two side by side, files of a folder."""

from __future__ import annotations

import os
from urllib.parse import quote

import numpy as np
import pytest
import xarray as xr
from scipy import stats

pytest.importorskip("panel")

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.configurations import configurations
from lcakit.trajectory.provenance import with_config
from lcakit.views.explorer import address, app
from lcakit.views.explorer.file_widgets import file_widgets
from lcakit.views.explorer.folder import Folder
from lcakit.views.explorer.opened import Library
from tests.support.explorers import IMAGES, QUIET, number, text

pytestmark = QUIET


def run(seed, **config):
    ds = tiny_trajectory(20, layers=IMAGES, class_parameters=True, seed=seed)
    return with_config(ds, config | {"seed": seed})


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = {f"net-{kind}-{seed}": run(seed + 10 * n, kind=kind) for n, kind in enumerate("xy") for seed in range(3)}
    made["other-0"] = tiny_trajectory(8)
    return [lk.save(ds, folder / f"{name}.nc") for name, ds in made.items()]


@pytest.fixture
def ex(paths):
    return lk.explore(paths)


def lca(path):
    with xr.open_dataset(path) as ds:
        return ds["lca_class"].values.astype(float)


# ---- configurations --------------------------------------------------------------------------------------------


def test_configurations_go_by_what_is_stored_then_by_names():
    plain = xr.Dataset()
    assert configurations({"a-1": plain, "a-2": plain, "b": plain}) == {"a": ["a-1", "a-2"], "b": ["b"]}
    stored = {"run-1": run(1, rate=0.1), "run-2": run(2, rate=0.1), "run-3": run(3, rate=0.2)}
    assert configurations(stored) == {"run-1": ["run-1", "run-2"], "run-3": ["run-3"]}
    assert configurations({"x_1": plain}) == {"x": ["x_1"]}
    assert configurations({"12": plain, "13": plain}) == {"12": ["12", "13"]}
    assert configurations({}) == {}


def test_every_run_is_in_one_configuration_with_a_name_of_its_own():
    rng = np.random.default_rng(0)
    for _ in range(50):
        names = {"".join(rng.choice(list("ab-1/"), rng.integers(1, 6))) for _ in range(6)}
        found = configurations(dict.fromkeys(sorted(names), xr.Dataset()))
        assert sorted(name for runs in found.values() for name in runs) == sorted(names)
        assert all(found)


# ---- curves ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_layer_curves_of_every_run(ex, paths):
    ex.selection.param.update(layer="b", classes=["a", "c"], window=(4, 15))
    found = ex.data("runs")
    assert found["run"].values.tolist() == [f"net-{kind}-{seed}" for kind in "xy" for seed in range(3)]
    for row, path in zip(found.values, paths, strict=False):
        np.testing.assert_allclose(row, lca(path)[4:16, :, 85:][:, [0, 2]].sum((1, 2)).cumsum(), rtol=2e-5)
    view = ex._explorer.runs
    drawn = view.overlay.lines.data
    assert drawn["legend"] == ["net-x"] * 3 + ["net-y"] * 3  # a file of another network stands beside them
    assert "1 run without this layer, class or unit left out" in text(view.caption)
    assert f"net-x-0 {number(found.values[0, -1])}" in text(view.caption)
    names: dict = {}
    exec(ex.code("runs"), names)
    np.testing.assert_allclose(names["numbers"], found, rtol=2e-5)


@pytest.mark.slow
def test_means_and_intervals_of_configurations(ex, paths):
    ex.selection.param.update(overlay="mean and interval", layer="b", configurations=["net-y"])
    sums = np.stack([lca(path)[:, :, 85:].sum((1, 2)).cumsum() for path in paths[3:6]])
    mean, half = sums.mean(0), stats.t.ppf(0.975, 2) * sums.std(0, ddof=1) / 3**0.5
    view = ex._explorer.runs
    np.testing.assert_allclose(view.overlay.lines.data["ys"][0], mean, rtol=1e-5)
    (edge,) = view.overlay.shades.data["ys"]
    np.testing.assert_allclose(edge, np.concatenate([mean - half, (mean + half)[::-1]]), rtol=1e-4)
    said = f"net-y {number(mean[-1])} (95 % interval {number(mean[-1] - half[-1])} to"
    assert said.replace(f"{number(mean[-1])} ", "").split(" (")[0] in text(view.caption)
    loss = ex._explorer.loss
    assert loss.overlay.lines.data["legend"] == ["net-y (3 runs)"]
    assert "Shaded: net-y" in text(loss.caption)
    ex.selection.configurations = []
    assert "Choose at least one configuration." in text(view.caption)


@pytest.mark.slow
def test_a_single_run_has_no_such_views(paths):
    ex = lk.explore(paths[0])
    assert not ex._explorer.controls.other.visible
    with pytest.raises(ValueError, match="open them together"):
        ex.data("pair")


# ---- two runs --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_maps_of_two_runs_and_their_difference(ex, paths):
    ex.selection.param.update(other="net-y-1", layer="b", classes=["b"], iteration=7)
    ours, theirs = (lca(path)[7, 1, 85:] for path in (paths[0], paths[4]))
    found = ex.data("pair")
    np.testing.assert_allclose(found["lca"], [ours, theirs], rtol=1e-6)
    np.testing.assert_allclose(found["difference"], ours - theirs, rtol=1e-6)
    view = ex._explorer.pair
    first, second, difference = (heat.source.data["image"][0][::-1] for heat in view.heats)
    np.testing.assert_allclose(first - second, difference, atol=1e-5)
    assert view.heats[0].mapper.high == view.heats[1].mapper.high
    assert f"together {number(ours.sum())} and {number(theirs.sum())} nats" in text(view.caption)
    for fields in ({}, {"whole": True, "window": (2, 9), "classes": ["a", "b", "c"]}, {"quantity": "weight"}):
        ex.selection.param.update(**fields)
        names: dict = {}
        exec(ex.code("pair"), names)
        np.testing.assert_allclose(np.squeeze(names["numbers"]), ex.data("pair")["difference"], rtol=2e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"other": ""}, "Choose a run"),
        ({"other": "net-x-0"}, "is the same run"),
        ({"other": "other-0"}, "has no layer a: it is another network"),
    ],
)
def test_what_does_not_go_together_is_told(ex, fields, reason):
    ex.selection.param.update(**fields)
    assert reason in text(ex._explorer.pair.caption)
    assert not any(fig.visible for fig in ex._explorer.pair.figures)


@pytest.mark.slow
def test_runs_of_other_iterations_or_shapes_are_told():
    runs = {"long": tiny_trajectory(9), "short": tiny_trajectory(4)}
    page = app.Explorer(app.Models(runs))
    page.controls.live.param.update(other="short", iteration=6)
    assert "short has no iteration" in text(page.pair.caption)
    page.controls.live.param.update(iteration=2, window=(0, 3))
    assert "on one scale of colours" in text(page.pair.caption)


# ---- files of the folder ---------------------------------------------------------------------------------------


def test_only_trajectories_of_the_folder_itself_are_listed(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "secret.nc"
    (inside / "deeper").mkdir(parents=True)
    for path in (outside, inside / "b.nc", inside / "a.nc", inside / ".hidden.nc", inside / "deeper" / "c.nc"):
        path.write_bytes(b"")
    (inside / "notes.txt").write_text("")
    (inside / "z.nc.partial").mkdir()
    (inside / "a.nc.partial").mkdir()  # beside a finished file
    (inside / "empty.zarr").mkdir()
    os.symlink(outside, inside / "link.nc")
    os.symlink(inside / "a.nc", inside / "same.nc")
    folder = Folder(inside)
    assert folder.names() == ["a.nc", "b.nc", "same.nc", "z.nc.partial"]
    for name in ("../secret.nc", str(outside), "link.nc", "deeper/c.nc", ".hidden.nc", "a.nc/../../secret.nc", "", "."):
        with pytest.raises(ValueError, match="unknown file of this folder"):
            folder.path(name)
    assert Folder(tmp_path / "gone").names() == []


def test_a_library_opens_what_it_lists(paths):
    library = Library(paths[0], paths[0].parent)
    assert library.get("") is library.own
    other = library.get("other-0.nc")
    assert other.models.ds.sizes["iteration"] == 8
    assert library.get("other-0.nc") is other
    assert library.names() == sorted(path.name for path in paths)
    assert Library(paths[0]).names() == []
    with pytest.raises(ValueError, match="unknown file"):
        library.get("../other-0.nc")


@pytest.mark.slow
def test_the_address_keeps_the_file(paths):
    page = app.Explorer(app.Models(lk.open_trajectory(paths[0])), files=["x", "a&b=?.nc"], shown=["a&b=?.nc"])
    page.controls.live.layer = "b"
    parameter = page.controls.live.parameter  # it follows the layer
    assert page.address._shown.value == f"?file=a%26b%3D%3F.nc&layer=b&parameter={quote(parameter)}"
    assert address.asked(page.address._shown.value) == {"layer": "b", "parameter": parameter}
    page.controls.panel[0][0][0].value = 0
    assert page.address._opened.value == "?"


def test_several_files_of_the_folder_are_opened_together(paths):
    library = Library(paths[0], paths[0].parent)
    names = library.names()
    both = library.get(*names[:2])
    assert both.models.runs == [name.removesuffix(".nc") for name in names[:2]]
    assert library.get(*names[:2]) is both
    with pytest.raises(ValueError, match="61 files are too many"):
        library.get(*(f"run-{n}.nc" for n in range(61)))
    opened: list[tuple[str, ...]] = []
    one, card = file_widgets(["x.nc", *names], names[:2], lambda *given: opened.append(given))
    several, button = card
    assert (one.value, several.value, button.disabled, card.collapsed) == (-1, [0, 1], False, False)
    several.value = [3, 1]
    button.clicks += 1
    one.value = 0
    one.value = 2
    assert opened == [(names[1], names[3]), (), (names[1],)]
    several.value = [1]
    assert button.disabled
    (_, card) = file_widgets(["x.nc", *names], [], opened.append)
    assert card.collapsed
    page = app.Explorer(both.models, files=["x.nc", *names], shown=names[:2])
    page.controls.live.layer = "b"
    assert page.address._shown.value.startswith(f"?file={names[0]}&file={names[1]}&layer=b")
