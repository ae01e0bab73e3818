"""From what the verbs measure to what the page says: each number in its own units, beside the plain network of its own
run and over its own images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import torchpaths as tp
from browser import Shown, chromium, needs_chromium, saved
from explorer_toys import blocks
from torchpaths.cli import main
from torchpaths.cli.explore import read_front
from torchpaths.explorer.document import document
from torchpaths.surveys import Survey
from torchpaths.train.run import train
from train_toys import tiny
from verbs import briefly

LIMIT = 40
EVERYTHING = ["--alone", "--alone-images", "30", "--gallery", "--times", "--batch", "16"]


@dataclass
class Measured:
    """A run with all that verbs measure of it, and the page's document."""

    folder: Path
    survey: Survey
    front: Any
    document: dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A gated run, surveyed with all its columns; its front over fewer images, timed."""
    folder = tmp_path_factory.mktemp("numbers") / "run"
    train(tiny(method=tp.GatedBlocks(), model="cifar_resnet14"), folder, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        briefly(patch)
        assert main(["survey", str(folder), *EVERYTHING, "--json"]) == 0
    assert main(["front", str(folder), "--limit", str(LIMIT), "--seconds", "0.02", "--batch", "16", "--json"]) == 0
    survey = Survey.load(folder)
    front = read_front(folder / "front.json", survey, asked=True)
    return Measured(folder, survey, front, document(survey, front, {"run": str(folder)}))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def show(browser: Any, made: Measured, tmp_path: Path) -> Iterator[Any]:
    """Opens the run's page from disk; afterwards nothing was complained of."""
    opened: list[Shown] = []

    def open_(fragment: str = "") -> Shown:
        opened.append(Shown(browser).open(saved(tmp_path, made.document) + fragment))
        return opened[-1]

    yield open_
    for shown in opened:
        assert shown.errors == []
        shown.close()


def cell(shown: Shown, number: int) -> str:
    """A cell of the ledger: 1 units, 2 MACs, 3 time, 4 accuracy."""
    text = shown.page.locator("#ledger .cell").nth(number).inner_text()
    return re.sub(r"\s+", " ", text.replace("\u2212", "-"))


def share(part: float, whole: float) -> str:
    """As the page writes it."""
    return f"{part / whole * 100:.0f} % of plain"


@needs_chromium
def test_a_time_stands_beside_the_plain_network_of_its_own_run(made: Measured, show: Any) -> None:
    times, profile = made.survey.times, made.front.profiles[0]
    assert times is not None
    assert share(times.ms, times.plain_ms) in cell(show(), 3)
    number = next(i for i, point in enumerate(made.front.candidates) if point.fixed and point.chosen == 1)
    point, time = made.front.candidates[number], profile.times[number]
    told = cell(show(f"#budget=macs:{point.macs / made.survey.layout.plain.macs + 1e-5:.5f}"), 3)
    assert share(time.ms, profile.plain_ms) in told
    assert "from plain, same run" in told


@needs_chromium
def test_what_a_unit_is_worth_alone_is_in_points_of_the_images_it_was_tried_on(made: Measured, show: Any) -> None:
    alone = made.survey.alone
    assert alone is not None
    for unit, lost in enumerate(alone.points):
        assert lost is not None
        site = made.survey.layout.units[unit].site
        shown = show(f"#shut={site}")
        assert f"{(alone.accuracy - lost) * 100:.1f} %" in cell(shown, 4)
        shown.page.mouse.move(*shown.station(unit))
        said = f"{abs(lost) * 100:.1f} points {'gained' if lost < 0 else 'lost'}"
        assert said in shown.text("#readout")


@needs_chromium
def test_units_open_over_all_classes_are_the_survey_s(made: Measured, show: Any) -> None:
    mean = made.survey.executed[0]
    shown = show("#class=3&view=table")
    told = f"{mean:.0f}" if mean.is_integer() else f"{mean:.1f}"
    assert f"{told} over all classes" in cell(shown, 1)
    assert shown.page.locator("#table tfoot td").first.inner_text() == told


def shape(value: Any, at: str = "") -> dict[str, str]:
    """What stands where: kinds of values by key, of lists what they hold."""
    if isinstance(value, dict):
        inside = [shape(each, f"{at}.{key}") for key, each in value.items()]
        return {place: kind for part in inside for place, kind in part.items()}
    if isinstance(value, list):
        found = [each for each in value if each is not None]
        return shape(found[0], f"{at}[]") if found else {}
    numbers = isinstance(value, int | float) and not isinstance(value, bool)
    return {} if value is None else {at: "number" if numbers else type(value).__name__}


def test_made_up_documents_hold_what_real_ones_do_in_the_same_units(made: Measured) -> None:
    toy = blocks()
    real, ours = shape(made.document), shape(toy)
    free = re.compile(r"\.(images\[\]\.(without|attacked)|histogram\.by_class|classes\.group|(fixed|units)\.ms)")
    assert {place for place in ours if place not in real and not free.match(place)} == set()
    assert {place: kind for place, kind in ours.items() if place in real and real[place] != kind} == {}
    for points in (made.document["units"]["alone_points"], toy["units"]["alone_points"]):
        assert all(abs(lost) <= 1 for lost in points)


@needs_chromium
def test_what_arrives_between_press_and_release_loses_no_click(show: Any) -> None:
    shown = show()
    shown.page.evaluate("document.querySelector('.chip').dataset.old = 'yes'")
    chip = shown.page.locator(".chip").first
    box = chip.bounding_box()
    shown.page.mouse.move(box["x"] + 8, box["y"] + 8)
    shown.page.mouse.down()
    shown.page.evaluate(
        "matchMedia('(prefers-color-scheme: dark)').dispatchEvent?.(new Event('change'));"
        "Object.defineProperty(window, 'innerWidth', { value: innerWidth + 1 }); dispatchEvent(new Event('resize'))"
    )
    shown.page.wait_for_timeout(90)
    assert chip.get_attribute("data-old") == "yes"
    shown.page.mouse.up()
    shown.settled()
    assert shown.state("cut") is not None
    assert chip.get_attribute("data-old") is None, "what arrived is drawn after it"


def at_threshold(made: Measured) -> tuple[str, int]:
    """A position of the dial at which gates decide at another threshold, and the point's number."""
    points, plain = made.front.candidates, made.survey.layout.plain.macs
    for number, point in enumerate(points):
        cheaper = [other for other in points if other.macs <= point.macs and other is not point]
        if not point.fixed and all(other.accuracy < point.accuracy for other in cheaper):
            return f"#budget=macs:{point.macs / plain + 1e-6:.6f}", number
    raise AssertionError("the front has no such point")


@needs_chromium
def test_a_point_at_another_threshold_gives_its_own_numbers_and_says_what_the_rail_cannot(
    made: Measured, show: Any
) -> None:
    where, number = at_threshold(made)
    point, profile = made.front.candidates[number], made.front.profiles[0]
    shown = show(where)
    assert f"{point.open * len(made.survey.layout.units):.1f}" in cell(shown, 1)
    assert share(point.macs, made.survey.layout.plain.macs) in cell(shown, 2)
    assert share(profile.times[number].ms, profile.plain_ms) in cell(shown, 3)
    assert f"{point.accuracy * 100:.1f} %" in cell(shown, 4)
    assert shown.page.locator("#ledger .estimated").count() == 0
    assert "rail cannot show it" in shown.text("#cost")
    assert "another threshold" in shown.text("#readout")
    assert show(where + "&class=3").page.locator("#ledger .unknown").count() == 4, "it was measured over all images"


@needs_chromium
def test_an_accuracy_has_its_own_images_and_is_compared_over_the_same_alone(made: Measured, show: Any) -> None:
    assert int(made.survey.images.sum()) != made.front.images
    assert f"{int(made.survey.images.sum())} images" in cell(show(), 4)
    assert f"plain {made.front.accuracy * 100:.1f} %, on {made.front.images} images" in cell(show(), 4)
    where, number = at_threshold(made)
    told = cell(show(where), 4)
    assert f"{made.front.images} images" in told
    difference = (made.front.candidates[number].accuracy - made.front.accuracy) * 100
    assert f"{difference:+.1f} points from plain, same images" in told
    assert made.survey.alone is not None
    assert f"{made.survey.alone.images} images" in cell(show(f"#shut={made.survey.layout.units[0].site}"), 4)
