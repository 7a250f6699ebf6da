from __future__ import annotations

import doctest
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcakit.errors import LcakitError, TrajectoryError
from lcakit.packages import package
from lcakit.sharing.describe import describe
from lcakit.sharing.importers import arrays, from_arrays
from lcakit.sharing.importers.names import guess_labels, split
from lcakit.sharing.importers.rows import Rows, lazy
from lcakit.testing import LAYERS, tiny_trajectory
from lcakit.trajectory import labels
from tests.support.conformance import assert_conforms, assert_equal
from tests.support.laziness import any_chunks, nothing_computed, rechunked

TABLE = labels.Labels(LAYERS)
SHAPES = {"fc.weight": (2, 3), "fc.bias": (2,)}
SERIES = ("loss", "loss_class", "accuracy", "splits", "learning_rate", "batch_loss")


def parts(ds, *names):
    """The arrays of a trajectory, as a stranger would have them."""
    return {name: ds[name].data for name in names}


@given(any_chunks(), st.integers(1, 9), st.integers(0, 3))
def test_a_taken_apart_trajectory_is_put_together(chunks, iterations, seed):
    whole = tiny_trajectory(iterations, seed=seed, class_parameters=True)
    ds = rechunked(whole, chunks)
    with nothing_computed():
        made = from_arrays(
            ds["theta"].data,
            TABLE,
            class_names=["a", "b", "c"],
            attrs=ds.attrs,
            **parts(ds, "gradient", "lca", "lca_unit_class", "lca_class", *SERIES),
        )
        assert (made["lca"].chunks is None) == (chunks is None)
    np.testing.assert_allclose(made["residual"], whole["residual"], atol=1e-5)
    np.testing.assert_allclose(made["first_order"], whole["first_order"], rtol=1e-5, atol=1e-6)
    assert_equal(
        made.drop_vars(["residual", "first_order"]).drop_attrs(deep=False).assign_attrs(whole.attrs),
        whole.drop_vars(["residual", "first_order"]),
    )


def test_arrays_conform(tmp_path):
    ds = tiny_trajectory(30)
    made = from_arrays(ds["theta"].values, TABLE, **parts(ds, "lca", "gradient", "loss"))
    opened = assert_conforms(made, tmp_path)
    assert opened.attrs["loss_name"] == "not stated"
    assert describe(opened).facts["n_examples"] == "not stated"  # -1 in the file
    assert opened.attrs["n_examples"] == -1
    assert opened.attrs["imported_from"] == "arrays"


def test_every_objective_gets_what_follows():
    ds = tiny_trajectory(5)
    other = {f"{name}_val": 2 * ds[name].values for name in ("lca", "gradient", "loss")}
    made = from_arrays(ds["theta"].values, TABLE, **parts(ds, "lca", "gradient", "loss"), **other)
    np.testing.assert_allclose(made["residual_val"], 2 * made["residual"], atol=1e-12)
    np.testing.assert_allclose(made["first_order_val"], 2 * made["first_order"])


def test_what_is_given_is_not_derived():
    ds = tiny_trajectory(5)
    given_ = np.arange(5.0)
    made = from_arrays(None, TABLE, residual=given_, first_order=given_, **parts(ds, "lca", "gradient", "loss"))
    np.testing.assert_array_equal(made["residual"], given_)
    np.testing.assert_array_equal(made["first_order"], given_)
    assert "theta" not in made


def test_the_sums_are_formed_in_float64():
    k = 2**20
    lca = np.full((1, k), 0.1, "f4")
    lca[0, 0] = 1e6
    made = from_arrays(None, {"w": (k,)}, lca=lca, loss=[0.0, 0.0])
    np.testing.assert_allclose(made["residual"], lca.astype("f8").sum(), rtol=1e-12)


def test_labels_as_labels_specs_or_shapes(tmp_path):
    theta = np.random.default_rng(0).normal(size=(4, 8))
    by_shape = from_arrays(theta, SHAPES)
    specs = [labels.TensorSpec("fc.weight", (2, 3), "kernel", "fc", "linear", "")]
    specs += [labels.TensorSpec("fc.bias", (2,), "bias", "fc", "linear", "")]
    for other in (specs, labels.Labels(tuple(specs))):
        made = from_arrays(theta, other)
        made.attrs["created_at"] = by_shape.attrs["created_at"]
        assert_equal(made, by_shape)
    assert_conforms(by_shape, tmp_path)


def test_snapshot_numbers_and_classes():
    made = from_arrays(np.zeros((3, 8)), SHAPES, snapshot=[0, 10, 25], loss_class=np.zeros((3, 2)))
    assert made["snapshot"].values.tolist() == [0, 10, 25]
    assert made["iteration"].values.tolist() == [0, 10]
    assert made["class"].values.tolist() == ["0", "1"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: from_arrays(np.zeros((3, 7)), SHAPES), r"theta has the shape \(3, 7\).*labels has 8 of parameter"),
        (lambda: from_arrays(np.zeros(8), SHAPES), r"must have the dimensions \(snapshot, parameter\)"),
        (lambda: from_arrays(np.zeros((3, 8)), SHAPES, lca=np.zeros((3, 8))), "one snapshot more than iterations"),
        (
            lambda: from_arrays(np.zeros((3, 8)), SHAPES, loss=[1.0, 2.0]),
            "loss has the shape.*theta has 2 of iteration",
        ),
        (lambda: from_arrays(np.zeros((1, 8)), SHAPES), "at least two snapshots"),
        (lambda: from_arrays(None, SHAPES), "at least two snapshots"),
        (lambda: from_arrays(np.zeros((3, 8)), SHAPES, lcb=np.zeros((2, 8))), "unknown variable 'lcb'.*Did you mean"),
        (lambda: from_arrays(np.zeros((3, 8), complex), SHAPES), "complex128"),
        (lambda: from_arrays(np.full((3, 8), "a"), SHAPES), "numbers are needed"),
        (lambda: from_arrays(np.zeros((3, 8)), SHAPES, snapshot=[0, 2, 2]), "increase strictly"),
        (lambda: from_arrays(np.zeros((3, 8)), SHAPES, snapshot=[0, 2]), "list of snapshots has 1 of iteration"),
        (lambda: from_arrays(np.zeros((3, 8)), SHAPES, snapshot=[0.0, 0.5, 1.0]), "integers"),
        (
            lambda: from_arrays(np.zeros((3, 8)), SHAPES, loss_class=np.zeros((3, 2)), class_names=["a"]),
            "the labels has 1 of class",
        ),
        (lambda: from_arrays(np.zeros((3, 8)), {"fc.weight": (0, 3)}), "at least one entry"),
        (lambda: from_arrays(np.zeros((3, 8)), {"bn.running_mean": (8,)}), "no tensor is a parameter"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(call, says):
    with pytest.raises(TrajectoryError, match=says):
        call()


# ---- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv2D_1/kernel:0", ("conv2D_1", "kernel")),
        ("net/block.1/Weights:12", ("net/block.1", "weights")),
        ("features.0.weight", ("features.0", "weight")),
        ("w", ("(root)", "w")),
        ("a/b", ("a", "b")),
    ],
)
def test_a_name_is_layer_and_last_part(name, expected):
    assert split(name) == expected


def test_roles_layers_and_kinds_are_guessed():
    shapes = {
        "conv2D_1/kernel:0": (20, 3, 5, 5),
        "conv2D_1/bias:0": (20,),
        "batch_norm/gamma:0": (20,),
        "batch_norm/beta:0": (20,),
        "batch_norm/moving_mean:0": (20,),
        "batch_norm/moving_variance:0": (20,),
        "embed/embeddings:0": (7, 4),
        "fc_1/Weights:0": (10, 80),
        "fc_1/biases:0": (10,),
        "odd_norm/gamma:0": (3,),
        "scalar/temperature:0": (),
    }
    found = guess_labels(shapes).tensors
    assert [t.role for t in found] == [
        *("kernel", "bias", "norm_scale", "norm_shift", "embedding", "kernel", "bias", "norm_scale", "other"),
    ]
    assert {t.layer: (t.layer_kind, t.kernel_layer) for t in found} == {
        "conv2D_1": ("conv2d", ""),
        "batch_norm": ("norm", "conv2D_1"),
        "embed": ("embedding", ""),
        "fc_1": ("linear", ""),
        "odd_norm": ("norm", "fc_1"),
        "scalar": ("other", ""),
    }


def test_the_names_of_pytorch_are_understood():
    shapes = {"0.weight": (8, 6), "0.bias": (8,), "1.weight": (8,), "1.bias": (8,), "1.running_mean": (8,)}
    found = guess_labels(shapes).tensors
    assert [(t.name, t.role, t.kernel_layer) for t in found] == [
        ("0.weight", "kernel", ""),
        ("0.bias", "bias", ""),
        ("1.weight", "norm_scale", "0"),
        ("1.bias", "norm_shift", "0"),
    ]


# ---- tables read in blocks -------------------------------------------------------------------------------------


class Counted(Rows):
    def __init__(self, values):
        super().__init__(*values.shape)
        self.values, self.asked = values, []

    def read(self, start, stop, left, right):
        self.asked.append((stop - start, right - left))
        return self.values[start:stop, left:right]


KEYS = st.one_of(
    st.integers(-7, 6),
    st.slices(7),
    st.lists(st.integers(0, 6), max_size=3),
    st.just(slice(None)),
    st.just(slice(5, 2)),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(KEYS, st.one_of(st.integers(-9, 8), st.slices(9)))
def test_a_table_is_indexed_like_an_array(rows, columns):
    values = np.arange(63, dtype="f4").reshape(7, 9)
    table = Counted(values)
    np.testing.assert_array_equal(table[rows, columns], values[rows, columns])
    np.testing.assert_array_equal(table[rows], values[rows])
    np.testing.assert_array_equal(lazy(table)[rows, columns], values[rows, columns])


def test_a_table_is_read_where_it_is_asked_for():
    table = Counted(np.zeros((1000, 300_000), "f4"))
    array = lazy(table)
    assert array.chunks[1][0] % 16_384 == 0
    assert array.chunks[0][0] % 64 == 0
    assert array.chunks[0][0] * array.chunks[1][0] * 4 <= 2**26
    array[500, 7].compute()
    array[3:5].compute()
    assert sorted(table.asked) == [(1, 1), (2, 300_000 - 262_144), (2, 262_144)]
    assert all(len(n) == 1 for n in (lazy(table, whole_rows=True).chunks[1],))


def test_a_missing_package_says_what_to_install():
    with pytest.raises(LcakitError, match="reading tablets needs the package lcakit_tablets: pip install lcakit_tab"):
        package("lcakit_tablets", "reading tablets")


@pytest.mark.slow
def test_arrays_and_hdf5_files_need_neither_torch_nor_h5py(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['h5py'] = None\n"
        "import numpy as np, lcakit.sharing.importers as interop\n"
        "from lcakit.errors import LcakitError\n"
        "print(interop.from_arrays(np.zeros((3, 8)), {'fc.weight': (2, 3), 'fc.bias': (2,)}).sizes['iteration'])\n"
        f"open({str(tmp_path / 'weights')!r}, 'w').close()\n"
        "try:\n"
        f"    interop.read_lca_hdf5({str(tmp_path)!r})\n"
        "except LcakitError as error:\n"
        "    print('cannot be read as an HDF5 file' in str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2", "True"]


def test_the_examples_say_the_truth():
    failed, tried = doctest.testmod(arrays)
    assert (failed, tried) == (0, 3)


def test_dask_and_numpy_may_be_mixed():
    ds = tiny_trajectory(5)
    made = from_arrays(da.from_array(ds["theta"].values, chunks=(2, 7)), TABLE, gradient=ds["gradient"].values)
    np.testing.assert_allclose(made["first_order"], ds["first_order"], rtol=1e-5, atol=1e-6)
