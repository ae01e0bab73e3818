"""Which sites or modules a name or a pattern means, ``match``; and whether a method was given such, ``check_sites``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torchpaths.errors import RouteError, near


def check_sites(sites: Any) -> None:
    """Raise `RouteError` unless a method's ``sites`` is None, or some names or patterns."""
    if isinstance(sites, str):
        raise RouteError(f"sites={sites!r}: give a list of names or patterns, sites=({sites!r},).")
    if sites is None:
        return
    if not isinstance(sites, (list, tuple)) or not all(isinstance(site, str) for site in sites):
        raise RouteError(f"sites={sites!r}: give names or patterns as texts, sites=('2',), or None for the usual ones.")
    if not sites:
        raise RouteError(f"sites={sites!r} names no layer; give at least one, or None for the usual ones.")


def match(pattern: str, names: Sequence[str], what: str) -> list[str]:
    """The names that a pattern means: that very name, or all that it matches whole as a regular expression.

    Raises:
        RouteError: if there is none, with near names, or if it is no text or no regular expression.
    """
    if not isinstance(pattern, str):
        raise RouteError(f"{pattern!r} is no text; give the name of a {what}, or a regular expression of such.")
    if pattern in names:
        return [pattern]
    try:
        found = [n for n in names if re.fullmatch(pattern, n)]
    except re.error as error:
        raise RouteError(f"{pattern!r} is neither the name of a {what} nor a regular expression ({error}).") from error
    if not found:
        raise RouteError(f"{pattern!r} matches no {what}. {near(pattern, names)}")
    return found
