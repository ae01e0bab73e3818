"""``match``: which sites or modules a name or a pattern means."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torchpaths.errors import RouteError, near


def match(pattern: str, names: Sequence[str], what: str) -> list[str]:
    """The names that a pattern means: that very name, or all that it matches whole as a regular expression.

    Raises:
        RouteError: if there is none, with near names, or if it is no regular expression.
    """
    if pattern in names:
        return [pattern]
    try:
        found = [n for n in names if re.fullmatch(pattern, n)]
    except re.error as error:
        raise RouteError(f"{pattern!r} is neither the name of a {what} nor a regular expression ({error}).") from error
    if not found:
        raise RouteError(f"{pattern!r} matches no {what}. {near(pattern, names)}")
    return found
