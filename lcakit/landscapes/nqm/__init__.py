r"""The noisy quadratic model: an optimizer's expected loss in closed form (Zhang et al., 2019).

.. math:: L(θ) = \frac12 \sum_i h_i θ_i^2, \qquad g_i = h_i θ_i + ε_i, \quad \operatorname{Var} ε_i = c_i / B

Directions do not see each other and everything is Gaussian, so whatever training does on it can be computed, and
what lcakit measures on a recorded run can be held against the answer: the loss after any number of steps
(:func:`expected_loss`), what a larger batch is worth (:func:`tuned_steps`, :func:`critical_batch_size`), the best
schedule (:func:`scheduled_steps`), who helps and how often (:func:`expected_helping`), who oscillates
(:func:`expected_oscillation`). :func:`simulate` runs it, :func:`simulate_helping` also with rotated curvature and other
noise, :func:`trajectory` gives a run in the format of a recording, and :func:`record` trains it with torch and
records it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcakit.analysis.batch_sizes import critical_batch_size, speed_up
from lcakit.landscapes.nqm.beyond import random_rotation, simulate_helping
from lcakit.landscapes.nqm.expectation import expected_loss, moments
from lcakit.landscapes.nqm.helping import expected_helping, lca, probability_helping
from lcakit.landscapes.nqm.limits import asymptotic_risk, convergence_rate
from lcakit.landscapes.nqm.optimizer import Optimizer
from lcakit.landscapes.nqm.oscillation import expected_oscillation
from lcakit.landscapes.nqm.problem import NoisyQuadratic, paper_problem
from lcakit.landscapes.nqm.scaling import momentum_equivalence
from lcakit.landscapes.nqm.schedules import Schedule, scheduled_loss
from lcakit.landscapes.nqm.scheduling import best_schedule, scheduled_steps
from lcakit.landscapes.nqm.simulation import simulate
from lcakit.landscapes.nqm.steps import steps_to_target
from lcakit.landscapes.nqm.trajectories import bands_of, trajectory, with_curvature
from lcakit.landscapes.nqm.tuning import PRESETS, compare_optimizers, tuned_steps
from lcakit.packages import faces

if TYPE_CHECKING:
    from lcakit.landscapes.nqm.fisher import fisher_course
    from lcakit.landscapes.nqm.training import Noise, QuadraticModel, make_objective, make_optimizer, record

__all__ = [
    "PRESETS",
    "Noise",
    "NoisyQuadratic",
    "Optimizer",
    "QuadraticModel",
    "Schedule",
    "asymptotic_risk",
    "bands_of",
    "best_schedule",
    "compare_optimizers",
    "convergence_rate",
    "critical_batch_size",
    "expected_helping",
    "expected_loss",
    "expected_oscillation",
    "fisher_course",
    "lca",
    "make_objective",
    "make_optimizer",
    "moments",
    "momentum_equivalence",
    "paper_problem",
    "probability_helping",
    "random_rotation",
    "record",
    "scheduled_loss",
    "scheduled_steps",
    "simulate",
    "simulate_helping",
    "speed_up",
    "steps_to_target",
    "trajectory",
    "tuned_steps",
    "with_curvature",
]

_TORCH = ("Noise", "QuadraticModel", "fisher_course", "make_objective", "make_optimizer", "record")
"""What needs torch, imported when first used."""

_MODULE_OF = dict.fromkeys(_TORCH, "lcakit.landscapes.nqm.training")
_MODULE_OF["fisher_course"] = "lcakit.landscapes.nqm.fisher"
__getattr__, _ = faces(__name__, _MODULE_OF, "lk.landscapes.nqm")


def __dir__() -> list[str]:
    return __all__
