"""Text of any kind, shown: names of classes, files and data sets come from anywhere, and are seen in terminals, figures
and errors.

A name may hold what a terminal obeys (colours, a cleared screen), what turns the direction of all that follows, or what
is no text at all, as bytes of a file name that are no UTF-8. `visible` writes such characters as Python does in quotes;
everything else, of any script, stays as it is. What shows text asks nothing more of it: consoles of
`torchpaths.terminal` take no markup, figures of `torchpaths.surveys.figures.style` no formulas.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control, format (as of direction), half a character, and breaks of lines and paragraphs."""
_JOINERS = "\u200c\u200d"  # within words of Persian and of Indian scripts, and within emoji


def visible(text: str, keep: str = "") -> str:
    """A text in which every character can be seen.

    Args:
        text: any.
        keep: characters that stay though they cannot be seen, such as the ends of lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if _hidden(c) and c not in keep else c for c in text)


def storable(text: str) -> str:
    """A text as UTF-8 can hold it: bytes of a file name that are no characters are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def distinct(names: Sequence[str]) -> list[str]:
    """Names of which each stands once: those that several classes share get their numbers, ``crane (134)``."""
    times = Counter(names)
    return [f"{name} ({i})" if times[name] > 1 else name for i, name in enumerate(names)]


def _hidden(c: str) -> bool:
    return unicodedata.category(c) in _UNSEEN and c not in _JOINERS


def _escaped(c: str) -> str:
    return c.encode("unicode_escape").decode()
