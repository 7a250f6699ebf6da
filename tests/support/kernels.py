"""Notebook kernels forked from a process that has already imported what notebooks import: a start takes no seconds.

A test puts :func:`launch` in the place of ``jupyter_client.provisioning.local_provisioner.launch_kernel``. Such a
kernel speaks to Jupyter like any other, and has executed nothing but imports before the first cell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from tests.support.forked import context


class Kernel:
    """The process of a kernel, with the methods of ``subprocess.Popen`` that Jupyter calls."""

    stdin = stdout = stderr = None

    def __init__(self, process: Any) -> None:
        self._process, self.pid = process, process.pid

    def poll(self) -> int | None:
        """Return the exit status, None while the kernel runs."""
        status: int | None = self._process.exitcode
        return status

    def wait(self) -> int | None:
        """Wait for the end, and return the exit status."""
        self._process.join()
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End the kernel at once."""
        self._process.kill()

    def terminate(self) -> None:
        """Ask the kernel to end."""
        self._process.terminate()


def launch(cmd: Sequence[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None, **_: Any) -> Kernel:
    """Start a kernel; ``cmd`` is ``python -m ipykernel_launcher -f FILE``."""
    forked = context()
    here, there = forked.Pipe()
    process = forked.Process(target=_run, args=(list(cmd[cmd.index("-f") :]), cwd, dict(env or {}), there))
    process.start()
    here.recv()  # from then on it has a process group of its own, which Jupyter may kill
    return Kernel(process)


def _run(arguments: list[str], cwd: str | None, env: dict[str, str], started: Connection) -> None:
    import torch
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    os.chdir(cwd or ".")
    os.environ.update(env)
    torch.set_num_threads(1)  # the networks are so small that threads would mostly wait for each other
    sys.argv = ["ipykernel_launcher", *arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    started.send(None)
    launch_new_instance()
