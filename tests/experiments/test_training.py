"""Runs of the studies: their names, default settings, subsets, the validation loss, and networks with BatchNorm."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lcakit as lk
from lcakit.cli.main import main
from lcakit.errors import DataError, RecordingError
from lcakit.experiments import training
from lcakit.experiments.catalogue import catalogue
from lcakit.experiments.data import load
from lcakit.experiments.names import split_name
from lcakit.experiments.networks import build
from lcakit.experiments.paper import PAPER, setting
from lcakit.experiments.subsets import subset
from lcakit.experiments.training import Run, record_run, run_of

# ---- names and settings


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mnist-lenet-small", ("mnist", "lenet-small")),
        ("cifar10-resnet8w4", ("cifar10", "resnet8w4")),
        ("here/my-pets.npz-lenet-small", ("here/my-pets.npz", "lenet-small")),
        ("a.npz-b/c.npz-fc", ("a.npz-b/c.npz", "fc")),
    ],
)
def test_a_name_is_a_data_set_and_a_network(name, parts):
    assert split_name(name) == parts


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cifar10-resnet", "unknown network 'resnet'.*resnet20"),
        ("cifar10-resnet9", "8, 14, 20"),
        ("mnist-lenet-smal", "Did you mean 'mnist-lenet-small'.*lcakit networks"),
        ("cifar-fc", "Did you mean 'cifar10-fc'"),
        ("pets.npz-fcc", r"Did you mean 'FILE.npz-fc'"),
        ("mnist", "unknown network 'mnist'"),
    ],
)
def test_a_name_that_is_none_is_answered_with_those_that_are(name, says):
    with pytest.raises(ValueError, match=says):
        Run(name).resolved()


@pytest.mark.parametrize(
    ("network", "optimizer", "rate", "momentum", "batch", "iterations"),
    [
        ("mnist-fc", "sgd-mom0", 0.5, 0, 250, 880),
        ("mnist-fc", "sgd", 0.05, 0.9, 250, 880),
        ("mnist-fc", "adam", 0.002, 0, 250, 880),
        ("mnist-lenet", "sgd", 0.02, 0.9, 250, 880),
        ("mnist-lenet", "adam", 0.002, 0, 250, 880),
        ("cifar10-resnet20", "sgd", 0.1, 0.9, 250, 5000),
        ("cifar10-resnet20", "adam", 0.005, 0, 250, 5000),
        ("cifar10-allcnn", "sgd", 0.1, 0.9, 250, 5000),
        ("cifar10-allcnn", "adam", 0.001, 0, 250, 5000),
    ],
)
def test_the_papers_settings(network, optimizer, rate, momentum, batch, iterations):
    run = Run(network, optimizer).resolved()
    assert (run.learning_rate, run.momentum, run.batch_size, run.iterations) == (rate, momentum, batch, iterations)
    assert (network, optimizer) in PAPER
    source = setting(network, optimizer).source
    assert "NeurIPS 2019" in source
    assert ("250" in source) == network.startswith("cifar10")  # what the paper does not say is said


@pytest.mark.slow
def test_everything_listed_can_be_trained_and_says_whose_settings_it_has(capsys):
    entries = {entry.name: entry for entry in catalogue()}
    assert {"digits-fc", "fashion-vgg9", "cifar10-vgg5", "mnist-lenet-small"} <= set(entries)
    assert "digits-vgg9" not in entries  # its images are too small
    for name, entry in entries.items():
        for optimizer, rate in entry.rates.items():
            assert Run(name, optimizer).resolved().learning_rate == rate
            assert ("NeurIPS" in setting(name, optimizer).source) == (optimizer in entry.paper)
    assert main(["networks"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("cifar10-allcnn "))
    assert line.split() == ["cifar10-allcnn", "1,371,658", "0.1", "0.5", "0.001", "250", "5,000", "sgd,", "adam"]


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_momenta_that_cannot_be(momentum):
    with pytest.raises(ValueError, match="momentum must be at least 0 and below 1"):
        Run("digits-fc", momentum=momentum).resolved()
    with pytest.raises(ValueError, match="'adam' has no momentum"):
        Run("digits-fc", "adam", momentum=0.5).resolved()


# ---- subsets


def test_a_subset_is_balanced_in_order_and_part_of_every_larger_one():
    digits = load("digits")
    small, large = (subset(digits, n).x_train for n in (103, 700))
    y = subset(digits, 103).y_train
    assert sorted(y.bincount().tolist()) == [10] * 7 + [11] * 3
    rows = [int(torch.nonzero((digits.x_train == x).flatten(1).all(1))[0]) for x in small]
    assert rows == sorted(rows)
    assert rows[-1] > 1000  # drawn from all of the set, not its beginning
    assert torch.equal(digits.y_train[rows], y)
    among = {x.numpy().tobytes() for x in large}
    assert all(x.numpy().tobytes() in among for x in small)
    assert subset(digits, test_examples=20).x_train is digits.x_train
    assert len(subset(digits, test_examples=20).y_test) == 20


def test_all_examples_are_the_whole_set_and_a_rare_class_gives_what_it_has(tmp_path):
    y = np.array([0] * 2 + [1] * 9 + [2] * 5)
    x = np.arange(16 * 9, dtype=np.uint8).reshape(16, 3, 3)
    np.savez(tmp_path / "rare.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = load(tmp_path / "rare.npz")
    assert subset(data, 12).y_train.bincount().tolist() == [2, 5, 5]
    assert subset(data, 11).y_train.bincount().tolist() == [2, 5, 4]
    assert torch.equal(subset(data, 16).x_train, data.x_train)


@pytest.mark.parametrize("n", [9, 1501, 0])
def test_impossible_subsets(n):
    with pytest.raises(
        DataError, match=f"train set of digits has at least .* 10 classes and at most all 1500; got {n}"
    ):
        Run("digits-fc", train_examples=n).data()


@pytest.mark.slow
def test_training_and_objective_use_the_same_subset_whatever_the_seed(tmp_path):
    for seed in (0, 1):
        run = Run("digits-fc", seed=seed, iterations=6, batch_size=20, train_examples=40)
        record_run(run, tmp_path / f"run-{seed}.nc", quiet=True)
    one, other = (lk.open_trajectory(tmp_path / f"run-{seed}.nc") for seed in (0, 1))
    assert one.attrs["n_examples"] == 40
    assert one.attrs["data_fingerprint"] == other.attrs["data_fingerprint"]
    data = subset(load("digits"), 40)
    model = build("fc", (1, 8, 8), 10, seed=0)
    assert float(one["loss"][0]) == pytest.approx(F.cross_entropy(model(data.x_train), data.y_train).item(), rel=1e-5)
    assert float(one["batch_loss"][:2].mean()) == pytest.approx(float(one["loss"][0]), rel=0.2)


# ---- the validation loss


@pytest.mark.slow
def test_one_command_allocates_the_validation_loss_too(tmp_path):
    common = ["record", "digits-fc", "--iterations", "5", "--train-examples", "100", "--validation-examples", "60"]
    assert main([*common, "--validation", "--out", str(tmp_path / "one.nc")]) == 0
    assert main([*common, "--out", str(tmp_path / "two.nc")]) == 0
    assert main(["allocate", str(tmp_path / "two.nc"), "--set", "test"]) == 0
    one, two = (lk.open_trajectory(tmp_path / name) for name in ("one.nc", "two.nc"))
    assert one.attrs["n_examples_val"] == 60
    for name in ("lca", "lca_val", "loss_val", "accuracy_val", "lca_unit_class_val", "gradient_val"):
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.slow
def test_a_resume_adds_the_validation_loss_to_a_finished_training(tmp_path, monkeypatch, capsys):
    common = ["record", "digits-fc", "--iterations", "4", "--train-examples", "50", "--validation", "--seeds", "0,1"]
    common += ["--out", str(tmp_path / "run.nc"), "--resume"]

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "allocate", interrupted)
        assert main(common) == 130
    theta = lk.open_trajectory(tmp_path / "run-0.nc")["theta"].values
    assert main([*common, "--learning-rate", "0.01"]) == 2
    assert "learning_rate is 0.05, not 0.01" in capsys.readouterr().err
    assert main(common) == 0
    ds = lk.open_trajectory(tmp_path / "run-0.nc")
    np.testing.assert_array_equal(ds["theta"], theta)
    np.testing.assert_allclose(ds["lca_val"].sum("parameter") - ds["residual_val"], np.diff(ds["loss_val"]), atol=1e-6)
    assert main(common) == 0
    assert capsys.readouterr().out.count("is finished") == 2


def test_a_part_of_a_run_does_not_pass_as_the_run(tmp_path, monkeypatch, capsys):
    run, path = Run("digits-fc", iterations=6, train_examples=50), tmp_path / "run-0.nc"

    def stop(self, step):
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.Freezer, "before_step", stop)
        record_run(run, path, quiet=True)
    with pytest.raises(RecordingError, match="was begun for 6 iterations, so it cannot be continued for 2"):
        record_run(dataclasses.replace(run, iterations=2), path, quiet=True, resume=True)
    lk.finish(path)
    says = "holds 3 iterations, not the 6 of its run"
    with pytest.raises(RecordingError, match=says):
        record_run(run, path, quiet=True, resume=True, validation=True)
    common = ["record", "digits-fc", "--iterations", "6", "--train-examples", "50", "--resume", "--seeds", "1,0"]
    assert main([*common, "--out", str(tmp_path / "run.nc")]) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_overwriting_clears_what_an_interrupted_validation_left(tmp_path, monkeypatch):
    run, path = Run("digits-fc", iterations=3, train_examples=50, validation_examples=40), tmp_path / "run[1].nc"

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lcakit.record.allocation.allocate.join", interrupted)
        record_run(run, path, quiet=True, validation=True)
    assert (tmp_path / "run[1].nc.val.allocation.partial").is_dir()
    record_run(dataclasses.replace(run, seed=1), path, quiet=True, validation=True, overwrite=True)
    assert "loss_val" in lk.open_trajectory(path)
    assert list(tmp_path.iterdir()) == [path]


def test_validation_needs_the_snapshots(tmp_path):
    with pytest.raises(ValueError, match='keep must include "theta"'):
        record_run(Run("digits-fc"), tmp_path / "run.nc", validation=True, keep=("lca",), quiet=True)
    assert not list(tmp_path.iterdir())


def test_an_estimate_is_of_the_subset_and_of_the_validation_too(capsys):
    arguments = ["estimate", "digits-fc", "--iterations", "100", "--train-examples", "100", "--validation"]
    assert main(arguments) == 0
    train, validation = capsys.readouterr().out.splitlines()
    assert "theta 4.87 MB" in train
    assert validation.startswith("validation: ")
    assert "theta" not in validation


# ---- BatchNorm and dropout


@pytest.mark.slow
@pytest.mark.parametrize("network", ["digits-resnet8w2", "digits-lenet-small"])
def test_a_seed_gives_the_same_bits_again(network, tmp_path):
    run = Run(network, "adam", seed=3, iterations=4, train_examples=100)
    for name in ("one.nc", "two.nc"):
        record_run(run, tmp_path / name, quiet=True, classes=None)
    one, two = (lk.open_trajectory(tmp_path / name).load() for name in ("one.nc", "two.nc"))
    for variable in ("theta", "lca", "gradient", "loss"):
        assert one[variable].identical(two[variable])
    other = Run(network, "adam", seed=4, iterations=4, train_examples=100)
    record_run(other, tmp_path / "other.nc", quiet=True, classes=None)
    assert not np.array_equal(lk.open_trajectory(tmp_path / "other.nc")["batch_loss"], one["batch_loss"])


@pytest.mark.slow
def test_a_network_with_batch_norm_closes_its_account(tmp_path):
    run = Run("digits-resnet8w2", iterations=25, train_examples=200)
    record_run(run, tmp_path / "run.nc", quiet=True, classes=None, max_splits=8)
    ds = lk.open_trajectory(tmp_path / "run.nc").load()
    assert ds.attrs["norm_mode"] == "evaluation_batch"
    over = np.abs(ds["residual"]) > 1e-3
    assert (ds["splits"].values[over] == 8).all()  # what is still over the tolerance was refined to the end: flagged
    assert abs(lk.account(ds).error_percent) < 1
    assert float(ds["loss"][-1]) < float(ds["loss"][0])
    config = json.loads(str(ds["config"].values))
    assert (config["network"], config["learning_rate"]) == ("digits-resnet8w2", 0.1)
    assert run_of(ds) == run.resolved()


@pytest.mark.slow
def test_training_normalizes_by_the_batch_and_leaves_the_objective_alone(tmp_path):
    """A twin: the plain loop in train mode, dropout and BatchNorm as torch does them."""
    run = Run("digits-allcnn-small", seed=1, iterations=3, train_examples=60).resolved()
    record_run(run, tmp_path / "run.nc", quiet=True, classes=None, max_splits=2)
    data, model = run.data(), build("allcnn-small", (1, 8, 8), 10, seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = lk.experiments.batches.Batches(60, 50, seed=1)
    torch.manual_seed(1)
    model.train()
    for _ in range(3):
        index = next(batches)
        optimizer.zero_grad()
        F.cross_entropy(model(data.x_train[index]), data.y_train[index]).backward()
        optimizer.step()
    theta = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()
    np.testing.assert_array_equal(lk.open_trajectory(tmp_path / "run.nc")["theta"][-1], theta)
