"""What a larger batch is worth: the critical batch size, speed-ups, and when momentum is only a learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import xarray as xr

from lcakit.landscapes.nqm.expectation import expected_loss
from lcakit.landscapes.nqm.optimizer import Optimizer
from lcakit.landscapes.nqm.problem import NoisyQuadratic
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["momentum_equivalence"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
def momentum_equivalence(
    problem: NoisyQuadratic, optimizer: Optimizer, batch_size: Any, snapshots: int | Iterable[int]
) -> xr.Dataset:
    r"""Compare momentum with SGD at the learning rate :math:`α / (1 - β)`.

    At small batches the learning rate has to be small, and then the two are the same: with
    :math:`s = θ - \frac{αβ}{1-β} m`,

    .. math:: s(t+1) = s(t) - \frac{α}{1 - β}\, g(t)

    exactly, and θ differs from s by what momentum holds, which is little while :math:`αk \ll (1 - β)^2`.

    Parameters
    ----------
    optimizer
        With momentum.
    batch_size, snapshots
        As for :func:`expected_loss`.

    Returns
    -------
    Dataset
        ``loss`` (optimizer[, batch_size, snapshot]) for ``momentum`` and ``sgd``, and the ``ratio`` of the two.

    Raises
    ------
    ValueError
        If the optimizer has no momentum.

    Warns
    -----
    LcakitWarning
        If SGD is unstable with that learning rate.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import paper_problem
    >>> small = momentum_equivalence(paper_problem(100), Optimizer(1e-4, momentum=0.9), 1, [10_000])
    >>> round(small["ratio"].item(), 3)
    1.0
    """
    if not optimizer.momentum:
        raise ValueError("the optimizer has no momentum: give it some, Optimizer(…, momentum=0.9)")
    pair = {"momentum": optimizer, "sgd": optimizer.without_momentum()}
    losses = [expected_loss(problem, one, batch_size, snapshots) for one in pair.values()]
    dim = xr.DataArray(list(pair), dims="optimizer", name="optimizer")
    both = [loss.drop_vars("learning_rate") for loss in losses]
    loss = xr.concat(both, dim=dim, combine_attrs="override")
    ratio = (both[0] / both[1]).assign_attrs(long_name="loss with momentum / loss of SGD", units="1")
    return xr.Dataset({"loss": loss, "ratio": ratio})
