"""The paper's tables run again: what is printed are the numbers of the files, and what was scaled down is said."""

import numpy as np
import pytest

import lcakit as lk
from lcakit.cli.main import main
from lcakit.errors import RecordingError
from lcakit.experiments import reproduce as room
from lcakit.experiments.paper import PAPER
from lcakit.experiments.reproduce import STUDIES, Study, reproduce
from lcakit.experiments.runs_table import COLUMNS, costs_to_markdown, findings_to_markdown, to_markdown
from lcakit.experiments.training import Run, record_run
from lcakit.text import with_error


@pytest.fixture(params=[("unit", "digits-fc"), (None, "digits-resnet8w1")], ids=["classes", "norm"])
def small(request, monkeypatch):
    """CIFAR-ResNet at the small scale, for seconds, without its images."""
    monkeypatch.setitem(STUDIES, "cifar10-resnet20", Study(*request.param, 60, 6))
    return request.param


@pytest.mark.slow
def test_the_table_has_the_numbers_of_the_files_beside_the_papers(small, tmp_path):
    rows = reproduce("cifar10-resnet20", tmp_path, optimizers=["sgd"], seeds=[0, 1], scale="small")
    files = [lk.open_trajectory(tmp_path / f"small-cifar10-resnet20-sgd-{seed}.nc") for seed in (0, 1)]
    lca = [ds["lca"].values for ds in files]
    helping = [100 * np.mean((a < 0).sum(1) / (a != 0).sum(1)) for a in lca]
    assert rows[0].mean("helping") == pytest.approx(np.mean(helping))
    assert rows[0].sd("helping") == pytest.approx(np.std(helping, ddof=1))
    error = [100 * float(ds["residual"].sum() / abs(ds["loss"][-1] - ds["loss"][0])) for ds in files]
    assert rows[0].mean("total_error_rk4") == pytest.approx(np.mean(error), abs=1e-3)
    text = to_markdown("cifar10-resnet20", rows)
    assert "| sgd, paper | 50.66 | 0.0345 | -1190 |" in text
    assert f"| sgd, measured | {with_error(np.mean(helping), np.std(helping, ddof=1))} |" in text
    assert f"{small[1]} in place of cifar10-resnet20 (" in text
    assert "for 273,066), 60 of 50,000 training images, 6 iterations in place of 5,000." in text
    single = findings_to_markdown("cifar10-resnet20", rows)
    assert ("peaks of 20, mean over classes" in single) == (small[0] == "unit")
    assert "| synchronized peaks of 20, all classes together |" in single
    zero = [100 * np.mean(a == 0) for a in lca]
    expected = with_error(np.mean(zero), np.std(zero, ddof=1))
    assert f"| zero LCA, % of parameters in the mean iteration | {expected} |" in single


@pytest.mark.slow
def test_costs_are_counted_in_the_file_and_timed(tmp_path, monkeypatch):
    monkeypatch.setitem(STUDIES, "mnist-fc", Study("unit", "digits-fc", 60, 6))
    recorded = reproduce("mnist-fc", tmp_path, optimizers=["sgd"], seeds=[0], scale="small")[0]
    path = tmp_path / "small-mnist-fc-sgd-0.nc"
    gradients = int(lk.open_trajectory(path)["splits"].sum()) + 1
    assert recorded.mean("gradients_per_iteration") == pytest.approx(gradients / 6)
    assert recorded.mean("bytes_per_iteration") == path.stat().st_size / 6
    monkeypatch.setattr(room, "record_run", None)  # the second time the file is kept, and a gradient is timed
    kept = reproduce("mnist-fc", tmp_path, optimizers=["sgd"], seeds=[0], scale="small")[0]
    assert [kept.mean(c) for c in COLUMNS] == [recorded.mean(c) for c in COLUMNS]
    for row in (recorded, kept):
        assert row.mean("hours") == pytest.approx(gradients * row.mean("seconds_per_gradient") / 3600)
        assert 0 < row.mean("seconds_per_gradient") < 60
    assert f"| sgd | {kept.mean('seconds_per_gradient'):.3g} | {gradients / 6:.3g} |" in costs_to_markdown("x", [kept])


@pytest.mark.slow
def test_a_file_of_another_run_is_refused_before_any_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(STUDIES, "mnist-fc", Study("unit", "digits-fc", 60, 6))
    path = tmp_path / "small-mnist-fc-adam-1.nc"
    record_run(Run("digits-fc", "adam", 1, iterations=4, train_examples=60), path, quiet=True)
    with pytest.raises(RecordingError, match=r"adam-1\.nc is of another run: iterations is 4, not 6"):
        reproduce("mnist-fc", tmp_path, optimizers=["sgd", "adam"], seeds=[0, 1], scale="small")
    assert list(tmp_path.iterdir()) == [path]


def test_every_network_of_the_paper_has_a_small_scale_that_can_be_trained():
    assert {name for name, _ in PAPER} == set(STUDIES)
    for (name, optimizer), study in ((key, STUDIES[key[0]]) for key in PAPER):
        assert room.scaled_down(name, Run(name, optimizer).resolved()) == ""
        assert Run(study.network, optimizer).resolved().learning_rate == Run(name, optimizer).resolved().learning_rate


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["reproduce", "cifar10-resnet"], "Did you mean 'cifar10-resnet20'"),
        (["reproduce", "mnist-vgg9"], "'mnist-fc', 'mnist-lenet', 'cifar10-resnet20', 'cifar10-allcnn'"),
        (["reproduce", "mnist-lenet", "--optimizers", "sgd-mom0"], "'sgd', 'adam'"),
        (["reproduce", "mnist-fc", "--scale", "tiny"], "'paper', 'small'"),
    ],
)
def test_what_the_paper_does_not_have_is_answered_with_what_it_has(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
