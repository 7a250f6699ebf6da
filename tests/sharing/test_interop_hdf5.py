from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lcakit.errors import TrajectoryError
from lcakit.sharing.importers import _tensorflow, read_lca_hdf5
from lcakit.sharing.importers import rows as interop_rows
from lcakit.trajectory.labels import tensor_shapes
from tests.support.conformance import assert_conforms
from tests.support.laziness import nothing_computed
from tests.support.lca_code import LEARNED, NETWORK, SHAPES, TORCH, Run, torch_columns

h5py = pytest.importorskip("h5py")


@pytest.fixture
def folder(tmp_path):
    return Run().write(tmp_path / "run")


def assert_is(ds, run: Run) -> None:
    columns = torch_columns()
    assert tensor_shapes(ds) == TORCH
    np.testing.assert_array_equal(ds["theta"], run.theta[:, columns])
    np.testing.assert_array_equal(ds["splits"], run.splits)
    for suffix, problem in (("", run.train), ("_val", run.test)):
        lca = run.lca(problem)[:, columns]
        scale = np.abs(lca).max()
        np.testing.assert_allclose(ds[f"lca{suffix}"], lca, atol=3e-6 * scale)
        gradient = problem.gradient(run.theta.astype(float))[:, columns]
        np.testing.assert_allclose(ds[f"gradient{suffix}"], gradient, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ds[f"loss{suffix}"], problem.loss(run.theta.astype(float)), rtol=1e-12)
        np.testing.assert_allclose(ds[f"residual{suffix}"], 0, atol=1e-5 * scale * lca.shape[1])
        first = (gradient[:-1] * np.diff(run.theta[:, columns].astype(float), axis=0)).sum(1)
        np.testing.assert_allclose(ds[f"first_order{suffix}"], first, rtol=1e-5, atol=1e-6)


splits_of_a_run = st.lists(st.sampled_from([2, 4, 6, 8, 32]), min_size=1, max_size=9).map(tuple)


@pytest.mark.slow
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    splits_of_a_run,
    st.integers(1, 4),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["f4", "f8"]),
    st.sampled_from([(31, 300), (47, 800), (20, 3000), (60, 9000), (262_144, 2**26)]),
    st.sampled_from([None, True]),
)
def test_everything_is_derived(tmp_path_factory, splits, gpus, seed, helped, learned_only, dtype, block, chunks):
    run = Run(splits, gpus, seed)
    folder = run.write(
        tmp_path_factory.mktemp("run"), helped=helped, learned_only=learned_only, dtype=dtype, chunks=chunks
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interop_rows, "WIDEST", block[0])
        patch.setattr(interop_rows, "BLOCK_BYTES", block[1])
        patch.setattr(_tensorflow, "BLOCK_BYTES", block[1])
        assert_is(read_lca_hdf5(folder), run)


@pytest.mark.slow
def test_a_run_of_the_lca_code_conforms(tmp_path):
    run = Run(tuple([2, 2, 4, 2, 8] * 6))
    ds = read_lca_hdf5(run.write(tmp_path / "run"), attrs={"loss_name": "cross_entropy"})
    opened = assert_conforms(ds, tmp_path)
    assert opened.attrs["rule"] == "rk4"
    assert opened.attrs["loss_name"] == "cross_entropy"
    assert opened.attrs["imported_from"] == "lca-hdf5"


def test_the_layout_is_that_of_pytorch(folder):
    ds = read_lca_hdf5(folder)
    assert tensor_shapes(ds) == TORCH
    assert ds["layer"].values.tolist() == ["conv_1", "batch_norm", "fc_1"]
    assert ds["kernel_layer"].values.tolist() == [0, 0, 2]
    assert ds["tensor_role"].values.tolist() == ["kernel", "bias", "norm_scale", "norm_shift", "kernel", "bias"]
    index = ds["tensor"].values.tolist().index("conv_1/kernel:0")
    assert ds["unit_channel"].values[ds["unit_index"].values[ds["tensor_index"].values == index]].tolist() == sorted(
        12 * [0, 1, 2, 3]
    )


def test_nothing_large_is_read_before_it_is_asked_for(folder, monkeypatch):
    ds = read_lca_hdf5(folder)
    with nothing_computed():
        assert all(ds[name].chunks for name in ("theta", "lca", "gradient", "lca_val", "gradient_val"))
    reads = []
    real = _tensorflow.Columns.read
    monkeypatch.setattr(_tensorflow.Columns, "read", lambda self, *key: reads.append(key) or real(self, *key))
    ds["theta"][3, 5].compute()
    assert reads == [(3, 4, 5, 6)]


@pytest.mark.parametrize("ending", ["", ".h5", ".hdf5", ".hdf"])
def test_files_may_have_an_ending(tmp_path, ending):
    run = Run()
    assert_is(read_lca_hdf5(run.write(tmp_path / "run", ending=ending)), run)


# ---- what may be missing ---------------------------------------------------------------------------------------


def test_helped_is_taken_where_it_is(tmp_path):
    run = Run()
    folder = run.write(tmp_path / "run", helped=True)
    with h5py.File(folder / "helped", "a") as file:
        file["helped"][2, LEARNED.nonzero()[0][0]] += 0.001
        del file["helped_test"]
    ds = read_lca_hdf5(folder)
    expected = run.lca(run.train)[:, torch_columns()]
    assert np.abs(ds["lca"] - expected).max() == pytest.approx(0.001, rel=1e-3)
    np.testing.assert_allclose(ds["lca_val"], run.lca(run.test)[:, torch_columns()], atol=1e-5)


@pytest.mark.slow
def test_helped_alone(tmp_path):
    folder = Run().write(tmp_path / "run", helped=True)
    (folder / "gradients_adaptive").unlink()
    ds = read_lca_hdf5(folder)
    assert set(ds.data_vars) == {"theta", "lca", "lca_val"}
    assert ds.attrs["rule"] == "not stated"
    assert_conforms(ds, tmp_path)


def test_weights_alone(tmp_path):
    folder = Run().write(tmp_path / "run")
    (folder / "gradients_adaptive").unlink()
    ds = read_lca_hdf5(folder)
    assert set(ds.data_vars) == {"theta"}
    assert_conforms(ds, tmp_path)


@pytest.mark.slow
def test_the_training_set_alone(folder, tmp_path):
    with h5py.File(folder / "gradients_adaptive", "a") as file:
        for name in [n for n in file if "test" in n]:
            del file[name]
    ds = read_lca_hdf5(folder)
    assert not [name for name in ds.data_vars if name.endswith("_val")]
    assert_conforms(ds, tmp_path)


def test_a_loss_alone(folder):
    with h5py.File(folder / "gradients_adaptive", "a") as file:
        for name in [n for n in file if n != "trainloss"]:
            del file[name]
    assert set(read_lca_hdf5(folder).data_vars) == {"theta", "loss"}


def test_a_run_that_diverged_is_read(folder):
    with h5py.File(folder / "gradients_adaptive", "a") as file:
        file["trainloss"][4:] = np.nan
        file["grads_train_2"][-1] = np.nan
        file["grads_train_3"][:] = np.nan
    assert np.isnan(read_lca_hdf5(folder)["loss"]).sum() == 3


# ---- what is refused -------------------------------------------------------------------------------------------


def change(name, do):
    def apply(folder):
        with h5py.File(folder / name, "a") as file:
            do(file)

    return apply


def replace(file, name, values):
    del file[name]
    file[name] = values


def renamed(file):
    file.move("grads_train_1", "swap")
    file.move("grads_train_2", "grads_train_1")
    file.move("swap", "grads_train_2")


def linked(file):
    del file["trainloss"]
    file["trainloss"] = h5py.ExternalLink("/etc/passwd", "/x")


def virtual(file):
    del file["trainloss"]
    layout = h5py.VirtualLayout(shape=(7,), dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(7,))
    file.create_virtual_dataset("trainloss", layout)


def huge(file):
    del file["grads_train_0"]
    file.create_dataset("grads_train_0", (10**9, LEARNED.size), "f4")


def sparse(file):
    del file["all_weights"]
    file.create_dataset("all_weights", (10**9, LEARNED.size), "f4", chunks=(64, 64), compression="gzip")
    file["all_weights"].attrs["var_names"] = ";".join(NETWORK)
    file["all_weights"].attrs["var_shapes"] = SHAPES


def attribute(name, value):
    return change("weights", lambda file: file["all_weights"].attrs.__setitem__(name, value))


GRADIENTS = "gradients_adaptive"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "weights").unlink(), "no file 'weights'"),
        (lambda f: (f / "weights.h5").write_bytes(b"x"), "which file is meant, weights or weights.h5"),
        (lambda f: (f / "weights").write_bytes(b"no HDF5"), "weights: cannot be read as an HDF5 file"),
        (attribute("var_names", "a/kernel:0"), "lists 1 tensors, var_shapes 8"),
        (attribute("var_shapes", SHAPES.removesuffix("(3,)") + "(4,)"), "86 columns, but var_shapes has 87 entries"),
        (attribute("var_shapes", ";".join(8 * ["__import__('os')"])), "is not a shape such as"),
        (attribute("var_names", ";".join(8 * ["a/kernel:0"])), "lists a name twice"),
        (attribute("var_names", np.arange(3)), "is not text"),
        (change("weights", lambda f: f["all_weights"].attrs.pop("var_names")), "'var_names' of 'all_weights' is not"),
        (change("weights", lambda f: f.move("all_weights", "w")), "'all_weights' is not there; the file has 'w'"),
        (change("weights", sparse), "not written in full"),
        (change(GRADIENTS, lambda f: replace(f, "trainloss", np.zeros(6))), r"shape \(6,\), expected \(7\)"),
        (change(GRADIENTS, lambda f: replace(f, "trainloss", np.array(["x"] * 7, "S"))), "not an array of numbers"),
        (change(GRADIENTS, lambda f: f.__delitem__("num_splits")), "'num_splits' is missing"),
        (change(GRADIENTS, lambda f: f["num_splits"].__setitem__(3, 3)), "iteration 3 is 3; Simpson.*even"),
        (change(GRADIENTS, lambda f: replace(f, "num_splits", np.full(6, np.nan))), "iteration 0 is nan"),
        (change(GRADIENTS, lambda f: f["num_splits"].__setitem__(3, 4)), "21 nodes.*of 6 iterations make 17"),
        (change(GRADIENTS, lambda f: f.__delitem__("grads_train_1")), "'grads_train_1' is missing"),
        (change(GRADIENTS, lambda f: f.__delitem__("grads_train_3")), "nodes where each part begins"),
        (change(GRADIENTS, renamed), "'grads_train_0' ends with another gradient than 'grads_train_1' begins"),
        (change(GRADIENTS, lambda f: replace(f, "grads_test_0", np.zeros((3, 9)))), "'grads_test_0' has 9 columns"),
        (change(GRADIENTS, lambda f: replace(f, "grads_test_0", np.zeros((0, 78)))), "'grads_test_0' has no rows"),
        (change(GRADIENTS, lambda f: f["trainloss"].__setitem__(slice(None), np.arange(7.0))), "do not add up"),
        (change(GRADIENTS, lambda f: f["trainloss"].__setitem__(slice(None), -f["trainloss"][:])), "sign is reversed"),
        (change(GRADIENTS, linked), r"gradients_adaptive: .* \(a soft or external link\)"),
        (change(GRADIENTS, virtual), "gradients_adaptive: .* from other files"),
        (change(GRADIENTS, huge), "not written in full"),
        (lambda f: (f / GRADIENTS).write_bytes((f / GRADIENTS).read_bytes()[:3000]), "gradients_adaptive: cannot be"),
    ],
)
def test_what_does_not_fit_is_refused(folder, spoil, says):
    spoil(folder)
    with pytest.raises(TrajectoryError, match=says):
        read_lca_hdf5(folder)


def test_a_file_that_breaks_while_it_is_read_is_named(folder):
    ds = read_lca_hdf5(folder)
    (folder / "weights").unlink()
    with pytest.raises(TrajectoryError, match="weights"):
        ds["theta"].compute()


def test_one_snapshot_is_no_trajectory(tmp_path):
    with h5py.File(tmp_path / "weights", "w") as file:
        file["all_weights"] = np.zeros((1, 2))
        file["all_weights"].attrs["var_names"] = "w:0"
        file["all_weights"].attrs["var_shapes"] = "(2,)"
    with pytest.raises(TrajectoryError, match="has 1 snapshots"):
        read_lca_hdf5(tmp_path)


# ---- damaged and hostile files ---------------------------------------------------------------------------------


def test_every_changed_byte_is_refused_or_harmless(tmp_path):
    """The HDF5 library hangs on some of these; none may, and none may change a label or a shape without an error."""
    folder = Run(splits=(2, 2), gpus=1).write(tmp_path / "run", chunks=True)
    (folder / "gradients_adaptive").unlink()
    expected = read_lca_hdf5(folder).load()
    path, rng = folder / "weights", np.random.default_rng(0)
    data, said = path.read_bytes(), []
    for place in rng.choice(2048, 60, replace=False).tolist():
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << rng.integers(8))]) + data[place + 1 :])
        try:
            assert read_lca_hdf5(folder).load().sizes == expected.sizes
        except TrajectoryError as error:
            said.append(str(error))
    assert len(said) > 5
    assert all("weights" in text for text in said)


def test_a_packed_chunk_inflates_to_no_more_than_it_holds(tmp_path):
    import zlib

    folder = Run().write(tmp_path / "run")
    with h5py.File(folder / "weights", "a") as file:
        attrs, theta = dict(file["all_weights"].attrs), file["all_weights"][:]
        del file["all_weights"]
        stored = file.create_dataset("all_weights", data=theta, chunks=theta.shape, compression="gzip")
        stored.attrs.update(attrs)
        whole = stored.id.read_direct_chunk((0, 0))
    np.testing.assert_array_equal(read_lca_hdf5(folder)["theta"], Run().theta[:, torch_columns()])
    assert whole[0] == 0
    with h5py.File(folder / "weights", "a") as file:
        file["all_weights"].id.write_direct_chunk((0, 0), zlib.compress(bytes(10**6)))
    with pytest.raises(TrajectoryError, match=r"weights: 'all_weights': damaged: chunk \(0, 0\): what is packed"):
        read_lca_hdf5(folder)["theta"].compute()


def test_a_file_that_is_overwritten_or_replaced_is_refused(folder, tmp_path):
    import shutil

    ds = read_lca_hdf5(folder)
    shutil.copyfile(folder / "weights", folder.parent / "weights")
    other = Run(seed=3).write(tmp_path / "other")
    shutil.copyfile(other / "weights", folder / "weights")
    with pytest.raises(TrajectoryError, match="weights was overwritten or replaced since it was opened"):
        ds["theta"].compute()
    shutil.copyfile(folder.parent / "weights", folder / "weights")
    ds = read_lca_hdf5(folder)
    shutil.copyfile(other / "weights", tmp_path / "weights")
    (tmp_path / "weights").replace(folder / "weights")
    with pytest.raises(TrajectoryError, match="weights was overwritten or replaced since it was opened"):
        ds["theta"].compute()


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_only_plain_files_are_read(folder, what):
    import os

    (folder / "helped").unlink(missing_ok=True)
    os.mkfifo(folder / "helped") if what == "pipe" else (folder / "helped").symlink_to("/dev/zero")
    assert "lca" in read_lca_hdf5(folder)  # from the gradients: what is no file is not read


def test_files_of_the_newest_structure_are_told_how_to_be_rewritten(folder):
    with h5py.File(folder / "weights", "r") as file:
        attrs, theta = dict(file["all_weights"].attrs), file["all_weights"][:]
    with h5py.File(folder / "weights", "w", libver="latest") as file:
        file.create_dataset("all_weights", data=theta, chunks=True).attrs.update(attrs)
    with pytest.raises(TrajectoryError, match="libver='earliest'"):
        read_lca_hdf5(folder)
