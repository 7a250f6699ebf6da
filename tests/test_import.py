from __future__ import annotations

import importlib.metadata
import re

import pytest

import lcakit as lk
from lcakit.packages import EXTRAS
from tests.support.processes import WITHOUT_LAB, WITHOUT_TORCH, run


def test_import_loads_nothing_heavy():
    loaded = run("import lcakit, sys; print([m for m in ('torch', 'xarray', 'dask', 'numpy') if m in sys.modules])")
    assert loaded == "[]"


@pytest.mark.slow
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


@pytest.mark.slow
def test_recording_without_torch_says_what_to_install():
    code = WITHOUT_TORCH + "from lcakit.cli.main import main; sys.exit(main(['demo']) != 2)"
    run(code)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("absent", "asked", "purpose", "extra"),
    [
        (WITHOUT_TORCH, "lk.Recorder", "lk.Recorder", "record"),
        (WITHOUT_TORCH, "lk.experiments.training", "lk.experiments.training", "record"),
        (WITHOUT_LAB, "lk.explore", "lk.explore", "lab"),
        (WITHOUT_LAB, "lk.plot.loss", "lk.plot", "lab"),
        (WITHOUT_LAB, "lk.testing.tiny_trajectory().lk.plot", "ds.lk.plot", "lab"),
    ],
)
def test_what_a_missing_package_is_for_is_said(absent, asked, purpose, extra):
    code = absent + (
        "import lcakit as lk\n"
        f"try:\n    {asked}\nexcept lk.LcakitError as error:\n"
        "    assert isinstance(error, ImportError)\n    print(error)"
    )
    says = rf"{purpose} needs the package \w+: pip install 'lcakit\[{extra}\]'"
    assert re.fullmatch(says, run(code))


def test_extras_of_the_messages_are_those_of_the_package():
    wanted = {"sklearn": "scikit-learn", "PIL": "pillow", "jupyter_bokeh": "jupyter-bokeh"}  # imported as, installed as
    for extra, names in EXTRAS.items():
        mark = re.compile(rf"extra == ['\"]{extra}['\"]$")
        requirements = [r for r in importlib.metadata.requires("lcakit") if mark.search(r)]
        installed = {re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-") for requirement in requirements}
        assert {wanted.get(name, name) for name in names} == installed


def test_every_public_name_is_there():
    for name in lk.__all__:
        assert getattr(lk, name) is not None
    assert callable(lk.validate)
    assert callable(lk.specialization.class_share)  # the room, not a function of its name


@pytest.mark.parametrize(
    ("owner", "wrong", "right"), [(lk, "noize", "noise"), (lk, "open", "open_trajectory"), (lk.plot, "layrs", "layers")]
)
def test_a_name_that_is_not_there_is_told_with_the_closest(owner, wrong, right):
    with pytest.raises(AttributeError, match=f"{wrong}.*Did you mean .*'{right}'"):
        getattr(owner, wrong)
