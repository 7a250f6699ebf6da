"""The selection in the address of a page: a link opens the same view, and the browser's back button works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import panel as pn
from bokeh.models import CustomJS
from bokeh.models.widgets import TextInput

from lcakit.text import printable
from lcakit.views.explorer.live import FIELDS, LiveSelection

__all__ = ["Address", "asked", "asked_files", "first_query", "query"]


def __dir__() -> list[str]:
    return __all__


_MOST_FIELDS = 2_000
_LISTS = ("configurations", "layers", "classes")
_FILE = "file"
_NUMBERS = ("iteration", "unit")
_READY = """
const here = () => window.location.search;
const go = (how) => window.history[how]({}, "", window.location.pathname + shown.value + window.location.hash);
let timer = 0;
if (shown.value !== here()) go("replaceState");
shown.properties.value.change.connect(() => {
  clearTimeout(timer);
  timer = setTimeout(() => { if (shown.value !== here()) go("pushState"); }, 400);
});
opened.properties.value.change.connect(() => { window.location.search = opened.value; });
window.addEventListener("popstate", () => { clearTimeout(timer); asked.value = here(); });
"""


def query(live: LiveSelection, usual: dict[str, Any]) -> str:
    """Return the fields of a selection that are not as usual, as the query of an address; empty if all are."""
    pairs: list[tuple[str, str]] = []
    for field in FIELDS:
        value = getattr(live, field)
        if value == usual[field]:
            continue
        if field in _LISTS:
            pairs += [(field, name) for name in value] or [(field, "")]
        else:
            text = "{}-{}".format(*value) if field == "window" else str(int(value) if field == "whole" else value)
            pairs.append((field, text))
    return f"?{urlencode(pairs, quote_via=quote)}" if pairs else ""


def asked(text: str) -> dict[str, Any]:
    """Return the fields that the query of an address asks for; what is no field, or no number, is left out."""
    try:
        found = parse_qs(text.removeprefix("?"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}
    out: dict[str, Any] = {}
    for field in FIELDS:
        if field in _LISTS and field in found:
            out[field] = [name for name in found[field] if name]
        elif field in found:
            value = _value(field, found[field][0])
            out |= {} if value is None else {field: value}
    return out


def _value(field: str, text: str) -> Any:
    if field == "whole":
        return text == "1"
    if field == "window":
        first, _, last = text.partition("-")
        return (int(first), int(last)) if _is_number(first) and _is_number(last) else None
    if field in _NUMBERS:
        return int(text) if _is_number(text) else None
    return text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16


class Address:
    """The address of a served page; hidden models carry it to the browser and back.

    Parameters
    ----------
    live
        The selection.
    went
        Called after the user went back or forward, with the fields that the address then asks for.
    files
        Names of the files that the page shows, if they are not those that were given.
    """

    def __init__(self, live: LiveSelection, went: Callable[[dict[str, Any]], None], files: Sequence[str] = ()) -> None:
        self._live, self._files = live, list(files)
        self.usual = {field: getattr(live, field) for field in FIELDS}
        make: Any = TextInput
        self._shown, self._asked, self._opened = (make(value="", visible=False) for _ in range(3))
        self._asked.on_change("value", lambda attr, old, new: went(self.usual | asked(new)))
        hidden = (self._shown, self._asked, self._opened)
        self.panel = pn.Column(*map(pn.pane.Bokeh, hidden), visible=False)

    def connect(self, document: Any) -> None:
        """Let the browser follow the models, once the page is there."""
        models = {"shown": self._shown, "asked": self._asked, "opened": self._opened}
        script = CustomJS(args=models, code=_READY)
        document.js_on_event("document_ready", script)

    def write(self) -> None:
        """Put the selection into the address."""
        now = _with_files(self._files, query(self._live, self.usual))
        if self._shown.value != now:
            self._shown.value = now

    def open(self, *names: str) -> None:
        """Let the browser leave this page for that of other files; none for those that were given."""
        self._opened.value = _with_files(names, "") or "?"


def _with_files(names: Sequence[str], rest: str) -> str:
    """Return a query that names files first."""
    if not names:
        return rest
    return f"?{urlencode([(_FILE, name) for name in names], quote_via=quote)}{rest.replace('?', '&', 1)}"


def asked_files(document: Any) -> list[str]:
    """Return the names of the files that a served page was asked for with."""
    try:
        found = parse_qs(first_query(document).removeprefix("?"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        return []
    return found.get(_FILE, [])


def first_query(document: Any) -> str:
    """Return the query that a served page was asked for with."""
    request = document.session_context.request
    return "" if request is None else str(getattr(request, "query", "") or _rebuilt(request.arguments))


def _rebuilt(arguments: dict[str, list[bytes]]) -> str:
    pairs = [(name, value.decode("utf-8", "replace")) for name, values in arguments.items() for value in values]
    return urlencode(pairs, quote_via=quote)


def refusal(field: str, value: Any) -> str:
    """Return the sentence about a field of a link that does not fit the file."""
    return f"The link asks for {field} {printable(value, 60)!r}, which this file does not have."
