"""Import the HDF5 files of the original LCA code: weights, gradients along their path, and the allocation.

A run of that code is a folder of three files, read as follows (T iterations, K parameters)::

    weights               all_weights (T+1, K), with the attributes var_names and var_shapes: texts, separated by ";"
    gradients_adaptive    num_splits (T): the number n_t of sub-intervals on which Simpson's rule integrates iteration t
                          grads_train_0 … grads_train_3 (nodes, K): the gradients at all nodes of the path. Each GPU's
                          part follows the one before it, and begins with the node which that ends with, so
                          Σ (nodes - 1) = Σ n_t. grads_test_0 … the same for the test set
                          trainloss, testloss (T+1): the losses at the snapshots
    helped                helped, helped_test (T, K): the allocation, negative where it lowers the loss

Their names may end in ``.h5``, ``.hdf5`` or ``.hdf``, and there may be any number of parts. What does not fit this
reading is refused: counts of nodes, neighbouring parts whose shared node differs, sums of the allocation that are not
the change of the loss.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.sharing.importers import _h5
from lcakit.sharing.importers._nodes import AtSnapshots, Integrated, Joined
from lcakit.sharing.importers._tensorflow import Columns, Network, network
from lcakit.sharing.importers.arrays import from_arrays
from lcakit.sharing.importers.rows import Rows, lazy
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.schema import with_suffix

__all__ = [
    "GRADIENTS",
    "HELPED",
    "OBJECTIVES",
    "RESIDUAL",
    "SAMPLED",
    "SAMPLE_ERROR",
    "SHARED_NODE",
    "WEIGHTS",
    "read_lca_hdf5",
]


def __dir__() -> list[str]:
    return __all__


WEIGHTS, GRADIENTS, HELPED = "weights", "gradients_adaptive", "helped"
OBJECTIVES = (("", "trainloss", "grads_train", "helped"), ("val", "testloss", "grads_test", "helped_test"))

SHARED_NODE = 0.01
"""Two GPUs compute the gradient at the node they share: it may differ by this fraction of its norm."""

SAMPLED = 6
SAMPLE_ERROR = 0.1
RESIDUAL = 1e-3
"""Sums of LCA of sampled iterations may miss the loss change by 10 %, and by the residual the LCA code accepts."""


@checks_arguments
def read_lca_hdf5(folder: str | os.PathLike[str], *, attrs: Mapping[str, Any] | None = None) -> xr.Dataset:
    r"""Read the files of the original LCA code as a trajectory.

    Kernels are transposed from TensorFlow's layout (``ky, kx, in, out``; dense ``in, out``) to PyTorch's (``out, in,
    ky, kx``; ``out, in``), and so are the columns of gradients and LCA. Roles and layers are guessed from the names of
    the tensors (:mod:`lcakit.sharing.importers.names`); statistics of norm layers are left out. The training set is
    the main objective, the test set has the suffix ``val``. Where ``helped`` is missing, LCA comes from the gradients:

    .. math:: A_t = \frac{Δθ_t}{3 n_t} \left(g_0 + 4 g_1 + 2 g_2 + … + 4 g_{n_t - 1} + g_{n_t}\right)

    Parameters
    ----------
    folder
        Holds the file ``weights``, and ``gradients_adaptive`` and ``helped`` as far as there are (see
        :mod:`lcakit.sharing.importers.lca_hdf5` for what is expected in them).
    attrs
        Root attributes that the files do not state: ``loss_name``, ``n_examples``, ``data_fingerprint``, … The losses
        are taken to be in nats.

    Returns
    -------
    xarray.Dataset
        ``theta``, and as far as they can be derived ``gradient``, ``lca``, ``loss``, ``splits``, ``first_order``,
        ``residual``, and the same with ``_val``. Lazy: the files must stay where they are while it is used. ``lk.save``
        reads them in blocks of about 64 MB, and the gradients twice (``residual`` comes before ``lca``).

    Raises
    ------
    TrajectoryError
        If there is no ``weights``, or a file does not fit the others or the reading above; the message names it.

    Examples
    --------
    >>> import h5py, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with h5py.File(folder / "weights", "w") as file:
    ...     file["all_weights"] = np.zeros((3, 8), "f4")
    ...     file["all_weights"].attrs["var_names"] = "fc/kernel:0;fc/bias:0"
    ...     file["all_weights"].attrs["var_shapes"] = "(3, 2);(2,)"
    >>> ds = read_lca_hdf5(folder)
    >>> ds.sizes["iteration"], ds["tensor_role"].values.tolist()
    (2, ['kernel', 'bias'])
    """
    folder = Path(folder)
    files = {name: _h5.find(folder, name) for name in (WEIGHTS, GRADIENTS, HELPED)}
    weights = files[WEIGHTS]
    if weights is None:
        raise TrajectoryError(
            f"{folder} holds no file 'weights' ({', '.join(e or 'no ending' for e in _h5.ENDINGS)}), so there are "
            "neither snapshots nor names of parameters. Give the folder of one run of the LCA code."
        )
    net, theta = _weights(weights)
    variables: dict[str, Any] = {}
    for suffix, *names in OBJECTIVES:
        found = dict(_objective(files, net, theta, *names))
        _check_sums(folder, found)
        variables |= {with_suffix(name, suffix): value for name, value in found.items()}
    facts = {"imported_from": "lca-hdf5"} | ({"rule": "rk4"} if "splits" in variables else {})
    return from_arrays(lazy(theta), net.labels, attrs=facts | dict(attrs or {}), **variables)


def _weights(file: _h5.File) -> tuple[Network, Columns]:
    shape = file.shape("all_weights", (None, None))
    texts = [file.text(name, "all_weights") for name in ("var_names", "var_shapes")]
    if shape[0] < 2:
        raise TrajectoryError(f"{file}: 'all_weights' has {shape[0]} snapshots; a trajectory needs at least two")
    try:
        net = network(*texts)
    except TrajectoryError as error:
        raise TrajectoryError(f"{file}: {error}") from error
    return net, Columns(file, "all_weights", net)


def _objective(
    files: Mapping[str, _h5.File | None], net: Network, theta: Rows, loss: str, gradients: str, helped: str
) -> Iterator[tuple[str, Any]]:
    """Yield what the files tell of one objective, by the names of the format."""
    iterations = theta.shape[0] - 1
    allocated = False
    if (file := files[HELPED]) is not None and file.holds(helped):
        yield "lca", lazy(Columns(file, helped, net, iterations))
        allocated = True
    file = files[GRADIENTS]
    if file is None:
        return
    values = file.vector(loss, iterations + 1)
    if values is not None:
        yield "loss", values
    nodes = _nodes(file, gradients, net)
    if nodes is None:
        return
    splits = _splits(file, iterations)
    _check_nodes(file, gradients, nodes, splits)
    yield "splits", splits
    yield "gradient", lazy(AtSnapshots(nodes, splits))
    if not allocated:
        yield "lca", lazy(Integrated(theta, nodes, splits))


def _nodes(file: _h5.File, name: str, net: Network) -> Joined | None:
    parts: list[Columns] = []
    while file.holds(f"{name}_{len(parts)}"):
        parts.append(Columns(file, f"{name}_{len(parts)}", net))
        if parts[-1].shape[0] < 1:
            raise TrajectoryError(f"{file}: '{parts[-1].name}' has no rows")
    beyond = [n for n in range(len(parts), len(parts) + 16) if file.holds(f"{name}_{n}")]
    if beyond:
        raise TrajectoryError(f"{file}: '{name}_{len(parts)}' is missing, '{name}_{beyond[0]}' is there")
    return Joined(parts) if parts else None


def _splits(file: _h5.File, iterations: int) -> np.ndarray:
    splits = file.vector("num_splits", iterations)
    if splits is None:
        raise TrajectoryError(f"{file}: 'num_splits' is missing, so it is unknown where the gradients were taken")
    with np.errstate(invalid="ignore"):
        whole = splits.astype(np.int64)
    bad = np.flatnonzero((whole != splits) | (whole < 2) | (whole % 2 == 1) | (whole > np.iinfo("i2").max))
    if bad.size:
        raise TrajectoryError(
            f"{file}: 'num_splits' of iteration {bad[0]} is {splits[bad[0]]}; Simpson's rule needs an even number of "
            "sub-intervals (2, 4, …)"
        )
    return whole


def _check_nodes(file: _h5.File, name: str, nodes: Joined, splits: np.ndarray) -> None:
    """Refuse parts that do not make up the path: by their numbers of rows, and by the nodes they share."""
    sizes = [part.shape[0] for part in nodes.parts]
    if nodes.shape[0] != splits.sum() + 1:
        rows = " + ".join(map(str, sizes))
        raise TrajectoryError(
            f"{file}: '{name}_…' have {rows} rows, which make {nodes.shape[0]} nodes where each part begins with the "
            f"last node of the one before; 'num_splits' of {len(splits)} iterations make {splits.sum() + 1}"
        )
    for number, (part, following) in enumerate(zip(nodes.parts, nodes.parts[1:], strict=False)):
        end, begin = (_row(p, row) for p, row in ((part, part.shape[0] - 1), (following, 0)))
        scale = max(float(np.linalg.norm(end)), float(np.linalg.norm(begin)))
        if not np.linalg.norm(end - begin) <= SHARED_NODE * scale and np.isfinite(scale):
            raise TrajectoryError(
                f"{file}: '{name}_{number}' ends with another gradient than '{name}_{number + 1}' begins with, so they "
                "do not follow each other"
            )


def _row(rows: Rows, index: int) -> np.ndarray:
    return np.asarray(lazy(rows)[index]).astype("f8")


def _check_sums(folder: Path, found: Mapping[str, Any]) -> None:
    """Refuse an allocation whose sums are not the change of the loss, in the iterations that tell most, and a few."""
    if not {"lca", "loss"} <= found.keys():
        return
    change = np.diff(found["loss"].astype("f8"))
    largest = np.argsort(-np.abs(np.nan_to_num(change)))[: SAMPLED // 2]
    sample = np.union1d(largest, np.linspace(0, len(change) - 1, SAMPLED // 2).astype(int))
    rows = [found["lca"][int(t)].sum(dtype="f8") for t in sample]
    sums, change = np.array(da.compute(*rows)), change[sample]
    finite = np.isfinite(change)
    sums, change, sample = sums[finite], change[finite], sample[finite]
    allowed = SAMPLE_ERROR * np.abs(change).sum() + RESIDUAL * len(change)
    if np.abs(sums - change).sum() <= allowed:
        return
    worst = int(np.abs(sums - change).argmax())
    turned = np.abs(sums + change).sum() <= allowed
    raise TrajectoryError(
        f"{folder}: the allocations do not add up to the change of the loss; in iteration {sample[worst]} they are "
        f"{sums[worst]:.6g}, the loss changes by {change[worst]:.6g}. "
        + ("Their sign is reversed: negative must mean that the loss falls." if turned else "")
        + ("" if turned else "The files belong to different runs, or hold something else than lcakit expects.")
    )
