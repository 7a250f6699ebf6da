"""What benchmarks say about the machine they ran on: its CPU, and the memory a piece of work took."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["machine", "peak_memory"]


def __dir__() -> list[str]:
    return __all__


def machine() -> dict[str, Any]:
    """Return the name of the CPU and the number of its cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.processor() or platform.machine(), "cores": os.cpu_count() or 1}


@contextmanager
def peak_memory(interval: float = 0.01) -> Iterator[list[int]]:
    """Watch the process's anonymous memory; the first entry of the list is its peak. 0 where that cannot be read."""
    status, peak, stop = Path("/proc/self/status"), [0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            line = next((x for x in status.read_text().splitlines() if x.startswith("RssAnon")), "RssAnon: 0 kB")
            peak[0] = max(peak[0], int(line.split()[1]) * 1024)
            stop.wait(interval)

    watcher = threading.Thread(target=watch, daemon=True)
    if status.exists():
        watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        if watcher.is_alive():
            watcher.join()
