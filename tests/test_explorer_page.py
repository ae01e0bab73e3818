"""The saved page in a real browser: what it draws is what the survey says, whatever is clicked."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser import Shown, chromium, needs_chromium, saved
from explorer_toys import HOSTILE, blocks, coded, depth, filters, hostile, mixed
from survey_toy import Toy, loader
from torchpaths.explorer.document import document
from torchpaths.surveys import survey

pytestmark = needs_chromium

FORMS: dict[str, Callable[[], dict[str, Any]]] = {
    "blocks": blocks,
    "depth": depth,
    "coded": coded,
    "mixed": mixed,
    "filters": lambda: filters(60, 1200),
}
CAT = 3


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each form of network as a file from disk."""
    made = {}
    for name, form in FORMS.items():
        folder = tmp_path_factory.mktemp(name)
        made[name] = saved(folder, form())
    return made


@pytest.fixture
def show(browser: Any, addresses: dict[str, str]) -> Iterator[Any]:
    """Opens one of the forms; afterwards nothing was complained of and no host asked."""
    opened: list[Shown] = []

    def open_(name: str, fragment: str = "", **more: Any) -> Shown:
        shown = Shown(browser, **more).open(addresses[name] + fragment)
        opened.append(shown)
        return shown

    yield open_
    for shown in opened:
        assert shown.errors == []
        assert [url for url in shown.asked if not url.startswith(("file:", "data:"))] == []
        shown.close()


def shares_of(document: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What a document says of each class and unit."""
    raw = zlib.decompress(base64.b64decode(document["openness"]["data"]))
    return np.frombuffer(raw, np.uint8).reshape(document["openness"]["shape"][::-1]).T / 255


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_form_opens_from_disk_within_its_width_and_without_a_complaint(
    show: Any, name: str, width: int, dark: bool
) -> None:
    shown = show(name, width=width, dark=dark)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.page.locator("#picture svg path").count() > 3


THICK = """([key, us]) => {
  const path = document.querySelector(`[data-row='${key}'] path.flow`);
  const box = path.getBBox(), svg = path.ownerSVGElement;
  return us.map((u) => {
    let inside = 0;
    for (let y = box.y - 1; y < box.y + box.height + 1; y += 0.1) {
      const point = svg.createSVGPoint();
      Object.assign(point, { x: u, y });
      inside += path.isPointInFill(point);
    }
    return inside / 10;
  });
}"""


def centres(shown: Shown, units: int) -> list[float]:
    """Where the units are drawn, in the picture's own coordinates."""
    left = shown.page.locator("#picture svg").bounding_box()["x"]
    return [shown.station(unit)[0] - left for unit in range(units)]


def test_a_lane_is_as_thick_as_the_share_of_images_that_open_the_unit(show: Any) -> None:
    shown = show("blocks")
    shares = shares_of(blocks())
    at = centres(shown, 27)
    for c in (CAT, 8):
        drawn = shown.page.evaluate(THICK, [f"class:{c}", at])
        assert np.abs(np.array(drawn) - np.maximum(0.9, 19 * shares[c])).max() < 1


def test_through_and_over_a_station_is_as_much_as_comes_in(show: Any) -> None:
    shown = show("blocks", "#class=cat&shut=layer2.4")
    shares = shares_of(blocks())[CAT]
    left = shown.page.locator("#picture svg").bounding_box()["x"]
    over = [
        float(v) for v in shown.page.eval_on_selector_all(".arc", "a => a.map((x) => x.getAttribute('stroke-width'))")
    ]
    through = shown.page.evaluate(
        THICK.replace("[data-row='${key}'] path.flow", ".rail .through"),
        ["", [shown.station(u)[0] - left for u in range(27)]],
    )
    assert np.abs(np.array(through) + over - 11).max() < 0.3
    assert np.isclose(over[13], 11)
    kept = [u for u in range(27) if u != 13]
    assert np.abs(np.array(over)[kept] - 11 * (1 - shares[kept])).max() < 0.05


def test_the_colour_of_a_cell_is_its_share(show: Any) -> None:
    shown = show("filters", "#site=layer1.0")
    made = filters(60, 1200)
    shares, site = shares_of(made), made["sites"][0]
    url = shown.page.evaluate("document.querySelector('canvas').toDataURL()")
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")).astype(int)
    height, width = image.shape[:2]
    stops = np.array(
        [[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in ("faf8f3", "ccdae3", "89abc4", "427399", "103456")]
    )
    ramp = np.stack([np.interp(np.linspace(0, 4, 256), range(5), stops[:, k]) for k in range(3)], 1)
    wrong = []
    for r in range(0, 60, 7):
        for p in range(0, site["units"], 5):
            y, x = int((r + 0.5) / 60 * height), int((p + 0.5) / site["units"] * width)
            level = int(np.abs(ramp - image[y, x, :3]).sum(1).argmin())
            unit = site["start"] + site["order"][p]
            want = shares[made["classes"]["order"][r], unit] * 255
            if abs(level - want) > 6:
                wrong.append((r, p, level, want))
    assert wrong == []


def test_a_press_on_a_station_shuts_it_again_opens_it_and_a_third_lets_it_decide(show: Any) -> None:
    shown = show("blocks")
    seen = []
    for _ in range(3):
        shown.press(*shown.station(20))
        seen.append((shown.state("shut"), shown.state("open")))
    assert seen == [("layer3.2", None), (None, "layer3.2"), (None, None)]
    shown.page.go_back()
    shown.settled()
    assert shown.state("open") == "layer3.2"
    shown.page.go_back()
    shown.settled()
    assert shown.state("shut") == "layer3.2"
    assert "1 shut" in shown.text("#ledger")


def test_a_press_shuts_a_branch_a_filter_and_chooses_a_network(show: Any) -> None:
    fan = show("coded")
    fan.press(*fan.station(25))
    assert fan.state("shut") == "layer2.2:5"
    wide = show("filters", "#site=layer4.1&from=10")
    box = wide.page.locator(".window path.cell").first.bounding_box()
    wide.press(box["x"] + box["width"] * 2.5 / 64, box["y"] + box["height"] / 2)
    site = next(s for s in filters(60, 1200)["sites"] if s["name"] == "layer4.1")
    assert wide.state("shut") == f"layer4.1:{site['order'][12]}"
    nets = show("depth")
    name = nets.page.locator(".lane .name", has_text="s s w").bounding_box()
    nets.press(name["x"] + name["width"] / 2, name["y"] + name["height"] / 2)
    assert nets.state("shut") == "layer1,layer2"
    point = next(p for p in depth()["front"] if p["path"] == "20")
    assert f"{point['accuracy']:.1%}".replace("%", "\u2009%") in nets.text("#ledger")


def test_the_keyboard_does_what_the_mouse_does(show: Any) -> None:
    shown = show("blocks")
    shown.page.locator("#picture").focus()
    ends = []
    for key in ["End", "Home", "PageDown", "PageDown", "PageUp"]:
        shown.page.keyboard.press(key)
        ends.append(str(shown.page.locator("#focused-cell").text_content()).split(",")[0])
    assert ends == ["layer3.8", "layer1.0", "layer2.0", "layer3.0", "layer2.0"]
    for key in ["Home", "ArrowRight", "ArrowDown", "ArrowDown"]:
        shown.page.keyboard.press(key)
    name = shown.page.locator("#focused-cell").text_content()
    assert name == "layer1.1, automobile, opens for " + f"{round(shares_of(blocks())[1, 1] * 100)} per cent"
    shown.page.keyboard.press(" ")
    shown.page.keyboard.press("Enter")
    shown.settled()
    assert (shown.state("shut"), shown.state("class")) == ("layer1.1", "automobile")
    assert shown.page.locator("#focused-cell").text_content().endswith("shut by you")
    shown.page.keyboard.press("Escape")
    shown.settled()
    assert (shown.state("shut"), shown.state("class")) == ("layer1.1", None)
    shown.page.keyboard.press("/")
    shown.page.keyboard.type("horse")
    shown.page.keyboard.press("Enter")
    shown.settled()
    assert shown.state("pin") == "horse"
    shown.page.keyboard.press(" ")  # the picture has the focus again, on that class's row
    assert "horse" in str(shown.page.locator("#focused-cell").text_content())


def test_hovering_a_lane_shows_its_class_and_replaces_no_node(show: Any) -> None:
    shown = show("blocks")
    shown.page.evaluate("window.kept = [...document.querySelectorAll('#picture svg .lanes *, #picture svg .rail *')]")
    lane = shown.page.locator(f"[data-row='class:{CAT}'] .name").bounding_box()
    shown.page.mouse.move(lane["x"] + 5, lane["y"] + 6)
    assert shown.page.locator(".lane.on").get_attribute("data-row") == f"class:{CAT}"
    assert shown.page.locator(".rail.accent").count() == 1
    assert "cat" in shown.text("#readout")
    shown.page.mouse.move(*shown.station(4))
    assert "layer1.4" in shown.text("#readout")
    assert shown.page.evaluate("window.kept.every((node) => node.isConnected)")
    assert shown.state("class") is None


LINK = (
    "#v=1&class=cat&pin=cat,dog&image=1003&with=fgsm-4&shut=layer2.4,layer3.1&open=layer3.2&budget=macs:0.6"
    "&cut=cat,dog&show=difference&view=table&later=7"
)


def test_a_link_restores_every_field_and_a_reload_keeps_them(show: Any) -> None:
    shown = show("blocks", LINK)
    wanted = dict(pair.split("=") for pair in LINK[1:].split("&"))
    shown.page.locator("#difference").click()
    shown.page.locator("#difference").click()
    shown.settled()
    assert {key: shown.state(key) for key in wanted} == wanted
    shown.page.reload()
    shown.page.wait_for_selector("body[data-ready]")
    assert "5 of 27" not in shown.text("#banner" if shown.page.locator("#banner").is_visible() else "h1")
    assert shown.page.locator("#difference").get_attribute("aria-pressed") == "true"
    assert shown.page.locator("tbody tr").count() > 27
    assert shown.page.locator("rect.station.forced").count() == 1


def test_a_long_link_is_packed_and_unpacks_to_the_same(show: Any) -> None:
    site = next(s for s in filters(60, 1200)["sites"] if s["name"] == "layer4.1")
    odd = ",".join(f"layer4.1:{i}" for i in range(1, site["units"], 2))
    more = ",".join(f"layer3.{b}:{i}" for b in range(6) for i in range(0, 50, 2))
    shown = show("filters", f"#shut={odd},{more}&pin=%230")
    shown.page.locator("#difference").click()
    shown.settled()
    packed = shown.page.evaluate("location.hash")
    assert shown.state("path")
    assert shown.state("shut") is None
    assert len(packed) < 1500
    count = shown.text("#ledger")
    again = show("filters", packed)
    assert again.text("#ledger") == count
    assert f"{site['units'] // 2 + 150} shut" in count


def test_a_link_to_what_is_not_there_says_so_and_keeps_the_rest(show: Any) -> None:
    shown = show("blocks", "#class=unicorn&shut=layer9.9,layer3.2&show=upside&from=x&image=77&budget=apples:3")
    told = shown.text("#banner")
    assert all(word in told for word in ("unicorn", "layer9.9", "upside", "image 77", "apples"))
    assert "1 shut" in shown.text("#ledger")


def test_one_shut_unit_is_measured_and_two_show_a_dash(show: Any) -> None:
    made = blocks()
    lost = made["units"]["alone_points"][20]
    one = show("blocks", "#shut=layer3.2")
    cells = one.page.locator("#ledger .cell")
    assert f"{(made['now']['accuracy'] - lost) * 100:.1f}" in cells.nth(4).inner_text()
    assert cells.nth(2).locator(".estimated").count() == 1
    two = show("blocks", "#shut=layer3.2,layer2.4")
    last = two.page.locator("#ledger .cell").nth(4)
    assert last.locator(".unknown").inner_text() == "\u2013"
    assert "torchpaths explore RUN" in last.inner_text()
    assert last.locator(".number:not(.unknown)").count() == 0


def test_an_image_says_what_it_is_taken_for_with_one_unit_shut_and_nothing_with_two(show: Any) -> None:
    made = blocks()["images"][3]
    one = show("blocks", f"#image={made['id']}&shut=layer1.4")
    want = blocks()["classes"]["name"][made["without"]["4"][0][0]]
    assert want in one.page.locator("#ledger .cell").nth(4).inner_text()
    two = show("blocks", f"#image={made['id']}&shut=layer1.4,layer1.5")
    assert two.page.locator("#ledger .cell").nth(4).locator(".unknown").count() == 1


def test_two_images_name_the_units_in_which_they_differ(show: Any) -> None:
    image = blocks()["images"][3]
    bits = [
        np.unpackbits(np.frombuffer(bytes.fromhex(p), np.uint8))[:27]
        for p in (image["path"], image["attacked"][0]["path"])
    ]
    differ = {blocks()["sites"][u]["name"] for u in np.flatnonzero(bits[0] != bits[1])}
    shown = show("blocks", f"#image={image['id']}&with=fgsm-4")
    named = " ".join(shown.page.eval_on_selector_all(".differs", "a => a.map((x) => x.dataset.units)")).split()
    assert set(named) == differ
    assert len(named) == len(differ)
    assert f"{len(differ)} of 27" in shown.text("#two")


def test_clicking_images_follows_one_and_compares_with_another(show: Any) -> None:
    shown = show("blocks")
    shown.page.locator("[data-image='1003']").click()
    shown.settled()
    assert shown.state("image") == "1003"
    shown.page.locator("[data-image='1005']").click()
    shown.settled()
    assert (shown.state("image"), shown.state("with")) == ("1003", "1005")
    assert shown.page.locator(".mirror").count() == 1


def test_each_position_of_the_dial_is_the_best_within_the_budget(show: Any) -> None:
    made = blocks()
    shown = show("blocks")
    dial = shown.page.locator("#cost input")
    costs = [p["macs"] / made["plain"]["macs"] for p in made["front"]]
    low, high = min(costs), max(1, *costs)
    for value in (0, 130, 420, 700, 999):
        dial.evaluate(
            """(node, value) => { node.value = value;
            for (const kind of ['input', 'change']) node.dispatchEvent(new Event(kind)); }""",
            value,
        )
        shown.settled()
        limit = float(shown.state("budget").removeprefix("macs:"))
        assert 0 <= limit - (low + (high - low) * value / 1000) < 2e-6
        best = max(
            (p for p, c in zip(made["front"], costs, strict=True) if c <= limit * (1 + 1e-9)),
            key=lambda p: (p["accuracy"], -p["macs"]),
        )
        units = bin(int(best["path"], 16)).count("1")
        assert shown.page.locator("#ledger .cell").nth(1).locator(".number").inner_text() == str(units)
        assert f"{best['accuracy'] * 100:.1f}" in shown.page.locator("#ledger .cell").nth(4).inner_text()


def test_a_cut_shows_what_is_left_and_the_command_that_makes_it(show: Any) -> None:
    shown = show("blocks", "#cut=cat,dog&budget=macs:0.6")
    assert "torchpaths cut RUN --label cat,dog --budget-macs 0.6 --out cut" in shown.text("#cut")
    rows = shown.page.locator("#cut tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows][:3] == ["blocks", "parameters", "MACs"]
    assert "\u2248" in rows[1]
    assert f"{blocks()['plain']['macs'] / 1e6:.0f}\u2009M" in rows[2], "plain beside the cut, not what gates make of it"
    assert "\u2248" in rows[3]
    assert rows[4].split("\t")[1:] == ["\u2013", "\u2013"]


def test_a_budget_in_milliseconds_is_not_given_out_as_kept(show: Any) -> None:
    told = show("blocks", "#cut=cat,dog&budget=ms:3").text("#cut")
    assert "within the dial" not in told
    assert "turn the dial in MACs" in told
    assert "--budget" not in told
    assert "--budget-ms 3 " in show("depth", "#budget=ms:3").text("#cut")


def test_the_table_holds_every_share(show: Any) -> None:
    shown = show("blocks", "#view=table")
    shares, order = shares_of(blocks()), blocks()["classes"]["order"]
    rows = shown.page.locator("#table tbody tr")
    for unit in (0, 13, 26):
        cells = rows.nth(unit).locator("td").all_inner_texts()[1:-1]
        assert [int(c[:-2]) for c in cells] == [round(shares[c, unit] * 100) for c in order]


def test_names_that_try_to_be_html_stay_names(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser).open(saved(tmp_path, hostile()) + "#view=table&cut=%230,%231&class=%230")
    assert shown.page.evaluate("window.hacked") is None
    assert HOSTILE[0] in shown.text("#ledger")
    assert shown.page.locator("img[src='x']").count() == 0
    assert shown.page.locator("#title").inner_text().startswith("<b>ResNet</b>")
    assert shown.errors == []
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 1280
    for c in range(len(HOSTILE)):
        shown.page.evaluate(f"location.hash = 'class=%23{c}'")
        shown.settled()
        assert not shown.page.locator("#banner").is_visible()


def refused(browser: Any, folder: Path, document: Any) -> str:
    shown = Shown(browser).open(saved(folder, document), ready=False)
    shown.page.wait_for_selector("#banner:not([hidden])")
    assert not shown.page.locator("#page").is_visible()
    assert shown.errors == []
    told = shown.text("#banner")
    shown.close()
    return told


def test_no_survey_and_another_schema_say_what_to_do(browser: Any, tmp_path: Path) -> None:
    assert "torchpaths survey RUN" in refused(browser, tmp_path, {})
    told = refused(browser, tmp_path, {**blocks(), "schema": "torchpaths.survey/9"})
    assert "survey/9" in told
    assert "survey/2" in told


def test_a_survey_without_images_of_a_class_opens_and_says_so_wherever_it_is_named(
    browser: Any, tmp_path: Path
) -> None:
    found = survey(Toy(), loader(), classes=["cat", "dog", "truck"])
    assert found.images.tolist() == [4, 6, 0]
    address = saved(tmp_path, document(found))
    for fragment in ("", "#class=truck", "#view=table", "#class=truck&view=table&shut=layer1.1&show=difference"):
        shown = Shown(browser).open(address + fragment)
        assert "no images" in shown.page.locator("[data-row='class:2']").text_content()
        assert shown.page.locator("[data-row='class:2'] .column").all_text_contents() == ["", ""]
        shown.page.locator("[data-row='class:2'] text").first.hover(force=True)
        assert shown.errors == []
        shown.close()
    mean = f"{found.executed[0]:g}"
    shown = Shown(browser).open(f"{address}#view=table")
    assert shown.page.locator("#table tfoot td").first.inner_text() == mean
    assert f"{mean} over all classes" in Shown(browser).open(f"{address}#class=cat").text("#ledger")
    shown.close()


def test_what_was_not_measured_is_not_drawn(browser: Any, tmp_path: Path) -> None:
    made = blocks()
    made |= {"front": None, "images": None, "cloud": None, "energy": None, "filters": None}
    made["now"] = {**made["now"], "ms": None, "gap": None}
    made["units"] |= {"alone_points": None, "ms": None}
    made["classes"]["images"][CAT], made["classes"]["accuracy"][CAT] = 0, None
    made["openness"]["missing"] = [27 * CAT + 4]
    shown = Shown(browser).open(saved(tmp_path, made))
    assert not shown.page.locator("#cost").is_visible()
    assert not shown.page.locator("#two").is_visible()
    assert shown.page.locator("#ledger .cell").nth(3).locator(".unknown").inner_text() == "\u2013"
    assert "no images" in shown.page.locator(f"[data-row='class:{CAT}']").text_content()
    assert shown.page.locator(f"[data-row='class:{CAT}'] .dotted").count() == 1
    assert "1 cells without a number" in shown.text("#about")
    assert shown.errors == []
    shown.close()


def test_a_thousand_classes_of_ten_thousand_units_are_drawn_in_two_seconds(browser: Any, tmp_path: Path) -> None:
    address = saved(tmp_path, filters())
    size = (tmp_path / "explorer.html").stat().st_size
    shown = Shown(browser).open(address)
    times = json.loads(
        shown.page.evaluate(
            """async () => {
            const painted = performance.getEntriesByName('first-contentful-paint')[0].startTime;
            const t0 = performance.now();
            dispatchEvent(new PopStateEvent('popstate'));
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            return JSON.stringify({ painted, redraw: performance.now() - t0 });
        }"""
        )
    )
    hover = shown.page.evaluate(
        """() => { const root = document.querySelector('#picture'), box = root.getBoundingClientRect();
        const times = [];
        for (let i = 0; i < 50; i++) {
          const t0 = performance.now();
          root.dispatchEvent(new PointerEvent('pointermove',
            { clientX: box.left + 200 + 15 * i, clientY: box.top + 300 + i, bubbles: true }));
          times.push(performance.now() - t0);
        }
        return times.sort((a, b) => a - b)[5]; }"""
    )
    assert size < 5e6
    assert "nearest 10\u2009%" in shown.text("#about")
    assert times["painted"] < 2000
    assert times["redraw"] < 1000
    assert hover < 16  # what it takes when no other program has the processor
    assert shown.errors == []
    shown.page.locator("#find-class").fill("class 777")
    shown.page.keyboard.press("Enter")
    shown.settled()
    assert shown.state("class") == "class+777"
    assert shown.page.locator(".lane").count() == 1
    shown.close()


def test_every_kept_image_can_be_reached_and_a_selected_class_shows_its_own(show: Any) -> None:
    shown = show("blocks", width=390)
    kept = {str(image["id"]): image["label"] for image in blocks()["images"]}
    while (more := shown.page.locator("#gallery .more")).count():
        more.first.click()

    def seen() -> set[str]:
        return {node.get_attribute("data-image") for node in shown.page.locator("#gallery .thumb").all()}

    assert seen() == set(kept)
    shown.page.evaluate("location.hash = 'class=cat'")
    shown.settled()
    assert seen() == {key for key, label in kept.items() if label == CAT}
    shown.page.get_by_text("Images of all classes").click()
    assert seen() == set(kept)


def test_no_image_is_promised_where_none_was_kept(browser: Any, tmp_path: Path) -> None:
    made = blocks()
    made["classes"]["group"] = None
    made["images"] = [image for image in made["images"] if image["label"] != CAT]
    some = Shown(browser).open(saved(tmp_path, made) + "#class=cat")
    assert "below" not in some.text("#ledger")
    assert "none of cat" in some.text("#gallery")
    some.close()
    bare = Shown(browser).open(saved(tmp_path, {**made, "images": []}))
    assert "image to follow" not in bare.text("#ledger")
    bare.close()


def test_commands_name_the_run_they_are_of_and_where_its_front_lies(browser: Any, tmp_path: Path) -> None:
    def page(form: dict[str, Any], fragment: str) -> Shown:
        form["now"]["ms"] = None
        return Shown(browser).open(saved(tmp_path, {**form, "page": {"run": "runs/a depth"}}) + fragment)

    for form, fragment, panel, said in (
        (depth(), "#budget=ms:5.5", "#cut", "cut 'runs/a depth' --budget-ms 5.5 --front 'runs/a depth/front.json'"),
        (blocks(), "", "#ledger", "survey 'runs/a depth' --times"),
        (blocks(), "#shut=layer2.1,layer2.2", "#ledger", "explore 'runs/a depth'"),
    ):
        shown = page(form, fragment)
        assert f"torchpaths {said}" in shown.text(panel)
        assert "RUN" not in shown.text("main")
        shown.close()


def test_a_phone_says_units_open_accuracy_and_costs_under_each_lane(show: Any) -> None:
    told = show("blocks", width=390).page.locator(".lane").first.locator(".column").all_text_contents()
    assert len(told) == 2
    assert told[1].endswith("%")
    assert show("depth", width=390).page.locator(".lane").first.locator(".column").count() == 3
    assert show("blocks", width=390).text("#ledger .who").split() == [
        "10,000",
        "test",
        "images",
        "of",
        "all",
        "classes",
    ]


def test_a_change_that_rounds_to_nothing_is_not_called_less_and_one_image_comes_in(
    browser: Any, tmp_path: Path
) -> None:
    made = blocks()
    made["units"]["alone_points"][3] = 0.00002
    made["paths"] = {"distinct": 1, "top": [{"path": made["images"][1]["path"], "class": 7, "share": 1.0}]}
    made["paths"]["top"][0]["confused"] = [[1, 1, 30], [7, 7, 900]]
    made["images"][1]["attacked"] = []
    shown = Shown(browser).open(saved(tmp_path, made) + "#shut=layer1.3")
    assert "\u00b10.0 points" in shown.text("#ledger")
    shown.page.evaluate("location.hash = 'image=1001&with=1002'")
    shown.settled()
    assert "comes in here" in (shown.page.locator("#picture").text_content() or "")
    assert "first: automobile" in shown.text("#two")
    assert "3.0\u2009%" in shown.text("#two table")
    assert "not among the 1 paths" in shown.text("#two .why")
    shown.close()
