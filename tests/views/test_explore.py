"""`lk.explore`, the command `view` and the benchmark of the explorer, without a browser."""

from __future__ import annotations

import socket

import pytest

import lcakit as lk
from lcakit import bench
from lcakit.analysis.resolution import aggregated
from lcakit.bench import explore as bench_explore
from lcakit.cli.main import main
from lcakit.testing import tiny_trajectory
from tests.support.explorers import FILES, QUIET, explorer

pn = pytest.importorskip("panel")

pytestmark = QUIET


@pytest.mark.slow
def test_view_says_what_is_wrong_before_it_serves(tmp_path, capsys):
    assert main(["view", str(tmp_path / "none.nc"), "--no-browser"]) == 2
    assert "no such file" in capsys.readouterr().err
    path = lk.save(tiny_trajectory(3), tmp_path / "run.nc")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["view", str(path), "--no-browser", "--port", str(port)]) == 2
    assert f"port {port} is in use" in capsys.readouterr().err


def test_explore_gives_a_panel_object(tmp_path):
    path = lk.save(tiny_trajectory(3), tmp_path / "run.nc")
    assert isinstance(lk.explore(path), pn.viewable.Viewable)
    assert "run.nc" in str(lk.explore(path)[1][0].object.text)


@pytest.mark.slow
def test_the_benchmark_measures_answers(tmp_path, monkeypatch):
    used = "step of the player", "parameter"
    monkeypatch.setattr(bench_explore, "ACTIONS", {name: bench_explore.ACTIONS[name] for name in used})
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    result, said = bench.run("explore", file=path, repeats=1)
    assert set(result["actions"]) == set(used)
    assert all(found["median"] > 0 for found in result["actions"].values())
    assert "step of the player" in said
    with pytest.raises(lk.LcakitError, match="5 iterations; 3 repeats move through at least 7"):
        bench.run("explore", file=path, repeats=3)
    compact = lk.save(aggregated(tiny_trajectory(5), "unit"), tmp_path / "compact.nc")
    with pytest.raises(lk.LcakitError, match="no LCA of single parameters"):
        bench.run("explore", file=compact)


@pytest.mark.slow
def test_the_benchmark_uses_every_control_of_a_short_file_without_classes():
    app = explorer(FILES["no classes"](tiny_trajectory(5)))
    for action in bench_explore.ACTIONS.values():
        action(app, 1)
        action(app, 2)
    assert app.controls.selection().iteration == min(97 * 2 % 5, 1 + 5 // 2)  # moved into the first span, 1 to 3
    assert app.controls.selection().classes == ()
