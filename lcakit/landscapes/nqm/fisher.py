"""The Fisher matrix of a real network while it trains: does it settle, as the noisy quadratic takes for granted?"""

from __future__ import annotations

from typing import Any

import torch
import xarray as xr
from torch.func import jacrev

from lcakit.landscapes.wedges.network import NetworkSurface
from lcakit.landscapes.wedges.surface import as_points
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["fisher_course"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
def fisher_course(surface: NetworkSurface, points: Any, count: int = 10, examples: int = 50) -> xr.Dataset:
    r"""Return the largest eigenvalues of the Fisher matrix along a training, and how far their directions have settled.

    .. math:: F(θ) = \frac1N \sum_n \sum_c p_{nc}\, g_{nc} g_{nc}^\top, \qquad g_{nc} = ∇_θ \log p_{nc}, \qquad
              \mathrm{overlap}_t = \frac1k \left\lVert V_t^\top V_T \right\rVert_F^2

    with V (K, k) the eigenvectors of the k largest eigenvalues. The noisy quadratic has one curvature and one noise for
    the whole of training; that fits a network as far as its Fisher matrix, which stands for both, stays as it is.

    Parameters
    ----------
    surface
        A network that classifies, with cross-entropy.
    points
        θ of snapshots, (S, K); the last is T.
    count
        k, at least 1.
    examples
        N, the first examples of the surface; memory is N × classes × parameters.

    Returns
    -------
    Dataset
        ``eigenvalue`` (snapshot, rank), the largest first; ``trace`` (snapshot); ``overlap`` (snapshot), 1 where the k
        directions span what those of the last snapshot span, k / K by chance.

    Raises
    ------
    ValueError
        For points of another dimension or not finite, or counts below 1 or above what N examples can tell.

    Notes
    -----
    Not the empirical Fisher: labels are averaged over what the network itself predicts.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import digits_network
    >>> surface = digits_network(20)
    >>> found = fisher_course(surface, [surface.initial(seed) for seed in (0, 1)], count=3, examples=10)
    >>> found["eigenvalue"].shape, round(float(found["overlap"][-1]), 6)
    ((2, 3), 1.0)
    """
    theta = as_points(surface, points, ndim=2)
    found = [_largest(surface, point, count, examples) for point in theta]
    last = found[-1][2]
    overlap = [float((vectors.T @ last).square().sum() / count) for _, _, vectors in found]
    values = torch.stack([values for values, _, _ in found]).numpy()
    attrs = {"long_name": "eigenvalue of the Fisher matrix", "units": "1"}
    return xr.Dataset(
        {
            "eigenvalue": (("snapshot", "rank"), values, attrs),
            "trace": ("snapshot", [trace for _, trace, _ in found], {"long_name": "trace of the Fisher matrix"}),
            "overlap": ("snapshot", overlap, {"long_name": "overlap with the last directions", "units": "1"}),
        },
        coords={"rank": range(1, count + 1)},
    )


def _largest(
    surface: NetworkSurface, theta: torch.Tensor, count: int, examples: int
) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Return the largest eigenvalues (k,), the trace, and their eigenvectors (K, k)."""
    rows = _rows(surface, theta, examples)
    if not 1 <= count <= min(rows.shape):
        raise ValueError(f"count must be 1 to {min(rows.shape)} (examples times classes, or parameters), got {count}")
    values, left = torch.linalg.eigh(rows @ rows.T)  # of the Gram matrix: the same, and smaller
    values, left = values.flip(0)[:count], left.flip(1)[:, :count]
    return values, float(rows.square().sum()), torch.linalg.qr(rows.T @ left)[0]


def _rows(surface: NetworkSurface, theta: torch.Tensor, examples: int) -> torch.Tensor:
    r"""Return G (N · C, K) with F = Gᵀ G: :math:`\sqrt{p_{nc} / N}\, g_{nc}`."""
    if not 1 <= examples <= len(surface.x):
        raise ValueError(f"examples must be 1 to {len(surface.x)}, those of the surface; got {examples}")

    def log_p(at: torch.Tensor) -> torch.Tensor:
        return surface.output(at, surface.x[:examples]).log_softmax(1)

    weights = (log_p(theta).exp() / examples).sqrt()
    gradients: torch.Tensor = jacrev(log_p)(theta)
    return (weights[..., None] * gradients).flatten(0, 1).detach()
