"""Long names in tables go on in the next line after a dot or an underscore, not in the middle of a word."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

__all__ = ["breakable", "setup"]


def breakable(page: str) -> str:
    """Return the HTML of a page with places to break the code in its tables; nothing of them is copied.

    Examples
    --------
    >>> breakable('<table><span class="pre">lk.plot.unit_map</span></table>')
    '<table><span class="pre">lk.<wbr>plot.<wbr>unit_<wbr>map</span></table>'
    """
    return re.sub(
        r"<table.*?</table>", lambda table: re.sub(r'(?<=<span class="pre">)[^<]*', _broken, table[0]), page, flags=re.S
    )


def _broken(name: re.Match[str]) -> str:
    return re.sub(r"(?<=[._])(?=\w)", "<wbr>", name[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Let Sphinx do it to every page."""

    def page(_app: Sphinx, _name: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
        if "body" in context:
            context["body"] = breakable(context["body"])

    app.connect("html-page-context", page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
