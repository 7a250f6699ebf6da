"""On a GPU, the same as on a CPU up to rounding. Without one there is nothing to compare, and all of it is skipped."""

from __future__ import annotations

import numpy as np
import pytest

import lcakit as lk

torch = pytest.importorskip("torch")

from lcakit.experiments import networks  # noqa: E402
from tests.support.networks import conv_net, dense, examples, norm_net, train  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GPU = "cuda"
ROUNDING = {"float64": 1e-12, "float32": 1e-5, "tf32": 1e-2, "bfloat16": 5e-2}


def distance(ours, exact):
    return float(np.linalg.norm(ours - exact) / np.linalg.norm(exact))


def objectives(make, precision="float32", **options):
    data = examples(90, (1, 6, 6) if make is conv_net else 6)
    gpu = lk.Objective(make(), data, device=GPU, precision=precision, batch_size=30, **options)
    return gpu, lk.Objective(make(), data, precision="float64", batch_size=30)


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("make", [dense, norm_net, conv_net])
def test_gradients(make, precision):
    gpu, exact = objectives(make, precision)
    found, expected = (one.gradient(classes=True) for one in (gpu, exact))
    assert distance(found, expected) < ROUNDING[precision]
    assert gpu.loss() == pytest.approx(exact.loss(), rel=ROUNDING[precision])


@pytest.mark.parametrize("make", [dense, norm_net, conv_net])
def test_gradients_repeat_bit_by_bit(make):
    gpu, _ = objectives(make)
    first, *others = (gpu.gradient(classes=True) for _ in range(5))
    assert all(np.array_equal(first, other) for other in others)


def test_several_at_once():
    gpu, exact = objectives(dense, together=3)
    thetas = gpu.parameters_tensor() + 0.1 * torch.randn((5, gpu.n_parameters), device=gpu.device)
    for one, theta in zip(gpu.evaluate_all(thetas, classes=True), thetas, strict=True):
        assert distance(one.gradient.cpu().numpy(), exact.gradient(theta.cpu(), classes=True)) < ROUNDING["float32"]


@pytest.mark.parametrize("keep", [("theta", "gradient", "lca"), ()])
def test_recordings(tmp_path, keep):
    files = []
    for device in (GPU, "cpu"):
        model, (x, y) = dense().to(device), (part.to(device) for part in examples(60))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        files.append(tmp_path / f"{device}.nc")
        with lk.Recorder(files[-1], lk.Objective(model, (x, y)), optimizer, keep=keep, quiet=True, block_rows=4):
            train(model, optimizer, x, y, 11)
    one, other = map(lk.open_trajectory, files)
    assert one.attrs["device"].startswith("cuda")
    assert lk.validate(files[0], quiet=True).ok
    for name in ("loss", "lca_unit_class", *(("lca", "theta") if keep else ("helped_count",))):
        np.testing.assert_allclose(one[name].values, other[name].values, atol=1e-4, err_msg=name)


def test_a_stored_path(tmp_path):
    gpu, exact = objectives(dense)
    path = torch.cumsum(0.1 * torch.randn((8, gpu.n_parameters), device=gpu.device), 0)
    one = lk.allocate(path, gpu, quiet=True)
    other = lk.allocate(path.cpu().numpy(), exact, quiet=True)
    np.testing.assert_allclose(one["lca"].values, other["lca"].values, atol=1e-5)


def test_a_residual_network_in_each_precision():
    torch.manual_seed(0)
    data = torch.rand(64, 3, 32, 32), torch.arange(64) % 10
    model = networks.build("resnet8w4", (3, 32, 32), 10, seed=0)
    exact = lk.Objective(model, data, precision="float64", batch_size=32).gradient()
    for precision, rounding in ROUNDING.items():
        found = lk.Objective(model, data, device=GPU, precision=precision, batch_size=32).gradient()
        assert distance(found, exact) < 10 * rounding, precision
