"""``threshold``: a score above which units open, wherever one is set. NaN is above and below nothing: what it opens
would depend on how scores are compared."""

from __future__ import annotations

import math
from typing import Any

from torchpaths.errors import RouteError


def threshold(value: Any, decider: str) -> float:
    """A score above which units open: the number that was given.

    Raises:
        RouteError: for what is not a number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if isinstance(value, (str, bool)) or math.isnan(number):
        raise RouteError(
            f"threshold={value!r} of a {decider}: give a number, the score above which its units open; 0 is what it is "
            "trained with, higher ones open fewer."
        )
    return number
