"""Ordinary mistakes get a sentence: every public function, every argument, values of the wrong kind."""

from __future__ import annotations

import inspect
import linecache
import types
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.errors import LcakitError
from lcakit.testing import tiny_trajectory

ROOMS = ("aggregate", "correlation", "fisher", "generalization", "layers", "myopia", "noise", "oscillation", "phase")
ROOMS += ("ranking", "runs", "specialization", "synchronization", "tails", "plot")
INSIDE = {"grouped", "series", "total", "unit_group_ids", "windowed", "require_runs"}  # of use to other rooms only
TEXTS = {"title", "suffix", "layer", "tensor", "name", "setting"}  # any text is a title; names are tried with the rest


def _functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in lk.__all__:
        value = getattr(lk, name)
        if inspect.isfunction(value):
            yield name, value
    for room in ROOMS:
        module = getattr(lk, room)
        for name in dir(module):
            value = getattr(module, name)
            if inspect.isfunction(value) and name not in INSIDE:
                yield f"{room}.{name}", value
            elif isinstance(value, types.ModuleType):
                yield from (
                    (f"{room}.{name}.{part}", function)
                    for part in dir(value)
                    if inspect.isfunction(function := getattr(value, part))
                )


FUNCTIONS = dict(_functions())


@cache
def _ds() -> xr.Dataset:
    ds = tiny_trajectory(8, class_parameters=True)
    return ds.assign(lca_val=ds["lca"])


@cache
def _runs() -> xr.Dataset:
    return lk.runs.align({str(seed): tiny_trajectory(8, seed=seed) for seed in range(3)})


@cache
def _results() -> dict[str, Any]:
    """Return values that parameters without a default can have, by name."""
    curves = {"steps": (("optimizer", "batch_size"), [[9.0, 5.0, 4.0], [8.0, 4.0, 3.0]])}
    totals = lk.layers.layer_lca(_runs()).sum("iteration")
    return {
        "histogram": lk.tails.histogram(_ds()),
        "peaks": lk.synchronization.peak_iterations(_ds(), k=3),
        "curves": xr.Dataset(curves, {"optimizer": ["sgd", "adam"], "batch_size": [1, 2, 4]}),
        "array": totals,
        "p": xr.DataArray([0.1, 0.2], dims="layer"),
        "over": "layer",
        "unit": 0,
        "layer": "fc",
        "next_layer": "conv1",
        "parameter": 1,
        "size": 3,
        "after": 3,
        "factor": 2.0,
        "by": "layer",
        "against": [0.0, 1.0, 2.0],
        "delay": [0, 1, 2],
        "scheme": "green-red",
        "result": totals,
        "n_iterations": 10,
        "name": "nothing.nc",
        "path": "nothing.nc",
        "paths": ["nothing.nc"],
        "out": "out.nc",
        "labels": {"fc.weight": (2, 2)},
        "theta": np.zeros((3, 4), "f4"),
        "objective": None,
        "model": None,
        "expected": xr.DataArray([1.0], dims="x"),
        **dict.fromkeys(("scheduled", "averaged", "loss", "connected", "effect"), xr.Dataset({"a": ("x", [1])})),
        **dict.fromkeys(("reached", "counts", "eigenvalues", "element"), xr.DataArray([1.0], dims="x")),
        "runs": {},
    }


def _good(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Return arguments that are right, as far as a table can tell; k=20 is too many for a run this short."""
    out: dict[str, Any] = {}
    several = name.startswith("layers.") and name.split(".")[1] in ("hurting_layers", "compare_runs", "layer_trend")
    for key, parameter in inspect.signature(function).parameters.items():
        if key in ("a", "b") and name == "runs.compare":
            out[key] = _results()["array"]
        elif key in ("ds", "a", "b", "trajectory", "source") or (key == "runs" and name.startswith("layers.")):
            out[key] = _runs() if several else _ds()
        elif key == "lca" and name == "plot.delays":
            out[key] = lk.layers.layer_lca(_runs()).sum("iteration")
        elif parameter.default is parameter.empty and key in _results():
            out[key] = _results()[key]
        elif key in ("k", "trials", "resamples"):
            out[key] = 3
    return out


WRONG: dict[str, Any] = {
    "None": None,
    "number": 5,
    "negative": -1,
    "text": "nonsense",
    "list": ["a", 1.5],
    "empty list": [],
    "array": np.zeros((2, 3)),
    "DataArray": xr.DataArray(np.zeros((2, 3)), dims=("x", "y"), name="lca"),
    "other dataset": xr.Dataset({"a": ("x", [1])}),
    "object": object(),
}


def _raised_on_purpose(error: BaseException) -> bool:
    """Say whether an error of Python's own types comes from a ``raise`` in lcakit, and so has a sentence of ours."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    file = frame.tb_frame.f_code.co_filename
    line = linecache.getline(file, frame.tb_lineno).strip()
    return f"{Path(lk.__file__).parent}" in file and line.startswith("raise ")


def _complaint(function: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """Call, and compute what comes back; return what is wrong with the answer, "" for a result or a good error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = function(**arguments)
            if isinstance(result, xr.DataArray | xr.Dataset):
                result.compute()
    except LcakitError as error:
        return "" if len(str(error)) > 20 else f"says only {error!s}"
    except (ValueError, TypeError) as error:
        return "" if _raised_on_purpose(error) else f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return ""


WAITING = {"fetch", "explore", "animate", "report"}
"""Their values of the right kind start servers, films and downloads: only the wrong kinds are tried."""


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_wrong_arguments_get_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = FUNCTIONS[name]
    good = _good(name, function)
    found = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if key in ("title", "cluster") or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        for kind, value in WRONG.items():
            if (name in WAITING or name.startswith("plot.")) and _allowed(parameter, kind):
                continue
            if complaint := _complaint(function, good | {key: value}):
                found[f"{key}={kind}"] = complaint
    assert not found


def _allowed(parameter: inspect.Parameter, kind: str) -> bool:
    """Say whether a value is of a kind that the parameter may have, so that a picture would be drawn."""
    texts = {"None": "None", "number": "int", "text": "str", "list": "Sequence"}
    words = str(parameter.annotation)
    return kind in texts and (texts[kind] in words or (kind == "number" and "float" in words) or "Any" in words)


OPENED = sorted(
    name for name, function in FUNCTIONS.items() if {"ds", "runs", "a"} & set(inspect.signature(function).parameters)
)
DRAWN = {"plot.layers", "plot.loss", "plot.peaks", "plot.turns"}  # one of each kind; pictures take their time
NOT_TRAJECTORIES = {"runs.align", "runs.compare", "plot.sweep", "save", "animate"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[int, Path]:
    """One run, and a pattern for several."""
    folder = tmp_path_factory.mktemp("runs")
    one = lk.save(_ds(), folder / "one.nc")
    for seed in range(3):
        lk.save(tiny_trajectory(8, seed=seed), folder / f"run-{seed}.nc")
    return {1: one, 3: folder / "run-*.nc"}


@pytest.mark.parametrize("name", [n for n in OPENED if n not in NOT_TRAJECTORIES and (n in DRAWN or "plot" not in n)])
def test_the_path_of_a_file_stands_for_its_trajectory(name, files):
    function, good = FUNCTIONS[name], _good(name, FUNCTIONS[name])
    given = {
        key: files[value.sizes.get("run", 1)] if key in ("ds", "runs", "a", "b") else value
        for key, value in good.items()
    }
    got, expected = function(**given), function(**good)
    if isinstance(expected, xr.DataArray | xr.Dataset):
        xr.testing.assert_allclose(got.drop_vars("run", errors="ignore"), expected.drop_vars("run", errors="ignore"))
    else:
        assert type(got) is type(expected)


@pytest.mark.parametrize("study", [lk.noise.fraction_helping, lk.plot.layers, lk.layers.layer_lca])
def test_what_is_no_trajectory_is_told_what_to_do(study):
    ds = _ds()
    for value, remedy in ((ds["lca"], "pass the dataset"), ([ds, ds], r"lk\.runs\.align"), (5, r"lk\.open_trajectory")):
        with pytest.raises(LcakitError, match=f"(?i){remedy}"):
            study(value)
    with pytest.raises(lk.TrajectoryError, match="no such file"):
        study("nothing.nc")


def test_numbers_of_any_kind_are_numbers():
    ds = _ds()
    for size in (3, 3.0, np.int16(3), np.array(3), xr.DataArray(3)):
        assert lk.aggregate.window_lca(ds, size).sizes["window"] == 3
    for tops in ([1], (1,), np.array([1]), range(1, 2), xr.DataArray([1], dims="top")):
        assert lk.specialization.class_share(ds, tops).sizes["top"] == 1
    with pytest.raises(LcakitError, match=r"k must be a whole number, got 2\.5"):
        lk.ranking.extremes(ds, k=2.5)
    with pytest.raises(LcakitError, match="quiet must be True or False, got the text 'no'"):
        lk.account(ds, quiet="no")
