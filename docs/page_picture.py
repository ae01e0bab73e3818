"""The picture of the Path Explorer that the documentation shows: a run's page as a browser of 1280 pixels draws it.

    python docs/page_picture.py RUN/explorer.html [FILE.png]      # or make pictures

It is drawn by the system's chromium, in light colours, as far as the first panels.
"""

from __future__ import annotations

import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 720
FILE = pathlib.Path(__file__).resolve().parent / "pictures" / "explorer.png"


def main(page: pathlib.Path, file: pathlib.Path) -> None:
    """Write the picture of a page.

    Raises:
        SystemExit: if there is no page there, or no chromium here.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium here to draw the page; install it: apt-get install chromium")
    if not page.is_file():
        raise SystemExit(f"{page}: no page there; make one: torchpaths explore RUN --out {page}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        shown.goto(page.resolve().as_uri())
        shown.wait_for_selector("body[data-ready]")
        file.parent.mkdir(parents=True, exist_ok=True)
        shown.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit("python docs/page_picture.py RUN/explorer.html [FILE.png]")
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else FILE)
