"""Figures whose data change in place: a step of the player sends new columns, not a new picture.

They are plain Bokeh figures that follow the theme of their page: backgrounds are transparent, text and grids take its
colours (from Bokeh 3.8 on; with an older version they suit light pages).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import panel as pn
from bokeh.models import (
    BasicTicker,
    BoxSelectTool,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    PrintfTickFormatter,
    Range1d,
)
from bokeh.models.annotations import BoxAnnotation, ColorBar, Span
from bokeh.plotting import figure

from lcakit.plot._colours import GUIDE, NAMED, NOTHING, OTHERS
from lcakit.plot._marks import in_notebook
from lcakit.plot._raster import even_blocks, label_blocks, strongest
from lcakit.plot._tiles import tick_step
from lcakit.views.explorer.names import shown

__all__ = [
    "LETTERS",
    "LINES",
    "MOST_COLUMNS",
    "MOST_ROWS",
    "PAGE_COLOURS",
    "Heat",
    "axis_range",
    "block_at",
    "colours_of",
    "hover",
    "iteration_at",
    "legend_beside",
    "legend_inside",
    "marker",
    "over_time",
    "plain",
    "row_at",
    "set_ticks",
    "span_tool",
    "stacked",
    "steps",
    "strongest_lines",
    "theme",
]


def __dir__() -> list[str]:
    return __all__


LINES = NAMED
"""Colours of lines with names, legible on white and on black; those of ``lk.plot``."""
LETTERS = {"default": "#5a5a5a", "dark": "#c9c9c9", "notebook": "#767676"}
"""Colours of text in legends and colour bars, which do not follow the theme of a notebook."""
MOST_ROWS, MOST_COLUMNS = 640, 960
_MOST_TICKS = 12
_NAME_LETTERS = 22

PAGE_COLOURS = {"light": ("#333333", "#d8d8d8"), "dark": ("#e6e6e6", "#4a4f55")}
"""Colours of text and of lines on pages that define none."""


def theme() -> str:
    """Return the style of figures: the colours of JupyterLab or an editor where a page has them, or Panel's theme."""
    letters, lines = PAGE_COLOURS["dark" if pn.config.theme == "dark" else "light"]
    letters = f"var(--jp-ui-font-color1, var(--vscode-editor-foreground, {letters}))"
    lines = f"var(--jp-border-color2, {lines})"
    of_letters = ("axis-label-text", "major-label-text")
    of_lines = ("axis-line", "major-tick-line", "grid-line", "outline-line")
    colours = {**dict.fromkeys(of_letters, letters), **dict.fromkeys(of_lines, lines)}
    return ":host {" + "".join(f"--bk-{name}-color: {colour};" for name, colour in colours.items()) + "}"


def letters() -> str:
    """Return the colour of text in legends and colour bars."""
    return LETTERS["notebook" if in_notebook() else "dark" if pn.config.theme == "dark" else "default"]


def axis_range() -> Range1d:
    """Return the range of an axis, which is set once there is something to show."""
    return Range1d(start=0, end=1)


def plain(height: int, **options: Any) -> Any:
    """Return an empty figure that takes the width available and the theme of the page."""
    tools = {"tools": "reset", "toolbar_location": None} | options
    fig = figure(height=height, sizing_mode="stretch_width", min_border_right=8, stylesheets=[theme()], **tools)
    fig.background_fill_alpha = fig.border_fill_alpha = 0
    fig.axis.axis_label_text_font_style = "normal"
    fig.axis.axis_label_text_font_size = fig.axis.major_label_text_font_size = "9pt"
    fig.yaxis.formatter = PrintfTickFormatter(format="%.3g")
    fig.grid.grid_line_alpha = 0.5
    fig.axis.minor_tick_line_color = None
    fig.yaxis.ticker = BasicTicker(desired_num_ticks=max(2, height // 45), num_minor_ticks=0)
    return fig


def over_time(height: int, x_range: Range1d, label: str = "", y_label: str = "", **options: Any) -> Any:
    """Return a figure over iterations with a zero line."""
    fig = plain(height, x_range=x_range, **options)
    fig.xaxis.axis_label, fig.yaxis.axis_label = label or None, y_label or None
    fig.add_layout(Span(location=0, dimension="width", line_color=GUIDE, line_width=1, level="underlay"))
    return fig


def hover(tips: list[tuple[str, str]], renderers: list[Any], **options: Any) -> HoverTool:
    """Return what shows numbers where the mouse points, as printf writes them: Bokeh's own formats cut small ones."""
    printf: Any = {tip.partition("{")[0]: "printf" for _, tip in tips if "{%" in tip}
    return HoverTool(tooltips=tips, renderers=renderers, formatters=printf, **options)


def marker(fig: Any) -> Span:
    """Add the vertical line of the current iteration."""
    line = Span(location=0, dimension="height", line_color=GUIDE, line_width=2, line_dash="dashed")
    fig.add_layout(line)
    return line


def span_tool(fig: Any, chosen: Callable[[float, float], None]) -> BoxAnnotation:
    """Let a drag over a figure choose a span of iterations; return the shade that shows it."""
    tool = BoxSelectTool(dimensions="width", renderers=[])
    fig.add_tools(tool)
    fig.toolbar.active_drag = tool
    shade = BoxAnnotation(fill_color="#56B4E9", fill_alpha=0.15, line_color=None, level="underlay")
    fig.add_layout(shade)

    def selected(event: Any) -> None:
        if event.final and "x0" in event.geometry:
            chosen(float(event.geometry["x0"]), float(event.geometry["x1"]))

    fig.on_event("selectiongeometry", selected)
    return shade


# ---- lines and areas -------------------------------------------------------------------------------------------


def legend_beside(fig: Any) -> None:
    """Put the legend of a figure to its right, small and without a frame."""
    fig.add_layout(fig.legend[0], "right")
    legend_inside(fig)


def legend_inside(fig: Any) -> None:
    """Make the legend of a figure small and without a frame."""
    fig.legend[0].update(
        label_text_font_size="8.5pt",
        background_fill_alpha=0,
        border_line_alpha=0,
        spacing=0,
        padding=0,
        margin=4,
        glyph_width=20,
        glyph_height=14,
        label_text_color=letters(),
    )


def colours_of(places: Sequence[int], names: Sequence[str]) -> list[str]:
    """Return the colours of some of the classes or layers of a file: each has its own, whatever else is chosen."""
    return [LINES[place % len(LINES)] for place in places if place < len(names)]


def strongest_lines(
    names: Sequence[str], columns: np.ndarray, colours: Sequence[str], most: int = len(LINES)
) -> tuple[list[str], np.ndarray, list[str]]:
    """Return names, columns (time, line) and colours of at most ``most`` lines: the strongest, and the rest summed up.

    The strength of a line is the sum of its magnitudes. Lines keep their colours unless two would have the same.
    """
    texts = [shown(name, _NAME_LETTERS) for name in names]
    if len(texts) <= most:
        return texts, columns, _distinct(colours)
    order = np.argsort(-np.abs(columns).sum(0), kind="stable")
    best, rest = np.sort(order[: most - 1]), order[most - 1 :]
    joined = np.column_stack([columns[:, best], columns[:, rest].sum(1)])
    own = _distinct([colours[n] for n in best])
    return [*(texts[n] for n in best), f"{rest.size} others, summed"], joined, [*own, OTHERS]


def _distinct(colours: Sequence[str]) -> list[str]:
    """Return the colours, those that come a second time replaced by unused ones."""
    free = [one for one in LINES if one not in colours]
    out: list[str] = []
    for colour in colours:
        out.append(free.pop(0) if colour in out and free else colour)
    return out


def stacked(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper edges (time, line) of a stack: what is positive grows upwards, what is negative down."""
    up = np.cumsum(np.maximum(columns, 0), axis=1)
    down = np.cumsum(np.minimum(columns, 0), axis=1)
    positive = columns > 0
    lower = np.where(positive, up - np.maximum(columns, 0), down)
    upper = np.where(positive, up, down - np.minimum(columns, 0))
    return lower, upper


def steps(labels: np.ndarray, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Return corners along an axis, and the entry at each: every entry reaches to the next, the last to ``end``."""
    edges = np.append(np.asarray(labels, np.float64), end)
    return np.repeat(edges, 2)[1:-1], np.repeat(np.arange(len(labels)), 2)


# ---- heat maps -------------------------------------------------------------------------------------------------


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _power(limit: float) -> int:
    """Return the power of ten, a multiple of three, of the labels of a colour bar; 0 for sizes that are easily read."""
    if not np.isfinite(limit) or limit <= 0 or 0.01 <= limit < 10_000:
        return 0
    return int(3 * np.floor(np.log10(limit) / 3))


def _label(power: int) -> str:
    """Return the code that writes a label: three digits, in units of ten to a power."""
    return f'return String(parseFloat((tick * 1e{-power}).toPrecision(3))).replace("-", "\u2212")'


class Heat:
    """An image around zero with a colour bar, its first row on top; a pixel shows the strongest of its values."""

    def __init__(self, fig: Any) -> None:
        self.figure, self.unit = fig, ""
        self.source = ColumnDataSource({name: [] for name in ("image", "x", "y", "dw", "dh")})
        self.mapper = LinearColorMapper(palette=["#ffffff"], low=-1, high=1, nan_color=NOTHING)
        self.image = fig.image("image", "x", "y", "dw", "dh", source=self.source, color_mapper=self.mapper)
        self.labels = CustomJSTickFormatter(code=_label(0))
        self.bar = bar = ColorBar(
            color_mapper=self.mapper,
            width=10,
            ticker=BasicTicker(desired_num_ticks=5),
            formatter=self.labels,
            title_text_font_size="8.5pt",
            title_text_font_style="normal",
            title_text_color=letters(),
            background_fill_alpha=0,
            padding=4,
            major_label_text_color=letters(),
            major_label_text_font_size="8.5pt",
        )
        fig.add_layout(bar, "right")
        fig.add_tools(hover([("value", "@image{%.4g}")], [self.image]))
        fig.grid.visible = False
        fig.min_border_right = 24  # the labels of the bar grow after it has been placed
        fig.yaxis[0].ticker = FixedTicker(ticks=[])

    def show(self, values: np.ndarray, left: float, right: float, palette: list[str], limit: float) -> None:
        """Draw values (row, column): rows 0 … n from the top, columns evenly between ``left`` and ``right``."""
        blocks = even_blocks(values.shape[0], MOST_ROWS), even_blocks(values.shape[1], MOST_COLUMNS)
        image = strongest(values, blocks).astype(np.float32)
        self.mapper.update(low=-limit, high=limit)
        power = _power(limit)
        if self.labels.code != _label(power):
            self.labels.code = _label(power)
        unit = self.unit if not power else f"10{str(power).translate(_RAISED)} {self.unit}".strip()
        if self.bar.title != (unit or None):
            self.bar.title = unit or None
        if self.mapper.palette != palette:
            self.mapper.palette = palette
        rows = values.shape[0]
        self.source.data = {"image": [image[::-1]], "x": [left], "y": [0], "dw": [right - left], "dh": [rows]}
        self.figure.y_range.update(start=0, end=rows)

    def show_over_time(
        self, columns: np.ndarray, labels: np.ndarray, end: float, palette: list[str], limit: float
    ) -> None:
        """Draw values (time, row) over iterations with these labels, maybe uneven; the last reaches to ``end``."""
        blocks, (left, right) = label_blocks(labels, MOST_COLUMNS, end)
        values = strongest(columns, (blocks, even_blocks(columns.shape[1], columns.shape[1]))).T
        self.show(values, left, right, palette, limit)

    def name_rows(self, names: Sequence[str]) -> None:
        """Name the rows: all, or every so many."""
        step = tick_step(len(names), _MOST_TICKS)
        set_ticks(self.figure.yaxis[0], {len(names) - n - 0.5: names[n] for n in range(0, len(names), step)})


def set_ticks(axis: Any, names: dict[float, str]) -> None:
    """Name places on an axis that has a fixed ticker."""
    texts = {place: shown(name, _NAME_LETTERS) for place, name in names.items()}
    if texts != axis.major_label_overrides or list(texts) != axis.ticker.ticks:
        axis.ticker.ticks = list(texts)
        axis.major_label_overrides = texts


def block_at(n: int, pixels: int, place: int) -> slice:
    """Return which of n entries the pixel stands for that shows the one at a place."""
    blocks = even_blocks(n, pixels)
    first, after = blocks[np.searchsorted(blocks[:, 1], place, side="right")]
    return slice(int(first), int(after))


def row_at(y: float, rows: int) -> int | None:
    """Return the row of a heat map at a height, None outside."""
    row = rows - 1 - int(np.floor(y))
    return row if 0 <= row < rows else None


def iteration_at(labels: np.ndarray, x: float) -> int:
    """Return the position of the iteration at a place on the axis, the nearest where it is outside."""
    return int(np.clip(np.searchsorted(labels, x, side="right") - 1, 0, labels.size - 1))
