"""LCA against a Fisher-style measure when a ReLU network is rescaled: the function stays, one of the two changes."""

from __future__ import annotations

import xarray as xr

from lcakit.analysis.aggregate import sum_by
from lcakit.analysis.fisher import fisher_diagonal, rescaled
from lcakit.experiments.path import refuse_other_objective, require_path, rule_of
from lcakit.record.allocation.allocate import allocate
from lcakit.record.objective.objective import Objective
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["compare_rescaled"]


def __dir__() -> list[str]:
    return __all__


_NETWORKS = ["recorded", "rescaled"]


@checks_arguments
def compare_rescaled(
    ds: xr.Dataset,
    objective: Objective,
    layer: str,
    next_layer: str,
    factor: float = 4.0,
    by: str = "tensor",
    quiet: bool = False,
) -> xr.Dataset:
    r"""Allocate the same training in a rescaled network, and compare the shares of LCA and of Fisher.

    .. math:: \frac{\sum_t A_g[t]}{\sum_h \sum_t A_h[t]} \quad\text{beside}\quad \frac{F_g}{\sum_h F_h}, \qquad
              F_g = \frac1{T+1} \sum_{t} \sum_{i \in g} \left(\frac{∂L}{∂θ_i}(θ_t)\right)^2

    The twin is :func:`lcakit.fisher.rescaled`: ``layer`` times f, the kernel of ``next_layer`` divided by f. Its loss,
    gradients and LCA are computed again from its snapshots, by the rule of the file. LCA stays; Fisher changes by
    :math:`f^{-2}` in the layer and by :math:`f^2` in the next kernel, so what it calls important is a matter of the
    parametrization.

    Parameters
    ----------
    ds
        Trajectory with ``theta``, ``gradient``, ``lca`` and ``loss``.
    objective
        The loss that was recorded. The rescaled network is the same model at other θ.
    layer, next_layer, factor
        See :func:`lcakit.fisher.rescaled`; powers of 2 are exact.
    by
        Grouping of parameters: ``"tensor"``, so that the bias of ``next_layer``, which stays, is seen apart from its
        kernel; or another of :func:`lcakit.aggregate.sum_by`.
    quiet
        No progress bar.

    Returns
    -------
    Dataset
        With ``network`` = ``recorded``, ``rescaled``: ``lca``, ``lca_share``, ``fisher``, ``fisher_share``, each
        (network, by); and ``final_loss`` (network).

    Raises
    ------
    TrajectoryError, ValueError
        As :func:`lcakit.fisher.rescaled` and :func:`lcakit.allocate`; or if the objective is not the one recorded.

    Notes
    -----
    Not in the paper; a question of its reviewers.
    """
    require_path(ds, "theta", "gradient", "lca", "loss")
    refuse_other_objective(ds, objective)
    other = rescaled(ds, layer, next_layer, factor)
    path = other.drop_vars([name for name in other.data_vars if name != "theta"])
    twin = allocate(path, objective, **vars(rule_of(ds)), quiet=quiet)
    pair = xr.DataArray(_NETWORKS, dims="network", name="network")
    return xr.concat([_shares(each, by) for each in (ds, twin)], dim=pair).assign_attrs(
        rescaled=other.attrs["rescaled"]
    )


def _shares(ds: xr.Dataset, by: str) -> xr.Dataset:
    lca = sum_by(ds, by).sum("iteration", keep_attrs=True)
    fisher = fisher_diagonal(ds, by=by)
    found = xr.Dataset(
        {
            "lca": lca.assign_attrs(long_name="LCA over the run"),
            "lca_share": (lca / lca.sum()).assign_attrs(long_name="share of LCA", units="1"),
            "fisher": fisher,
            "fisher_share": (fisher / fisher.sum()).assign_attrs(long_name="share of Fisher", units="1"),
            "final_loss": ds["loss"].isel(snapshot=-1, drop=True),
        }
    )
    return found.compute()
