"""Colours of signed numbers that span many powers of ten: a signed logarithm, in which only zero is white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcakit.plot._colours import NOTHING, neutral_cmap, sign_cmap

__all__ = ["GAP", "INK", "LEVELS", "LIGHT", "MIDDLE", "PAPER", "ZERO", "SignedLog", "palette", "scale_of"]


def __dir__() -> list[str]:
    return __all__


LEVELS = 125
"""Steps of colour on each side of zero."""
ZERO, GAP, INK, MIDDLE, LIGHT, PAPER = LEVELS, 251, 252, 253, 254, 255
"""Codes: 0 … 250 stand for numbers, the others for gaps and for the greys that text is painted in."""
_GREYS = {GAP: NOTHING, INK: "#1d2329", MIDDLE: "#6b7075", LIGHT: "#b9bcbe", PAPER: "#ffffff"}
_WEAK = 10.0
"""Percentile of the magnitudes below which colours fade to white."""
_SAMPLE = 1_000_000
_MOST_TICKS = 3
_CLEAR = 0.12
"""Smallest distance of a tick from zero, as a share of half the colour bar."""


@dataclass(frozen=True)
class SignedLog:
    r"""Codes of numbers, by their sign and the logarithm of their magnitude.

    .. math:: s(v) = \operatorname{sign}(v) \, \frac{\log(1 + |v| / w)}{\log(1 + m / w)}, \qquad
              code = 125 + \operatorname{sign}(v) \lceil 125 \, |s(v)| \rceil

    Rounding is away from zero, so white is exactly zero, however small a number is.

    Attributes
    ----------
    weak
        w: about here the scale turns from linear to logarithmic.
    limit
        m: the largest magnitude.
    """

    weak: float
    limit: float

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return codes (uint8) of values; NaN and infinity become gaps."""
        values = np.asarray(values, np.float64)
        share = np.log1p(np.abs(values) / self.weak) / np.log1p(self.limit / self.weak)
        known = np.isfinite(share)
        levels = np.minimum(np.ceil(np.where(known, share, 0) * LEVELS * (1 - 1e-12)), LEVELS)
        return np.where(known, ZERO + np.sign(np.where(known, values, 0)) * levels, GAP).astype(np.uint8)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return, for each code, the number of largest magnitude that has it; NaN for a gap."""
        levels = np.asarray(codes, np.float64) - ZERO
        values = np.sign(levels) * self.weak * np.expm1(np.abs(levels) / LEVELS * np.log1p(self.limit / self.weak))
        return np.where(np.asarray(codes) <= 2 * LEVELS, values, np.nan)

    def ticks(self) -> list[tuple[float, str]]:
        """Return places from -1 to 1 on a colour bar, and their numbers: powers of ten on both sides of zero."""
        powers = np.arange(np.ceil(np.log10(self.weak)), np.floor(np.log10(self.limit)) + 1)
        powers = powers[::-1][:: max(1, -(-len(powers) // _MOST_TICKS))]
        places = np.log1p(10.0**powers / self.weak) / np.log1p(self.limit / self.weak)
        right = [(float(x), _power(int(p))) for x, p in zip(places, powers, strict=True) if x > _CLEAR]
        return sorted([(0.0, "0"), *right, *((-x, f"−{text}") for x, text in right)])


def _power(p: int) -> str:
    return f"{10.0**p:g}" if -2 <= p <= 2 else f"1e{p}"


def scale_of(values: np.ndarray) -> SignedLog:
    """Return the scale that shows all of these values; if all are zero, any scale."""
    limit = float(np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values)))
    if limit == 0:
        return SignedLog(0.1, 1.0)
    sample = np.abs(values.ravel()[:: max(1, values.size // _SAMPLE)])
    some = sample[np.isfinite(sample) & (sample > 0)]
    weak = float(np.percentile(some, _WEAK)) if some.size else limit
    return SignedLog(min(max(weak, 1e-6 * limit), 0.1 * limit), limit)


def palette(helps: bool) -> list[str]:
    """Return the colour of each of the 256 codes."""
    colours = sign_cmap(n=2 * LEVELS + 1) if helps else neutral_cmap(2 * LEVELS + 1)
    return [*colours, *_GREYS.values()]
