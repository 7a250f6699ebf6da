"""Objectives over batches: data in any nesting, losses of any shape with weights, the same as autograd in float64."""

from __future__ import annotations

from collections import UserDict, namedtuple
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import lcakit as lk
from lcakit.errors import LcakitWarning
from tests.support.language import Language, mean_by_group, sentences
from tests.support.networks import conv_net, dense, examples, norm_net

EXACT = {"precision": "float64"}


def usual(model, batch):
    x, y = batch
    return lk.losses.cross_entropy(model(x), y)


def of_mapping(model, batch):
    return lk.losses.cross_entropy(model(batch["x"]), batch["y"])


class Dicts(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        return {"x": self.x[k], "y": self.y[k]}


Pair = namedtuple("Pair", "x y")
x, y = examples()
FORMS = {
    "pair": ((x, y), usual),
    "arrays": ((x.numpy(), y.numpy()), usual),
    "named tuple": (Pair(x, y), usual),
    "dict": ({"x": x, "y": y}, of_mapping),
    "nested": ({"x": x, "more": {"y": [y]}}, lambda m, b: lk.losses.cross_entropy(m(b["x"]), b["more"]["y"][0])),
    "user's mapping": (UserDict(x=x, y=y), of_mapping),
    "TensorDataset": (TensorDataset(x, y), usual),
    "Dataset of dicts": (Dicts(x, y), of_mapping),
    "DataLoader": (DataLoader(Dicts(x, y), batch_size=8), of_mapping),
    "batches": ([{"x": x[k : k + 8], "y": y[k : k + 8]} for k in range(0, 50, 8)], of_mapping),
    "loader of batches": (DataLoader(Dicts(x.reshape(5, 10, 6), y.reshape(5, 10)), batch_size=None), of_mapping),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_is_the_same_objective(form):
    data, loss = FORMS[form]
    model = dense()
    expected = lk.Objective(model, (x, y), **EXACT)
    objective = lk.Objective(model, data, batch_loss=loss, **EXACT)
    assert objective.n_examples == 50
    assert objective.loss() == pytest.approx(expected.loss(), rel=1e-12)
    np.testing.assert_allclose(objective.gradient(), expected.gradient(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("make", [dense, norm_net, conv_net])
@pytest.mark.parametrize("classes", [False, True])
def test_the_same_bits_as_a_loss_of_outputs(make, classes):
    data = examples(60, (1, 6, 6) if make is conv_net else 6)
    how = {"batch_size": 16, "workers": 2}
    one = lk.Objective(make(), data, **how)
    other = lk.Objective(make(), data, batch_loss=usual, groups=data[1], group_names="012", **how)
    assert one.class_names == other.class_names
    assert one.loss() == other.loss()
    assert np.array_equal(one.gradient(classes=classes), other.gradient(classes=classes))
    assert np.array_equal(one.class_losses(), other.class_losses())


def test_a_loss_of_outputs_takes_datasets_and_loaders_too():
    expected = lk.Objective(dense(), (x, y), batch_size=8, workers=1)
    found = lk.Objective(dense(), DataLoader(TensorDataset(x, y), batch_size=8), workers=1)
    assert found.batch_size == 8
    assert found.class_names == expected.class_names
    assert np.array_equal(found.gradient(classes=True), expected.gradient(classes=True))


def test_what_a_loader_would_shuffle_or_drop_is_said_and_not_done():
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True, drop_last=True)
    with pytest.warns(LcakitWarning, match="shuffling and drop_last of the DataLoader are not used"):
        objective = lk.Objective(dense(), loader)
    assert objective.loss() == lk.Objective(dense(), (x, y), batch_size=8).loss()


# ---- means over tokens -----------------------------------------------------------------------------------------


def language_twin(model, tokens, mask, groups, n_groups):
    def losses_of(exact):
        return F.cross_entropy(exact(tokens)[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")

    return mean_by_group(model, losses_of, mask[:, 1:].double(), groups, n_groups)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 14), batch=st.integers(1, 15), workers=st.integers(1, 3), by_token=st.booleans())
def test_a_language_model_is_a_mean_over_its_tokens(n, batch, workers, by_token):
    tokens, mask = (part[:n] for part in sentences())
    model, of_token = Language(), tokens[:, 1:] % 3
    groups = of_token if by_token else torch.arange(n) % 3
    losses, gradients = language_twin(model, tokens, mask, groups if by_token else groups[:, None], 3)
    objective = lk.Objective(
        model,
        {"input_ids": tokens, "attention_mask": mask},
        batch_loss=lk.losses.causal_lm,
        groups=groups,
        group_names=["a", "b", "c"],
        batch_size=batch,
        workers=workers,
        **EXACT,
    )
    assert objective.loss_unit == "nats"
    np.testing.assert_allclose(objective.class_losses(), losses, rtol=1e-10, atol=1e-14)
    assert objective.loss() == pytest.approx(losses.sum(), rel=1e-10)
    np.testing.assert_allclose(objective.gradient(classes=True), gradients, rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(objective.gradient(), gradients.sum(0), rtol=1e-8, atol=1e-13)


class Sentences(Dataset):
    """Sentences of different length, which a collate function pads."""

    def __init__(self):
        tokens, mask = sentences()
        self.items = [row[: int(n)] for row, n in zip(tokens, mask.sum(1), strict=True)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, k):
        return {"input_ids": self.items[k], "source": k % 2}


def pad(items):
    ids = nn.utils.rnn.pad_sequence([item["input_ids"] for item in items], batch_first=True)
    ends = torch.tensor([len(item["input_ids"]) for item in items])
    mask = (torch.arange(ids.shape[1]) < ends[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "source": torch.tensor([item["source"] for item in items])}


def padded_loss(model, batch):
    return lk.losses.causal_lm(model, {k: v for k, v in batch.items() if k != "source"})


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("grouping", ["array", "function", "tokens"])
def test_batches_that_are_padded_by_a_collate_function(resident, grouping):
    tokens, mask = sentences()
    by = {
        "array": torch.arange(14) % 2,
        "function": lambda batch: batch["source"],
        "tokens": lambda batch: batch["input_ids"][:, 1:] % 2,
    }[grouping]
    expected = tokens[:, 1:] % 2 if grouping == "tokens" else (torch.arange(14) % 2)[:, None]
    losses, gradients = language_twin(Language(), tokens, mask, expected, 2)
    how = {"collate_fn": pad, "groups": by, "batch_size": 4, "resident": resident, **EXACT}
    objective = lk.Objective(Language(), Sentences(), batch_loss=padded_loss, **how)
    np.testing.assert_allclose(objective.class_losses(), losses, rtol=1e-10)
    np.testing.assert_allclose(objective.gradient(classes=True), gradients, rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(objective.gradient(), gradients.sum(0), rtol=1e-8, atol=1e-13)


def test_weights_of_examples_make_a_weighted_mean():
    model, weights = dense(), torch.rand(50, generator=torch.Generator().manual_seed(2))
    weights[::7] = 0

    def losses_of(exact):
        return F.cross_entropy(exact(x.double()), y, reduction="none")

    losses, gradients = mean_by_group(model, losses_of, weights.double(), y, 3)
    for how in ({}, {"batch_loss": usual, "groups": y}):
        objective = lk.Objective(model, (x, y), weights=weights, workers=2, batch_size=9, **EXACT, **how)
        np.testing.assert_allclose(objective.class_losses(), losses, rtol=1e-10)
        np.testing.assert_allclose(objective.gradient(classes=True), gradients, rtol=1e-8, atol=1e-13)


# ---- where the examples are ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [dense, norm_net])
@pytest.mark.parametrize("groups", [None, y])
def test_streamed_data_give_the_same_numbers(make, groups):
    kept, streamed = (
        lk.Objective(
            make(), Dicts(x, y), batch_loss=of_mapping, groups=groups, batch_size=10, workers=1, resident=stays
        )
        for stays in (True, False)
    )
    classes = groups is not None
    assert kept.loss() == streamed.loss()
    assert np.array_equal(kept.gradient(classes=classes), streamed.gradient(classes=classes))


@pytest.mark.parametrize("make", [dense, norm_net, conv_net])
def test_arrays_that_do_not_stay_on_the_device_give_the_same_bits(make):
    data = examples(60, (1, 6, 6) if make is conv_net else 6)
    kept, streamed = (lk.Objective(make(), data, batch_size=16, workers=2, resident=stays) for stays in (True, False))
    assert kept.class_losses().tolist() == streamed.class_losses().tolist()
    assert np.array_equal(kept.gradient(classes=True), streamed.gradient(classes=True))


@pytest.mark.slow
def test_worker_processes_of_a_loader_read_what_is_streamed():
    loader = DataLoader(Dicts(x, y), batch_size=10, num_workers=2)
    streamed = lk.Objective(dense(), loader, batch_loss=of_mapping, resident=False)
    kept = lk.Objective(dense(), {"x": x, "y": y}, batch_loss=of_mapping, batch_size=10, workers=1)
    assert np.array_equal(kept.gradient(), streamed.gradient())


class Noisy(Dataset):
    """Another item each time, by a generator of its own or by those of the program."""

    def __init__(self, own=None):
        self.own = own

    def __len__(self):
        return 20

    def __getitem__(self, k):
        noise = torch.randn(6) if self.own is None else torch.as_tensor(self.own.normal(size=6), dtype=torch.float32)
        return x[k] + noise, y[k]


@pytest.mark.parametrize("own", [None, "numpy", "old numpy"])
def test_reading_a_dataset_that_augments_advances_no_generator(own):
    make = {"numpy": np.random.default_rng, "old numpy": np.random.RandomState, None: lambda seed: None}[own]
    torch.manual_seed(3)
    expected, _ = Noisy(make(0))[0]
    model, data = dense(), Noisy(make(0))
    torch.manual_seed(3)
    objective = lk.Objective(model, data)
    objective.gradient()
    assert torch.equal(data[0][0], expected)
    assert objective.loss() == objective.loss()


def test_data_that_change_between_passes_cannot_be_streamed():
    with pytest.raises(lk.ObjectiveError, match="gives other items each time"):
        lk.Objective(dense(), Noisy(), resident=False)
    data = Dicts(x.clone(), y)
    objective = lk.Objective(dense(), data, batch_loss=of_mapping, resident=False)
    objective.loss()
    data.x += 1
    with pytest.raises(lk.ObjectiveError, match="are not those of an earlier pass"):
        objective.loss()


# ---- ready-made losses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"class_weight": torch.tensor([1.0, 3.0, 0.5])}])
def test_options_of_cross_entropy_are_those_of_torch(options):
    output = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0))
    target = torch.arange(30).reshape(6, 5) % 3
    target[0], target[2, 1] = -100, -100
    theirs = {{"class_weight": "weight"}.get(key, key): value for key, value in options.items()}
    expected = F.cross_entropy(output, target, **theirs)
    model = nn.Identity()
    for losses, weights in (
        lk.losses.cross_entropy(output, target, **options),
        lk.losses.segmentation(model, (output, target), **options),
    ):
        torch.testing.assert_close((losses * weights).sum() / weights.sum(), expected)


def test_positions_that_are_ignored_do_not_count_in_the_mean():
    images, masks = torch.randn(9, 1, 4, 4), torch.randint(3, (9, 4, 4))
    masks[2], masks[5, 1] = -100, -100
    torch.manual_seed(0)
    model = nn.Conv2d(1, 3, 3, padding=1)
    expected = F.cross_entropy(model(images), masks).item()
    assert lk.Objective(model, (images, masks), batch_size=2).loss() == pytest.approx(expected, rel=1e-6)
    found = lk.Objective(model, (images, masks), batch_loss=lk.losses.segmentation, batch_size=2)
    assert found.loss() == pytest.approx(expected, rel=1e-6)


def test_one_logit_with_labels_0_and_1_is_bce_with_classes_and_accuracy():
    torch.manual_seed(0)
    model, labels = nn.Linear(6, 1), (x[:, 0] > 0).long()
    objective = lk.Objective(model, (x, labels), loss="bce")
    output = model(x)[:, 0]
    assert objective.loss() == pytest.approx(
        F.binary_cross_entropy_with_logits(output, labels.float()).item(), rel=1e-6
    )
    assert objective.class_names == ("0", "1")
    assert objective.evaluate().accuracy == pytest.approx(float(((output > 0) == labels).float().mean()))


def test_the_options_of_a_loss_are_part_of_its_name():
    objective = lk.Objective(dense(), (x, y), loss=partial(lk.losses.cross_entropy, label_smoothing=0.1))
    assert objective.loss_name == "cross_entropy(label_smoothing=0.1)"
    assert objective.loss_unit == "nats"
    assert objective.class_names == ("0", "1", "2")
    assert objective.loss() == pytest.approx(F.cross_entropy(dense()(x), y, label_smoothing=0.1).item(), rel=1e-6)


def test_ready_batches_have_as_many_examples_as_losses():
    """Graphs, say: nodes and edges in one batch, and a loss for each graph."""
    nodes = [torch.randn(n, 6, generator=torch.Generator().manual_seed(n)) for n in (5, 7, 4)]
    owner = [torch.arange(len(part)) % 2 for part in nodes]
    batches = [
        {"nodes": part, "owner": of, "y": torch.tensor([0.5, -1])} for part, of in zip(nodes, owner, strict=True)
    ]

    def loss(model, batch):
        out = torch.zeros(2, dtype=batch["nodes"].dtype).index_add(0, batch["owner"], model(batch["nodes"])[:, 0])
        return (out - batch["y"]).square()

    model = dense()
    objective = lk.Objective(model, batches, batch_loss=loss, groups=torch.arange(6) % 2)
    assert objective.n_examples == 6
    expected = torch.cat([loss(model, batch) for batch in batches]).detach()
    assert objective.loss() == pytest.approx(float(expected.mean()), rel=1e-6)
    assert objective.class_losses()[0] == pytest.approx(float(expected[::2].sum() / 6), rel=1e-6)
