"""What the dimension ``class`` holds: classes, or groups of examples or positions by another name."""

from __future__ import annotations

import xarray as xr

from lcakit.text import printable

__all__ = ["CLASS", "class_kind", "plural"]


def __dir__() -> list[str]:
    return __all__


CLASS = "class"
"""The word where a file does not say another."""


def class_kind(ds: xr.Dataset | xr.DataArray, *, many: bool = False) -> str:
    """Return the word for an entry of the dimension ``class`` of a trajectory, from its attribute ``class_kind``.

    Views and texts say this word. The dimension itself keeps its name.

    Parameters
    ----------
    many
        Return the plural.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory()
    >>> class_kind(ds), class_kind(ds.assign_attrs(class_kind="part of speech"), many=True)
    ('class', 'parts of speech')
    """
    word = printable(str(ds.attrs.get("class_kind", "")), 40) or CLASS
    return plural(word) if many else word


def plural(word: str) -> str:
    """Return the plural of an English noun that is regular.

    Examples
    --------
    >>> [plural(word) for word in ("class", "domain", "category", "token group")]
    ['classes', 'domains', 'categories', 'token groups']
    """
    noun, of, rest = word.partition(" of ")
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        noun = f"{noun[:-1]}ies"
    elif noun.endswith(("s", "x", "ch", "sh")):
        noun = f"{noun}es"
    else:
        noun = f"{noun}s"
    return noun + of + rest
