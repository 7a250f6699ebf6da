"""Code that runs in a Python of its own, also in one where optional packages are missing."""

from __future__ import annotations

import subprocess
import sys

_WITHOUT = """
import sys

class Absent:  # as where a package is not installed: its entry is not in sys.modules, and importing it fails
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
WITHOUT_TORCH = _WITHOUT.format(absent=("torch", "torchvision"))
WITHOUT_LAB = _WITHOUT.format(absent=("holoviews", "panel", "bokeh", "matplotlib"))


def run(code: str, *arguments: str) -> str:
    """Run code to its end, without an error; return what it prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
