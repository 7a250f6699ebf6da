"""Experiments of a few iterations, and their files read without lcakit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import netCDF4
import numpy as np

from lcakit.experiments import declared
from lcakit.experiments.declared import Claim, Experiment, Scale, layerwise, run_experiment
from lcakit.experiments.interventions import Intervention
from lcakit.experiments.run import Run

TINY = Run("digits-fc", train_examples=40, batch_size=10, iterations=6)
FROZEN = dataclasses.replace(TINY, interventions=(Intervention("last", freeze="start"),))
DIVERGING = dataclasses.replace(TINY, learning_rate=1e30)


def tiny(arms: dict[str, Run], table=layerwise.compared_layers, seeds=(0, 1), **options) -> Experiment:
    scales = {"small": Scale(arms, seeds, "everything")}
    claims = (Claim("runs", lambda result: str(dict(result.sizes)), "many"),)
    return Experiment("tiny", "A tiny one", "Fig. 0", "arms", scales, table, claims, **options)


def run(experiment: Experiment, directory: Path, **options) -> declared.Outcome:
    return run_experiment(experiment, directory, **{"jobs": 1, "quiet": True} | options)


def read(path: Path) -> dict[str, np.ndarray]:
    """Twin of opening: the plain netCDF library."""
    with netCDF4.Dataset(path) as file:
        return {name: file[name][:].filled() for name in ("lca", "loss", "layer_index") if name in file.variables}
