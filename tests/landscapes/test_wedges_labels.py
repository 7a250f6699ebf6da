"""Predicted labels between two optima: where they flip is known for a line, and counted for a small network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lcakit.landscapes import named
from lcakit.landscapes.wedges import NetworkSurface, label_changes
from tests.support.networks import dense, examples


@pytest.fixture(scope="module")
def line() -> NetworkSurface:
    """Two outputs w·x and 0: the label of x > 0 is 0 where w > 0, else 1."""
    x = torch.tensor([[1.0], [1.0], [-1.0]])
    return NetworkSurface(lambda seed: nn.Linear(1, 2, bias=False), x, torch.tensor([0, 0, 1]))


def test_labels_flip_where_the_weights_say(line):
    found = label_changes(line, [[1.0, 0.0], [-3.0, 0.0]], line.x, line.y, positions=5)  # w = 1 − 4 t
    assert found["position"].values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found["from_start"].values[[0, 2, 3, 4]].tolist() == [0, 1, 1, 1]
    assert found["from_end"].values[[0, 2, 3, 4]].tolist() == [1, 0, 0, 0]
    assert found["accuracy"].values[[0, 2, 4]].tolist() == [1, 0, 0]


def test_a_bend_can_predict_what_neither_end_does(line):
    found = label_changes(line, [[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]], line.x, line.y, positions=3)
    assert found["from_both"].values.tolist() == [0, 1, 0]


def test_shares_against_the_networks_themselves():
    x, y = examples(30)
    surface = NetworkSurface(lambda seed: dense(seed=seed), x[:10], y[:10])
    ends = torch.stack([surface.initial(seed) for seed in (0, 1)])
    found = label_changes(surface, ends, x, y, positions=3)
    labels = []
    for t in (0, 0.5, 1):
        model = dense(seed=0).double()
        nn.utils.vector_to_parameters((1 - t) * ends[0] + t * ends[1], model.parameters())
        labels.append(model(x.double()).argmax(1))
    expected = [float((one != labels[0]).double().mean()) for one in labels]
    np.testing.assert_allclose(found["from_start"], expected)
    np.testing.assert_allclose(found["accuracy"], [float((one == y).double().mean()) for one in labels])


def test_wrong_paths_are_refused(line):
    with pytest.raises(ValueError, match="2 coordinates"):
        label_changes(line, np.zeros((2, 3)), line.x, line.y)
    with pytest.raises(ValueError, match="positions must be at least 2"):
        label_changes(line, np.zeros((2, 2)), line.x, line.y, positions=1)


@pytest.mark.slow
def test_the_named_experiment_compares_connector_and_line():
    _, found = named.run("wedges", "labels", examples=20, pairs=2)
    assert found["path"].values.tolist() == ["connector", "straight line"]
    assert found.sizes["pair"] == 2
    assert (found["from_start"].isel(position=0) == 0).all()
    assert (found["from_end"].isel(position=-1) == 0).all()


@pytest.mark.slow
def test_short_directions_and_averages_beside_a_network():
    _, short = named.run("wedges", "short", dimension=12, wedge=6, optima=2, network=True)
    assert short["short_directions"].sizes == {"surface": 2, "subset": 3}
    assert short["short_directions"].sel(surface="wedges").groupby("size").mean().values[0] == 6
    _, averaged = named.run("wedges", "averages", dimension=12, wedge=6, count=2, network=True)
    far = averaged.sel(kind="far", count=2)
    assert (far["loss_of_average"] > far["average_loss"]).all()
