"""Every study asked of a compact copy answers, or says which option of recording or of sharing would have kept it."""

from __future__ import annotations

import re
import warnings

import pytest
import xarray as xr

import lcakit as lk
from lcakit.analysis.resolution import aggregated
from lcakit.sharing.copies import share
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.join import join
from lcakit.trajectory.require import require

from .test_missing import OVER_RUNS, STUDIES

REMEDY = re.compile(
    r"lk\.Recorder\(…, |[Rr]ecord (it |them )?with|lk\.share\(|without drop=|lk\.allocate\(|resolution=|statistics=True"
)
"""What a message has to name: an option of recording, of a copy, or the call that makes what is missing."""


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> dict[str, xr.Dataset]:
    """Compact copies of one run, of each kind that people send, each with the other's objective left out."""
    folder = tmp_path_factory.mktemp("copies")
    ds = tiny_trajectory(8)
    how = {
        "units": {"resolution": "unit"},
        "layers": {"resolution": "layer"},
        "norms": {"resolution": "layer", "norms": True},
        "without series": {"drop": ("theta", "gradient", "lca")},
        "LCA alone": {"drop": ("theta", "gradient", "lca_unit_class")},
        "losses": {"drop": ("theta", "gradient", "lca", "lca_unit_class")},
    }
    made = {}
    for name, options in how.items():
        path = folder / f"{name}.nc"
        share(ds, path, **options)
        made[name] = lk.open_trajectory(path).load()
    return made


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_a_study_answers_or_says_what_would_have_kept_it(name, copies):
    for kind, copy in copies.items():
        ds = _three(copy) if name in OVER_RUNS else copy
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy, for means of nothing
            said = _refusal(name, ds)
        assert not said or REMEDY.search(said), f"{name} of {kind}: {said}"


def _refusal(name: str, ds: xr.Dataset) -> str:
    """Return the message of a study that cannot be made of a file, "" of one that can."""
    study = STUDIES[name] if name != "resolution.aggregated" else lambda ds: aggregated(ds, "layer")
    try:
        study(ds)
    except lk.TrajectoryError as error:
        return str(error)
    return ""


def _three(ds: xr.Dataset) -> xr.Dataset:
    return join({str(k): ds for k in range(3)})


@pytest.mark.parametrize(
    ("kind", "variable", "said"),
    [
        ("layers", "theta", r'keep=\("theta", …\).*original.*resolution="parameter"\): this one has layers'),
        ("units", "lca", r'keep=\("lca", …\).*original.*resolution="parameter"\): this one has units'),
        ("without series", "gradient", r"keep=\(\"gradient\", …\).*original.*without drop=\('gradient',\)"),
        (
            "losses",
            "helped_count",
            r"statistics=True.*original.*without drop=\('helped_count',\) and with all its iter",
        ),
        ("layers", "unit_gradient_norm", r"original.*lk\.share\(…, norms=True\)"),
    ],
)
def test_a_copy_names_the_option_of_share(kind, variable, said, copies):
    with pytest.raises(lk.TrajectoryError, match=said):
        require(copies[kind], variable)


def test_a_recording_is_not_told_of_copies():
    with pytest.raises(lk.TrajectoryError) as raised:
        require(tiny_trajectory(3).drop_vars("theta"), "theta")
    assert "copy" not in str(raised.value)


@pytest.mark.parametrize(
    "study",
    [
        lk.specialization.class_share,
        lk.specialization.unit_class_lca,
        lambda ds: lk.specialization.class_curves(ds, 0, "fc"),
        lk.noise.signs_per_class,
    ],
)
def test_layers_are_never_taken_for_units(study, copies):
    for kind in ("layers", "norms"):
        with pytest.raises(lk.TrajectoryError, match=r'sums of whole layers.*resolution="unit"'):
            study(copies[kind])
    alone = aggregated(tiny_trajectory(4).drop_vars("lca_unit_class"), "unit")
    with pytest.raises(lk.TrajectoryError, match=r'not split by class.*classes="unit"'):
        study(alone)
