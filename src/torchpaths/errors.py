"""Errors that say what was wrong, where, and what to do about it.

Every error of the library is one of these. They derive from the built-in error that a caller would already expect
(``ValueError`` for a bad value, ``RuntimeError`` for a call at the wrong moment), so ``except ValueError`` goes on
working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from torchpaths.text import visible


class _ToldError(Exception):
    """An error whose words may quote what strangers wrote: a terminal that shows them obeys none of it."""

    def __str__(self) -> str:
        return visible(super().__str__(), keep="\n")


class PathError(_ToldError, ValueError):
    """A path that is malformed or belongs to another network."""


class BudgetError(_ToldError, ValueError):
    """A budget out of range, or one that nothing can meet."""


class RouteError(_ToldError, ValueError):
    """A model, a pattern or a block that cannot be routed; nothing was swapped."""


class ExampleError(RouteError):
    """An example that the model does not take; its cause is what the model itself said."""


class CallError(_ToldError, RuntimeError):
    """A junction ran at a moment when its decision cannot be known."""


class MeasureError(_ToldError, ValueError):
    """Something that cannot be measured as it stands."""


class DataError(_ToldError, ValueError):
    """A data set, file or image that cannot be read as it stands."""


class CodeError(_ToldError, ValueError):
    """Codewords that cannot be made, a table that is no coding scheme, or one that does not fit its block."""


class RunError(_ToldError, RuntimeError):
    """A training run, run folder or checkpoint that cannot be used or continued."""


class DigestWarning(UserWarning):
    """Weights that carry no digest, as older versions wrote them: damage to them would go unnoticed."""


def clip(text: str, most: int) -> str:
    """A text in at most so many characters: of a longer one the beginning and the end."""
    if len(text) <= most:
        return text
    tail = max(most // 4, most - 320)
    return f"{text[: most - tail - 5]} ... {text[-tail:]}"


def near(name: str, known: Iterable[str], most: int = 3) -> str:
    """A clause that lists the known names nearest to ``name``, for the end of an error message.

    Args:
        name: the name that was not found.
        known: the names that exist.
        most: how many to list.

    Returns:
        ``"Did you mean 'a' or 'b'?"``, or the first known names when none is close, or a remark that there are none.
    """
    names = [clip(each, 60) for each in known]
    close = difflib.get_close_matches(clip(name, 60), names, n=most, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    if not names:
        return "There are none to choose from."
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"Known: {', '.join(map(repr, names[:most]))}{more}."


def reason(error: BaseException, most: int = 300) -> str:
    """What another library complained of, on one line: its first cause, by class and message.

    Args:
        error: as it was caught.
        most: characters to show.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:most]
