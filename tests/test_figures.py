"""The table of the paper's figures: functions, cells and files that it names exist, and it quotes no number of ours."""

from __future__ import annotations

import importlib
import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

import lcakit as lk
from lcakit.experiments.declared import EXPERIMENTS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
FILES = [path.name for ending in ("nc", "csv") for path in (ROOT / "data").glob(f"*.{ending}")]
HEADS = ("figure", "asked by reviewers", "left open by the paper")


def rows() -> list[list[str]]:
    """The rows of all tables: figure, function, notebook and cell, data, here, the paper."""
    lines = (FOLDER / "FIGURES.md").read_text(encoding="utf-8").splitlines()
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in table if row[0] not in HEADS]


each = pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[1]}")


def resolved(name: str) -> object:
    """The object of a dotted name: ``lk.…``, or in a module that is not a public name of lcakit."""
    if name.startswith("lk."):
        found: object = lk
        for part in name.split(".")[1:]:
            found = getattr(found, part)
        return found
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module), function)


@each
def test_the_function_exists(row):
    assert callable(resolved(row[1].strip("`")))


@each
def test_the_cell_exists_and_uses_the_function_or_its_result(row):
    if row[2] == "–":
        return
    link, identifier = re.fullmatch(r"\[\d\d\]\((.*\.ipynb)\) `(.*)`", row[2]).groups()
    cells = json.loads((FOLDER / link).read_text(encoding="utf-8"))["cells"]
    place = next(n for n, cell in enumerate(cells) if cell["id"] == identifier)
    assert cells[place]["cell_type"] == "code"
    before = "".join("".join(cell["source"]) for cell in cells[: place + 1] if cell["cell_type"] == "code")
    assert row[1].strip("`").rpartition(".")[2] in before


@each
def test_the_data_is_in_the_box_or_a_command_makes_it(row):
    for said in re.findall(r"`([^`]*)`", row[3]):
        if said.startswith("lcakit experiment "):
            assert said.removeprefix("lcakit experiment ") in EXPERIMENTS
        else:
            assert any(fnmatch(name, said) for name in FILES), said
    if row[2] == "–":
        assert "`lcakit experiment " in row[3] or "plot." in row[4]


@each
def test_no_finding_is_written_down(row):
    """What is seen here is computed in its cell; a number in this column would go stale in silence."""
    assert len(row) == 6
    assert not re.search(r"\d", re.sub(r"`[^`]*`", "", row[4]))


SAID = re.compile(r"(?<![\w.$^{/-])\d+\.\d+(?![\w.])")


CHECKED = (
    "01_what_is_lca",
    "02_learning_is_noisy",
    "03_some_layers_hurt",
    "04_phase_lag",
    "05_oscillation",
    "06_synchronization",
    "15_heavy_tails",
    "16_what_reviewers_asked",
    "17_what_the_paper_left_open",
)


@pytest.mark.parametrize("name", CHECKED)
def test_prose_quotes_no_result_of_ours(name):
    """Decimals in the text are settings (a learning rate, momentum) or the paper's, in a sentence that says so."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown").replace("\n", " ")
    sentences = re.split(r"(?<=[.:;?])\s+", re.sub(r"`[^`]*`", "", text))
    settings = ("rate", "momentum", "m = ", "keep 0.9")
    wrong = [s for s in sentences if SAID.search(s) and not any(word in s for word in ("paper", "p < ", *settings))]
    assert wrong == []


def figures_named() -> set[str]:
    """Every figure and table that the first column names; a range such as S17-S19 names all that lie in it."""
    found = set()
    for row in rows():
        for kind, text in re.findall(r"(Fig|Table)s?\.? ([\dS][\w-]*)", row[0]):
            first, _, last = text.partition("-")
            if last:
                found |= {f"{kind} S{n}" for n in range(int(first[1:]), int(last[1:]) + 1)}
            else:
                found.add(f"{kind} {first}")
    return found


def test_every_figure_and_table_of_the_paper_has_a_row():
    main = {"Fig 1", "Fig 2", *(f"Fig 3{letter}" for letter in "abcd"), "Fig 4", "Fig 5", "Fig 6"}
    supplement = {f"Fig S{n}" for n in range(1, 23)}
    assert {"Table 1", "Table S1", "Table S2"} | main | supplement <= figures_named()


def test_what_is_not_in_the_box_names_the_command_that_records_it():
    for row in rows():
        if "not in the box" in row[4]:
            assert re.search(r"`lcakit (experiment|record|reproduce) ", row[3] + row[4]), row[0]


def test_every_study_picture_has_a_figure_or_is_our_own():
    named = {row[1].strip("`").rpartition(".")[2] for row in rows()}
    figures = re.compile(r"\(figures? [S\d]")
    drawn = [name for name in lk.plot._PICTURES if figures.search(getattr(lk.plot, name).__doc__.split("\n")[0])]
    shown_otherwise = {"layers_over_time", "layer_map", "fraction_helping", "lca_histogram", "correlations", "kurtosis"}
    shown_otherwise |= {"class_curves", "specialized_fraction", "layers"}
    assert set(drawn) - named - shown_otherwise == set()
