"""The n-wedges model of loss landscapes, and its experiments, which run on real networks too.

D-dimensional weight space holds n-dimensional wedges of low loss along its axes; the loss grows with the distance to
the nearest one. :class:`Wedges` and :class:`NetworkSurface` (:func:`digits_network`) are both a :class:`Surface`, and
every experiment takes either::

    straight_path, connect         barrier between two optima, and a low-loss path around it
    connect_all, short_directions  connectors of N optima, and how their middle sharpens as N grows
    reachable_loss, threshold      optimization kept to random planes; the intrinsic dimension
    radius_effect                  the distance from the origin
    label_changes                  predicted labels that change on the way between two optima (networks)
    plane_cut, polar_cut           two-dimensional cuts: radial tunnels
    spectrum                       the Hessian's flat and sharp directions
    averaging                      averages of checkpoints close together and far apart
    compare                        any of them on several surfaces

Closed forms are in :mod:`lcakit.landscapes.wedges.geometry`, which needs no torch; :func:`record` records the wedges.

Source: Fort and Jastrzębski, "Large Scale Structure of Neural Network Loss Landscapes" (2019).
"""

from __future__ import annotations

from lcakit.packages import faces

_MODULE_OF = {
    "Wedges": "surface",
    "Surface": "surface",
    "NetworkSurface": "network",
    "digits_network": "network",
    "minimize": "descent",
    "optima": "descent",
    "noisy_descent": "descent",
    "straight_path": "paths",
    "barrier": "paths",
    "connect": "paths",
    "label_changes": "labels",
    "connect_all": "connectors",
    "short_directions": "connectors",
    "random_plane": "planes",
    "reachable_loss": "planes",
    "threshold": "planes",
    "find_threshold": "planes",
    "radius_effect": "radius",
    "plane_cut": "cuts",
    "polar_cut": "cuts",
    "HessianOperator": "hessian",
    "spectrum": "hessian",
    "count_sharp": "hessian",
    "average_loss": "averages",
    "averaging": "averages",
    "WedgeModel": "recording",
    "wedge_objective": "recording",
    "record": "recording",
    "compare": "sidebyside",
    "geometry": "geometry",
}
"""Public name -> the module it lives in, imported when first used: all but geometry need torch."""

_PUBLIC = {name: f"lcakit.landscapes.wedges.{module}" for name, module in _MODULE_OF.items()}
__all__ = [*_PUBLIC]

__getattr__, __dir__ = faces(__name__, _PUBLIC, "lk.landscapes.wedges")
