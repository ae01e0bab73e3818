"""Debian's chromium under Playwright, for tests of pages; they skip, loudly, where it is absent."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from torchpaths.explorer.bundle import one_file

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="no chromium or no playwright here: NOTHING OF THE PAGE IS TESTED; apt-get install chromium, make setup",
)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser, the system's own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """An ASGI app at a free port of this machine; its address."""
    import uvicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/"
    running.should_exit = True
    thread.join(10)


class Shown:
    """A page in a browser, and what it complained of or asked for."""

    def __init__(self, browser: Any, width: int = 1280, dark: bool = False, **more: Any) -> None:
        scheme = "dark" if dark else "light"
        more = {"reduced_motion": "reduce", "viewport": {"width": width, "height": 900}, **more}
        self.context = browser.new_context(color_scheme=scheme, **more)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, address: str, ready: bool = True) -> Shown:
        self.page.goto(address)
        if ready:
            self.page.wait_for_selector("body[data-ready]", timeout=20_000)
        return self

    def state(self, name: str) -> Any:
        """What the link says of a key."""
        pairs = dict(p.split("=", 1) for p in self.page.evaluate("location.hash.slice(1)").split("&") if "=" in p)
        return pairs.get(name)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())

    def station(self, site: int) -> tuple[float, float]:
        """Where a unit's station is on the screen."""
        box = self.page.locator(f"rect.station[data-unit='{site}']").first.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def press(self, x: float, y: float) -> None:
        """A real press and release of the mouse, with the way there."""
        self.page.mouse.move(x - 3, y - 2)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.wait_for_timeout(20)
        self.page.mouse.up()
        self.settled()

    def settled(self) -> None:
        """Until the link says what the state is."""
        self.page.wait_for_timeout(40)

    def close(self) -> None:
        self.context.close()


def saved(folder: Path, document: dict[str, Any]) -> str:
    """A document as a file from disk, its address."""
    file = folder / "explorer.html"
    file.write_text(one_file(document), encoding="utf-8")
    return file.as_uri()
