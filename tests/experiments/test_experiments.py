"""Declared experiments: what is missing is run, what was stopped goes on, and tables say what the files hold."""

from __future__ import annotations

import dataclasses
import multiprocessing.forkserver
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import lcakit as lk
from lcakit.cli.main import main
from lcakit.errors import DataError, RecordingError
from lcakit.experiments import declared, training
from lcakit.experiments.batches import Batches
from lcakit.experiments.data import SHAPES
from lcakit.experiments.declared import EXPERIMENTS, Scale, execute, hyperparameters, reviewers
from lcakit.experiments.declared.experiment import seeded
from lcakit.experiments.interventions import plan
from lcakit.experiments.names import split_name
from lcakit.experiments.networks import build
from lcakit.record.objective.describe import describe
from tests.support import forked
from tests.support.sweeps import DIVERGING, FROZEN, TINY, read, run, tiny


def contents(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> tuple[declared.Outcome, Path]:
    directory = tmp_path_factory.mktemp("sweep")
    return run(tiny({"plain": TINY, "frozen": FROZEN}), directory), directory


class Interrupted(Batches):
    """As if somebody pressed Ctrl-C in the fourth iteration of the run with seed 1."""

    def __init__(self, n_examples: int, batch_size: int, seed: int) -> None:
        super().__init__(n_examples, batch_size, seed)
        self.left = 3 if seed == 1 else 1000

    def __next__(self):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().__next__()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A sweep over the seeds 0, 1 and 2 that was interrupted."""
    directory = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "Batches", Interrupted)
        run(tiny({"plain": TINY}, seeds=(0, 1, 2)), directory)
    return directory


# ---- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_of_layers_against_the_files(sweep):
    outcome, directory = sweep
    assert outcome.failed == {}
    files = {arm: [read(directory / f"{arm}-{seed}.nc") for seed in (0, 1)] for arm in ("plain", "frozen")}
    table = outcome.result
    assert table["layer"].values.tolist() == ["fc1", "fc2", "fc3"]
    sums = {
        arm: np.array([[f["lca"].astype(float)[:, f["layer_index"] == k].sum() for k in range(3)] for f in found])
        for arm, found in files.items()
    }
    for arm, found in sums.items():
        np.testing.assert_allclose(table["lca"].sel(arm=arm), found.mean(0), atol=1e-7)
        np.testing.assert_allclose(table["lca_sd"].sel(arm=arm), found.std(0, ddof=1), atol=1e-7)
    np.testing.assert_allclose(table["change"].sel(arm="frozen"), (sums["frozen"] - sums["plain"]).mean(0), atol=1e-7)
    assert table["lca"].sel(arm="frozen", layer="fc3") == 0
    p = stats.ttest_1samp(sums["plain"], 0).pvalue
    order = np.sort(p) * [3, 2, 1]
    np.testing.assert_allclose(np.sort(table["p"].sel(arm="plain")), np.maximum.accumulate(order), rtol=1e-5)
    assert np.isnan(table["p"].sel(arm="frozen", layer="fc3"))
    final = {arm: [f["loss"][-1] for f in found] for arm, found in files.items()}
    np.testing.assert_allclose(table["final_loss"].sel(arm="plain"), np.mean(final["plain"]))
    expected = stats.ttest_rel(final["frozen"], final["plain"]).pvalue
    np.testing.assert_allclose(table["final_loss_p"].sel(arm="frozen"), expected)


def test_results_are_printed_and_saved(sweep):
    outcome, directory = sweep
    assert "Scaled down: everything." in outcome.text
    assert "| runs | many | {'arm': 2, 'layer': 3} |" in outcome.text
    mean, deviation = (float(outcome.result[name].sel(arm="plain", layer="fc3")) for name in ("lca", "lca_sd"))
    assert f"| plain | fc3 | {mean:.4g} ± {deviation:.2g} |" in outcome.text
    saved = xr.load_dataset(directory / "result.nc")
    xr.testing.assert_allclose(saved, outcome.result)
    assert saved.attrs["source"] == "Fig. 0"
    rows = (directory / "result-arm-layer.csv").read_text().splitlines()
    assert rows[0].startswith("arm,layer,lca,")
    assert len(rows) == 7


@pytest.mark.slow
def test_files_are_cut_down_to_the_sums_that_a_table_needs(sweep, tmp_path):
    outcome = run(tiny({"plain": TINY}, seeds=(0,), resolution="layer"), tmp_path)
    small = lk.open_trajectory(tmp_path / "plain-0.nc")
    assert "lca" not in small
    assert lk.validate(small).ok
    before = contents(tmp_path)["plain-0.nc"]
    run(tiny({"plain": TINY}, seeds=(0,), resolution="layer"), tmp_path)
    assert contents(tmp_path)["plain-0.nc"] == before
    directory = sweep[1]
    expected = lk.layers.layer_lca(lk.open_trajectory(directory / "plain-0.nc")).sum("iteration")
    np.testing.assert_allclose(outcome.result["lca"].sel(arm="plain"), expected, rtol=1e-6)
    assert np.isnan(outcome.result["p"]).all()


@pytest.mark.slow
def test_helping_by_setting_goes_on_without_the_runs_that_failed(tmp_path):
    """Here each run has a process of its own."""
    forked.context()  # from which they are forked
    experiment = tiny({"base": TINY, "learning-rate-1e30": DIVERGING}, hyperparameters.helping_by_setting, seeds=(3,))
    outcome = run(experiment, tmp_path, jobs=2)
    assert list(outcome.failed) == ["learning-rate-1e30-3"]
    assert "DivergedError" in outcome.failed["learning-rate-1e30-3"]
    assert "learning-rate-1e30-3 FAILED" in outcome.text
    lca = read(tmp_path / "base-3.nc")["lca"]
    helping = 100 * np.mean((lca < 0).sum(1) / (lca != 0).sum(1))
    assert float(outcome.result["helping"].sel(arm="base")) == pytest.approx(helping)
    assert outcome.result["arm"].values.tolist() == ["base"]
    assert float(outcome.result["learning_rate"][0]) == 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seeds"), [("helpful-only", (0,)), ("myopia", (0, 1)), ("rescaling", (0, 1)), ("subset", (0,))]
)
def test_questions_of_reviewers_on_a_tiny_run(name, seeds, tmp_path):
    declared = EXPERIMENTS[name]
    experiment = dataclasses.replace(declared, scales={"small": Scale({"plain": TINY}, seeds)})
    outcome = run(experiment, tmp_path)
    assert all(claim.what in outcome.text for claim in declared.claims)
    assert "nan" not in outcome.text
    before = contents(tmp_path)
    again = run(experiment, tmp_path)
    xr.testing.assert_identical(again.result, outcome.result)
    changed = [path for path, time in contents(tmp_path).items() if before.get(path) != time]
    assert all(path.startswith("result") for path in changed)


@pytest.mark.slow
def test_what_is_made_of_a_run_is_made_anew_for_another_file(tmp_path):
    experiment = dataclasses.replace(EXPERIMENTS["rescaling"], scales={"small": Scale({"plain": TINY}, (0,))})
    first = run(experiment, tmp_path)
    (tmp_path / "plain-0.nc").unlink()
    longer = dataclasses.replace(TINY, iterations=8)
    other = run(dataclasses.replace(experiment, scales={"small": Scale({"plain": longer}, (0,))}), tmp_path)
    assert float(other.result["final_loss"][0]) != float(first.result["final_loss"][0])


# ---- what is missing, what was stopped, what is of something else ---------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_where_it_stopped(stopped, sweep, tmp_path):
    assert sorted(contents(stopped)) == ["plain-0.nc", "plain-1.nc.partial"]
    assert lk.open_trajectory(stopped / "plain-1.nc").sizes["iteration"] == 3
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)["plain-0.nc"]
    resumed = run(tiny({"plain": TINY}), tmp_path)
    assert contents(tmp_path)["plain-0.nc"] == before
    whole, directory = sweep
    for name in ("lca", "loss"):
        a, b = (read(folder / "plain-1.nc")[name] for folder in (tmp_path, directory))
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(resumed.result["lca"].sel(arm="plain"), whole.result["lca"].sel(arm="plain"))


@pytest.mark.slow
def test_more_seeds_are_added_to_those_that_are_there(sweep, tmp_path):
    shutil.copytree(sweep[1], tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)["plain-0.nc"]
    outcome = run(tiny({"plain": TINY}, seeds=(0,)), tmp_path, seeds=[0, 4])
    assert contents(tmp_path)["plain-0.nc"] == before
    final = [read(tmp_path / f"plain-{seed}.nc")["loss"][-1] for seed in (0, 4)]
    assert float(outcome.result["final_loss"][0]) == pytest.approx(np.mean(final))


@pytest.mark.parametrize("place", ["finished", "unfinished"])
@pytest.mark.parametrize(
    ("other", "options", "says"),
    [
        (dataclasses.replace(TINY, iterations=7), {}, "iterations is 6, not 7"),
        (FROZEN, {}, "interventions is "),
        (TINY, {"precision": "float64"}, "precision is 'float32', not 'float64'"),
        (TINY, {"keep": ("theta", "lca")}, "keep is 'lca', not 'theta lca'"),
    ],
)
def test_a_folder_of_other_settings_is_refused_before_training(other, options, says, place, sweep, stopped):
    directory = stopped if place == "unfinished" else sweep[1]
    before = contents(directory)
    kept = {"keep": options["keep"]} if "keep" in options else {}
    how = {name: value for name, value in options.items() if name not in kept}
    with pytest.raises(RecordingError, match=f"plain-1.nc is of another run: .*{says}.*nothing was trained"):
        run(tiny({"new": TINY, "plain": other}, seeds=(1,), **kept), directory, **how)
    assert contents(directory) == before


def test_a_run_that_was_finished_early_is_refused(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    lk.finish(tmp_path / "plain-1.nc")
    with pytest.raises(RecordingError, match=r"plain-1\.nc holds 3 iterations, not the 6 of its run"):
        run(tiny({"plain": TINY}), tmp_path)


@pytest.mark.slow
def test_a_sweep_on_data_of_ones_own_goes_on_in_another_call(tmp_path, monkeypatch):
    x, y = np.random.default_rng(0).random((40, 8, 8), np.float32), np.arange(40) % 4
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.chdir(tmp_path)
    own = dataclasses.replace(TINY, network="./own.npz-fc", train_examples=None)
    first = run(tiny({"plain": own}, seeds=(0,)), tmp_path / "runs")
    before = contents(tmp_path / "runs")["plain-0.nc"]
    absolute = dataclasses.replace(own, network=f"{tmp_path}/own.npz-fc")
    again = run(tiny({"plain": absolute}, seeds=(0,)), tmp_path / "runs")
    assert contents(tmp_path / "runs")["plain-0.nc"] == before
    xr.testing.assert_identical(again.result, first.result)
    other = dataclasses.replace(own, network="other.npz-fc")
    with pytest.raises(RecordingError, match=r"network is 'own\.npz-fc', not 'other\.npz-fc'"):
        run(tiny({"plain": other}, seeds=(0,)), tmp_path / "runs")


def test_data_that_is_not_there_is_said_once_before_any_run(tmp_path):
    missing = dataclasses.replace(TINY, network=f"{tmp_path}/own.npz-fc")
    with pytest.raises(DataError, match=r"there is no file .*own\.npz"):
        run(tiny({"plain": TINY, "own": missing}), tmp_path / "runs", jobs=2)
    assert not list(tmp_path.iterdir())


def test_a_file_of_something_else_is_refused(tmp_path):
    lk.save(lk.testing.tiny_trajectory(), tmp_path / "plain-0.nc")
    with pytest.raises(RecordingError, match=r"plain-0\.nc does not hold a run of lcakit\.experiments"):
        run(tiny({"plain": TINY}), tmp_path)


def test_moves_are_split_as_often_as_said(tmp_path):
    run(tiny({"plain": TINY}, seeds=(0,)), tmp_path)
    before = contents(tmp_path)["plain-0.nc"]
    run(tiny({"plain": TINY}), tmp_path, max_splits=256)
    assert [lk.open_trajectory(tmp_path / f"plain-{seed}.nc").attrs["max_splits"] for seed in (0, 1)] == [32, 256]
    assert contents(tmp_path)["plain-0.nc"] == before
    with pytest.raises(ValueError, match="splits must be a power of two"):
        run(tiny({"plain": TINY}, seeds=(2,)), tmp_path, max_splits=0)
    assert not (tmp_path / "plain-2.nc").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no fork server")
@pytest.mark.parametrize("chosen", [["__main__"], [], ["json"]])
def test_what_a_fork_server_imports_stays_what_its_user_said(monkeypatch, chosen):
    server, started = multiprocessing.forkserver._forkserver, []
    monkeypatch.setattr(server, "_preload_modules", chosen)
    monkeypatch.setattr(multiprocessing.forkserver, "ensure_running", lambda: started.append(server._preload_modules))
    assert execute._fresh().get_start_method() == "forkserver"
    assert server._preload_modules == chosen
    assert bool(started) == (chosen == ["__main__"])  # where nobody said anything, it begins with what runs import
    assert all("torchvision" in names for names in started)


def test_arms_that_cannot_be_compared_make_no_table(tmp_path):
    outcome = run(tiny({"plain": TINY, "wild": DIVERGING}, seeds=(0,)), tmp_path)
    assert outcome.result is None
    assert "no seed is finished in every arm (plain, wild)" in outcome.text
    assert list(outcome.failed) == ["wild-0"]


# ---- declarations and the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_declared_run_can_be_trained(name):
    experiment = EXPERIMENTS[name]
    for scale in experiment.scales.values():
        for run_of_arm in scale.arms.values():
            resolved = seeded(run_of_arm, 0, None)
            data, network = split_name(resolved.network)
            labels = describe(build(network, *SHAPES[data], seed=0))
            plan(resolved.interventions, labels, iterations=resolved.iterations, optimizer=resolved.optimizer)
    assert experiment.scales["small"].scaled_down
    assert not experiment.scales["paper"].scaled_down


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(EXPERIMENTS, "tiny", tiny({"plain": TINY}, reviewers.myopia, seeds=(0, 1)))
    monkeypatch.chdir(tmp_path)
    assert main(["experiment"]) == 0
    assert "last-layer" in capsys.readouterr().out
    arguments = ["experiment", "tiny", "--jobs", "1"]
    assert main([*arguments, "--seeds", "2", "--max-splits", "64"]) == 0
    assert "| 6 | " in capsys.readouterr().out
    assert lk.open_trajectory(tmp_path / "experiments" / "tiny-small" / "plain-2.nc").attrs["max_splits"] == 64
    monkeypatch.setitem(EXPERIMENTS, "tiny", tiny({"plain": DIVERGING}))
    assert main([*arguments, "--out", "other"]) == 1
    assert "plain-0 FAILED: DivergedError" in capsys.readouterr().out
    for wrong, says in (
        (["experiment", "last-laye"], "Did you mean 'last-layer'"),
        ([*arguments, "--scale", "big"], "'small'"),
    ):
        assert main(wrong) == 2
        assert says in capsys.readouterr().err
