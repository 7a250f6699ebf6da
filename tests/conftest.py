from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

_PROCESSES = 4  # each loads torch and more: two to three GiB in the end

# threads beside processes would wait for each other; this must be set before torch is loaded
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# for properties that do not say how many; other ones in every run, and more of them before a change lands
settings.register_profile("quick", deadline=None, max_examples=15)
settings.register_profile("thorough", deadline=None, max_examples=80)
settings.load_profile("quick")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the whole suite between processes; run what was named on the command line in one."""
    everything = config.args_source != pytest.Config.ArgsSource.ARGS and not config.option.collectonly
    return min(_PROCESSES, os.cpu_count() or 1) if everything else 0


@pytest.hookimpl(tryfirst=True)  # before the slow ones are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count all cases but the first of "sampled" tests as slow.

    Where files are shared between processes, those of long tests come first, so that processes end at the same time.
    """
    seen = set()
    for item in items:
        if item.get_closest_marker("sampled"):
            test = item.nodeid.partition("[")[0]
            if test in seen:
                item.add_marker("slow")
            seen.add(test)
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """Spare the garbage collector from walking what was imported, again and again: a tenth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture
def mnist_root() -> Path:
    """The folder of the real MNIST images; tests that need it are skipped, visibly, where it is not."""
    root = os.environ.get("LCAKIT_DATA")
    if not root or not (Path(root) / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip("real MNIST is not in $LCAKIT_DATA")
    return Path(root)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
