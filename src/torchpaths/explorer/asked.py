"""What strangers ask the live page, checked before it is used: the size of what is sent, numbers and budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from torchpaths.budget import Budget
from torchpaths.errors import DataError, clip
from torchpaths.explorer.uploads import MOST_BYTES
from torchpaths.whole import is_whole

MOST_QUESTION = 1_000_000
"""Bytes of a question: a path is one for each unit."""
MOST_LEVELS = 16
"""Of an attack: more of 255, and people see another image too."""
AROUND = 100_000
"""Bytes of a form around the file in it."""


def most_bytes(path: str) -> int:
    """How many bytes may be sent to an address."""
    return MOST_BYTES + AROUND if path == "/api/upload" else MOST_QUESTION


def too_large(path: str) -> JSONResponse:
    """The answer to more."""
    most = most_bytes(path) / 1e6
    return JSONResponse({"error": f"more than {most:.0f} MB were sent", "remedy": "make it smaller."}, 413)


class Limited:
    """Takes so many bytes and no more, whatever a header says or leaves out, before anything reads them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > most_bytes(scope["path"]):
                await too_large(scope["path"])(scope, receive, send)
                return
            more = message["type"] == "http.request" and message.get("more_body", False)
        kept: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]
        del body

        async def again() -> Message:
            return kept.pop() if kept else await receive()

        await self.app(scope, again, send)


def class_numbers(asked: Mapping[str, Any], classes: int) -> list[int]:
    """The classes that are named. Raises `DataError` unless they are numbers of classes."""
    found = asked.get("classes")
    if not isinstance(found, list) or not found or not all(is_whole(c, 0, classes - 1) for c in found):
        raise DataError(f"no classes were named; give their numbers, a list of whole numbers from 0 to {classes - 1}.")
    return found


def attack_levels(asked: Mapping[str, Any]) -> int | None:
    """How far an attack that is asked for may change a pixel, in levels of 255; None for no attack.

    Raises:
        DataError: for another attack, or a strength out of range.
    """
    attack = asked.get("attack")
    if attack is None:
        return None
    if not isinstance(attack, dict) or attack.get("name") != "fgsm":
        raise DataError('no such attack here; give attack {"name": "fgsm", "strength": 4}, or none.')
    strength = attack.get("strength")
    if strength is None or not is_whole(strength, 0, MOST_LEVELS):
        raise DataError(
            f"attack strength {clip(repr(strength), 60)}: levels of 255 by which a pixel may be changed; give a whole "
            f"number from 0 to {MOST_LEVELS}."
        )
    return int(strength)


def macs_budget(asked: Mapping[str, Any]) -> float | None:
    """The MACs that are asked for, None for no budget.

    Raises:
        DataError: for a budget of another kind.
        BudgetError: for one out of range.
    """
    budget = asked.get("budget")
    if budget is None:
        return None
    if not isinstance(budget, dict) or budget.get("by") != "macs":
        raise DataError('a cut is chosen by MACs alone; give budget {"by": "macs", "value": 0.6}, or none.')
    value = budget.get("value")
    if isinstance(value, int) and abs(value) > 2**62:
        raise DataError("budget: a number too large for MACs; give a share of the plain network's, or MACs.")
    return Budget(macs=value).macs
