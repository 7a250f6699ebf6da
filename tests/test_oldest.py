"""The file of the oldest versions says what pyproject.toml says, so that what is tested is what is promised."""

from __future__ import annotations

from tests.support.oldest import CONSTRAINTS, bounds


def pinned() -> dict[str, str]:
    lines = [line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return dict(line.split("  #")[0].split("==") for line in lines)


def test_every_dependency_is_pinned_to_its_oldest_version():
    stated = bounds()
    assert {"numpy", "xarray", "dask", "torch", "panel", "zarr", "transformers", "lightning"} <= set(stated)
    assert {name: pinned().get(name) for name in stated} == stated
