"""The path integral of one move, piece by piece: formed in float64; only what is stored is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lcakit.record.allocation.axis_blocks import Piece
from lcakit.trajectory.labels import Labels

__all__ = ["Integral", "Integrator", "Needed", "Terms", "UnitIntegrator", "is_finite"]


def __dir__() -> list[str]:
    return __all__


Terms = list[tuple[float, Any]]
"""Weights and sums of gradients, each as :meth:`Integrator.along` gave it."""


@dataclass(frozen=True)
class Needed:
    """What of an integral is needed: A of each parameter, that by class, and the sums over units."""

    lca: bool = True
    by_class: bool = False
    units: bool = False


@dataclass
class Integral:
    """What was needed, and the sum of all: ``lca`` (K,) and ``by_class`` (C, K) float32, ``units`` (C, U) float64."""

    lca: torch.Tensor | None
    by_class: torch.Tensor | None
    units: torch.Tensor | None
    sum: float = 0.0


class Integrator:
    """Sums along the pieces of one parameter axis; ``height`` is C, or None where gradients are not by class."""

    def __init__(self, labels: Labels, pieces: Sequence[Piece], height: int | None, needed: Needed) -> None:
        self._labels, self._pieces, self._height, self._needed = labels, pieces, height, needed
        self._buffer = torch.empty(0, dtype=torch.float64)

    def along(self, gradient: torch.Tensor, here: torch.Tensor, there: torch.Tensor, total: torch.Tensor | None) -> Any:
        """Return what of a gradient (K,) or (C, K) the integral of this move needs: here all of it.

        ``total`` is its sum over classes, where that is known.
        """
        return gradient

    def add(self, a: Any, b: Any) -> Any:
        """Return the sum of what :meth:`along` gave of two gradients, in float64; it may overwrite ``a``."""
        return a.to(torch.float64).add_(b)

    def integrate(self, terms: Terms, here: torch.Tensor, there: torch.Tensor) -> Integral:
        """Return Σ weight · gradient · Δθ."""
        out = self._empty(terms[0][1])
        for piece in self._pieces:
            at = piece.columns
            parts = self._weighted(terms, piece, _delta(here, there, at))
            total = parts if self._height is None else parts.sum(0)
            out.sum += float(total.sum())
            if out.lca is not None:
                out.lca[at] = total
            if out.by_class is not None:
                out.by_class[:, at] = parts
            if out.units is not None:
                piece.add_unit_sums(parts[None] if self._height is None else parts, out.units)
        return out

    def _empty(self, like: torch.Tensor) -> Integral:
        """Return room for what is needed."""
        single, shape = torch.float32, (self._height or 1, self._labels.n_units)
        return Integral(
            like.new_empty(like.shape[-1], dtype=single) if self._needed.lca else None,
            like.new_empty(like.shape, dtype=single) if self._needed.by_class else None,
            like.new_zeros(shape, dtype=torch.float64) if self._needed.units else None,
        )

    def _weighted(self, terms: Terms, piece: Piece, delta: torch.Tensor) -> torch.Tensor:
        """Write Σ weight · gradient · Δθ of a piece to the buffer, in as few passes as there are terms."""
        (first, value), *rest = terms
        parts = self._room(value, piece.width).copy_(value[..., piece.columns])
        for weight, value in rest:
            parts.add_(value[..., piece.columns], alpha=weight / first)
        return parts.mul_(delta * first)

    def _room(self, like: torch.Tensor, width: int) -> torch.Tensor:
        """Return the buffer for a piece: its memory is mapped once, not anew for each."""
        shape = (*like.shape[:-1], width)
        if self._buffer.numel() < math.prod(shape):
            self._buffer = like.new_empty(math.prod(shape), dtype=torch.float64)
        return self._buffer[: math.prod(shape)].view(shape)

    def between(self, here: torch.Tensor, there: torch.Tensor, s: float, dtype: torch.dtype) -> torch.Tensor:
        """Return the point at the fraction s of the way, formed in float64."""
        out = torch.empty_like(here, dtype=dtype)
        for at in (piece.columns for piece in self._pieces):
            out[at] = here[at].to(torch.float64) + s * _delta(here, there, at)
        return out

    def first_order(self, gradient: torch.Tensor, here: torch.Tensor, there: torch.Tensor) -> float:
        """Return Σ gradient · Δθ, of a gradient (K,)."""
        places = [piece.columns for piece in self._pieces]
        return sum(float(gradient[at].to(torch.float64) @ _delta(here, there, at)) for at in places)

    def over_classes(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return a gradient (K,), summed over classes in float64 where it is by class."""
        if self._height is None:
            return gradient
        out = gradient.new_empty(gradient.shape[-1], dtype=torch.float64)
        for piece in self._pieces:
            part = gradient[:, piece.columns]
            # a sum that converts by itself takes twice as long as a copy and a sum
            torch.sum(self._room(part, piece.width).copy_(part), 0, out=out[piece.columns])
        return out

    def layer_counts(self, lca: torch.Tensor) -> np.ndarray:
        """Return how many parameters of each layer help, and how many hurt: (2, layers)."""
        counts = torch.zeros((2, len(self._labels.layers)), dtype=torch.int64, device=lca.device)
        for part in (part for piece in self._pieces for part in piece.parts):
            values = lca[part.columns]
            counts[0, part.layer] += (values < 0).sum()
            counts[1, part.layer] += (values > 0).sum()
        return counts.cpu().numpy()


@dataclass(frozen=True)
class _Summed:
    """A gradient by class along one move: over classes (K,), and Σ gradient · Δθ of each class and unit (C, U)."""

    total: torch.Tensor
    units: torch.Tensor


class UnitIntegrator(Integrator):
    """The same, for a large network of which nothing by class and parameter is stored.

    A gradient by class, (C, K), is summed over units as soon as it is there, and makes room for the next. (For small
    networks that takes longer than to sum once, when the terms are added up.)
    """

    def __init__(self, labels: Labels, pieces: Sequence[Piece], height: int, needed: Needed) -> None:
        super().__init__(labels, pieces, height, needed)
        self._plain = Integrator(labels, pieces, None, Needed(lca=needed.lca))

    def along(
        self, gradient: torch.Tensor, here: torch.Tensor, there: torch.Tensor, total: torch.Tensor | None
    ) -> _Summed:
        """Return its sums over classes and over units."""
        units = gradient.new_zeros((len(gradient), self._labels.n_units), dtype=torch.float64)
        for piece in self._pieces:
            parts = self._weighted([(1.0, gradient)], piece, _delta(here, there, piece.columns))
            piece.add_unit_sums(parts, units)
        return _Summed(self.over_classes(gradient) if total is None else total, units)

    def add(self, a: _Summed, b: _Summed) -> _Summed:
        """Return the sum of what :meth:`along` gave of two gradients; it overwrites ``a``."""
        return _Summed(a.total.add_(b.total), a.units.add_(b.units))

    def integrate(self, terms: Terms, here: torch.Tensor, there: torch.Tensor) -> Integral:
        """Return Σ weight · gradient · Δθ."""
        out = self._plain.integrate([(weight, value.total) for weight, value in terms], here, there)
        out.units = torch.stack([weight * value.units for weight, value in terms]).sum(0)
        return out


def is_finite(values: torch.Tensor) -> bool:
    """Say whether all of (K,) float32 is finite: then their sum in float64 is, and in one pass without a copy."""
    return math.isfinite(float(values.sum(dtype=torch.float64)))


def _delta(here: torch.Tensor, there: torch.Tensor, at: slice) -> torch.Tensor:
    return there[at].to(torch.float64) - here[at].to(torch.float64)
