"""The player: a page that holds all frames as bytes, and a few lines of JavaScript that colour the current one."""

from __future__ import annotations

import base64
import html
import json

from lcakit.views.animation.frames import Frames
from lcakit.views.animation.scale import LEVELS, palette

__all__ = ["WIDTH", "height", "page"]


def __dir__() -> list[str]:
    return __all__


WIDTH = 720
"""Largest width of the player in a notebook, in pixels."""
_AROUND = 226
"""Height of title, controls and colour bar together, in pixels."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_CSS = """
:root { --ink: #1d2329; --soft: #57616b; --page: #ffffff; --line: #cfd4d9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #a3acb5; --page: #14181c; --line: #38414a; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 8px; background: var(--page); color: var(--ink);
  font: 14px/1.4 system-ui, sans-serif; max-width: 720px; }
h1 { font-size: 15px; margin: 0; overflow-wrap: anywhere; }
p { margin: 2px 0 6px; color: var(--soft); font-variant-numeric: tabular-nums; }
#cells { display: block; width: 100%; background: #ffffff; border: 1px solid var(--line); image-rendering: pixelated; }
#cells:focus-visible, button:focus-visible, input:focus-visible, select:focus-visible {
  outline: 3px solid #2b78c2; outline-offset: 1px; }
.controls { display: flex; gap: 8px; align-items: center; margin: 6px 0; }
.controls input { flex: 1; min-width: 80px; }
button, select { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--line);
  border-radius: 5px; padding: 2px 8px; }
#play { min-width: 72px; }
.saving { justify-content: flex-end; font-size: 12px; }
#bar { display: block; width: 100%; height: 12px; border: 1px solid var(--line); image-rendering: pixelated; }
.ticks { position: relative; height: 20px; color: var(--soft); font-size: 12px; }
.ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.ticks span.first { transform: none; } .ticks span.last { transform: translateX(-100%); }
.label { text-align: center; font-size: 12px; }
"""

_SCRIPT = """
"use strict";
const film = JSON.parse(document.getElementById("film").textContent);
const codes = Uint8Array.from(atob(document.getElementById("codes").textContent), (letter) => letter.charCodeAt(0));
const colours = Uint32Array.from(film.palette, (hex) => {  // memory order is red, green, blue, alpha
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
});
const at = (id) => document.getElementById(id);
const canvas = at("cells"), slider = at("frame"), button = at("play"), size = film.rows * film.columns;
function paint(target, part, width, height) {
  target.width = width; target.height = height;
  const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  for (let n = 0; n < pixels.length; n++) pixels[n] = colours[part[n]];
  target.getContext("2d").putImageData(image, 0, 0);
}
function show(n) {
  const last = film.texts.length - 1;
  slider.value = n = n < 0 ? last : n > last ? 0 : n;
  slider.setAttribute("aria-valuetext", film.texts[n]);
  at("text").textContent = film.texts[n];
  paint(canvas, codes.subarray(n * size, (n + 1) * size), film.columns, film.rows);
}
let timer = null;
function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => show(+slider.value + 1), 1000 / +at("speed").value) : null;
  button.textContent = on ? "Pause" : "Play";
}
slider.addEventListener("input", () => { play(false); show(+slider.value); });
button.addEventListener("click", () => play(timer === null));
at("speed").addEventListener("change", () => play(timer !== null));
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT" || event.ctrlKey || event.altKey || event.metaKey) return;
  const now = +slider.value;
  const to = {ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: film.texts.length - 1}[event.key];
  if (to !== undefined) { play(false); show(to); }
  else if (event.key === " ") play(timer === null);
  else return;
  event.preventDefault();
});
function decoded(code) {
  const level = code - film.levels, share = Math.abs(level) / film.levels * Math.log1p(film.limit / film.weak);
  return level > film.levels ? NaN : Math.sign(level) * film.weak * Math.expm1(share);
}
function save(suffix, blob) {
  const name = `${film.title} ${film.texts[+slider.value].split(",")[0]}`, address = URL.createObjectURL(blob);
  const download = name.replace(/[^A-Za-z0-9.]+/g, "-").replace(/[.]{2,}|^[-.]+|[-.]+$/g, "").slice(0, 150) + suffix;
  Object.assign(document.createElement("a"), {href: address, download}).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
at("save-numbers").addEventListener("click", () => {
  const part = codes.subarray(+slider.value * size, (+slider.value + 1) * size), lines = ["row,column,value"];
  for (let n = 0; n < size; n++) {
    const value = decoded(part[n]), row = Math.floor(n / film.columns);
    if (!Number.isNaN(value)) lines.push(`${row},${n % film.columns},${Number(value.toPrecision(4))}`);
  }
  save(".csv", new Blob([lines.join("\\n") + "\\n"], {type: "text/csv"}));
});
at("save-picture").addEventListener("click", () => {
  const wide = 960, edge = 24, inner = wide - 2 * edge, box = canvas.getBoundingClientRect();
  const high = Math.round(inner * box.height / box.width), whole = document.createElement("canvas");
  whole.width = wide; whole.height = high + 190;
  const pen = whole.getContext("2d");
  pen.fillStyle = "#ffffff"; pen.fillRect(0, 0, wide, whole.height);
  const write = (text, x, y, font, align) => {
    pen.fillStyle = "#1d2329"; pen.font = font; pen.textAlign = align; pen.fillText(text, x, y, inner);
  };
  write(film.title, edge, 34, "bold 20px sans-serif", "left");
  write(film.texts[+slider.value], edge, 62, "16px sans-serif", "left");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(canvas, edge, 80, inner, high);
  pen.drawImage(at("bar"), edge, high + 96, inner, 16);
  pen.strokeStyle = "#8a8a8a"; pen.strokeRect(edge, 80, inner, high); pen.strokeRect(edge, high + 96, inner, 16);
  for (const tick of document.querySelectorAll(".ticks span")) {
    const align = tick.className === "first" ? "left" : tick.className === "last" ? "right" : "center";
    write(tick.textContent, edge + inner * parseFloat(tick.style.left) / 100, high + 132, "14px sans-serif", align);
  }
  write(film.label, wide / 2, high + 160, "14px sans-serif", "center");
  whole.toBlob((blob) => save(".png", blob));
});
canvas.addEventListener("pointermove", (event) => {
  const box = canvas.getBoundingClientRect();
  const cell = (share, cells) => Math.min(cells - 1, Math.max(0, Math.floor(share * cells)));
  const row = cell((event.clientY - box.top) / box.height, film.rows);
  const column = cell((event.clientX - box.left) / box.width, film.columns);
  const level = codes[+slider.value * size + row * film.columns + column] - film.levels;
  if (level > film.levels) { canvas.title = ""; return; }
  const value = decoded(level + film.levels);
  canvas.title = (level ? "about " : "exactly ") + value.toPrecision(2) + " (" + film.label + ")";
});
paint(at("bar"), Uint8Array.from({length: 2 * film.levels + 1}, (_, n) => n), 2 * film.levels + 1, 1);
show(0);
"""


def height(frames: Frames) -> int:
    """Return the height of the player at its full width, in pixels."""
    rows, columns = map(int, frames.codes.shape[1:])
    return round((WIDTH - 18) * _stretch(frames) * rows / columns) + _AROUND


def _stretch(frames: Frames) -> float:
    """Return the height of a cell over its width: 1, unless the picture would be very flat or very tall."""
    rows, columns = map(int, frames.codes.shape[1:])
    return min(max(1.0, 0.15 * columns / rows), 1.0 * columns / rows if rows > columns else 1e9)


def page(frames: Frames) -> str:
    """Return a page with the player and all frames, which loads nothing from elsewhere."""
    rows, columns = frames.codes.shape[1:]
    film = {
        "rows": rows,
        "columns": columns,
        "levels": LEVELS,
        "weak": frames.scale.weak,
        "limit": frames.scale.limit,
        "label": frames.label,
        "texts": frames.texts,
        "title": frames.title,
        "palette": palette(frames.helps),
    }
    data = json.dumps(film).replace("<", "\\u003c")  # so that no text of a file can end the script
    codes = base64.b64encode(frames.codes.tobytes()).decode("ascii")
    title, label = html.escape(frames.title), html.escape(frames.label)
    shape = f"aspect-ratio: {columns} / {rows * _stretch(frames):.4f}"
    about = f"{title}. Columns: {html.escape(frames.axes[0])}; rows: {html.escape(frames.axes[1])}."
    speeds = "".join(f"<option{' selected' * (n == 10)}>{n}</option>" for n in (2, 5, 10, 20, 30))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>{title}</title><style>{_CSS}</style></head>
<body><h1>{title}</h1><p id="text"></p>
<canvas id="cells" style="{shape}" tabindex="0" role="img" aria-label="{about}"></canvas>
<div class="controls"><button id="play" type="button">Play</button>
<input id="frame" type="range" min="0" max="{len(frames.codes) - 1}" value="0" aria-label="frame">
<label>frames a second <select id="speed">{speeds}</select></label></div>
<canvas id="bar" role="img" aria-label="colour bar"></canvas><div class="ticks">{_ticks(frames)}</div>
<div class="label">{label}</div>
<div class="controls saving"><span>Save this frame</span>
<button id="save-picture" type="button" aria-label="Save this frame as PNG">PNG</button>
<button id="save-numbers" type="button" aria-label="Save the numbers of this frame as CSV"
  title="as the colours show them: steps of a few per cent">CSV</button></div>
<script type="application/json" id="film">{data}</script><script type="text/plain" id="codes">{codes}</script>
<script>{_SCRIPT}</script></body></html>
"""


def _ticks(frames: Frames) -> str:
    out = []
    for place, text in frames.scale.ticks():
        edge = "first" if place < -0.94 else "last" if place > 0.94 else ""
        out.append(f'<span class="{edge}" style="left: {50 * (place + 1):.2f}%">{html.escape(text)}</span>')
    return "".join(out)
