"""Whether the model still computes what its copy does, with which the loss is evaluated: the copy was made before."""

from __future__ import annotations

import warnings

import torch

from lcakit.errors import LcakitWarning, ObjectiveError, RecordingError
from lcakit.record.objective.checks import MISFITS
from lcakit.record.objective.isolation import arithmetic, generators_kept
from lcakit.record.objective.objective import Objective
from lcakit.record.objective.replicas import Replica, fresh_copy
from lcakit.record.objective.tally import weighted

__all__ = ["check_same_model"]


def __dir__() -> list[str]:
    return __all__


_ROUNDING, _OTHER = 1e-4, 0.05
"""Relative to the largest loss. Below the first it is rounding; from the second on no precision explains it: bfloat16,
which a model may switch on in its forward method, has a relative precision of 0.004."""


def check_same_model(objective: Objective, theta: torch.Tensor, last: bool = False) -> None:
    """Compare losses of some examples with those that a new copy of the model gives.

    What a model computes may change beside its parameters and buffers: a number in an attribute (a temperature that is
    lowered), a layer that is exchanged, a parametrization, a tie between weights.

    Parameters
    ----------
    objective
        Its model has the parameters ``theta`` now.
    theta
        Parameters (K,).
    last
        Whether the recording ends: then what can be said of small differences is said.

    Raises
    ------
    RecordingError
        If losses differ by more than the precision explains.
    """
    try:
        difference = _difference(objective, theta)
    except (ObjectiveError, *MISFITS) as error:
        if last:
            _warn(f"it was not possible to compare the model with its copy at the end ({error})")
        return
    if difference > _OTHER:
        raise RecordingError(
            "the model computes something else than when the objective was made: at the same parameters and buffers "
            f"its losses differ by up to {difference:.0%} of the largest. Something beside them changed: an attribute "
            "(a temperature, a schedule), an exchanged layer, a parametrization, a tie between weights. LCA would be "
            "of the loss as it was. Make what changes a buffer of the model (register_buffer), which is followed; or "
            "make the objective after the change."
        )
    if last and difference > _ROUNDING:
        _warn(
            f"the model's own losses differ by up to {difference:.2%} of the largest from those that were recorded: it "
            "computes in another precision (autocast in its forward method), or an attribute changed while training"
        )


def _difference(objective: Objective, theta: torch.Tensor) -> float:
    """Return the largest difference between losses of the first chunk, relative to the largest loss."""
    sweep, numerics = objective._evaluator.sweep, objective._numerics
    with generators_kept(objective.data), numerics.isolated(), warnings.catch_warnings():
        warnings.simplefilter("ignore", LcakitWarning)  # of hooks that are left out: said before
        copy = fresh_copy(objective.model, numerics, sweep.replicas[0].model)
        objective._evaluator.load(theta)
        (share,) = sweep.data.shares(1, objective.batch_size, by_class=False)
        chunk, batch = next(iter(sweep.data.batches(share[:1])))
        with arithmetic(numerics.precision, numerics.device), torch.no_grad():
            ours, theirs = (
                weighted(sweep._found(replica, chunk, batch), batch.weights)[0]
                for replica in (sweep.replicas[0], Replica(copy, []))
            )
    largest = float(ours.abs().max())
    return float((ours - theirs).abs().max()) / largest if largest else 0.0


def _warn(text: str) -> None:
    warnings.warn(f"{text}.", LcakitWarning, stacklevel=6)
