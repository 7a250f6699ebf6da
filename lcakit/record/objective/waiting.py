"""Threads of torch that sleep while they wait for each other, also where torch was loaded before lcakit."""

from __future__ import annotations

import os
import sys
import threading

import torch

__all__ = ["let_threads_sleep"]


def __dir__() -> list[str]:
    return __all__


_ENOUGH = 2**18  # elements that torch shares out between threads: 32 768 for each at least
_DONE: list[int] = []
_ONE_AT_A_TIME = threading.Lock()


def let_threads_sleep() -> None:
    """Let the threads of torch sleep soon where they wait for each other, unless ``OMP_WAIT_POLICY`` says otherwise.

    By default they spin for milliseconds. On a machine whose cores others use too, each then waits for its partner
    while it takes the partner's core (``lcakit bench load``: 12 times the fair share). ``import lcakit`` sets
    ``OMP_WAIT_POLICY``, which comes too late where torch was imported before. But GNU's OpenMP spins only as long as
    a process has no more threads than the machine has cores; so another team of threads is made here, which has
    nothing to do. How torch shares out work does not change, nor does any bit of a result.
    """
    policy = os.environ.get("OMP_WAIT_POLICY", "passive").lower()
    if sys.platform != "linux" or policy != "passive" or torch.get_num_threads() < 2:
        return
    with _ONE_AT_A_TIME:
        if os.getpid() in _DONE:
            return
        _DONE[:] = [os.getpid()]
        ready = threading.Event()
        threading.Thread(target=_idle, args=(ready,), name="lcakit-idle", daemon=True).start()
        ready.wait()


def _idle(ready: threading.Event) -> None:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    try:
        torch.set_num_threads(max(2, cores - threads + 2))  # with those of others, more than cores
        torch.zeros(_ENOUGH).add_(1.0)
    finally:
        torch.set_num_threads(threads)
        ready.set()
    threading.Event().wait()  # the team exists as long as this thread
