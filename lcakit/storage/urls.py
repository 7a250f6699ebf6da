"""Addresses: which path is a URL, which is a local path, and what it is called."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

__all__ = ["is_url", "local_path", "url_name"]


def __dir__() -> list[str]:
    return __all__


def is_url(source: str) -> bool:
    """Say whether a text is a URL (``https://…``, ``s3://…``, ``gs://…``), also a chained one of fsspec."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)", source) is not None


def local_path(url: str) -> str | None:
    """Return the path behind a ``file://`` URL, None for any other."""
    return unquote(urlsplit(url).path) if url.lower().startswith("file://") else None


def url_name(url: str) -> str:
    """Return the last part of a URL's path: the name of the file."""
    return unquote(urlsplit(url.rpartition("::")[2]).path).rstrip("/").rpartition("/")[2]
