"""Reports of less than a whole recording: what a file does not hold is said, and what it holds is reported."""

from __future__ import annotations

import pytest

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.views.report import drawing
from tests.support.pages import DOT, write


@pytest.mark.slow
@pytest.mark.parametrize(
    ("drop", "said", "left"),
    [
        (("lca_unit_class", "loss_class"), "no 'lca_unit_class'", 20),
        (("lca", "theta", "gradient"), "no 'lca' (loss change allocation)", 10),
        (("loss", "residual", "first_order", "splits", "accuracy"), "no 'loss'", 20),
    ],
)
def test_what_a_file_does_not_hold_is_said(quick, tmp_path, drop, said, left):
    page = write(tiny_trajectory(30).drop_vars(drop), tmp_path, classes=[])
    assert said in page.text
    assert page.text.count("Not in this report") >= 2
    assert len(page.images) >= left


@pytest.mark.slow
def test_damaged_and_unfinished_files(quick, tmp_path):
    ds = tiny_trajectory(30)
    wrong = ds.assign_coords(tensor_index=ds["tensor_index"] * 0 + 7)
    page = write(wrong, tmp_path)
    assert "not sound" in page.text
    assert not page.images
    assert "not finished" in write(ds.assign_attrs(partial=1), tmp_path, layers=[], classes=[]).text
    with pytest.raises(lk.TrajectoryError, match="no iteration"):
        write(ds.isel(iteration=slice(0), snapshot=slice(1)), tmp_path)


@pytest.mark.slow
def test_a_file_without_lca_does_not_look_complete(quick, tmp_path):
    ds = tiny_trajectory(30)
    page = write(ds.drop_vars([name for name in ds.data_vars if name not in ("theta", "loss")]), tmp_path, layers=[])
    assert "There is no LCA here" in page.text
    assert "most of this one is missing" in page.text
    assert "There is no LCA" not in write(ds, tmp_path, layers=[], classes=[]).text


@pytest.mark.slow
@pytest.mark.parametrize("part", [{"cls": "b"}, {"cls": ["a", "b"]}, {"layer": "fc"}, {"layer": "fc", "cls": "a"}])
def test_a_selection_has_a_report(tmp_path, monkeypatch, part):
    """Its pictures are rendered by Matplotlib, all but the last step to a PNG file."""

    hv, pyplot = pytest.importorskip("holoviews"), pytest.importorskip("matplotlib.pyplot")

    def rendered(element):
        figure = hv.renderer("matplotlib").get_plot(element).state
        assert figure.axes
        pyplot.close(figure)
        return DOT, (60, 38)

    monkeypatch.setattr(drawing, "picture", rendered)
    page = write(tiny_trajectory(30).lk.sel(**part), tmp_path)
    assert "only a part" in page.text
    assert "None" not in page.text
    assert page.images
