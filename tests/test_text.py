"""Names of any text are seen as they are, in terminals, figures, errors and JSON, and obeyed nowhere."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from rich.table import Table

from torchpaths.cli import complain
from torchpaths.errors import DataError, near
from torchpaths.filtering.draw_information import draw_points
from torchpaths.filtering.embedding import Points
from torchpaths.surveys.figures.style import new_figure, save, shorten, styled, text_width
from torchpaths.terminal import Console
from torchpaths.text import distinct, storable, visible

SHOWN = {
    "cat": "cat",
    "$a_$": "$a_$",
    "[red]": "[red]",
    "[/bold]": "[/bold]",
    ":smile:": ":smile:",
    "猫": "猫",
    "שלום": "שלום",
    "می‌خواهم": "می‌خواهم",  # a joiner within the word
    "\x1b[31mred\x1b[2J": r"\x1b[31mred\x1b[2J",
    "a\nb\tc": r"a\nb\tc",
    "\u202egnp": r"\u202egnp",
    "caf\udce9": r"caf\udce9",
    "\u2028": r"\u2028",
}


@pytest.mark.parametrize(("name", "shown"), SHOWN.items())
def test_names_are_seen_as_they_are_with_what_cannot_be_seen_written_out(name: str, shown: str) -> None:
    assert visible(name) == shown


def test_what_a_file_system_holds_that_is_no_utf8_can_be_stored() -> None:
    assert storable("caf\udce9 猫").encode() == r"caf\udce9 猫".encode()


def test_names_that_several_classes_share_get_their_numbers() -> None:
    assert distinct(["crane", "cat", "crane"]) == ["crane (0)", "cat", "crane (2)"]


@pytest.mark.parametrize("name", [n for n in SHOWN if "\n" not in n])
def test_tables_and_lines_show_names_and_obey_none(name: str) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=100)
    table = Table(title=f"of {name}", caption=name)
    table.add_column(name)
    table.add_row(name)
    console.print(table)
    console.print(f"line {name}")
    assert out.getvalue().count(SHOWN[name]) == 5
    assert not set(out.getvalue()) & {"\x1b", "\u202e", "\udce9"}


def test_errors_and_complaints_hold_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    error = DataError(f"no class \x1b[2J; {near('a', ['b'])}\nsecond line")
    assert "\x1b" not in str(error)
    assert "\nsecond line" in str(error)
    complain("no \x1b[2J [red] here", 1)
    assert r"no \x1b[2J [red] here" in capsys.readouterr().err


@styled
def _figure(names: list[str]) -> matplotlib.figure.Figure:
    figure = new_figure(3, 3)
    axes = figure.add_axes((0.4, 0.1, 0.5, 0.8))
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.set_title(names[0])
    return figure


def test_figures_show_names_without_formulas_and_say_once_what_their_font_lacks(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"all\.png: letters that its font lacks are boxes.*the SVG file") as told:
        _, svg = save(_figure(list(SHOWN)), tmp_path / "all")
    assert len(told) == 1
    text = svg.read_text()
    for shown in SHOWN.values():
        assert shown in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(_figure(["\x1b[31m$a_$", "$\\frac$", "\ud800"]), tmp_path / "plain")
        assert text_width(["$a$"], 8) > text_width(["a"], 8)


def test_a_legend_lists_every_class_whatever_its_name_begins_with() -> None:
    names = ["_hidden", "", "$x", "cat"]
    points = Points(np.zeros((4, 2), np.float32), np.arange(4), np.arange(4))
    figure = draw_points({"layer": points}, names, "toy")
    legend = figure.axes[-1].get_legend()
    assert legend is not None
    assert [text.get_text().strip("\u200a") for text in legend.get_texts()] == names
