"""Formulas as MathML, which browsers draw by themselves: no script, no fonts, no network."""

from __future__ import annotations

import re
from typing import Any

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

SYNONYMS = {
    r"\dots": r"\ldots ",
    r"\big": "",  # sizes of brackets: browsers stretch them
    r"\Big": "",
    "∂": r"\partial ",
    "∇": r"\nabla ",
    "∩": r"\cap ",
    "⊂": r"\subset ",
    "∈": r"\in ",
    "×": r"\times ",
    "…": r"\ldots ",
}
"""Commands and letters that docutils does not know, and what to write instead."""


def _inline(writer: Any, node: Any) -> None:
    writer.body.append(tex2mathml(_known(node.astext())))
    raise SkipNode


def _block(writer: Any, node: Any) -> None:
    writer.body.append(f'<div class="math-block">{tex2mathml(_known(node.astext()), as_block=True)}</div>')
    raise SkipNode


def _known(formula: str) -> str:
    for command, synonym in SYNONYMS.items():
        pattern = re.escape(command) + (r"(?![a-z])" if command.startswith("\\") else "")
        formula = re.sub(pattern, lambda _, text=synonym: text, formula)
    return rf"\begin{{aligned}}{formula}\end{{aligned}}" if r"\\" in formula else formula


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
