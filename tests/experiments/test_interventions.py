"""Layers that are frozen or learn in a way of their own: what acts is exact, what does not act changes no bit."""

import json
import re

import numpy as np
import pytest
import torch

import lcakit as lk
from lcakit.cli.main import main
from lcakit.experiments.interventions import Intervention
from lcakit.experiments.training import Run, make_model, make_optimizer, record_run, run_of
from lcakit.record.recorder import Recorder

SMALL = {"train_examples": 200, "iterations": 8}


def record(path, network="digits-lenet-small", optimizer="sgd", interventions=(), **options):
    run = Run(network, optimizer, **SMALL, interventions=tuple(interventions))
    record_run(run, path, quiet=True, **options)
    return lk.open_trajectory(path).load()


def layer_of(ds, name, variable):
    """The parameters of a kernel layer, told from the tables of the file."""
    layers = ds["layer"].values[ds["kernel_layer"].values[ds["layer_index"].values]]
    return ds[variable].values[:, layers == name]


# ---- freezing


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_layer_frozen_from_the_start_neither_moves_nor_has_lca(tmp_path, optimizer):
    ds = record(tmp_path / "run.nc", optimizer=optimizer, interventions=[Intervention("last", freeze="start")])
    frozen = layer_of(ds, "fc2", "theta")
    assert np.array_equal(frozen, np.broadcast_to(frozen[0], frozen.shape))
    assert not layer_of(ds, "fc2", "lca").any()
    assert layer_of(ds, "fc2", "gradient").any()  # the layer is there, and its gradient too
    assert (np.diff(layer_of(ds, "conv1", "theta"), axis=0) != 0).any(1).all()
    assert lk.validate(ds).ok


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_frozen_at_a_step_it_is_the_plain_run_before_and_still_after(tmp_path, optimizer):
    plain = record(tmp_path / "plain.nc", optimizer=optimizer)
    ds = record(tmp_path / "run.nc", optimizer=optimizer, interventions=[Intervention("conv2", freeze=3)])
    assert ds["lca"][:3].identical(plain["lca"][:3])
    assert ds["theta"][:4].identical(plain["theta"][:4])
    assert not layer_of(ds, "conv2", "lca")[3:].any()
    assert layer_of(ds, "conv2", "lca")[2].any()
    assert not np.array_equal(ds["theta"][-1], plain["theta"][-1])
    np.testing.assert_array_equal(ds["batch_loss"][:4], plain["batch_loss"][:4])  # same batches, same dropout


@pytest.mark.slow
def test_the_norm_layers_that_follow_are_frozen_with_their_kernel(tmp_path):
    ds = record(
        tmp_path / "run.nc", "digits-resnet8w2", interventions=[Intervention("first", freeze="start")], classes=None
    )
    moved = {
        str(name): bool(np.ptp(ds["theta"].values[:, ds["tensor_index"].values == k], axis=0).any())
        for k, name in enumerate(ds["tensor"].values)
    }
    still = {name for name, has_moved in moved.items() if not has_moved}
    assert still == {"conv.weight", "conv.bias", "norm.weight", "norm.bias"}


@pytest.mark.slow
def test_freezing_at_the_end_of_the_run_freezes_nothing(tmp_path):
    plain = record(tmp_path / "plain.nc", "digits-fc")
    ds = record(tmp_path / "run.nc", "digits-fc", interventions=[Intervention("last", freeze=8)])
    np.testing.assert_array_equal(ds["theta"], plain["theta"])


# ---- own learning rate and momentum


@pytest.mark.slow
@pytest.mark.parametrize(
    "interventions",
    [
        [Intervention("last", lr_factor=1.0)],
        [Intervention("last", momentum=0.9), Intervention("first", lr_factor=1)],
        [Intervention("conv2", delay=9)],
    ],
)
def test_what_equals_the_rest_of_the_network_changes_no_bit(tmp_path, interventions):
    plain, ds = record(tmp_path / "plain.nc"), record(tmp_path / "run.nc", interventions=interventions)
    for name in ("theta", "lca", "batch_loss", "learning_rate"):
        np.testing.assert_array_equal(ds[name], plain[name])


@pytest.mark.parametrize("delay", range(10))
def test_a_delay_is_a_momentum(delay):
    run = Run("digits-fc", interventions=[Intervention("fc2", delay=delay)]).resolved()
    rest, own = make_optimizer(run, make_model(run, run.data())).param_groups
    assert own["momentum"] == delay / (delay + 1)
    assert [tuple(p.shape) for p in own["params"]] == [(50, 100), (50,)]
    assert (rest["momentum"], rest["lr"], own["lr"]) == (0.9, 0.05, 0.05)


@pytest.mark.slow
def test_a_step_is_the_plain_one_times_the_factor(tmp_path):
    plain = record(tmp_path / "plain.nc", "digits-fc")
    ds = record(tmp_path / "run.nc", "digits-fc", interventions=[Intervention("last", lr_factor=0.25)])
    for name, factor in (("fc1", 1), ("fc3", 0.25)):
        step, full = (np.diff(layer_of(x, name, "theta")[:2].astype(float), axis=0) for x in (ds, plain))
        np.testing.assert_allclose(step, factor * full, rtol=1e-3, atol=1e-8)
    assert float(ds["learning_rate"][0]) == pytest.approx(0.05)


# ---- what cannot be


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--freeze", "fc4"], "unknown layer 'fc4'.*'first', 'last', 'fc1', 'fc2', 'fc3'"),
        (["--freeze", "last", "--freeze", "fc3@3"], "freeze of the layer 'fc3' is given twice"),
        (["--freeze", "last", "--lr-factor", "fc3=0.1"], "frozen from the start, so lr_factor would change nothing"),
        (["--freeze", "last@0", "--delay", "last=1"], "frozen from the start"),
        (["--freeze", "last@9"], "from step 9 on, but the run has 8 steps"),
        (["--delay", "last=4", "--own-momentum", "last=0.5"], "'fc3' cannot have both"),
        (["--own-momentum", "last=0.5", "--optimizer", "adam"], "'last' cannot have a momentum.*Use the optimizer sgd"),
        (["--own-momentum", "last=1"], "momentum must be at least 0 and below 1"),
        (["--lr-factor", "last=0"], "lr_factor must be a positive number, got 0.0; 0 is freeze"),
        (["--delay", "last=-1"], "delay must be a whole number"),
        (["--freeze-argmin", "last=nowhere.nc"], "nowhere.nc"),
    ],
)
@pytest.mark.parametrize("command", ["record", "estimate"])
def test_contradictions_are_refused_before_anything_is_trained(command, arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([command, "digits-fc", "--iterations", "8", *arguments]) == 2
    assert re.search(says, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [["--freeze", "last@soon"], ["--lr-factor", "last"], ["--delay", "last=1.5"]])
def test_options_that_cannot_be_read_are_shown(option, capsys):
    with pytest.raises(SystemExit):
        main(["record", "digits-fc", *option])
    assert option[1] in capsys.readouterr().err


def test_an_intervention_does_something():
    with pytest.raises(ValueError, match="does nothing; give one of freeze, lr_factor, momentum, delay"):
        Intervention("last")
    with pytest.raises(ValueError, match="freeze must be"):
        Intervention("last", freeze="later")


# ---- resuming


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 6])  # before and after the layer is frozen
def test_resumed_equals_uninterrupted(tmp_path, stop, monkeypatch):
    interventions = [
        Intervention("last", freeze=5),
        Intervention("first", lr_factor=0.5, momentum=0.5),
        Intervention("conv2", delay=2),
    ]
    whole = record(tmp_path / "whole.nc", interventions=interventions)
    calls, report = [], Recorder.report

    def interrupted(self, loss):
        calls.append(loss)
        if len(calls) == stop:
            raise KeyboardInterrupt
        report(self, loss)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Recorder, "report", interrupted)
        record(tmp_path / "run.nc", interventions=interventions, block_rows=2)
    with pytest.raises(lk.RecordingError, match="interventions: stored"):
        record(tmp_path / "run.nc", interventions=interventions[1:], resume=True)
    ds = record(tmp_path / "run.nc", interventions=interventions, resume=True)
    for name in ("theta", "lca", "loss", "batch_loss"):
        np.testing.assert_array_equal(ds[name], whole[name])
    assert not layer_of(ds, "fc2", "lca")[5:].any()


# ---- an earlier run says where


@pytest.mark.slow
def test_freezing_at_the_argmin_of_an_earlier_run(tmp_path, capsys):
    ds = record(tmp_path / "plain.nc", "digits-fc")
    ds["lca"][:] = np.abs(ds["lca"]) * np.where(np.arange(8) < 3, -1, 1)[:, None]  # every layer helps for three steps
    lk.save(ds, tmp_path / "earlier-0.nc")
    arguments = ["record", "digits-fc", "--iterations", "8", "--out", str(tmp_path / "run.nc")]
    assert main([*arguments, "--freeze-argmin", f"last={tmp_path}/earlier-{{seed}}.nc"]) == 0
    run = run_of(lk.open_trajectory(tmp_path / "run.nc"))
    assert run.interventions == (Intervention("fc3", freeze=3),)
    record(tmp_path / "layout.nc")
    lk.save(ds.assign(config=json.dumps({"network": "eights-fc"})), tmp_path / "data.nc")
    for other in ("layout.nc", "data.nc"):
        assert main([*arguments, "--overwrite", "--freeze-argmin", f"last={tmp_path}/{other}"]) == 2
        assert "is of another network than digits-fc" in capsys.readouterr().err
    assert lk.open_trajectory(tmp_path / "run.nc").sizes["iteration"] == 8


# ---- what a file says


@pytest.mark.slow
def test_the_file_says_it_and_older_files_need_not(tmp_path):
    run = Run("digits-fc", "sgd", 1, **SMALL, validation_examples=50, interventions=[Intervention("fc2", delay=3)])
    record_run(run, tmp_path / "run.nc", quiet=True)
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert run_of(ds) == run.resolved()
    config = json.loads(str(ds["config"].values))
    assert (config["subset_seed"], config["interventions"]) == (0, [{"layer": "fc2", "delay": 3}])
    new = ("train_examples", "validation_examples", "interventions", "subset_seed")
    older = {name: value for name, value in config.items() if name not in new}
    assert run_of(ds.assign(config=json.dumps(older))) == Run("digits-fc", "sgd", 1, iterations=8).resolved()
    for damaged in ([{"layer": 3, "delay": 1}], [{"level": "fc2"}], [3], 3, [{"layer": "fc2", "freeze": "\x1b[2J"}]):
        with pytest.raises(lk.TrajectoryError, match="config says interventions are"):
            run_of(ds.assign(config=json.dumps(config | {"interventions": damaged})))


@pytest.mark.slow
def test_the_recorded_optimizer_trains_like_torchs_own(tmp_path):
    """A twin: the plain loop, with the groups written by hand."""
    ds = record(tmp_path / "run.nc", "digits-fc", interventions=[Intervention("fc3", lr_factor=0.5, delay=1)])
    run = run_of(ds)
    data = run.data()
    model = make_model(run, data)
    body, last = [*model.fc1.parameters(), *model.fc2.parameters()], list(model.fc3.parameters())
    groups = [{"params": body}, {"params": last, "lr": 0.025, "momentum": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    batches = lk.experiments.batches.Batches(200, 50, seed=0)
    for _ in range(8):
        index = next(batches)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(data.x_train[index]), data.y_train[index]).backward()
        optimizer.step()
    theta = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()
    np.testing.assert_array_equal(ds["theta"][-1], theta)
