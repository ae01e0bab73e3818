"""How the page looks, in numbers: nothing overflows, overlaps or is cut, at any width, zoom, theme or in print; what is
selected stands out in grey too; axe finds nothing serious."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from browser import Shown, chromium, needs_chromium, saved
from explorer_toys import blocks, coded, depth, filters, mixed, narrow
from torchpaths.explorer.bundle import page_file

FORMS: dict[str, Callable[[], dict[str, Any]]] = {
    "blocks": blocks,
    "depth": depth,
    "coded": coded,
    "mixed": mixed,
    "narrow": narrow,
    "filters": lambda: filters(60, 1200),
}
STATES = {"blocks": "#class=cat&shut=layer3.2,layer2.4&cut=cat,dog", "filters": "#site=layer4.1"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: saved(tmp_path_factory.mktemp(name), form()) + STATES.get(name, "") for name, form in FORMS.items()}


OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll('#picture svg text, #ledger .number, #ledger .of, .label, h1, h2')]
    .filter((node) => node.textContent.trim() && !node.getAttribute('transform') && node.checkVisibility())
    .map((node) => [node.textContent, node.getBoundingClientRect()]).filter(([, box]) => box.width);
  const found = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [a, b] = [boxes[i][1], boxes[j][1]];
    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (w > 1.5 && h > 4 && boxes[i][0] !== boxes[j][0]) found.push(`${boxes[i][0]} / ${boxes[j][0]}`);
  }
  return found;
}"""

CUT = """() => [...document.querySelectorAll('#ledger .value, #ledger .line, .chip, button, td')]
  .filter((node) => node.checkVisibility() && node.scrollWidth > node.clientWidth + 1 && node.clientWidth)
  .map((node) => node.textContent)"""


@needs_chromium
@pytest.mark.parametrize("name", FORMS)
def test_no_text_lies_over_another_or_is_cut_at_any_width_or_at_twice_the_size(
    browser: Any, addresses: dict[str, str], name: str
) -> None:
    shown = Shown(browser, width=1280).open(addresses[name])
    for width in (1280, 1000, 800, 640, 390, 320):  # 640 is 1280 at 200 %
        shown.page.set_viewport_size({"width": width, "height": 800})
        shown.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.page.evaluate(OVERLAPS) == [], width
        assert shown.page.evaluate(CUT) == [], width
    assert shown.errors == []
    shown.close()


@needs_chromium
def test_forced_colours_and_print_show_all_within_the_width(browser: Any, addresses: dict[str, str]) -> None:
    shown = Shown(browser, forced_colors="active").open(addresses["blocks"])
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 1280
    shown.page.emulate_media(media="print")
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert not shown.page.locator("#reset").is_visible()
    assert shown.page.locator(".lane").count() == 10
    assert shown.errors == []
    shown.close()


@needs_chromium
def test_the_ledger_of_a_phone_is_a_row_of_four_under_120_pixels(browser: Any, addresses: dict[str, str]) -> None:
    shown = Shown(browser, width=390).open(addresses["blocks"])
    cells = [shown.page.locator("#ledger .cell").nth(i).bounding_box() for i in range(1, 5)]
    assert len({round(cell["y"]) for cell in cells}) == 1
    assert shown.page.locator("#ledger").bounding_box()["height"] < 120
    shown.close()


@needs_chromium
def test_many_sites_of_few_units_are_boxes_to_look_into_and_a_long_runs_name_is_cut(
    browser: Any, addresses: dict[str, str]
) -> None:
    shown = Shown(browser, width=390).open(addresses["narrow"] + "#site=layer1.0.conv1")
    assert not shown.page.locator("#banner").is_visible()
    assert shown.page.locator("#picture .track").count() == 0
    assert shown.page.evaluate("document.documentElement.scrollHeight") < 6000
    shown.page.set_viewport_size({"width": 1280, "height": 800})
    shown.page.wait_for_function("() => document.querySelectorAll('[data-window]').length === 10")
    assert shown.page.locator("#ledger").bounding_box()["height"] < 120
    assert shown.page.locator("#ledger .cell").nth(3).locator(".line").inner_text() == (
        "torchpaths survey runs/cif\u2026-sparse --times"
    )
    shown.close()


@needs_chromium
def test_on_a_phone_names_of_columns_stand_clear_of_their_numbers(browser: Any, addresses: dict[str, str]) -> None:
    shown = Shown(browser, width=390).open(addresses["coded"])
    for name, number in (("open", "60"), ("accuracy", "80.7\u2009%")):
        caption = shown.page.locator("#picture text.digit", has_text=name).last.bounding_box()
        first = shown.page.locator(".lane .column", has_text=number).first.bounding_box()
        assert caption["x"] + caption["width"] < first["x"], name
    shown.close()


LINK = (
    "#v=1&class=cat&pin=cat,dog&image=1003&with=fgsm-4&shut=layer2.4,layer3.1&open=layer3.2&budget=macs:0.6"
    "&cut=cat,dog&show=difference&view=table&later=7"
)


AXE = """() => axe.run({ resultTypes: ['violations'] }).then((result) => result.violations
  .filter((found) => ['serious', 'critical'].includes(found.impact))
  .map((found) => found.id + ': ' + found.nodes.map((node) => node.html.slice(0, 120)).join(' | ')))"""


@pytest.mark.parametrize(
    ("name", "fragment"), [("blocks", LINK), ("filters", "#site=layer4.1"), ("depth", ""), ("coded", "")]
)
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(
    browser: Any, addresses: dict[str, str], name: str, fragment: str, dark: bool
) -> None:
    axe = pytest.importorskip("axe_playwright_python.base").AXE_FILE_PATH
    shown = Shown(browser, dark=dark, bypass_csp=True).open(addresses[name] + fragment)
    shown.page.add_script_tag(path=str(axe))
    assert shown.page.evaluate(AXE) == []
    shown.close()


def colours(dark: bool) -> dict[str, str]:
    """The page's colours by name."""
    light, night = re.findall(r":root\{([^}]*)\}", page_file("style.css"))[:2]
    return dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", night if dark else light))


def luminance(colour: str, matrix: tuple[tuple[float, ...], ...] | None = None) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    if matrix is not None:
        linear = [max(0.0, sum(m * v for m, v in zip(row, linear, strict=True))) for row in matrix]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881))
"""Machado, Oliveira and Fernandes 2009, severity 1, in linear RGB."""


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_and_what_is_selected_stands_out_in_grey_and_deuteranopia(dark: bool) -> None:
    found = colours(dark)
    for text in ("ink", "soft", "accent"):
        assert contrast(luminance(found[text]), luminance(found["paper"])) >= 4.5, text
    for matrix in (None, DEUTERANOPIA):
        assert contrast(luminance(found["accent"], matrix), luminance(found["pale"], matrix)) >= 2
