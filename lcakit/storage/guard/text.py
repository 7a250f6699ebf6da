"""Names and attributes from a file: checked for type and length, and made safe to print, before anything uses them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lcakit.storage.guard.blocks import CorruptError
from lcakit.text import printable, visible

__all__ = ["MOST_LETTERS", "clean_attributes", "clean_names"]


def __dir__() -> list[str]:
    return __all__


MOST_LETTERS = 1000
"""Most letters of a name, or of an attribute of the format."""

_MOST_ATTRIBUTE = 2**20
"""Most letters of any other attribute; longer text belongs in a variable."""

_MOST_ROWS = 32_768
"""Most rows of a table of names. The largest networks have some ten thousand tensors."""

_NUMBERS = (
    "n_examples",
    "evaluation_batch_size",
    "tolerance",
    "max_splits",
    "every",
    "seed",
    "keepbits",
    "partial",
    "noise_seed",
)
_TEXTS = (
    "Conventions",
    "schema_version",
    "created_at",
    "creator",
    "loss_name",
    "loss_unit",
    "norm_mode",
    "class_kind",
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


def clean_names(values: np.ndarray, what: str) -> np.ndarray:
    r"""Return a table of names with control characters made visible.

    Raises
    ------
    CorruptError
        For names that are not text, too long, or too many.

    Examples
    --------
    >>> clean_names(np.array(["fc1", "fc2\x1b[2J"]), "layer").tolist()
    ['fc1', 'fc2\\x1b[2J']
    """
    if values.size > _MOST_ROWS:
        raise CorruptError(f"{what!r} has {values.size:,} names; at most {_MOST_ROWS:,} are read")
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

    Parameters
    ----------
    suffixes
        Of further objectives: their attributes (``loss_unit_val``) are checked like those of the format.

    Raises
    ------
    CorruptError
        Where an attribute of the format is of the wrong type, or any is longer than allowed.

    Examples
    --------
    >>> clean_attributes({"seed": "zero"})
    Traceback (most recent call last):
    ...
    lcakit.storage.guard.blocks.CorruptError: attribute 'seed' is 'zero'; a number is expected
    """
    forms = {f"{name}_{suffix}": name for name in (*_NUMBERS, *_TEXTS) for suffix in suffixes}
    return {str(name): _clean(forms.get(name, str(name)), str(name), value) for name, value in attrs.items()}


def _clean(form: str, name: str, value: Any) -> Any:
    where, got = f"attribute {printable(name, 80)!r}", printable(repr(value), 80)
    if form in _NUMBERS and (not isinstance(value, int | float | np.number) or not np.isfinite(value)):
        raise CorruptError(f"{where} is {got}; a number is expected")
    if form in _TEXTS and not isinstance(value, str):
        raise CorruptError(f"{where} is {got}; text is expected")
    values = [value] if isinstance(value, str) else np.ravel(np.asarray(value, object)).tolist()
    length = sum(len(v) for v in values if isinstance(v, str))
    most = MOST_LETTERS if form in _TEXTS else _MOST_ATTRIBUTE
    if length > most:
        raise CorruptError(f"{where} has {length:,} letters; at most {most:,} are read")
    if isinstance(value, str):
        return visible(value, "\n\t")
    return [visible(str(v), "\n\t") for v in values] if length else value
