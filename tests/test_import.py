from __future__ import annotations

import subprocess
import sys

import lcakit as lk


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WITHOUT_TORCH = """
import sys

class Absent:  # as where torch is not installed: its entry is not in sys.modules, and importing it fails
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def test_import_loads_nothing_heavy():
    loaded = run("import lcakit, sys; print([m for m in ('torch', 'xarray', 'dask', 'numpy') if m in sys.modules])")
    assert loaded == "[]"


def test_opening_and_analysing_work_without_torch(tmp_path):
    path = lk.save(lk.testing.tiny_trajectory(), tmp_path / "run.nc")
    code = WITHOUT_TORCH + (
        "import lcakit as lk\n"
        "ds = lk.open_trajectory(sys.argv[1])\n"
        "print(float(lk.layers.layer_lca(ds).sum()), lk.validate(ds).ok, lk.account(ds).iterations)\n"
        "for name in ('tails', 'synchronization', 'correlation', 'specialization', 'fisher', 'runs', 'phase'):\n"
        "    getattr(lk, name)\n"
        "print(ds.lk.sel(layer=str(ds.layer.values[0])).sizes['parameter'] > 0)"
    )
    out = run(code, str(path))
    assert "True" in out


def test_recording_without_torch_says_what_to_install():
    code = WITHOUT_TORCH + "from lcakit.cli import main; sys.exit(main(['demo']) != 2)"
    run(code)


def test_every_public_name_is_there():
    for name in lk.__all__:
        assert getattr(lk, name) is not None
    assert callable(lk.validate)
    assert callable(lk.specialization.class_share)  # the room, not a function of its name
