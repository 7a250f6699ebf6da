"""How the page of a report looks, and the few lines of JavaScript that switch its figures."""

__all__ = ["CSS", "SCRIPT"]


def __dir__() -> list[str]:
    return __all__


CSS = """
:root { --ink: #1d2329; --soft: #57616b; --page: #fbfbfa; --card: #ffffff; --line: #d9dde1; --accent: #1f5f99;
  --good: #1b7837; --bad: #b3182a; --warn: #8a5a00; --paper: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #a3acb5; --page: #14181c; --card: #1d2329;
  --line: #38414a; --accent: #8cc1f0; --good: #6fcf8b; --bad: #ff8b94; --warn: #f0c060; --paper: #f4f4f2; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 3.6rem; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
header, main { max-width: 1220px; margin: 0 auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin: 1.6rem 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .2rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
a { color: var(--accent); }
.lead, .question { color: var(--soft); margin: .2rem 0 .8rem; max-width: 75ch; overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; margin: .6rem 0 1rem; list-style: none; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: .5rem; background: var(--card); padding: .3rem .6rem; z-index: 3; }
.controls { position: sticky; top: 0; z-index: 2; background: var(--card); padding: .5rem 1rem;
  border: solid var(--line); border-width: 1px 0; display: flex; flex-wrap: wrap; gap: .3rem 1.4rem;
  align-items: center; justify-content: center; }
.controls[hidden] { display: none; }
select { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--line); border-radius: 5px;
  padding: .2rem .5rem; max-width: 16rem; }
select:focus-visible, a:focus-visible, summary:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.groups { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
.group { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .9rem; min-width: 0; }
.group.wide { grid-column: 1 / -1; }
.group h3 .by { font-weight: normal; color: var(--soft); font-size: .85rem; }
.missing p, figure p { color: var(--soft); margin: 0; overflow-wrap: anywhere; }
figure { margin: 0; }
p, code { overflow-wrap: anywhere; }
.wide figure { overflow-x: auto; }
.wide img { min-width: 42rem; }
figure[hidden] { display: none; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto .5rem; background: var(--paper);
  border-radius: 5px; }
figcaption { font-size: .9rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .9rem; width: 100%; background: var(--card); }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; }
tbody th { font-weight: 500; white-space: nowrap; }
td { overflow-wrap: anywhere; }
.facts { table-layout: auto; } .facts tbody th { width: 14rem; }
.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
.mark { font-weight: 700; white-space: nowrap; }
.pass { color: var(--good); } .warn { color: var(--warn); } .fail { color: var(--bad); }
.verdict { font-size: 1.05rem; font-weight: 600; }
.notice { border-left: 4px solid var(--warn); padding: .3rem .8rem; background: var(--card); }
summary { cursor: pointer; margin: .5rem 0; color: var(--accent); }
footer { color: var(--soft); font-size: .85rem; margin: 2rem 0; }
@media (max-width: 40rem) { .account td:last-child, .account thead th:last-child { min-width: 14rem; } }
@media print { .controls, nav, .skip { display: none; } body { background: #fff; color: #000; font-size: 11px; }
  .group { break-inside: avoid; border: 0; padding: 0; } .groups { display: block; } h2, h3 { break-after: avoid; }
  img { max-height: 9cm; width: auto; margin-left: 0; } }
"""

SCRIPT = """
"use strict";
const form = document.querySelector("form.controls");
const groups = [...document.querySelectorAll(".group[data-by]:not([data-by=''])")];
function closest(figures, want) {  // the wanted layer and class; where a kind has none of it, its first
  for (const kind of ["layer", "cls"]) {
    const fits = figures.filter((figure) => figure.dataset[kind] === want[kind]);
    if (fits.length) figures = fits;
  }
  return figures[0];
}
function show() {
  const want = {layer: form.elements.layer?.value ?? "", cls: form.elements.cls?.value ?? ""};
  for (const group of groups) {
    const figures = [...group.querySelectorAll("figure")], chosen = closest(figures, want);
    for (const figure of figures) figure.hidden = figure !== chosen;
    const {layer, cls} = chosen.dataset, words = [layer && "layer " + layer, cls && `${form.dataset.kind} ${cls}`];
    group.querySelector(".by").textContent = words.filter(Boolean).join(", ");
  }
}
if (form && groups.length) {
  for (const group of groups) {
    const words = Object.assign(document.createElement("span"), {className: "by"});
    group.querySelector("h3").append(" ", words);
  }
  form.hidden = false;
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
"""
