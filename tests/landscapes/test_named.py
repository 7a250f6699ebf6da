"""Named experiments: a table, a file, and clear refusals before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from lcakit.landscapes.named import EXPERIMENTS, find, run
from lcakit.landscapes.tables import MOST_ROWS, to_text

SMALL = {
    "nqm": {"directions": 30},
    "wedges": {"dimension": 16, "wedge": 8},
}
EXTRA = {
    "steps": {"largest": 6},
    "speedup": {"largest": 6},
    "loss": {"steps": 20, "runs": 3},
    "schedule": {"pieces": 3},
}
ALL = [(model, name) for model, names in EXPERIMENTS.items() for name in names]


def small(model, name):
    if name == "labels":  # of a network
        return {"examples": 20}
    return SMALL[model] | EXTRA.get(name, {}) | ({"optima": 3} if name == "short" else {})


@pytest.mark.sampled
@pytest.mark.parametrize(("model", "name"), ALL)
def test_every_experiment_prints_a_table_and_writes_its_result(model, name, tmp_path):
    path = tmp_path / "result.nc"
    columns = find(model, name).columns
    _, result = run(model, name, path, **small(model, name))
    table = to_text(result, columns)
    assert all(column in table for column in columns)
    with xr.open_dataset(path) as ds:
        assert set(columns) <= {*ds.data_vars}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "name"), ALL)
def test_every_experiment_draws_its_picture(model, name, tmp_path):
    pytest.importorskip("holoviews")
    path = tmp_path / "picture.png"
    run(model, name, path, **small(model, name))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_table_holds_the_numbers():
    data = xr.DataArray([1.5, np.inf], dims="batch_size", coords={"batch_size": [1, 10]})
    table = to_text(data, ("steps",))
    assert [row.split() for row in table.splitlines()] == [["batch_size", "steps"], ["1", "1.5"], ["10", "inf"]]


def test_a_long_table_is_thinned_and_says_so():
    data = xr.DataArray(np.arange(1000.0), dims="rank", coords={"rank": np.arange(1000)})
    lines = to_text(data, ("value",)).splitlines()
    assert len(lines) == MOST_ROWS + 2
    assert lines[-1] == f"({1000 - MOST_ROWS} of 1000 rows left out)"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("quadratic", "steps"), {}, "unknown landscape 'quadratic'"),
        (("nqm", "stepps"), {}, "Did you mean 'steps'"),
        (("nqm", "steps"), {"direction": 5}, "Did you mean 'directions'"),
        (("nqm", "steps", "curve.gif"), {}, "unknown suffix of a result '.gif'"),
        (("wedges", "planes"), {"dimension": 5, "wedge": 5}, "5"),
    ],
)
def test_refusals(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        run(*arguments, **options)


def test_the_toy_and_the_network_side_by_side():
    pytest.importorskip("sklearn")
    experiment, result = run("wedges", "spectrum", dimension=16, wedge=8, count=4, network=True)
    table = to_text(result, experiment.columns)
    assert {row.split()[0] for row in table.splitlines()} == {"surface", "wedges", "network"}
