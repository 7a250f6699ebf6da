"""Modules that have moved: old names that users have written down work and warn once, others name the new one."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import lcakit as lk
from lcakit.packages import GONE, MOVED

KEPT = (
    ("lcakit.budget", "lcakit.record.budget"),
    ("lcakit.fetching", "lcakit.sharing.fetching"),
    ("lcakit.studies", "lcakit.experiments"),
    ("lcakit.studies.batches", "lcakit.experiments.batches"),
    ("lcakit.studies.data", "lcakit.experiments.data"),
    ("lcakit.studies.experiments", "lcakit.experiments.declared"),
    ("lcakit.studies.experiments.declared", "lcakit.experiments.declared.experiment"),
    ("lcakit.studies.experiments.layerwise", "lcakit.experiments.declared.layerwise"),
    ("lcakit.studies.networks", "lcakit.experiments.networks"),
    ("lcakit.studies.rescaling", "lcakit.experiments.rescaling"),
    ("lcakit.studies.stored", "lcakit.experiments.existing"),
    ("lcakit.studies.subsampling", "lcakit.experiments.subsampling"),
    ("lcakit.studies.training", "lcakit.experiments.training"),
)


@pytest.mark.filterwarnings("ignore:the module lcakit:FutureWarning")
@pytest.mark.parametrize(("old", "new"), KEPT)
def test_old_names_give_the_module_of_the_new_name(old, new):
    module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__name__ == module.__spec__.name == new


@pytest.mark.slow
def test_what_older_notebooks_import_is_there():
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from lcakit.budget import format_bytes\n"
        "from lcakit.fetching import read_registry\n"
        "from lcakit.studies.training import Run, make_model, make_objective, record_run, run_of\n"
        "from lcakit.studies.subsampling import subset_accuracy\n"
        "import lcakit as lk\n"
        "lk.studies.data.load, lk.studies.networks.build, lk.studies.experiments.EXPERIMENTS\n"
        "from lcakit.studies import experiments, stored, training\n"
        "assert experiments is lk.experiments.declared\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_an_old_name_inside_a_package_does_not_take_its_place():
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import lcakit.studies.experiments, lcakit as lk\n"
        "assert lk.experiments.__name__ == lk.studies.__name__ == 'lcakit.experiments'\n"
        "assert lk.studies.experiments.__name__ == 'lcakit.experiments.declared'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_an_old_name_warns_once():
    code = "import lcakit.studies.training, lcakit.studies.data, lcakit as lk; lk.studies; import lcakit.studies"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("FutureWarning") == 1
    assert "lcakit.studies has moved: import lcakit.experiments" in done.stderr


@pytest.mark.filterwarnings("ignore:the module lcakit:FutureWarning")
def test_an_objective_of_older_files_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = lk.ObjectiveSpec("lcakit.studies.training:objective_of", {"path": "run.nc"})
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc: there is no such file"):  # so the function was found
        spec.build()


@pytest.mark.parametrize("old", GONE)
def test_a_name_that_is_gone_names_the_new_one(old):
    with pytest.raises(ModuleNotFoundError, match=rf"lcakit\.{old} has moved: import lcakit\.{GONE[old]}$"):
        importlib.import_module(f"lcakit.{old}")


@pytest.mark.parametrize("new", sorted({*GONE.values(), *MOVED.values()}))
def test_the_new_names_exist(new):
    assert importlib.util.find_spec(f"lcakit.{new}")


def test_a_name_that_never_was_is_no_module():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'lcakit\.nothing'"):
        importlib.import_module("lcakit.nothing")
