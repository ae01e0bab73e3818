"""How long the Path Explorer lets a person wait, in chromium: its first picture, what the pointer is over, a click.

    python benchmarks/explorer.py --run records/cifar10_resnet56/gated-0.7 --data DIR/cifar10

The run's page is opened as one file and served with its model; beside it a made-up survey of 1,000 classes and 10,000
units. *First picture*: from the start of navigation until the browser has painted and the page says that it is ready.
*Pointer*: what a move of the pointer takes, layout included. *Click*: from the press that shuts a unit until the ledger
shows what the file estimates, or live the model's first answer: for one image the answer, for all images the first of
an accuracy that grows surer. Medians and ranges over tries, each in a new page; prints a table and JSON.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from browser import Shown, chromium  # noqa: E402
from explorer_toys import filters  # noqa: E402
from torchpaths.explorer.bundle import one_file  # noqa: E402

PORT = 8765
FIRST = """() => {
  const paints = performance.getEntriesByType("paint").map((entry) => entry.startTime);
  return Math.max(...paints, performance.getEntriesByName("ready")[0]?.startTime ?? 0);
}"""
READY = """new MutationObserver((changes, observer) => {
  if (document.body?.dataset.ready !== undefined) { performance.mark("ready"); observer.disconnect(); }
}).observe(document, { subtree: true, childList: true, attributes: true });"""
WATCH = """() => {
  window.told = { pressed: 0, asked: 0, drawn: 0 };
  const real = window.fetch;
  window.fetch = async (...given) => {
    const found = await real(...given);
    told.asked ||= performance.now();
    return found;
  };
  addEventListener("pointerup", () => Object.assign(told, { pressed: performance.now(), asked: 0, drawn: 0 }), true);
  new MutationObserver(() => { if (told.asked || !told.live) told.drawn ||= performance.now(); })
    .observe(document.querySelector("#ledger"), { subtree: true, childList: true, characterData: true });
}"""
HOVER = """([x, y]) => {
  const start = performance.now();
  document.elementFromPoint(x, y).dispatchEvent(
    new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true, pointerType: "mouse" }));
  document.body.offsetHeight;
  return performance.now() - start;
}"""


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        run: whose page.
        data: its images.
        tries: pages opened, units shut.
        classes: of the made-up survey.
        units: of it.
        out: folder for results.json; None for none.
    """

    run: pathlib.Path
    data: pathlib.Path
    tries: int = 7
    classes: int = 1000
    units: int = 10_000
    out: pathlib.Path | None = None


def main(options: Options) -> None:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        made = pathlib.Path(folder) / "made-up.html"
        made.write_text(one_file(filters(options.classes, options.units)), encoding="utf-8")
        page = pathlib.Path(folder) / "run.html"
        command = [sys.executable, "-m", "torchpaths", "explore", str(options.run)]
        subprocess.run([*command, "--out", str(page)], check=True, capture_output=True)
        name = f"made-up, {options.classes:,} classes x {options.units:,} units"
        for label, file in ((f"{options.run.name}, saved", page), (name, made)):
            rows += opened(browser, label, file.as_uri(), options.tries, file.stat().st_size)
        rows.append({"page": f"{options.run.name}, saved", "what": "click", **clicks(browser, page.as_uri(), options)})
        with served([*command, "--data", str(options.data), "--port", str(PORT)]) as address:
            rows += opened(browser, f"{options.run.name}, live", address, options.tries, None)
            image = json.loads(urllib.request.urlopen(f"{address}api/survey").read())["images"][0]["id"]
            for what, state in (("click, one image", f"#image={image}"), ("click, all images", "")):
                found = clicks(browser, address + state, options, live=True)
                rows.append({"page": f"{options.run.name}, live", "what": what, **found})
    told(rows)
    found = {"processor": platform.processor() or platform.machine(), "rows": rows}
    print(json.dumps(found))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")


def opened(browser: Any, label: str, address: str, tries: int, size: int | None) -> list[dict[str, Any]]:
    """First picture and pointer."""
    firsts, moves = [], []
    for _ in range(tries):
        shown = Shown(browser)
        shown.page.add_init_script(READY)
        shown.open(address)
        shown.page.wait_for_timeout(300)  # paints are told a frame later
        firsts.append(float(shown.page.evaluate(FIRST)))
        box = shown.page.locator("#picture").bounding_box()
        for step in range(5):
            at = [box["x"] + box["width"] * (0.2 + 0.1 * step), box["y"] + box["height"] * 0.5]
            moves.append(float(shown.page.evaluate(HOVER, at)))
        shown.close()
    first = {"page": label, "what": "first picture", **spread(firsts), "bytes": size}
    return [first, {"page": label, "what": "pointer", **spread(moves)}]


def clicks(browser: Any, address: str, options: Options, live: bool = False) -> dict[str, Any]:
    """Units shut one after the other."""
    shown = Shown(browser).open(address)
    shown.page.evaluate(WATCH)
    shown.page.evaluate("live => { told.live = live; }", live)
    taken = []
    stations = shown.page.locator("rect.station[data-unit]")
    for unit in range(min(options.tries, stations.count())):
        shown.press(*shown.station(int(stations.nth(unit).get_attribute("data-unit") or unit)))
        shown.page.wait_for_timeout(1500)
        taken.append(float(shown.page.evaluate("told.drawn - told.pressed")))
    shown.close()
    return spread(taken)


def spread(values: list[float]) -> dict[str, Any]:
    """Median and range in ms."""
    return {"ms": statistics.median(values), "least": min(values), "most": max(values), "tries": len(values)}


@contextlib.contextmanager
def served(command: list[str]) -> Iterator[str]:
    """A server, until it is no longer needed."""
    address = f"http://127.0.0.1:{PORT}/"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address, timeout=1).read()
                break
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def told(rows: list[dict[str, Any]]) -> None:
    table = Table("page", "what", "ms, median", "range", "kB", box=None)
    for row in rows:
        size = f"{row['bytes'] / 1000:,.0f}" if row.get("bytes") else ""
        table.add_row(row["page"], row["what"], f"{row['ms']:.0f}", f"{row['least']:.0f} to {row['most']:.0f}", size)
    Console(width=shutil.get_terminal_size((110, 20)).columns).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
