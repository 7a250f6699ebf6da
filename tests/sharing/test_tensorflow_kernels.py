from __future__ import annotations

import numpy as np
import pytest

from lcakit.sharing.importers._nodes import simpson_weights
from lcakit.sharing.importers._tensorflow import network

pytest.importorskip("h5py")


def test_shapes_and_names_may_be_written_in_many_ways():
    for shapes in (
        "(3, 3, 1, 20);(20,);()",
        "[3,3,1,20];[20];[]",
        "3,3,1,20;20;",
        "TensorShape([Dimension(3), Dimension(3), Dimension(1), Dimension(20)]);TensorShape([20]); () ;",
    ):
        found = network("a/kernel:0;a/bias:0;t/x:0", shapes if not shapes.endswith("20;") else shapes + ";")
        assert found.shapes == ((3, 3, 1, 20), (20,), ())


@pytest.mark.parametrize(
    ("name", "shape", "wanted", "transposed"),
    [
        ("conv/depthwise_kernel:0", (3, 2, 5, 2), (10, 1, 3, 2), False),
        ("conv1d/kernel:0", (3, 5, 2), (2, 5, 3), False),
        ("conv2d_transpose/kernel:0", (3, 2, 5, 4), (4, 5, 3, 2), True),
        ("transpose_dense/kernel:0", (4, 5), (5, 4), False),
        ("embed/embeddings:0", (9, 4), (9, 4), False),
        ("lstm/recurrent_kernel:0", (4, 16), (16, 4), False),
        ("layer/odd:0", (4, 16), (4, 16), False),
    ],
)
def test_kernels_of_other_layers(name, shape, wanted, transposed):
    found = network(name, str(shape))
    (spec,) = found.labels.tensors
    assert (spec.shape, spec.transposed) == (wanted, transposed)
    (piece,) = found.pieces(found.n_columns)
    numbers = np.arange(found.n_columns).reshape(shape)
    turned = piece.turned(numbers.reshape(1, -1)).reshape(wanted)
    for place in np.ndindex(*shape):
        if "depthwise" in name:
            where = (place[2] * shape[3] + place[3], 0, *place[:2])
        elif wanted == shape:
            where = place
        else:
            where = (place[-1], place[-2], *place[:-2])
        assert turned[where] == numbers[place]


def test_simpson_weights_integrate_cubics():
    assert simpson_weights(2).tolist() == [1, 4, 1]
    assert simpson_weights(4).tolist() == [1, 4, 2, 4, 1]
    for n in (2, 4, 6, 32):
        x = np.linspace(0, 1, n + 1)
        np.testing.assert_allclose(simpson_weights(n) @ x**3 / (3 * n), 1 / 4, rtol=1e-12)
