"""Names of what is trained, data set and network: ``mnist-fc``, ``cifar10-resnet8w4``, ``FILE.npz-lenet-small``."""

from __future__ import annotations

from lcakit.errors import unknown
from lcakit.experiments.data import NAMES
from lcakit.experiments.networks import NETWORKS, find

__all__ = ["split_name"]


def __dir__() -> list[str]:
    return __all__


_OWN_DATA = ".npz-"


def split_name(name: str) -> tuple[str, str]:
    """Return data set and network of a name.

    The data set is the longest part it can be: up to the last ``.npz``, or a name of
    :data:`lcakit.experiments.data.NAMES`; networks have hyphens of their own.

    Raises
    ------
    ValueError
        If there is no such data set or network.

    Examples
    --------
    >>> split_name("mnist-lenet-small")
    ('mnist', 'lenet-small')
    >>> split_name("my-pets.npz-resnet8w4")
    ('my-pets.npz', 'resnet8w4')
    """
    data, network = _parts(name)
    if data and network.startswith("resnet"):
        find(network)  # says which sizes there are
    elif not data or network not in NETWORKS:
        names = [*(f"{d}-{n}" for d in NAMES for n in NETWORKS), *(f"FILE.npz-{n}" for n in NETWORKS)]
        raise ValueError(f"{unknown('network', name, names)} All, with sizes and settings: lcakit networks.")
    return data, network


def _parts(name: str) -> tuple[str, str]:
    if _OWN_DATA in name:
        data, _, network = name.rpartition(_OWN_DATA)
        return f"{data}.npz", network
    data, _, network = name.partition("-")
    return (data, network) if data in NAMES else ("", network)
