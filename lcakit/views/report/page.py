"""The page of a report as HTML: sections, groups of figures, and the controls that choose between them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from lcakit.text import capitalized
from lcakit.views.report.context import Group, Section
from lcakit.views.report.drawing import Drawn
from lcakit.views.report.style import CSS, SCRIPT
from lcakit.views.report.tables import text

__all__ = ["controls", "page", "section"]


def __dir__() -> list[str]:
    return __all__


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"
"""A browser loads nothing but what is inside the page."""


def page(title: str, lead: str, controls: str, parts: Sequence[tuple[str, str, str]]) -> str:
    """Return a whole page; ``parts`` are the anchors, titles and contents of its sections."""
    links = "".join(f'<li><a href="#{anchor}">{text(name)}</a></li>' for anchor, name, _ in parts)
    body = "".join(f'<section id="{a}"><h2>{text(name)}</h2>{content}</section>' for a, name, content in parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>{CSS}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header><h1>{text(title)}</h1>{lead}<nav aria-label="Contents"><ul>{links}</ul></nav></header>
{controls}
<main id="main">{body}</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def controls(layers: Sequence[str], classes: Sequence[str], kind: str) -> str:
    """Return the controls that choose a layer and a class for the whole page; empty if there is nothing to choose.

    ``kind`` is the word for a class.
    """
    parts = []
    if layers:
        parts.append(_choice("layer", "Layer", [("", "all, or the first"), *((name, name) for name in layers)]))
    if classes:
        parts.append(
            _choice("cls", text(capitalized(kind)), [("", "all together"), *((name, name) for name in classes)])
        )
    if not parts:
        return ""
    about = f'aria-label="What the figures show" data-kind="{text(kind)}"'
    return f'<form class="controls" {about} hidden>{"".join(parts)}</form>'


def _choice(name: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    shown = "".join(f'<option value="{text(value)}">{text(said)}</option>' for value, said in options)
    return f'<label>{label} <select name="{name}" autocomplete="off">{shown}</select></label>'


def section(one: Section, drawn: dict[int, list[Drawn]], kind: str) -> str:
    """Return the figures of a study, below its question; ``kind`` is the word for a class."""
    parts = [(part, drawn[id(part)]) for part in one.groups if part.figures]
    reasons = {figure.text for _, figures in parts for figure in figures if not figure.png}
    if len(reasons) == 1 and all(not figure.png for _, figures in parts for figure in figures):
        shown = f'<p class="missing">Not in this report: {text(*reasons)}</p>'
    else:
        shown = f'<div class="groups">{"".join(_group(*part, kind) for part in parts)}</div>'
    return f'<p class="question">{text(one.question)}</p>{shown}'


def _group(one: Group, figures: Sequence[Drawn], kind: str) -> str:
    """Return figures that are seen one at a time, or a sentence if the file allows none of them."""
    if all(not figure.png for figure in figures):
        why = text(figures[0].text)
        return f'<div class="group missing"><h3>{text(one.title)}</h3><p>Not in this report: {why}</p></div>'
    shown = "".join(_figure(one.title, figure, kind, hidden=n > 0) for n, figure in enumerate(figures))
    by = [kind for kind in ("layer", "cls") if len({getattr(figure, kind) for figure in figures}) > 1]
    wide = " wide" if one.wide else ""
    return f'<div class="group{wide}" data-by="{" ".join(by)}"><h3>{text(one.title)}</h3>{shown}</div>'


def _figure(title: str, figure: Drawn, kind: str, hidden: bool) -> str:
    of = [f"layer {figure.layer}"] * bool(figure.layer) + [f"{kind} {figure.cls}"] * bool(figure.cls)
    attributes = f'data-layer="{text(figure.layer)}" data-cls="{text(figure.cls)}"{" hidden" if hidden else ""}'
    if not figure.png:
        return f"<figure {attributes}><p>Not in this report: {text(figure.text)}</p></figure>"
    source = base64.b64encode(figure.png).decode("ascii")
    alt = text(", ".join([title, *of]) + ": " + figure.text)
    wide, high = figure.size
    image = f'<img width="{wide}" height="{high}" alt="{alt}" src="data:image/png;base64,{source}">'
    return f"<figure {attributes}>{image}<figcaption>{text(figure.text)}</figcaption></figure>"
