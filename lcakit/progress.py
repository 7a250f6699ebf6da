"""What long work says of itself: progress bars with a time left, phases, and a sign of life every few seconds."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

__all__ = ["Pulse", "phase", "progress", "say"]


def __dir__() -> list[str]:
    return __all__


_AFTER = 4.0  # seconds without a sign of life; with a look each second, none is missing for longer than five
_LOOK = 1.0
_IN_LOGS = 3.0  # seconds between two drawings of a bar: sooner than the pulse, which knows no rate


class _Shown(Protocol):
    """A bar on the screen, as far as a pulse knows it."""

    disable: bool
    start_t: float
    delay: float
    last_print_t: float

    def refresh(self) -> Any:
        """Draw it again."""
        ...


class Pulse:
    """Says that work goes on whenever nothing was said for some seconds: draws the last bar again, or names the phase.

    Parameters
    ----------
    say
        Prints a line.
    clock
        Seconds, on the clock of the bars.

    Examples
    --------
    >>> now = [0.0]
    >>> pulse = Pulse(print, lambda: now[0])
    >>> pulse.begin("reading data")
    >>> for now[0] in range(10):
    ...     pulse.look()
    lcakit: reading data, 4 s
    lcakit: reading data, 8 s
    """

    def __init__(self, say: Callable[[str], object], clock: Callable[[], float] = time.time) -> None:
        self._say, self._clock = say, clock
        self._phases: list[tuple[str, float]] = []
        self._bars: list[weakref.ref[_Shown]] = []  # one that nobody holds closes itself
        self._last = clock()

    def begin(self, what: str) -> None:
        """Say what is being done from now on, inside what was being done before."""
        self._last = self._clock() if not self.is_needed else self._last
        self._phases.append((what, self._clock()))

    def end(self) -> None:
        """Go on with what was being done before."""
        self._phases.pop()

    def add(self, bar: _Shown) -> None:
        """Keep a bar alive until it is closed."""
        self._bars.append(weakref.ref(bar))

    @property
    def is_needed(self) -> bool:
        """Whether there is a phase or an open bar."""
        return bool(self._phases or self._open())

    def _open(self) -> list[_Shown]:
        held = [(bar(), bar) for bar in self._bars]
        self._bars = [ref for bar, ref in held if bar is not None and not bar.disable]
        return [bar for bar, _ in held if bar is not None and not bar.disable]

    def look(self) -> None:
        """Give a sign of life if the last one is some seconds old."""
        now, bars, phases = self._clock(), self._open(), list(self._phases)
        if now - max([self._last, *(bar.last_print_t for bar in bars)]) < _AFTER:
            return
        if bars:
            bars[-1].refresh()
            bars[-1].last_print_t = max(bars[-1].last_print_t, bars[-1].start_t + bars[-1].delay)  # it is drawn now
        elif phases:
            what, began = phases[-1]
            self._say(f"lcakit: {what}" + (f", {now - began:.0f} s" if now - began >= 1 else ""))
        self._last = now


def say(text: str) -> None:
    """Print a line on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


_PULSE = Pulse(say)
_BEGINNING = threading.Lock()
_THREAD: list[threading.Thread] = []


def _beat() -> None:
    while True:
        time.sleep(_LOOK)
        with _BEGINNING:
            if not _PULSE.is_needed:
                _THREAD.clear()
                return
        _PULSE.look()


def _begin(what: str | _Shown) -> None:
    with _BEGINNING:
        _PULSE.begin(what) if isinstance(what, str) else _PULSE.add(what)
        if not (_THREAD and _THREAD[0].is_alive()):  # in a process that was forked, it is not
            _THREAD[:] = [threading.Thread(target=_beat, name="lcakit-pulse", daemon=True)]
            _THREAD[0].start()


@contextlib.contextmanager
def phase(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Name what is done inside, in a line on stderr every few seconds; nothing is printed of what is done sooner.

    Also a decorator, ``@phase("working")``, of a function that takes long in several ways.
    """
    if quiet:
        yield
        return
    _begin(what)
    try:
        yield
    finally:
        _PULSE.end()


def progress(
    total: int | None, what: str, *, unit: str = "it", initial: int = 0, quiet: bool = False, after: float = 0.0
) -> Any:
    """Return a tqdm bar (a context manager with ``update``), drawn on stderr.

    Where stderr is not a terminal the bar is drawn at most every 3 seconds, so that logs stay short; and at least every
    5 seconds anywhere but in a notebook, whose bars move by themselves.

    Parameters
    ----------
    after
        Seconds before it is drawn at all.
    """
    from tqdm.auto import tqdm

    bar = tqdm(
        total=total,
        desc=what,
        unit=unit,
        initial=initial,
        disable=quiet,
        mininterval=0.2 if sys.stderr.isatty() else _IN_LOGS,
        dynamic_ncols=True,
        delay=after,
    )
    if not quiet and "notebook" not in type(bar).__module__:
        _begin(bar)
    return bar
