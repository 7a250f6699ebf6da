"""The page of a report: every study has its figures, its numbers are those of the file, and nothing is fetched."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("holoviews")

import lcakit as lk
from lcakit.analysis.layerwise import layer_lca
from lcakit.cli.main import main
from lcakit.progress import progress
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.join import join
from lcakit.trajectory.provenance import with_config
from lcakit.views.report import beside, drawing, findings, noise, over_time, writing
from lcakit.views.report.context import number, percent
from tests.support.pages import CLASSES, EVIL, Page, both_objectives, unpainted, write

IMAGE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A trajectory with two objectives, and its report with everything in it."""
    ds = both_objectives().assign_attrs(title=IMAGE, url="https://example.org/run.nc")
    with pytest.MonkeyPatch.context() as monkeypatch:
        unpainted(monkeypatch)
        return ds, write(ds, tmp_path_factory.mktemp("report"))


@pytest.mark.slow
def test_every_study_has_its_figures(whole):
    _, page = whole
    layers, classes = ["fc1", EVIL], ["", *CLASSES]
    single = 18 + findings.MOST  # groups of one figure
    switched = 2 * len(classes) + len(["", *layers]) + len(layers) * len(classes) + 2 * len(layers)
    assert len(page.images) == len(page.figures) == single + switched
    assert "Not in this report" not in page.text
    assert {(one["data-layer"], one["data-cls"]) for one in page.figures} >= {
        (EVIL, "<b>"),
        ("fc1", "c & d"),
        ("", "a"),
    }
    assert all(one["alt"] and one["alt"].count(": ") for one in page.images)


def test_nothing_is_fetched_and_nothing_of_the_file_is_markup(whole):
    _, page = whole
    assert all(re.match(r"data:image/png;base64,|#", one) for one in page.resources)
    assert page.scripts == 1
    assert EVIL in page.text
    assert IMAGE in page.text


def test_numbers_are_those_of_the_account(whole):
    ds, page = whole
    for suffix in (None, "val"):
        for label, value, meaning in lk.account(ds, suffix).rows():
            assert all(part in page.text for part in (label.strip(), value, meaning)), label
    helping = 100 * float(lk.noise.fraction_helping(ds))
    assert f"{helping:.2f} % help" in page.text
    top = int(np.argmin(ds.lk.by("unit").sum("iteration")[:5].values))
    assert f"the strongest is unit {top} with" in page.text
    assert f"This file is {'sound' if lk.validate(ds, quiet=True).ok else 'not sound'}" in page.text
    assert lk.cite(ds).split("\n")[0] in page.text


def test_maps_of_a_class_are_of_that_class(whole):
    ds, page = whole
    maps = {one["alt"] for one in page.images if one["alt"].startswith("Iteration by iteration")}
    by_class = layer_lca(ds, classes=True).values
    for n, cls in enumerate(CLASSES):
        (said,) = (alt for alt in maps if alt.startswith(f"Iteration by iteration, class {cls}: "))
        values = by_class[..., n]
        place = np.unravel_index(np.abs(values).argmax(), values.shape)
        assert f"in iteration {place[0]}, {number(values[place], 'nats', True)}." in said
        assert f"{percent((values > 0).mean())} of these cells" in said
    assert len({alt.partition(": ")[2] for alt in maps}) == 1 + len(CLASSES)


@pytest.mark.slow
def test_a_file_is_read_in_one_pass(quick, tmp_path, monkeypatch):
    ds = both_objectives(chunks={"iteration": 10, "snapshot": 10})
    reads = []
    lca = ds["lca"].data.map_blocks(
        lambda block: (reads.append(block.shape), block)[1], dtype=np.float32, meta=np.empty((0, 0), np.float32)
    )
    write(ds.assign(lca=ds["lca"].copy(data=lca)), tmp_path, classes=[])
    passes = len(reads) / ds["lca"].data.npartitions
    assert passes <= 7  # checks, account, all figures, and what depends on results of those; alone, each of 30 figures


@pytest.mark.slow
def test_choice_of_layers_and_classes(quick, tmp_path):
    page = write(both_objectives(), tmp_path, layers=["fc1"], classes=[])
    assert {(one["data-layer"], one["data-cls"]) for one in page.figures} == {("", ""), ("fc1", "")}
    with pytest.raises(ValueError, match="'fc1'"):
        write(both_objectives(), tmp_path, layers=["fc2"])
    with pytest.raises(ValueError, match="'<b>'"):
        write(both_objectives(), tmp_path, classes=["b"])
    with pytest.raises(ValueError, match=r"\.html"):
        lk.report(both_objectives(), tmp_path / "run.nc", quiet=True)
    with pytest.raises(lk.LcakitError, match="cannot write"):
        lk.report(tiny_trajectory(5), tmp_path / "report.html" / "a.html", [], [], quiet=True)


@pytest.mark.slow
def test_several_runs_are_reported_together(quick, tmp_path):
    paths = [lk.save(tiny_trajectory(30, seed=seed), tmp_path / f"run-{seed}.nc") for seed in (0, 1)]
    page = Page(lk.report(paths, tmp_path / "runs.html", layers=["fc"], classes=[], quiet=True))
    assert "means over runs" in page.text
    assert "(run run-0)" in page.text
    for seed in (0, 1):
        assert f"{lk.account(tiny_trajectory(30, seed=seed)).lca_sum:.6g}" in page.text
    assert len(page.images) > 15


def test_what_cannot_be_written_is_said_before_anything_is_read(quick, tmp_path, monkeypatch):
    def read(*_, **__):
        raise AssertionError("read")

    monkeypatch.setattr(writing, "validate", read)
    (tmp_path / "file").write_text("")
    with pytest.raises(lk.LcakitError, match=r"cannot write .*a\.html"):
        lk.report(tiny_trajectory(5), tmp_path / "file" / "a.html", quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize("drop", [(), ("lca", "theta", "gradient")])
def test_the_bar_ends_at_its_total(quick, tmp_path, monkeypatch, drop):
    bars = []

    def kept(*args, **options):
        bars.append(progress(*args, **options))
        return bars[-1]

    monkeypatch.setattr(drawing, "progress", kept)
    lk.report(tiny_trajectory(30).drop_vars(drop), tmp_path / "a.html", [], [])
    assert [bar.n for bar in bars] == [bar.total for bar in bars]
    assert bars[0].total > 10


@pytest.mark.slow
def test_command_writes_beside_the_file(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lk.save(tiny_trajectory(30), "run.nc")
    assert main(["report", "run.nc", "--layers", "--classes"]) == 0
    assert "report" in (tmp_path / "run.html").read_text()
    assert main(["animate", "run.nc", "--layer", "fc", "-o", "fc.gif", "--iterations", "0:9", "--step", "2"]) == 0
    assert (tmp_path / "fc.gif").stat().st_size > 1000
    assert capsys.readouterr().out.split() == ["run.html", "fc.gif"]
    assert main(["report", "run.nc", "-o", "run.nc"]) == 2


def unlike(*rates):
    runs = {f"run-{n}": with_config(tiny_trajectory(30, seed=n), {"rate": rate}) for n, rate in enumerate(rates)}
    return join(runs)


@pytest.mark.slow
def test_runs_of_several_configurations_are_never_averaged(quick, tmp_path, monkeypatch):
    averaged, mean = [], over_time.mean_over_runs
    for module in (over_time, beside, findings, noise):
        monkeypatch.setattr(
            module, "mean_over_runs", lambda array: (averaged.append(array), mean(array))[1], raising=False
        )
    ds = unlike(0.1, 0.2, 0.1)
    page = Page(lk.report(ds, tmp_path / "a.html", layers=[], classes=[], quiet=True))
    assert "The runs are of 2 configurations: run-0 (2), run-1 (1)." in page.text
    for title in ("run-0: Findings", "run-1: Findings", "run-0: Loss", "run-1: Loss"):
        assert title in page.text
    allowed = [["run-0", "run-2"], ["run-1"]]
    assert averaged
    assert all(array["run"].values.tolist() in allowed for array in averaged if "run" in array.dims)
    ends = ds["loss"].values[:, -1]
    assert f"run-0 {number(ends[[0, 2]].mean(), 'nats')} (2 runs), run-1 {number(ends[1], 'nats')} (1 run)" in page.text
    for n in range(3):
        assert f"{lk.account(ds.isel(run=n, drop=True)).lca_sum:.6g}" in page.text
    with pytest.raises(lk.TrajectoryError, match="5 configurations"):
        lk.report(unlike(1, 2, 3, 4, 5), tmp_path / "a.html", [], [], quiet=True)
