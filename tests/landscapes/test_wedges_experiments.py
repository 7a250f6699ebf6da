from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import xarray as xr

from lcakit.landscapes.wedges import (
    HessianOperator,
    Wedges,
    average_loss,
    averaging,
    barrier,
    compare,
    connect,
    connect_all,
    count_sharp,
    find_threshold,
    geometry,
    hessian,
    minimize,
    noisy_descent,
    optima,
    plane_cut,
    polar_cut,
    radius_effect,
    random_plane,
    reachable_loss,
    short_directions,
    spectrum,
    straight_path,
    threshold,
)


@pytest.fixture(scope="module")
def surface() -> Wedges:
    return Wedges(60, 30)


@pytest.fixture(scope="module")
def found(surface) -> xr.DataArray:
    return optima(surface, 4)


def support(points) -> np.ndarray:
    return np.abs(np.asarray(points)) > 1e-6


# ---- ways down ---------------------------------------------------------------------------------------------


def test_optima_are_the_nearest_points_on_wedges(surface, found):
    assert found.dims == ("optimum", "parameter")
    starts = np.stack([surface.initial(seed).numpy() for seed in range(4)])
    np.testing.assert_allclose(found, geometry.nearest(starts, 30), atol=1e-8)
    np.testing.assert_allclose(found["loss"], 0, atol=1e-15)
    xr.testing.assert_identical(optima(surface, [2])[0], found[2])


def test_minimize_finds_a_known_minimum():
    centre = torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64)
    where, value = minimize(lambda x: ((x - centre) ** 4).sum() + ((x - centre) ** 2).sum() + 1, torch.zeros(2, 2))
    torch.testing.assert_close(where, centre, atol=1e-8, rtol=0)
    assert value == pytest.approx(1.0)


def test_minimize_stops_at_the_target_and_says_what_is_wrong():
    where, value = minimize(lambda x: (x**2).sum(), torch.tensor([3.0]), target=9.0)
    assert (where.item(), value) == (3.0, 9.0)
    evaluations = []

    def slow(x: torch.Tensor) -> torch.Tensor:
        evaluations.append(x.detach().clone())
        return (x**4 * torch.arange(1, 6)).sum()

    _, early = minimize(slow, torch.ones(5), target=1.0)
    n_early = len(evaluations)
    minimize(slow, torch.ones(5))
    assert early <= 1.0
    assert len(evaluations) - n_early > n_early
    with pytest.raises(ValueError, match="the loss is nan at the start"):
        minimize(lambda x: (x * float("nan")).sum(), torch.ones(2))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        minimize(lambda x: x.sum(), torch.ones(2), steps=0)


def test_descent_errors(surface, found):
    with pytest.raises(ValueError, match="seeds is empty"):
        optima(surface, [])
    with pytest.raises(ValueError, match="spacing must be at least 1"):
        noisy_descent(surface, found[0], spacing=0)
    with pytest.raises(ValueError, match="learning_rate must be positive"):
        noisy_descent(surface, found[0], learning_rate=0)
    with pytest.raises(ValueError, match="the walk diverged"):
        noisy_descent(surface, surface.initial(0), 1, 2000, learning_rate=10.0)
    with pytest.raises(ValueError, match="must be finite"):
        noisy_descent(surface, np.full(60, np.nan))


def test_noiseless_descent_is_the_plain_recursion(surface):
    walk = noisy_descent(surface, surface.initial(1), checkpoints=3, spacing=2, learning_rate=0.25)
    start = surface.initial(1).numpy()
    short = geometry.short_axes(start, 30)
    for checkpoint, theta in zip(walk["checkpoint"].values, walk.values, strict=True):
        np.testing.assert_allclose(theta, np.where(short, 0.75**checkpoint * start, start))
    np.testing.assert_allclose(walk["loss"], geometry.loss(walk, 30))


# ---- paths -------------------------------------------------------------------------------------------------


def test_straight_path_is_the_loss_point_by_point(surface, found):
    path = straight_path(surface, found[0], found[1], positions=7)
    slow = [geometry.loss((1 - t) * found[0].values + t * found[1].values, 30) for t in np.linspace(0, 1, 7)]
    np.testing.assert_allclose(path, slow, atol=1e-12)
    np.testing.assert_allclose(path["position"], np.linspace(0, 1, 7))
    assert barrier(path) == pytest.approx(max(slow))
    assert barrier(path) > 0.1


def test_barrier_is_measured_from_the_line_between_the_ends():
    path = xr.DataArray([0.0, 1.5, 2.0, 2.0], dims="position", coords={"position": [0, 0.25, 0.5, 1]})
    assert barrier(path) == pytest.approx(1.0)
    assert barrier(path.copy(data=[3.0, 0, 0, 3.0])) == 0


@pytest.mark.parametrize("bends", [1, 2, 3])
def test_bent_paths_have_no_barrier(surface, found, bends):
    path = connect(surface, found[0], found[1], bends)
    assert path["straight_barrier"] > 0.1
    assert path["barrier"] < 1e-10
    assert path["theta"].shape == (bends + 2, 60)
    np.testing.assert_array_equal(path["theta"][0], found[0])
    np.testing.assert_array_equal(path["theta"][-1], found[1])
    # nothing between the points it was optimized at either: look at random places of the polyline
    vertices = path["theta"].values
    t = np.random.default_rng(0).uniform(size=(200, 1))
    for a, b in itertools.pairwise(vertices):
        assert geometry.loss((1 - t) * a + t * b, 30).max() < 1e-10
    xr.testing.assert_allclose(path["straight"].rename("loss"), straight_path(surface, found[0], found[1]))
    np.testing.assert_allclose(path["radius"][[0, -1]], np.linalg.norm(found[:2], axis=1))


def test_one_bend_lies_where_the_wedges_meet(surface, found):
    middle = support(connect(surface, found[0], found[1])["theta"][1])
    both = support(found[0]) & support(found[1])
    assert not (middle & ~both).any()
    assert middle.sum() >= both.sum() - 2


def test_wedges_that_do_not_meet_are_joined_through_the_origin():
    path = connect(Wedges(4, 2), [1.0, 2.0, 0, 0], [0, 0, 1.5, -1.0])
    np.testing.assert_allclose(path["theta"][1], 0, atol=1e-8)
    assert path["barrier"] < 1e-12
    assert path["radius"].min() < 1e-7


@pytest.mark.parametrize("shape", ["softened", "saturating", "distance"])
def test_every_shape_is_connected(shape):
    surface = Wedges(40, 20, shape, scale=0.5)
    a, b = optima(surface, 2)
    path = connect(surface, a, b)
    assert path["straight_barrier"] > 0.2
    assert path["barrier"] < 1e-6


def test_path_errors(surface, found):
    with pytest.raises(ValueError, match="60 coordinates"):
        connect(surface, found[0], np.zeros(59))
    with pytest.raises(ValueError, match="must be finite, got inf"):
        straight_path(surface, found[0], np.full(60, np.inf))
    with pytest.raises(ValueError, match="bends must be at least 1, got 0"):
        connect(surface, found[0], found[1], bends=0)
    with pytest.raises(ValueError, match="points must be at least 1"):
        connect(surface, found[0], found[1], points=0)
    with pytest.raises(ValueError, match="positions must be at least 2"):
        straight_path(surface, found[0], found[1], positions=1)


# ---- connectors --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def connector(surface, found) -> xr.Dataset:
    return connect_all(surface, found)


def test_connector_of_four_optima_is_free_of_loss(surface, found, connector):
    assert connector["flat"].mean() > 0.1
    assert connector["connector"].max() < 1e-8
    assert connector.sizes["subset"] == 2**4 - 1
    assert connector["subset"].values[[0, 4, -1]].tolist() == ["0", "0-1", "0-1-2-3"]
    assert connector["size"].values[[0, 4, -1]].tolist() == [1, 2, 4]
    np.testing.assert_array_equal(connector["theta"][:4], found)
    np.testing.assert_allclose(connector["loss"], 0, atol=1e-10)


def test_every_piece_of_the_connector_is_low(connector):
    vertex = dict(zip(connector["subset"].values.tolist(), connector["theta"].values, strict=True))
    rng = np.random.default_rng(5)
    for order in itertools.permutations(range(4)):
        corners = [vertex["-".join(map(str, sorted(order[:k])))] for k in range(1, 5)]
        points = rng.dirichlet(np.ones(4), size=20) @ np.array(corners)
        assert geometry.loss(points, 30).max() < 1e-8


def test_short_directions_are_those_where_wedges_meet(surface, found, connector):
    counts = short_directions(surface, connector)
    wedges_ = support(found)
    expected = [60 - wedges_[[int(k) for k in name.split("-")]].all(0).sum() for name in counts["subset"].values]
    assert np.abs(counts.values - expected).max() <= 2  # a centre may have a coordinate that happens to be zero
    by_size = counts.groupby("size").mean().values
    assert by_size[0] == 30
    assert (np.diff(by_size) > 0).all()
    theory = [geometry.expected_short_directions(60, 30, n) for n in range(1, 5)]
    np.testing.assert_allclose(by_size, theory, rtol=0.1)


def test_connector_errors(surface, found):
    with pytest.raises(ValueError, match=r"2 to 6 optima .* got 1"):
        connect_all(surface, found[:1])
    with pytest.raises(ValueError, match="got 7"):
        connect_all(surface, np.zeros((7, 60)))
    with pytest.raises(ValueError, match=r"several points \(N, D\)"):
        connect_all(surface, found[0])
    with pytest.raises(ValueError, match="rays must be at least 1"):
        connect_all(surface, found[:2], rays=0)


# ---- planes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dimension", "n"), [(40, 20), (60, 45), (80, 16), (50, 5), (100, 50), (120, 100)])
def test_threshold_is_the_number_of_short_directions(dimension, n):
    surface = Wedges(dimension, n)
    found = []
    for seed in range(2):
        target = 1e-6 * float(surface.loss(surface.initial(seed)))
        found.append(find_threshold(surface, target, seed=seed))
    assert np.abs(np.array(found) - (dimension - n)).max() <= 0.1 * (dimension - n)


def test_threshold_does_not_depend_on_the_shape():
    for shape in ("distance", "softened", "saturating"):
        surface = Wedges(40, 20, shape)
        assert find_threshold(surface, 1e-4 * float(surface.loss(surface.initial(0)))) == pytest.approx(20, abs=2)


def test_reached_loss_is_that_of_a_wedge_seen_from_the_plane():
    surface = Wedges(7, 3)
    for seed in range(5):
        reached = reachable_loss(surface, [2], seed=seed).item()
        start, basis = surface.initial(seed).numpy(), random_plane(7, 2, seed).numpy()
        losses = []
        for axes in itertools.combinations(range(7), 4):  # the short axes of each wedge: linear least squares
            rest = np.linalg.lstsq(basis[list(axes)], -start[list(axes)])[1]
            losses.append(rest[0] / 2)
        assert np.abs(np.array(losses) - reached).min() < 1e-9
        assert reached < float(surface.loss(torch.from_numpy(start)))


def test_reachable_loss_falls_with_the_dimension_and_repeats():
    surface = Wedges(40, 20)
    low = reachable_loss(surface, [5, 10, 15, 20, 30], repeats=3, seed=4)
    assert low.dims == ("plane_dimension", "repeat")
    assert (low < low["start"]).all()
    assert (low.mean("repeat").diff("plane_dimension") < 1e-12).all()
    np.testing.assert_array_equal(threshold(low, 1e-8), 20)
    xr.testing.assert_identical(low, reachable_loss(surface, [5, 10, 15, 20, 30], repeats=3, seed=4))
    assert threshold(low.isel(plane_dimension=slice(2)), 1e-8).isnull().all()
    assert np.isnan(find_threshold(surface, 1e-8, largest=10))
    assert find_threshold(surface, 1e9) == 1


def test_planes_are_orthonormal_and_even():
    basis = random_plane(50, 7, seed=1)
    torch.testing.assert_close(basis.T @ basis, torch.eye(7, dtype=torch.float64))
    assert not torch.equal(basis, random_plane(50, 7, seed=2))


@pytest.mark.parametrize("k", [0, 61, -1, 2.5])
def test_plane_dimensions_outside_the_space(surface, k):
    with pytest.raises(ValueError, match=r"D = 60 dimensions has a whole dimension of 1 to 60"):
        random_plane(60, k)
    with pytest.raises(ValueError, match="1 to 60"):
        reachable_loss(surface, [5, k])
    with pytest.raises(ValueError, match="1 to 60"):
        find_threshold(surface, 1e-6, largest=k)
    with pytest.raises(ValueError, match="1 to 60"):
        radius_effect(surface, [1.0], plane_dimension=k)


def test_plane_errors(surface):
    with pytest.raises(ValueError, match="plane dimensions and repeats are needed"):
        reachable_loss(surface, [])
    with pytest.raises(ValueError, match="radius must be positive"):
        reachable_loss(surface, [2], radius=-1.0)
    with pytest.raises(ValueError, match="radii and repeats are needed"):
        radius_effect(surface, [], 3)


# ---- radius and cuts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "power"), [("quadratic", 2), ("distance", 1)])
def test_loss_grows_with_the_radius(shape, power):
    radii = np.array([0.5, 1.0, 3.0])
    effect = radius_effect(Wedges(50, 25, shape), radii, plane_dimension=10, repeats=2)
    for repeat in range(2):
        loss = effect["loss"].isel(repeat=repeat).values
        np.testing.assert_allclose(loss, loss[1] * radii**power)
        slope = effect["gradient_norm"].isel(repeat=repeat).values
        np.testing.assert_allclose(slope, slope[1] * radii ** (power - 1))
    assert (effect["reached"] < effect["loss"]).all()
    assert "threshold" not in effect
    same = reachable_loss(Wedges(50, 25, shape), [10], repeats=2, radius=1.0)
    np.testing.assert_array_equal(effect["reached"].sel(radius=1.0), same.squeeze())
    np.testing.assert_array_equal(effect["loss"].sel(radius=1.0), same["start"])


def test_a_fixed_target_needs_larger_planes_farther_out():
    effect = radius_effect(Wedges(50, 25), [1, 4, 16, 64], plane_dimension=5, target=0.05)
    dimensions = effect["threshold"].squeeze().values
    assert dimensions[0] == 1  # the start is below it
    assert (np.diff(dimensions) >= 0).all()
    assert dimensions[-1] == pytest.approx(25, abs=2)


def test_wedges_look_like_radial_tunnels(surface, found):
    cut = polar_cut(surface, found[0], found[1], angles=72, radii=5)
    assert cut.shape == (5, 72)
    shares = cut / cut["radius"] ** 2  # the same at every radius
    np.testing.assert_allclose(shares, np.broadcast_to(shares[0], shares.shape), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(cut.sel(angle=0), 0, atol=1e-12)
    second = float(cut["second_angle"])
    a, b = found[0].values, found[1].values
    assert np.cos(second) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    between = cut.sel(angle=second / 2, method="nearest")
    assert between[-1] > 0.1


def test_plane_cut_is_the_loss_at_its_places(surface, found):
    origin = surface.initial(9)
    cut = plane_cut(surface, found[0], found[1], origin, resolution=5)
    points = np.stack([origin.numpy(), found[0].values, found[1].values])
    x, y = cut["point_x"].values, cut["point_y"].values
    for i, j in itertools.combinations(range(3), 2):  # distances are those of parameter space
        assert np.hypot(x[i] - x[j], y[i] - y[j]) == pytest.approx(np.linalg.norm(points[i] - points[j]))
    # solve for the place in space of each grid point from the three known ones
    across = np.linalg.solve(np.stack([x[1:], y[1:]], 1), points[1:] - points[0])
    for row, column in itertools.product(range(5), repeat=2):
        place = points[0] + cut["x"].values[column] * across[0] + cut["y"].values[row] * across[1]
        assert cut["loss"][row, column] == pytest.approx(geometry.loss(place, 30), abs=1e-10)


def test_cut_errors(surface, found):
    with pytest.raises(ValueError, match="one line with the origin"):
        plane_cut(surface, found[0], -2 * found[0])
    with pytest.raises(ValueError, match="one line with the origin"):
        polar_cut(surface, np.zeros(60), found[0])
    with pytest.raises(ValueError, match="resolution must be at least 2"):
        plane_cut(surface, found[0], found[1], resolution=1)
    with pytest.raises(ValueError, match="angles and radii must be at least 1"):
        polar_cut(surface, found[0], found[1], angles=0)
    with pytest.raises(ValueError, match="radius must be positive"):
        polar_cut(surface, found[0], found[1], radius=0.0)


# ---- spectrum ----------------------------------------------------------------------------------------------


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


# ---- averages ----------------------------------------------------------------------------------------------


def test_average_loss_step_by_step(surface, rng):
    points = rng.normal(size=(4, 60))
    found = average_loss(surface, points)
    for m in range(1, 5):
        here, mean = found.sel(count=m), points[:m].mean(0)
        assert here["loss_of_average"] == pytest.approx(geometry.loss(mean, 30))
        assert here["average_loss"] == pytest.approx(geometry.loss(points[:m], 30).mean())
        spread = np.sqrt(np.square(points[:m] - mean).sum(1).mean())
        assert here["spread"] == pytest.approx(spread, abs=1e-6)


def test_close_checkpoints_average_into_the_wedge_and_far_ones_out_of_it():
    rate, noise, count = 0.2, 0.01, 20
    found = averaging(Wedges(200, 100), count, spacing=30, learning_rate=rate, noise=noise)
    close, far = found.sel(kind="close"), found.sel(kind="far")
    floor = 100 * (rate * noise**2 / (2 - rate)) / 2
    assert close["average_loss"][-1] == pytest.approx(floor, rel=0.1)
    assert close["loss_of_average"][-1] == pytest.approx(floor / count, rel=0.4)
    assert far["average_loss"].max() < 1e-12
    assert far["loss_of_average"].sel(count=2) > 1
    assert (close["spread"] < 0.2 * far["spread"])[1:].all()


def test_averaging_errors(surface):
    with pytest.raises(ValueError, match="count must be at least 1"):
        averaging(surface, 0)
    with pytest.raises(ValueError, match="several points"):
        average_loss(surface, surface.initial(0))


# ---- side by side ------------------------------------------------------------------------------------------


def test_compare_joins_results():
    surfaces = {"thin": Wedges(30, 10), "thick": Wedges(30, 20)}
    both = compare(surfaces, reachable_loss, plane_dimensions=[5, 25])
    assert both.dims[0] == "surface"
    for name, surface in surfaces.items():
        expected = reachable_loss(surface, [5, 25])
        np.testing.assert_array_equal(both.sel(surface=name), expected)
        np.testing.assert_array_equal(both["start"].sel(surface=name), expected["start"])
    uneven = compare(surfaces, lambda s: reachable_loss(s, [s.wedge_dimension]))
    assert uneven["plane_dimension"].values.tolist() == [10, 20]
    assert int(uneven.isnull().sum()) == 2
    with pytest.raises(ValueError, match="surfaces is empty"):
        compare({}, reachable_loss)
    with pytest.raises(ValueError, match="by parameter"):
        compare(surfaces, optima)
