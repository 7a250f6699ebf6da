from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from lcakit.landscapes.wedges import (
    HessianOperator,
    Wedges,
    count_sharp,
    geometry,
    hessian,
    spectrum,
)


@pytest.mark.parametrize("shape", ["quadratic", "softened", "saturating", "distance"])
@pytest.mark.parametrize("lanczos", [False, True])
def test_spectrum_has_flat_and_sharp_directions(monkeypatch, shape, lanczos):
    surface = Wedges(50, 30, shape, scale=4.0)
    point = surface.initial(3)
    expected = geometry.hessian_eigenvalues(point, **surface.form)
    if lanczos:
        monkeypatch.setattr(hessian, "DENSE", 10)
    found = spectrum(surface, point, 19)
    np.testing.assert_allclose(found, expected[:19], atol=1e-8)
    assert found["rank"].values.tolist() == list(range(1, 20))
    everything = spectrum(surface, point, None)
    np.testing.assert_allclose(everything, expected, atol=1e-8)
    assert count_sharp(everything) == (19 if shape == "distance" else 20)
    np.testing.assert_allclose(count_sharp(spectrum(surface, point, above=0.05)), count_sharp(everything))


def test_hessian_products_are_those_of_the_closed_form(rng):
    surface = Wedges(8, 3, "saturating", 2.0)
    point, vectors = surface.initial(0), rng.normal(size=(8, 3))
    operator = HessianOperator(surface, point)
    matrix = geometry.hessian(point, **surface.form)
    np.testing.assert_allclose(operator @ vectors, matrix @ vectors, atol=1e-10)
    np.testing.assert_allclose(operator.T @ vectors[:, 0], matrix @ vectors[:, 0], atol=1e-10)


def test_smoothing_averages_the_hessian():
    surface, point = Wedges(6, 2), np.array([3.0, 0, 0, 0, 0, 0])  # one axis is free, at the edge of five wedges
    np.testing.assert_allclose(spectrum(surface, point, smoothing=0.0).sum(), 4)
    found = spectrum(surface, point, smoothing=0.01, samples=400)
    np.testing.assert_allclose(found, [0.8] * 5 + [0], atol=0.1)
    assert count_sharp(found) == 5
    xr.testing.assert_identical(found, spectrum(surface, point, smoothing=0.01, samples=400))


def test_lanczos_asks_for_more_until_all_sharp_directions_are_there(monkeypatch):
    monkeypatch.setattr(hessian, "DENSE", 10)
    surface = Wedges(90, 30)
    assert count_sharp(spectrum(surface, surface.initial(0), above=0.05)) == 60


def test_spectrum_errors(surface):
    point = surface.initial(0)
    with pytest.raises(ValueError, match="count must be at least 1"):
        spectrum(surface, point, 0)
    with pytest.raises(ValueError, match="share between 0 and 1"):
        spectrum(surface, point, above=1.5)
    with pytest.raises(ValueError, match="smoothing must be 0 or a small positive number"):
        spectrum(surface, point, smoothing=-1.0)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        spectrum(surface, point, smoothing=0.1, samples=0)
    with pytest.raises(ValueError, match="no Hessian on a wedge"):
        spectrum(Wedges(4, 2, "distance"), [1.0, 2.0, 0, 0])
    with pytest.raises(ValueError, match="60 coordinates"):
        spectrum(surface, np.zeros(3))
