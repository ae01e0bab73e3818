"""How far something is: a bar on a terminal, elsewhere a line every ten seconds; both with the time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from torchpaths.terminal import Console

T = TypeVar("T")

QUIET = 10.0
"""Off a terminal: seconds between two lines."""


def tracked(items: Iterable[T], name: str, total: int | None, console: Console | None = None) -> Generator[T]:
    """The items, while the standard error stream is told how many have been taken.

    Args:
        items: any.
        name: of what is going on.
        total: how many there are, None if not known.
        console: where to; the standard error stream if None.
    """
    told = console or Console(stderr=True, soft_wrap=True)
    if told.is_terminal:
        from rich.progress import track

        yield from track(items, name, total=total, console=told, transient=True)
        return
    start = said = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if number and now - said >= QUIET:
            said = now
            left = "" if total is None else f" of {total}, {clock((total - number) * (now - start) / number)} left"
            told.print(f"{name}: {number}{left}")
        yield item


@contextlib.contextmanager
def telling(name: str, show: bool = True, console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """What says what is going on, where nobody knows how much is left: a status on a terminal, elsewhere lines, at most
    one in ten seconds besides the first.

    Args:
        name: of the whole.
        show: False says nothing.
        console: as for `tracked`.
    """
    if not show:
        yield lambda _: None
        return
    told = console or Console(stderr=True, soft_wrap=True)
    if told.is_terminal:
        with told.status(name) as status:
            yield lambda text: status.update(f"{name}: {text}")
        return
    said = [-QUIET]

    def line(text: str) -> None:
        now = time.monotonic()
        if now - said[0] >= QUIET:
            said[0] = now
            told.print(f"{name}: {text}")

    yield line


def clock(seconds: float) -> str:
    """``"1:02:03"``, ``"0:07"``."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
