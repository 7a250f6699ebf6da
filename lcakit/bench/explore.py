"""How quickly the explorer answers: ``lcakit bench explore``. MNIST-FC's size by default, or a file."""

from __future__ import annotations

import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from lcakit.bench.machine import machine
from lcakit.errors import DataError
from lcakit.storage.opening import open_trajectory
from lcakit.storage.saving import save
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset

if TYPE_CHECKING:
    from lcakit.views.explorer.app import Explorer

__all__ = ["ACTIONS", "Action", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_BOUND = 0.3  # seconds, from a move of the mouse to the new picture
_ITERATIONS, _WIDTHS, _CLASSES = 880, (784, 100, 50, 10), 10  # MNIST-FC of the paper
_FEW_CLASSES = 3  # of single parameters: 0.9 GB
_REPEATS = 9
Action = Callable[["Explorer", int], Any]

ACTIONS: dict[str, Action] = {
    "step of the player": lambda app, n: _set(app.controls.player, n),
    "jump of the player": lambda app, n: _set(app.controls.player, 97 * n % app.model.iterations.size),
    "span": lambda app, n: _set(app.controls.window, (n, app.model.iterations.size // 2 + n)),
    "span, maps over it": lambda app, n: _over_span(app, n),
    "layer": lambda app, n: _set(app.controls.layer, n % len(app.model.layers)),
    "unit": lambda app, n: _set(app.controls.unit, app.controls.unit.values[n % len(app.controls.unit.values)]),
    "class": lambda app, n: _set(app.controls.classes, [n % len(names)] if (names := app.model.classes) else []),
    "quantity": lambda app, n: _set(app.controls.quantity, app.model.quantities[n % len(app.model.quantities)]),
    "role": lambda app, n: _set(app.controls.role, n % len(app.model.roles)),
    "parameter": lambda app, n: app.controls.choose_parameter(97 * n % app.model.ds.sizes["parameter"]),
    "colours": lambda app, n: _set(app.controls.colours, app.controls.colours.options[n % 2]),
}


def run(
    file: str | os.PathLike[str] | None = None,
    scale: float = 1.0,
    repeats: int = _REPEATS,
    directory: str | None = None,
    classes: bool = False,
) -> dict[str, Any]:
    """Use every control of the explorer several times, as moves and taps do.

    Parameters
    ----------
    file
        A recorded trajectory with LCA of single parameters; by default a synthetic one.
    scale
        Iterations of the synthetic one against the 880 of MNIST-FC; its 84 060 parameters stay.
    repeats
        How often each control is used.
    directory
        Folder for the synthetic file (1 GB × scale, with classes 2 GB), which is removed at the end.
    classes
        Whether the synthetic file holds LCA of single parameters by class, of three classes.

    Returns
    -------
    dict
        ``machine``, sizes, ``opening`` (seconds until the first page is made), and by action ``first``, ``median`` and
        ``slowest`` in seconds, and ``processor``, the median of processor time: reading, computing, and making the
        message for the browser. Its drawing is not in them.
    """
    if not 0 < scale <= 100 or repeats < 1:
        raise DataError(f"scale must be between 0 and 100 and repeats at least 1, got {scale} and {repeats}")
    if file is not None:
        with open_trajectory(file) as ds:
            return _measure(ds, os.fspath(file), repeats)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        path = save(
            _synthetic(max(100, round(_ITERATIONS * scale)), classes), Path(folder) / "synthetic.nc", quiet=False
        )
        with open_trajectory(path) as ds:
            return _measure(ds, "synthetic", repeats)


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    here = result["machine"]
    lines = [
        f"{here['cpu']}, {here['cores']} cores",
        f"{result['source']}: {result['iterations']} iterations × {result['parameters']} parameters; "
        f"first page after {result['opening']:.1f} s; milliseconds of {result['repeats']} repeats",
        f"{'':24}{'first':>8}{'median':>8}{'slowest':>9}{'processor':>11}",
    ]
    for name, found in result["actions"].items():
        first, median, slowest, own = (1000 * found[key] for key in ("first", "median", "slowest", "processor"))
        verdict = "" if found["median"] < _BOUND else "  BEYOND the bound"
        lines.append(f"{name:24}{first:8.0f}{median:8.0f}{slowest:9.0f}{own:11.0f}{verdict}")
    lines.append(
        f"bound of a median: {1000 * _BOUND:.0f} ms; what the browser needs to draw comes on top of the numbers"
    )
    return "\n".join(lines)


def _set(widget: Any, value: Any) -> None:
    widget.value = value


def _over_span(app: Explorer, n: int) -> None:
    labels = app.model.iterations
    app.controls.live.param.update(whole=True, window=(int(labels[n]), int(labels[-1 - n])))


def _measure(ds: xr.Dataset, source: str, repeats: int) -> dict[str, Any]:
    if "lca" not in ds or "parameter" not in ds.dims:
        raise DataError(f"{source} holds no LCA of single parameters; measure on a file that does")
    if ds.sizes["iteration"] <= 2 * repeats:
        raise DataError(
            f"{source} has {ds.sizes['iteration']} iterations; {repeats} repeats move through at least "
            f"{2 * repeats + 1}. Measure with fewer repeats, or on a longer file."
        )
    from lcakit.views.explorer.app import Explorer, Models

    began = time.perf_counter()
    models = Models(ds)
    with _page(Explorer(models)):
        opening = time.perf_counter() - began
    actions = {}
    for name, action in ACTIONS.items():
        with _page(Explorer(models)) as (app, send):
            actions[name] = _times(functools.partial(action, app), send, repeats)
    return {
        "machine": machine(),
        "source": source,
        "iterations": ds.sizes["iteration"],
        "parameters": ds.sizes.get("parameter", 0),
        "repeats": repeats,
        "opening": opening,
        "actions": actions,
    }


def _times(action: Callable[[int], Any], send: Callable[[], None], repeats: int) -> dict[str, float]:
    times, own = [], []
    for n in range(1, repeats + 1):
        began, used = time.perf_counter(), time.process_time()
        action(n)
        send()
        times.append(time.perf_counter() - began)
        own.append(time.process_time() - used)
    middle = {"median": statistics.median(times), "processor": statistics.median(own)}
    return {"first": times[0], "slowest": max(times)} | middle


@contextmanager
def _page(app: Explorer) -> Iterator[tuple[Explorer, Callable[[], None]]]:
    """Give an explorer on a page, and what makes the messages of its changes since the last call."""
    from bokeh.protocol.messages.patch_doc import patch_doc

    events: list[Any] = []
    document = app.panel.server_doc()
    document.on_change(events.append)

    def send() -> None:
        if events:
            _ = patch_doc.create(list(events)).content_json  # made when asked for
            events.clear()

    yield app, send


def _synthetic(iterations: int, classes: bool = False) -> xr.Dataset:
    """Return random walks in the layout of MNIST-FC, whose LCA shrinks as they go on; by class if asked."""
    rng = np.random.default_rng(0)
    specs = []
    for n, (inputs, units) in enumerate(itertools.pairwise(_WIDTHS), 1):
        specs.append(TensorSpec(f"fc{n}.weight", (units, inputs), "kernel", f"fc{n}", "linear"))
        specs.append(TensorSpec(f"fc{n}.bias", (units,), "bias", f"fc{n}", "linear"))
    table = Labels(tuple(specs))
    decay = np.exp(-3 * np.arange(iterations + 1) / iterations)
    gradient = rng.standard_normal((iterations + 1, table.n_parameters), np.float32) * decay[:, None].astype(np.float32)
    lca = gradient[:-1] * rng.standard_normal((iterations, table.n_parameters), np.float32) * np.float32(1e-6)
    count = _FEW_CLASSES if classes else _CLASSES
    by_unit = rng.standard_normal((iterations, table.n_units, count), np.float32) * np.float32(1e-5)
    variables = {"theta": np.cumsum(gradient, 0), "gradient": gradient, "lca": lca, "lca_unit_class": by_unit}
    variables |= {"loss": 2.3 * decay, "loss_class": np.repeat(2.3 * decay[:, None] / count, count, axis=1)}
    if classes:
        noise = rng.standard_normal((iterations, count, table.n_parameters), np.float32) * np.float32(1e-6)
        variables["lca_class"] = noise * gradient[:-1, None]
    steps = {"snapshot": np.arange(iterations + 1), "iteration": np.arange(iterations)}
    steps |= {"class": np.arange(count).astype(str)}
    return build_dataset(table.coords() | {name: ((name,), values) for name, values in steps.items()}, variables)
