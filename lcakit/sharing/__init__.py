"""Send one, trust one: validation, description, citation, compact copies, fetching, and importers of other formats."""

from __future__ import annotations

from lcakit.packages import faces

_PUBLIC = {
    "cite": "lcakit.sharing.citation",
    "describe": "lcakit.sharing.describe",
    "fetch": "lcakit.sharing.fetching",
    "share": "lcakit.sharing.copies",
    "validate": "lcakit.sharing.validation",
}
__all__ = [*_PUBLIC]

__getattr__, __dir__ = faces(__name__, _PUBLIC)
