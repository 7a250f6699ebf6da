"""Compute several studies in one pass over the data, with a progress bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import dask
import dask.array as da
import xarray as xr
from dask.base import compute as compute_arrays
from dask.callbacks import Callback

from lcakit.progress import progress
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["BAR_AFTER", "compute", "together"]


def __dir__() -> list[str]:
    return __all__


BAR_AFTER = 1.0  # seconds: shorter work needs no bar


@checks_arguments
def compute(*results: Any, quiet: bool = False) -> Any:
    """Compute lazy results together: each block of the trajectory is read once, whatever the number of studies.

    Parameters
    ----------
    results
        DataArrays and Datasets, also inside lists and dicts. What is not lazy comes back as it is.
    quiet
        No progress bar. With one, it shows tasks done and time left, for work that takes longer than a second.

    Returns
    -------
    tuple or one result
        In memory, in the order given; a single argument comes back without a tuple. On a ``dask.distributed`` client
        the work runs there.

    Examples
    --------
    >>> import lcakit as lk
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory(chunks=5)
    >>> helping, layers = lk.compute(lk.noise.fraction_helping(ds), lk.layers.layer_lca(ds), quiet=True)
    """
    lazy: dict[str, Any] = {}
    _each_array(list(results), lambda array: lazy.setdefault(array.name, array))
    blocks = _BLOCKS.get()(lazy, quiet)
    done = tuple(_each_array(list(results), lambda array: blocks[array.name]))
    return done[0] if len(results) == 1 else done


@checks_arguments
def together(calls: Sequence[Callable[[], Any]], quiet: bool = False) -> list[Any]:
    """Call functions that compute; what each of them asks for first is computed in one pass over the data.

    A figure finds out which arrays it needs while it runs (it checks its arguments and what the file holds), and then
    calls :func:`compute`. So its needs are learned by calling it up to there. The alternative, a second function for
    each figure that lists them, would repeat those checks and choices, and could disagree with what is drawn.

    Parameters
    ----------
    calls
        Functions without arguments that use :func:`compute`, such as those of :mod:`lcakit.plot`. Each is called twice,
        the first time only up to its first :func:`compute`, so it must have no other effect before.
    quiet
        No progress bar.

    Returns
    -------
    list
        What they return, in their order. What one of them raises is raised.

    Examples
    --------
    >>> import lcakit as lk
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory(chunks=5)
    >>> calls = [lambda: float(compute(lk.noise.fraction_helping(ds))), lambda: compute(lk.layers.layer_lca(ds)).shape]
    >>> together(calls, quiet=True)[1]
    (12, 2)
    """
    wanted: _Blocks = {}
    for call in calls:
        with _blocks_from(_asking(wanted)), contextlib.suppress(_Asked, Exception):  # an error comes again below
            call()
    with _blocks_from(_knowing(_now(wanted, quiet))):
        return [call() for call in calls]


_Blocks = dict[str, Any]


class _Asked(BaseException):
    """A function has said what it needs. No ``Exception``: what it catches itself is not this."""


def _now(lazy: _Blocks, quiet: bool) -> _Blocks:
    return dict(zip(lazy, _compute(tuple(lazy.values()), quiet), strict=True))


def _asking(wanted: _Blocks) -> Callable[[_Blocks, bool], _Blocks]:
    def ask(lazy: _Blocks, quiet: bool) -> _Blocks:
        wanted.update(lazy)
        raise _Asked

    return ask


def _knowing(known: _Blocks) -> Callable[[_Blocks, bool], _Blocks]:
    def look_up(lazy: _Blocks, quiet: bool) -> _Blocks:
        known.update(_now({name: array for name, array in lazy.items() if name not in known}, quiet))
        return known

    return look_up


_BLOCKS: ContextVar[Callable[[_Blocks, bool], _Blocks]] = ContextVar("blocks", default=_now)


@contextlib.contextmanager
def _blocks_from(source: Callable[[_Blocks, bool], _Blocks]) -> Iterator[None]:
    token = _BLOCKS.set(source)
    try:
        yield
    finally:
        _BLOCKS.reset(token)


def _each_array(value: Any, change: Callable[[da.Array], Any]) -> Any:
    """Return a result with each of its Dask arrays exchanged.

    As arrays, not as Datasets: Dask loses keys where it optimizes a Dataset with a variable that others are made from.
    """
    if isinstance(value, list | tuple):
        return type(value)(_each_array(item, change) for item in value)
    if isinstance(value, dict):
        return {key: _each_array(item, change) for key, item in value.items()}
    if isinstance(value, da.Array):
        return change(value)
    if isinstance(value, xr.DataArray):
        lazy = {name: c for name, c in value.coords.items() if isinstance(c.data, da.Array)}
        coords = {name: c.copy(data=change(c.data)) for name, c in lazy.items()}
        return value.copy(data=_each_array(value.data, change)).assign_coords(coords)
    if isinstance(value, xr.Dataset):
        variables = {name: v for name, v in value.variables.items() if isinstance(v.data, da.Array)}
        return value.assign({name: v.copy(data=change(v.data)) for name, v in variables.items()})
    return value


def _compute(arrays: tuple[da.Array, ...], quiet: bool) -> tuple[Any, ...]:
    client = _distributed_client()
    if client is not None:
        return _compute_on(client, arrays, quiet)
    if quiet:
        return tuple(compute_arrays(*arrays))
    with _Bar():
        return tuple(compute_arrays(*arrays))


class _Bar(Callback):
    """Show the tasks of a local Dask scheduler on our progress bar, from the first second on."""

    def __init__(self) -> None:
        super().__init__(start_state=self._begin, posttask=self._step, finish=self._end)  # type: ignore[no-untyped-call]
        self._bar: Any = None
        self._total, self._done, self._since = 0, 0, 0.0

    def _begin(self, dsk: Any, state: dict[str, Any]) -> None:
        self._total = sum(len(state[kind]) for kind in ("ready", "waiting"))
        self._done, self._since = 0, time.monotonic()

    def _step(self, *_: Any) -> None:
        self._done += 1
        if self._bar is None and time.monotonic() - self._since > BAR_AFTER:
            self._bar = progress(self._total, "computing", unit="task", initial=self._done)
        elif self._bar is not None:
            self._bar.update(1)

    def _end(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _distributed_client() -> Any:
    """Return the client that Dask would use, or None for a scheduler in this process."""
    if dask.config.get("scheduler", None) in ("threads", "threading", "sync", "synchronous", "single-threaded"):
        return None
    try:
        from distributed import get_client
    except ImportError:
        return None
    try:
        return get_client()
    except ValueError:  # says that there is none
        return None


def _compute_on(client: Any, results: tuple[Any, ...], quiet: bool) -> tuple[Any, ...]:
    from distributed import as_completed, futures_of

    kept = client.persist(results)
    futures = futures_of(kept)
    with progress(len(futures), "computing", unit="task", quiet=quiet) as bar:
        for _ in as_completed(futures):
            bar.update(1)
    return tuple(compute_arrays(*kept))
