"""Text from a file: names and attributes, made harmless before anything is done with them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lcakit.guard.blocks import CorruptError

MOST_LETTERS = 1000
"""Of a name, or of an attribute of the format."""

MOST_ATTRIBUTE = 2**20
"""Of any other attribute; what is longer belongs into a variable."""

MOST_ROWS = 32_768
"""Of a table of names. The largest networks have some ten thousand tensors."""

NUMBERS = ("n_examples", "evaluation_batch_size", "tolerance", "max_splits", "every", "seed", "keepbits", "partial")
TEXTS = (
    "Conventions",
    "schema_version",
    "created_at",
    "creator",
    "loss_name",
    "loss_unit",
    "norm_mode",
    "rule",
    "precision",
    "sign_convention",
    "data_fingerprint",
    "model_fingerprint",
    "device",
    "torch_version",
    "classes",
    "optimizers",
    "keep",
    "statistics",
    "allocate",
    "resolution",
)

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
    unseen = [unicodedata.category(c) in _UNSEEN or ord(c) in _TURNS for c in text]
    return "".join(_escape(c) if hidden else c for c, hidden in zip(text, unseen, strict=True))


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def clean_names(values: np.ndarray, what: str) -> np.ndarray:
    """Return a table of names with control characters made visible; values that are no text are returned as they are.

    Raises
    ------
    CorruptError
        For names that are no text, too long, or too many.
    """
    if values.size > MOST_ROWS:
        raise CorruptError(f"{what!r} has {values.size:,} names; at most {MOST_ROWS:,} are read")
    names = values.ravel().tolist()
    if not all(isinstance(name, str) for name in names):
        raise CorruptError(f"{what!r} holds {type(names[0]).__name__} where names are expected")
    longest = max(map(len, names), default=0)
    if longest > MOST_LETTERS:
        raise CorruptError(f"{what!r} has a name of {longest:,} letters; at most {MOST_LETTERS:,} are read")
    if all(name.isprintable() for name in names):
        return values
    return np.array([visible(name) for name in names], values.dtype if values.dtype == object else None).reshape(
        values.shape
    )


def clean_attributes(attrs: Mapping[Any, Any], suffixes: Iterable[str] = ()) -> dict[str, Any]:
    """Return attributes with control characters made visible (line breaks and tabs stay).

    Raises
    ------
    CorruptError
        Where an attribute of the format is of the wrong type, or any is longer than it may be.
    """
    forms = {f"{name}_{suffix}": name for name in (*NUMBERS, *TEXTS) for suffix in suffixes}
    return {str(name): _clean(forms.get(name, str(name)), str(name), value) for name, value in attrs.items()}


def _clean(form: str, name: str, value: Any) -> Any:
    where, got = f"attribute {printable(name, 80)!r}", printable(repr(value), 80)
    if form in NUMBERS and (not isinstance(value, int | float | np.number) or not np.isfinite(value)):
        raise CorruptError(f"{where} is {got}; a number is expected")
    if form in TEXTS and not isinstance(value, str):
        raise CorruptError(f"{where} is {got}; text is expected")
    values = [value] if isinstance(value, str) else np.ravel(np.asarray(value, object)).tolist()
    length = sum(len(v) for v in values if isinstance(v, str))
    most = MOST_LETTERS if form in TEXTS else MOST_ATTRIBUTE
    if length > most:
        raise CorruptError(f"{where} has {length:,} letters; at most {most:,} are read")
    if isinstance(value, str):
        return visible(value, "\n\t")
    return [visible(str(v), "\n\t") for v in values] if length else value
