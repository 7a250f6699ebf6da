"""Wrong arguments of what trains, searches or records: a sentence before any work is begun.

Every public callable is visited here or in ``tests/test_arguments.py``, or is named in EXEMPT with the reason.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import lcakit as lk
from lcakit.errors import LcakitError
from tests import test_arguments
from tests.support.networks import dense, examples

PLACES = ("experiments", "landscapes", "units", "callbacks", "interop", "testing", "losses")
OTHERS = ("Recorder", "Objective", "ObjectiveSpec")
EXEMPT = {
    "experiments.networks.Builder": "a type for annotations",
    "experiments.networks.Shape": "a type for annotations",
    "experiments.paper.Key": "a type for annotations",
    "experiments.data.Split": "a type for annotations",
    "units.Rule": "a type for annotations",
    "landscapes.wedges.Surface": "a protocol, which nobody makes",
    **dict.fromkeys(
        [f"losses.{n}" for n in ("bce", "causal_lm", "cross_entropy", "mse", "segmentation")]
        + ["losses.sequence_classification", "losses.token_classification"],
        "called once a batch with what the model returns: lk.Objective tells what is wrong with that",
    ),
}


def _inside(place: str, holder: Any) -> Iterator[str]:
    """Yield the names of what may be called. Callbacks are not looked at: to import their packages takes seconds."""
    for name in dir(holder):
        value = None if place == "callbacks" else getattr(holder, name)
        if isinstance(value, types.ModuleType):
            yield from _inside(f"{place}.{name}", value)
        elif place == "callbacks" or callable(value) or isinstance(value, types.UnionType):
            yield f"{place}.{name}"


PUBLIC = {*OTHERS, *(name for place in PLACES for name in _inside(place, getattr(lk, place)))}
VISITED = sorted(PUBLIC - set(EXEMPT))


def _named(name: str) -> Callable[..., Any]:
    return attrgetter(name)(lk)


def test_every_public_callable_is_visited_or_exempt():
    assert set(EXEMPT) <= PUBLIC
    places = {*PLACES, *test_arguments.ROOMS, "testing"}
    for name in lk.__all__:
        value = getattr(lk, name)
        if isinstance(value, types.ModuleType):
            assert name in places, f"lk.{name} is in no walk"
        elif inspect.isclass(value) and not issubclass(value, BaseException):
            assert name in OTHERS, f"lk.{name} is in no walk"
        elif inspect.isfunction(value):
            assert name in test_arguments.FUNCTIONS


class Other:
    """Of no kind that any parameter has."""


WRONG: dict[str, Any] = {
    "object": Other(),
    "text": "nonsense",
    "number": 5,
    "None": None,
    "list": ["a", 1.5],
    "array": np.zeros((2, 3)),
    "dataset": xr.Dataset({"a": ("x", [1])}),
}


def _may_be(annotation: str, kind: str) -> bool:
    """Say whether an annotation allows values of a kind, as far as its words tell."""
    words = {
        "text": ("str", "Path", "Key"),
        "number": ("int", "float"),
        "None": ("None",),
        "list": ("Sequence", "Iterable", "list", "tuple", "Shape", "Paths", "Layout"),
        "array": ("ndarray", "Iterable"),
        "dataset": ("Dataset", "Mapping", "Iterable"),
        "object": (),
    }
    return any(word in annotation for word in ("Any", "object", *words[kind]))


def _required(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {k: p for k, p in inspect.signature(function).parameters.items() if p.kind not in several}


@pytest.mark.parametrize("name", VISITED)
def test_arguments_of_a_wrong_kind_get_a_sentence_before_work_begins(name):
    """The others are objects of no kind, too: whichever is looked at first, it must be told."""
    function = _named(name)
    found = {}
    for key, parameter in _required(function).items():
        for kind, value in WRONG.items():
            if not _may_be(str(parameter.annotation), kind):
                others = {k: Other() for k, p in _required(function).items() if p.default is p.empty}
                if told := _complaint(function, others | {key: value}):
                    found[f"{key}={kind}"] = told
    assert not found


def _complaint(function: Callable[..., Any], arguments: dict[str, Any]) -> str:
    try:
        function(**arguments)
    except LcakitError as error:
        return "" if len(str(error)) > 20 else f"says only {error}"
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return "no error"


@pytest.mark.parametrize("name", VISITED)
def test_what_is_missing_or_unknown_is_named(name):
    function = _named(name)
    needed = [k for k, p in _required(function).items() if p.default is p.empty]
    if needed:
        with pytest.raises(LcakitError, match=f"missing a required argument: '{needed[0]}'"):
            function()
    written = inspect.signature(function.__init__ if inspect.isclass(function) else function)
    if all(p.kind is not p.VAR_KEYWORD for p in written.parameters.values()):
        with pytest.raises(LcakitError, match="nonsense"):
            function(**{k: Other() for k in needed}, nonsense=1)


# ---- what annotations do not tell ------------------------------------------------------------------------------------


OBJECTIVE = {
    "model": dense(),
    "data": examples(),
    "loss": "cross_entropy",
    "workers": 1,
}


@pytest.mark.parametrize("key", sorted(_required(lk.Objective)))
def test_an_objective_tells_any_nonsense(key):
    for kind, value in WRONG.items():
        try:
            lk.Objective(**OBJECTIVE | {key: value})
        except LcakitError as error:
            assert len(str(error)) > 20  # noqa: PT017
        except (ValueError, TypeError) as error:
            assert test_arguments._raised_on_purpose(error), f"{key}={kind}: {error!r}"  # noqa: PT017


@pytest.mark.parametrize("key", sorted(_required(lk.Recorder)))
def test_a_recorder_tells_any_nonsense_and_leaves_nothing(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objective = lk.Objective(**OBJECTIVE)
    good = {
        "path": "run.nc",
        "objective": objective,
        "optimizer": torch.optim.SGD(objective.model.parameters(), 0.1),
        "quiet": True,
    }
    for kind, value in WRONG.items():
        try:
            rec = lk.Recorder(**good | {key: value})
        except LcakitError as error:
            assert len(str(error)) > 20  # noqa: PT017
        except (ValueError, TypeError) as error:
            assert test_arguments._raised_on_purpose(error), f"{key}={kind}: {error!r}"  # noqa: PT017
        else:
            rec.close()
    assert not list(tmp_path.iterdir())


def test_names_of_types_are_what_annotations_say():
    """The walk above reads annotations as words: they must be there."""
    for name, function in zip(VISITED, map(_named, VISITED), strict=True):
        for key, parameter in _required(function).items():
            assert parameter.annotation is not parameter.empty, f"{name}: {key}"
            assert typing.get_origin(parameter.annotation) is None or isinstance(parameter.annotation, str)
