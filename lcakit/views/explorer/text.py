"""The text of the explorer: numbers with their units, and names from files made harmless."""

from __future__ import annotations

from collections.abc import Sequence

from lcakit.trajectory.class_kind import class_kind
from lcakit.views.explorer.model import Model, Summary
from lcakit.views.explorer.names import safe
from lcakit.views.explorer.overlaid import Curve
from lcakit.views.explorer.selection import ALL, Selection

__all__ = [
    "UNFINISHED",
    "all_classes",
    "at",
    "by_parameter",
    "count",
    "facts",
    "heading",
    "join_names",
    "kind",
    "means",
    "number",
    "of_classes",
    "of_what",
    "plain_number",
    "require_choice",
    "require_class",
    "span",
    "summary",
    "when",
]


def __dir__() -> list[str]:
    return __all__


_MOST_NAMES = 4


def require_choice(model: Model, selection: Selection, layers: bool = True) -> None:
    """Raise ValueError, with a message for the user, if there is no LCA or nothing to sum it over is chosen."""
    if not model.has_lca:
        raise ValueError("This file holds no LCA. Allocate it: lk.allocate(file, objective), or lcakit allocate FILE.")
    if layers and not selection.layers:
        raise ValueError("Choose at least one layer.")
    require_class(model, selection)


def number(value: float) -> str:
    """Return a number with its sign and four digits, a minus sign as wide as a plus."""
    return f"{value:+.4g}".replace("-", "−")


def plain_number(value: float) -> str:
    """Return a number with four digits, without a plus sign."""
    return f"{value:.4g}".replace("-", "−")


def join_names(names: Sequence[str], every: Sequence[str], kind: str) -> str:
    """Return names as text: ``all 10 layers``, or the first few."""
    if len(every) > 1 and set(names) == set(every):
        return f"all {len(every)} {kind}"
    shown = ", ".join(safe(name) for name in names[:_MOST_NAMES])
    rest = len(names) - _MOST_NAMES
    return f"{kind} {shown}{f' and {rest} more' if rest > 0 else ''}"


def span(model: Model, window: tuple[int, int]) -> str:
    """Return the labels of a span of iterations."""
    first, last = (int(model.iterations[n]) for n in window)
    return f"iteration {first}" if first == last else f"iterations {first} to {last}"


def when(model: Model, selection: Selection) -> str:
    """Return which iterations a map shows."""
    return span(model, selection.window if selection.whole else (selection.iteration, selection.iteration))


def at(model: Model, selection: Selection) -> str:
    """Return the current iteration as text."""
    return span(model, (selection.iteration, selection.iteration))


def kind(model: Model, *, many: bool = False) -> str:
    """Return the word for the classes of a file."""
    return safe(class_kind(model.ds, many=many))


def of_classes(model: Model, selection: Selection) -> str:
    """Return the classes that sums over layers cover, as text; empty if the file has none."""
    if not model.classes:
        return f"role {safe(selection.role)}" if selection.role != ALL else ""
    if selection.role != ALL and not model.by_class:
        return f"role {safe(selection.role)} in all {kind(model, many=True)}"
    names = join_names(selection.classes, model.classes, kind(model, many=True))
    return names if selection.role == ALL else f"role {safe(selection.role)} in {names}"


def all_classes(model: Model, selection: Selection) -> str:
    """Return a note for a number that covers all classes although only some are chosen; else nothing."""
    return "" if model.by_class or not _some(model, selection) else f" (all {kind(model, many=True)})"


def _some(model: Model, selection: Selection) -> bool:
    return set(selection.classes) != set(model.classes)


def by_parameter(model: Model, selection: Selection) -> str:
    """Return which classes a picture of single parameters is of, as a sentence; empty if all are chosen."""
    if not _some(model, selection):
        return ""
    many = kind(model, many=True)
    if model.by_class:
        return f" {join_names(selection.classes, model.classes, many).capitalize()}."
    return f' For single {many}, record with classes="parameter".'


def require_class(model: Model, selection: Selection) -> None:
    """Raise ValueError, with a message for the user, if no class is chosen."""
    if model.classes and not selection.classes:
        raise ValueError(f"Choose at least one {kind(model)}.")


def count(n: int, what: str) -> str:
    """Return a number of things: ``1 unit``, ``2 units``."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def means(curves: Sequence[Curve], unit: str) -> str:
    """Return the last values of curves of runs: means with their intervals, or single runs."""
    parts = []
    for one in curves[:_MOST_NAMES]:
        words = f"{safe(one.name)} <b>{number(one.y[-1])}</b>"
        if one.low is not None and one.high is not None:
            words += f" (95 % interval {number(one.low[-1])} to {number(one.high[-1])}, {one.runs} runs)"
        parts.append(words)
    more = f" and {len(curves) - _MOST_NAMES} more" if len(curves) > _MOST_NAMES else ""
    return f"{', '.join(parts)}{more} {safe(unit)}"


def of_what(model: Model, selection: Selection) -> str:
    """Return the layers, classes and role that sums cover, as text."""
    parts = join_names(selection.layers, model.layers, "layers"), of_classes(model, selection)
    return ", ".join(part for part in parts if part)


def heading(title: str, sentence: str) -> str:
    """Return the text above a view."""
    return f'<div class="lk-view"><b>{title}</b> <span>{sentence}</span></div>'


def summary(model: Model, selection: Selection, found: Summary) -> str:
    """Return the line of numbers beside the pictures."""
    where = f"{span(model, selection.window).capitalize()}; {of_what(model, selection)}"
    lca = "no LCA on file" if found.lca is None else f"sum of LCA <b>{number(found.lca)} {safe(model.unit)}</b>"
    return f"{where}: {lca} · {_loss(model, found)} · {_helping(model, selection, found)}."


def _loss(model: Model, found: Summary) -> str:
    unit = safe(model.unit)
    if found.loss_change_all is None:
        return "no loss on file"
    if found.loss_change is None or found.loss_change == found.loss_change_all:
        return f"change of the loss <b>{number(found.loss_change_all)} {unit}</b>"
    many = kind(model, many=True)
    of_these = f"{many}'" if many.endswith("s") else f"{many}'s"
    part = f"change of these {of_these} part of the loss <b>{number(found.loss_change)} {unit}</b>"
    return f"{part} (of the whole loss {number(found.loss_change_all)})"


def _helping(model: Model, selection: Selection, found: Summary) -> str:
    if found.helping is None:
        return f"share of parameters that help not known ({found.no_helping})"
    return f"of the moving parameters <b>{100 * found.helping:.2f} %</b> help{all_classes(model, selection)}"


UNFINISHED = ' <b class="lk-partial">This recording is not finished: what is on disk so far is shown.</b>'


def facts(model: Model, runs: int) -> str:
    """Return what a file holds in one line."""
    sizes = model.ds.sizes
    parts = [f"{runs} runs of"] if runs > 1 else []
    parts += [f"{sizes['iteration']:,} iterations,"]
    parts += [f"{sizes['parameter']:,} parameters," if model.has_parameters else "no single parameters (compact copy),"]
    parts += [f"{len(model.layers)} layers,", f"{len(model.classes) or 'no'} {kind(model, many=True)};"]
    parts += [f"loss {safe(model.ds.attrs.get('loss_name', 'loss'))} in {safe(model.unit)}."]
    return " ".join(parts)
