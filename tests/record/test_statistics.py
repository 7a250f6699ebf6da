"""Recordings with running statistics in place of series: the same numbers, whatever interrupts or shares the work."""

from __future__ import annotations

import functools
import itertools
import json
import warnings
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.record.allocation import axis_blocks as pieces_room
from lcakit.record.allocation.allocator import Allocator
from lcakit.record.allocation.axis_blocks import pieces_of
from lcakit.record.allocation.statistics import Statistics, merge
from lcakit.storage import saving, segments
from lcakit.storage.paths import partial_path
from lcakit.trajectory import schema
from lcakit.trajectory.labels import Labels, TensorSpec
from tests.support.networks import conv_net, dropout_net, examples, train

STEPS = 30


def record(path, keep=(), make=dropout_net, steps=STEPS, stop=None, **options):
    """Record a short run; ``stop`` raises in the loop after so many steps. Biases of zero images never move."""
    torch.manual_seed(5)
    model, (x, y) = make(), examples(inputs=6 if make is dropout_net else (1, 6, 6))
    x[..., 0] = 0.0  # some parameters have no gradient: their LCA is 0, and they never turn
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)

    def each(step):
        if step + 1 == stop:
            raise KeyboardInterrupt

    objective = lk.Objective(model, (x, y), batch_size=25, workers=1)
    with lk.Recorder(path, objective, optimizer, keep=keep, quiet=True, block_rows=7, tolerance=1e-6, **options) as rec:
        train(model, optimizer, x, y, steps, start=rec.steps, each=each)
    return lk.open_trajectory(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Everything of one run: the series, and the statistics beside them."""
    return record(tmp_path_factory.mktemp("whole") / "run.nc", ("theta", "gradient", "lca"), statistics=True).load()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return record(tmp_path_factory.mktemp("small") / "run.nc").load()


def assert_equal(a, b):
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))


def turns(signs):
    """Count sign changes between nonzero neighbours, one parameter after the other."""
    columns = [column[column != 0] for column in signs.T]
    return np.array([np.count_nonzero(column[1:] != column[:-1]) for column in columns])


def test_statistics_are_those_of_the_series(whole, small):
    lca = whole["lca"].values
    twins = {
        "total_lca": functools.reduce(np.add, lca.astype(np.float64)),
        "total_square_lca": functools.reduce(np.add, lca.astype(np.float64) ** 2),
        "helped_count": (lca < 0).sum(0),
        "hurt_count": (lca > 0).sum(0),
        "turn_count": turns(np.sign(np.diff(whole["theta"].values.astype(np.float64), axis=0))),
        "crossing_count": turns(np.sign(whole["gradient"].values)),
    }
    assert (twins["helped_count"] + twins["hurt_count"] < STEPS).any()
    for name, twin in twins.items():
        np.testing.assert_array_equal(whole[name], twin, err_msg=name)
        np.testing.assert_array_equal(small[name], twin, err_msg=name)
    layer = whole["layer_index"].values
    for row in range(whole.sizes["layer"]):
        np.testing.assert_array_equal(small["layer_helped"][:, row], (lca[:, layer == row] < 0).sum(1))
        np.testing.assert_array_equal(small["layer_hurt"][:, row], (lca[:, layer == row] > 0).sum(1))
    for name in ("lca_unit_class", "loss", "residual", "first_order", "splits"):
        np.testing.assert_array_equal(small[name], whole[name], err_msg=name)
    assert not {"theta", "gradient", "lca"} & set(small)
    assert lk.validate(whole, quiet=True).ok


def test_studies_of_the_whole_run_are_those_of_the_series(whole, small):
    same = np.testing.assert_array_equal
    for study in (lk.noise.iterations_helped, lk.oscillation.weight_turns, lk.oscillation.gradient_crossings):
        same(study(small), study(whole))
        assert study(small).dims == study(whole).dims
        assert study(small).dtype == np.int64
    for by in (None, "layer", "kernel_layer"):
        same(lk.noise.help_hurt_zero(small, by=by), lk.noise.help_hurt_zero(whole, by=by))
        same(lk.noise.fraction_helping(small, by), lk.noise.fraction_helping(whole, by))
        assert lk.oscillation.iterations_per_turn(small, by).equals(lk.oscillation.iterations_per_turn(whole, by))
    same(lk.noise.helped_histogram(small), lk.noise.helped_histogram(whole))
    np.testing.assert_allclose(
        lk.aggregate.rms_lca(small, "parameter"), lk.aggregate.rms_lca(whole, "parameter"), 1e-12
    )
    for by in ("parameter", "unit", "tensor"):
        one, other = lk.ranking.extremes(small, by, 3), lk.ranking.extremes(whole, by, 3)
        same(one["label"], other["label"])
        np.testing.assert_allclose(one["lca"], other["lca"], 1e-6)
    one, other = lk.account(small), lk.account(whole)
    assert one.helping_percent == other.helping_percent
    assert one.zero_percent == other.zero_percent
    assert one.parameters == whole.sizes["parameter"]


def test_what_statistics_cannot_tell_is_an_error_that_names_the_option(small):
    for question in (
        lambda: lk.noise.help_hurt_zero(small, by="unit"),
        lambda: lk.noise.help_hurt_zero(small.lk.sel(unit=3)),
        lambda: lk.ranking.extremes(small, iterations=slice(0, 3)),
        lambda: lk.aggregate.rms_lca(small),
        lambda: lk.noise.iterations_helped(small.lk.sel(iteration=slice(0, 9))),
    ):
        with pytest.raises(lk.TrajectoryError, match=r'keep=\("lca", …\)'):
            question()


def test_selections_and_copies_keep_what_is_still_true(whole, small, tmp_path):
    layer, other = small.lk.sel(layer="3"), whole.lk.sel(layer="3")
    np.testing.assert_array_equal(lk.noise.help_hurt_zero(layer), lk.noise.help_hurt_zero(other))
    np.testing.assert_array_equal(lk.noise.iterations_helped(layer), lk.noise.iterations_helped(other))
    path = lk.save(small, tmp_path / "again.nc")
    assert_equal(lk.open_trajectory(path), small)
    lk.share(path, tmp_path / "shared.nc")
    assert_equal(
        lk.open_trajectory(tmp_path / "shared.nc").drop_vars("lca_unit_class"), small.drop_vars("lca_unit_class")
    )
    lk.share(path, tmp_path / "layers.nc", resolution="layer")
    layers = lk.open_trajectory(tmp_path / "layers.nc")
    np.testing.assert_array_equal(lk.noise.help_hurt_zero(layers), lk.noise.help_hurt_zero(whole))
    runs = lk.open_runs([path, tmp_path / "shared.nc"])
    assert lk.oscillation.weight_turns(runs).dims == ("run", "parameter")
    np.testing.assert_array_equal(lk.noise.fraction_helping(runs)[0], lk.noise.fraction_helping(whole))
    short = lk.save(small.lk.sel(iteration=slice(0, 9)), tmp_path / "short.nc")
    assert "turn_count" not in lk.open_trajectory([path, short], align="shortest")
    zarr = pytest.importorskip("zarr")
    assert zarr
    assert_equal(lk.open_trajectory(lk.save(small, tmp_path / "run.zarr")), small)


def test_without_classes_units_and_layers_are_there(whole, tmp_path):
    plain = record(tmp_path / "run.nc", classes=None)
    assert plain["unit_lca"].dims == ("iteration", "unit")
    for study in (lk.layers.layer_lca, lambda ds: lk.aggregate.cumulative_lca(ds, "unit")):
        np.testing.assert_allclose(study(plain), study(whole), atol=1e-7)
    assert lk.validate(plain, quiet=True).ok
    lk.share(tmp_path / "run.nc", tmp_path / "units.nc", resolution="unit")
    np.testing.assert_allclose(
        lk.layers.layer_lca(lk.open_trajectory(tmp_path / "units.nc")), lk.layers.layer_lca(whole), atol=1e-4
    )


def test_an_interrupted_recording_goes_on_bit_by_bit(small, tmp_path):
    path = tmp_path / "run.nc"
    with pytest.raises(KeyboardInterrupt):
        record(path, stop=17)
    part = lk.open_trajectory(path)
    assert part.attrs["partial"]
    counts = lk.noise.iterations_helped(part).sum("outcome")
    assert part.sizes["iteration"] == 17
    assert (counts == 17).all()
    assert lk.validate(path, quiet=True).ok
    running = sorted(p.name for p in partial_path(path).glob("*.running"))
    assert running == ["000001.running", "000002.running"]
    with pytest.raises(lk.RecordingError, match=r"statistics: stored 'total_lca .*', now 'none'"):
        record(path, resume=True, statistics=False)
    assert_equal(record(path, resume=True), small)


def test_an_interrupt_while_counting_costs_the_last_block_only(small, tmp_path, monkeypatch):
    path, real, calls = tmp_path / "run.nc", Statistics._add, []

    def interrupted(self, at, stretch):
        calls.append(1)
        if len(calls) == 1 + 17:  # two blocks of seven are whole, and two rows of the third
            raise KeyboardInterrupt
        real(self, at, stretch)

    with monkeypatch.context() as patch:
        patch.setattr(Statistics, "_add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            record(path)
    with pytest.warns(LcakitWarning, match="running statistics"):
        assert "turn_count" not in lk.open_trajectory(path)
    with warnings.catch_warnings(), pytest.raises(lk.RecordingError, match="resume=True"):
        warnings.simplefilter("ignore")
        lk.finish(path)  # its file would not have them, ever
    assert_equal(record(path, resume=True), small)


def test_damaged_statistics_cost_the_last_block_only(small, tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    with monkeypatch.context() as patch:
        patch.setattr(saving, "finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            record(path)
    running = sorted(partial_path(path).glob("*.running"))
    running[-1].write_bytes(b"damaged")
    assert_equal(record(path, resume=True), small)


def test_statistics_answer_only_for_their_own_series(small):
    for study in (lk.noise.iterations_helped, lk.noise.help_hurt_zero):
        with pytest.raises(lk.TrajectoryError, match="has no 'lca_class'"):
            study(small, lca="lca_class")


@pytest.mark.parametrize("in_memory", [True, False])
def test_allocations_have_them_too(whole, tmp_path, monkeypatch, in_memory):
    model, (x, y) = dropout_net(), examples(seed=9)
    objective = lk.Objective(model, (x, y), workers=1)
    out = None if in_memory else tmp_path / "out.nc"
    path = lk.save(whole.drop_vars(schema.STATISTICS), tmp_path / "run.nc")
    every = lk.allocate(path, objective, name="val", quiet=True, out=tmp_path / "every.nc")
    if in_memory:
        ds = lk.allocate(lk.open_trajectory(path), objective, name="val", keep=(), quiet=True)
    else:
        real, calls = Allocator.advance, []

        def failing(self, vector):
            calls.append(1)
            if len(calls) == 12:
                raise KeyboardInterrupt
            return real(self, vector)

        with monkeypatch.context() as patch:
            patch.setattr(Allocator, "advance", failing)
            with pytest.raises(KeyboardInterrupt):
                lk.allocate(path, objective, name="val", keep=(), quiet=True, out=out)
        ds = lk.allocate(path, objective, name="val", keep=(), quiet=True, out=out)
    assert "lca_val" not in ds
    assert "turn_count_val" not in ds
    lca = every["lca_val"].values
    np.testing.assert_array_equal(ds["total_lca_val"], functools.reduce(np.add, lca.astype(np.float64)))
    np.testing.assert_array_equal(ds["crossing_count_val"], turns(np.sign(every["gradient_val"].values)))
    fraction = functools.partial(lk.noise.fraction_helping, lca="lca_val")
    assert fraction(ds).compute() == fraction(every).compute()
    assert lk.validate(ds, quiet=True).ok


def test_pieces_do_not_change_what_is_stored(tmp_path, monkeypatch):
    kept = ("theta", "gradient", "lca")
    whole = record(tmp_path / "a.nc", kept, make=conv_net, statistics=True, classes="parameter").load()
    monkeypatch.setattr(pieces_room, "PIECE", 90)
    cut = record(tmp_path / "b.nc", kept, make=conv_net, statistics=True, classes="parameter").load()
    for name in whole.data_vars:
        np.testing.assert_allclose(cut[name], whole[name], rtol=2e-7, atol=1e-15, err_msg=str(name))
    for name in ("theta", "gradient", "lca_class", "turn_count", "crossing_count"):
        np.testing.assert_array_equal(cut[name], whole[name], err_msg=name)


def test_one_gradient_by_class_at_a_time_gives_the_same(tmp_path, monkeypatch):
    whole = record(tmp_path / "a.nc", make=conv_net).load()
    assert (whole["splits"] > 2).any(), "the test needs iterations that are refined"
    evaluate, given, alive = lk.Objective.evaluate, [], set()

    def watched(self, *arguments, **options):
        alive.add(sum(one() is not None for one in given))
        found = evaluate(self, *arguments, **options)
        if options.get("classes"):
            given.append(weakref.ref(found.gradient))
        return found

    monkeypatch.setattr(pieces_room, "PIECE", 90)
    monkeypatch.setattr(lk.Objective, "evaluate", watched)
    cut = record(tmp_path / "b.nc", make=conv_net).load()
    assert len(given) > 3 * STEPS
    assert max(alive) == 1  # that of the end, while the move is refined
    assert set(cut.data_vars) == set(whole.data_vars)
    for name in whole.data_vars:
        np.testing.assert_allclose(cut[name], whole[name], rtol=2e-7, atol=1e-12, err_msg=str(name))


LABELS = Labels(
    (
        TensorSpec("conv.weight", (5, 3, 2, 2), "kernel", "conv", "conv2d"),
        TensorSpec("conv.bias", (5,), "bias", "conv", "conv2d"),
        TensorSpec("up.weight", (4, 3, 2, 2), "kernel", "up", "convtranspose2d", transposed=True, groups=2),
        TensorSpec("scale", (), "other", "scale"),
    )
)


@pytest.mark.parametrize("most", [1, 7, 40, 10**6])
def test_pieces_cover_the_axis_and_sum_to_units(most):
    found = pieces_of(LABELS, 2, most)
    parts = [part for piece in found for part in piece.parts]
    assert [part.columns.start for part in parts] == [0, *(part.columns.stop for part in parts[:-1])]
    assert parts[-1].columns.stop == LABELS.n_parameters
    values = torch.randn((2, LABELS.n_parameters), dtype=torch.float64)
    sums = torch.zeros((2, LABELS.n_units), dtype=torch.float64)
    for piece in found:
        piece.add_unit_sums(values[:, piece.columns], sums)
    unit = LABELS.parameter_labels()["unit_index"]
    expected = [np.bincount(unit, row, LABELS.n_units) for row in values.numpy()]
    np.testing.assert_allclose(sums, expected, atol=1e-12)


SIGNS = st.lists(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.25, 2.0])] * 3), min_size=1, max_size=9)


@settings(deadline=None, max_examples=40)
@given(rows=SIGNS, data=st.data())
def test_blocks_join_to_the_whole_wherever_they_are_cut(rows, data):
    labels = Labels((TensorSpec("w", (3,), "bias", "w"),))
    steps = torch.tensor(rows)
    theta = torch.cat([torch.zeros(1, 3), steps.cumsum(0)])
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)))) | {0, len(rows)})

    def counted(start, stop):
        out = Statistics(tuple(schema.STATISTICS), pieces_of(labels, 1, 50), torch.device("cpu"))
        if start == 0:
            out.begin(theta[0])
        for t in range(start, stop):
            out.update(steps[t], theta[t], theta[t + 1], theta[t + 1])
        return {name: values.copy() for name, values in out.arrays() if name != "iterations"}

    whole = counted(0, len(rows))
    blocks = [counted(a, b) for a, b in itertools.pairwise(cuts)]
    joined = functools.reduce(merge, blocks)
    for name, values in whole.items():
        np.testing.assert_array_equal(joined[name], values, err_msg=name)
        assert joined[name].dtype == values.dtype
    np.testing.assert_array_equal(whole["turn_count"], turns(np.sign(steps.numpy())))
    np.testing.assert_array_equal(whole["crossing_count"], turns(np.sign(theta.numpy())))


@pytest.mark.parametrize(
    ("tamper", "check"),
    [
        (lambda ds: ds["total_lca"].values.__setitem__(3, ds["total_lca"].values[3] + 1e-3), "running sums"),
        (lambda ds: ds["helped_count"].values.__setitem__(0, STEPS + 1), "running counts"),
        (lambda ds: ds["hurt_count"].values.__setitem__(2, ds["hurt_count"].values[2] + 1), "running counts"),
        (lambda ds: ds["turn_count"].values.__setitem__(2, STEPS), "running counts"),
        (lambda ds: ds["layer_helped"].values.__setitem__((2, 0), -1), "running counts"),
        (lambda ds: ds["total_square_lca"].values.__setitem__(1, np.nan), "running sums"),
    ],
)
def test_validation_finds_what_was_tampered_with(small, tamper, check):
    ds = small.copy(deep=True)
    assert lk.validate(ds, quiet=True)[check].status == "pass"
    tamper(ds)
    report = lk.validate(ds, quiet=True)
    assert not report.ok
    assert report[check].status == "fail"


def moved_over(ds, name, where, by):
    """Let the first of some parameters have more of a running sum, and the largest less: the sum of all stays."""
    values = ds[name].values
    here = int(np.flatnonzero(where)[0])
    there = int(np.argmax(np.where(np.arange(values.size) == here, 0, values)))
    values[here] += by
    values[there] -= by


def a_help_more(ds):
    counted = ds["helped_count"] + ds["hurt_count"] == STEPS
    moved_over(ds, "helped_count", counted & (ds["hurt_count"] > 0), 1)


def a_sum_without_squares(ds):
    moved_over(ds, "total_lca", ds["total_square_lca"] == 0, 1e-3)


@pytest.mark.parametrize(
    ("tamper", "check", "says"),
    [
        (a_help_more, "running counts", "helped and hurt in more iterations"),
        (a_sum_without_squares, "running sums", "larger than its sum of squares allows"),
    ],
)
def test_validation_finds_what_cannot_be_of_one_parameter(small, tamper, check, says):
    ds = small.copy(deep=True)
    tamper(ds)
    found = lk.validate(ds, quiet=True)[check]
    assert found.status == "fail"
    assert says in found.figure


def test_statistics_of_another_recording_are_refused():
    one, other = (Statistics((n,), pieces_of(LABELS), torch.device("cpu")) for n in ("total_lca", "turn_count"))
    with pytest.raises(lk.RecordingError, match=r"run\.nc holds the statistics.*turn_count"):
        one.load(dict(other.arrays()), "run.nc")


def test_a_strangers_running_file_is_checked(tmp_path):
    path = tmp_path / "run.nc"
    with pytest.raises(KeyboardInterrupt):
        record(path, stop=9)
    running = max(partial_path(path).glob("*.running"))
    arrays = {name: stored[:] for name, stored in segments.open_segment(running).items()}
    for wrong in (
        {"total_lca": np.zeros(3)},
        {"turn_count": np.zeros(arrays["turn_count"].size)},
        {"evil": np.zeros(1)},
    ):
        with running.open("wb") as file:
            np.savez(file, **(arrays | wrong))
        with pytest.raises(lk.TrajectoryError, match=f"{running.name}.*{next(iter(wrong))}"):
            lk.open_trajectory(path)


def test_estimate_and_command(tmp_path, capsys):
    from lcakit.cli.main import main

    found = lk.estimate(LABELS, 10, keep=(), classes=None).bytes_by_variable
    k = LABELS.n_parameters
    assert found == {"unit_lca": 4 * 10 * LABELS.n_units, "statistics": 32 * k, "labels": 20 * k}
    assert "statistics" not in lk.estimate(LABELS, 10, keep=(), statistics=False).bytes_by_variable
    path = tmp_path / "run.nc"
    options = ["digits-fc", "--iterations", "3", "--train-examples", "50", "--keep", "none"]
    assert main(["record", *options, "--out", str(path)]) == 0
    with lk.open_trajectory(path) as ds:
        assert {"total_lca", "turn_count", "layer_hurt"} <= set(ds)
        assert "lca" not in ds
    capsys.readouterr()
    assert main(["info", "--json", str(path)]) == 0
    assert "total_square_lca" in {row["name"] for row in json.loads(capsys.readouterr().out)["variables"]}
    assert main(["estimate", *options]) == 0
    assert "statistics" in capsys.readouterr().out
