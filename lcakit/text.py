"""Text for a reader: values from files made printable, sizes and times in words."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

__all__ = ["capitalized", "format_bytes", "format_seconds", "parse_bytes", "printable", "visible", "with_error"]


def __dir__() -> list[str]:
    return __all__


_UNSEEN = ("Cc", "Cs", "Zl", "Zp")

_TURNS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C, 0x200E, 0x200F}
"""Letters that turn the direction of writing, and so the order of what one sees."""


def visible(text: str, keep: str = "") -> str:
    r"""Return text with control characters as escapes, such as ``\x1b``; those in ``keep`` stay."""
    if text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in ("Cc", "Cs") else _escape(c) for c in text)


def printable(value: Any, most: int = 200) -> str:
    r"""Return a value from a file as one short line that is safe to print: no control characters, no line breaks.

    Examples
    --------
    >>> printable("fc1\x1b[2J\nok")
    'fc1\\x1b[2J\\nok'
    >>> printable("a" * 10_000_000, 20)
    'aaaaaaaaaa…aaaaaaaaa'
    """
    text = str(value)
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"
    if text.isascii() and text.isprintable():
        return text
    unseen = [unicodedata.category(c) in _UNSEEN or ord(c) in _TURNS for c in text]
    return "".join(_escape(c) if hidden else c for c, hidden in zip(text, unseen, strict=True))


def with_error(value: float, error: float) -> str:
    """Return a measured value and its error, both to the second digit of the error.

    Examples
    --------
    >>> with_error(-4836.2, 549.0), with_error(0.011312, 0.00709), with_error(7.638e-05, 5.2e-06)
    ('-4840 ± 550', '0.0113 ± 0.0071', '7.64e-05 ± 5.2e-06')
    >>> with_error(0.5, math.nan), with_error(0.5, 0.0)
    ('0.5', '0.5 ± 0')
    """
    if not math.isfinite(value) or not math.isfinite(error):
        return "–" if math.isnan(value) else f"{value:.4g}"
    if error == 0:
        return f"{value:.4g} ± 0"
    place = int(f"{error:.1e}".partition("e")[2]) - 1  # of the last digit, as a power of ten
    if abs(value) >= 1e-4 or error >= 1e-4:
        return f"{round(value, -place):.{max(0, -place)}f} ± {round(error, -place):.{max(0, -place)}f}"
    first = int(f"{value:e}".partition("e")[2]) if value else place + 1
    return f"{value:.{max(0, first - place)}e} ± {error:.1e}"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def capitalized(text: str) -> str:
    """Return text with a capital at the beginning, the rest as it is.

    Examples
    --------
    >>> capitalized("token kinds of GPT")
    'Token kinds of GPT'
    """
    return text[:1].upper() + text[1:]


def parse_bytes(text: str | int) -> int:
    """Return a number of bytes: ``"20 GB"`` -> 20 000 000 000.

    Raises
    ------
    ValueError
        For text that is not a size.
    """
    if not isinstance(text, str):
        return int(text)
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([KMGT]?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f'a size is a number with B, KB, MB, GB or TB, such as "20 GB"; got {text!r}')
    return int(float(match[1]) * _UNITS[(match[2] or "B").upper()])


def format_bytes(n: float) -> str:
    """Return bytes as text: 888_000_000 -> ``888 MB``."""
    for unit in ("B", "KB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def format_range(least: float, most: float) -> str:
    """Return a range of times as text: 20, 200 -> ``20 s to 3 min 20 s``."""
    return f"{format_seconds(float(f'{least:.2g}'))} to {format_seconds(float(f'{most:.2g}'))}"


def format_seconds(seconds: float) -> str:
    """Return a time as text: 200 -> ``3 min 20 s``."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
