"""The paper's data sets, networks, settings and figures, ready to train and to compare with (needs torch).

``lk.experiments.data.load``, ``lk.experiments.networks.build``, ``lk.experiments.batches.Batches``,
``lk.experiments.paper``, ``lk.experiments.interventions``, ``lk.experiments.training`` (``Run``, ``record_run``),
``lk.experiments.declared`` and the questions of reviewers (``helpful_only``, ``rescaling``, ``subsampling``) are
imported when first used.
"""

from __future__ import annotations

from lcakit.packages import faces

_PUBLIC = {
    name: f"lcakit.experiments.{name}"
    for name in (
        "batches",
        "data",
        "declared",
        "helpful_only",
        "interventions",
        "networks",
        "paper",
        "rescaling",
        "subsampling",
        "training",
    )
}
__all__ = [*_PUBLIC]

__getattr__, __dir__ = faces(__name__, _PUBLIC, "lk.experiments")
