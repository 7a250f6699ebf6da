from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import lcakit as lk
from lcakit.errors import TrajectoryError
from lcakit.sharing.importers import checkpoints
from lcakit.sharing.importers.checkpoints import from_checkpoints
from tests.support.checkpoints import prefixed, series
from tests.support.conformance import assert_equal
from tests.support.networks import dense, examples, norm_net


@pytest.mark.parametrize(
    "wrap",
    [
        prefixed("module"),
        prefixed("_orig_mod"),
        prefixed("_orig_mod", "module"),
        lambda s: {name.replace("0.", "0._orig_mod."): value for name, value in s.items()},
    ],
)
def test_wrappers_in_names_are_looked_through(tmp_path, wrap):
    model = norm_net()
    theta = series(model, tmp_path / "all", wrap=wrap)
    np.testing.assert_array_equal(from_checkpoints(tmp_path / "all", model)["theta"], theta)
    wrapped = nn.DataParallel(model)
    assert_equal(
        from_checkpoints(tmp_path / "all", wrapped).assign_attrs(created_at=""),
        from_checkpoints(tmp_path / "all", model).assign_attrs(created_at=""),
    )


@pytest.mark.parametrize("key", checkpoints.WRAPPERS)
def test_the_state_may_lie_in_a_checkpoint_of_the_loop(tmp_path, key):
    model = dense()
    optimizer = torch.optim.Adam(model.parameters()).state_dict()
    theta = series(
        model,
        tmp_path / "all",
        suffix=".pt",
        wrap=lambda s: {"epoch": 3, key: s, "optimizer": optimizer, "x": torch.ones(1)},
    )
    np.testing.assert_array_equal(from_checkpoints(tmp_path / "all", model)["theta"], theta)


class Module(nn.Module):
    """A model with a part that is called as wrappers call theirs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.module = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.module(x)))


def test_a_part_that_is_really_called_module(tmp_path):
    model = Module()
    theta = series(model, tmp_path / "plain")
    ds = from_checkpoints(tmp_path / "plain", model)
    assert ds["tensor"].values[0] == "module.weight"
    np.testing.assert_array_equal(ds["theta"], theta)
    model.weight = nn.Parameter(torch.zeros(5, 6))
    with pytest.raises(TrajectoryError, match="differ only by 'module'"):
        from_checkpoints(tmp_path / "plain", model)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode = nn.Linear(6, 6, bias=False)
        self.decode = nn.Linear(6, 6, bias=False)
        self.decode.weight = self.encode.weight
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.decode(torch.tanh(self.encode(x))))


@pytest.mark.parametrize("dropped", ["", "encode.weight", "decode.weight"])
def test_tied_parameters_count_once_under_any_of_their_names(tmp_path, dropped):
    model = Tied()
    theta = series(model, tmp_path / "all", wrap=lambda s: {n: v for n, v in s.items() if n != dropped})
    ds = from_checkpoints(tmp_path / "all", model)
    np.testing.assert_array_equal(ds["theta"], theta)
    assert ds["tensor"].values.tolist() == ["encode.weight", "head.weight", "head.bias"]


def test_tied_parameters_that_differ_are_refused(tmp_path):
    model = Tied()
    series(model, tmp_path / "all", wrap=lambda s: s | {"decode.weight": s["decode.weight"] + 1})
    with pytest.raises(TrajectoryError, match=r"step0.*is a second 'encode.weight' with other values"):
        from_checkpoints(tmp_path / "all", model)


def frozen():
    model = dense()
    model[0].requires_grad_(False)
    return model


def test_frozen_parameters_are_left_out_but_must_be_those_of_the_objective(tmp_path):
    model = frozen()
    theta = series(model, tmp_path / "all")
    ds = from_checkpoints(tmp_path / "all", objective=lk.Objective(model, examples()), quiet=True)
    np.testing.assert_array_equal(ds["theta"], theta)
    assert ds["tensor"].values.tolist() == ["2.weight", "2.bias"]
    other = frozen()
    with torch.no_grad():
        other[0].weight.add_(1)
    assert set(from_checkpoints(tmp_path / "all", other).data_vars) == {"theta"}
    with pytest.raises(TrajectoryError, match=r"step0.*'0.weight', which the model does not train, has other values"):
        from_checkpoints(tmp_path / "all", objective=lk.Objective(other, examples()), quiet=True)


def test_without_a_model_the_names_tell(tmp_path):
    model = norm_net()
    series(model, tmp_path / "all", suffix=".pt", wrap=prefixed("module"))
    ds = from_checkpoints(tmp_path / "all")
    assert_equal(ds.drop_vars("layer_kind").assign_attrs(created_at=""), guessed(tmp_path / "all", model))
    assert ds["layer_kind"].values.tolist() == ["linear", "norm", "linear"]


def guessed(folder, model):
    ds = from_checkpoints(folder, model).drop_vars("layer_kind").assign_attrs(created_at="")
    assert "running_mean" not in " ".join(ds["tensor"].values)
    return ds
