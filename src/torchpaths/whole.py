"""One check of whole numbers: ``whole``. Python takes True for 1, and numpy cuts fractions off; here neither passes."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

MOST = 2**62
"""The largest that files hold, see `torchpaths.schema.Count`."""


def is_whole(value: Any, least: int = 0, most: int = MOST) -> bool:
    """Whether a value is a whole number from ``least`` to ``most``: Python's, numpy's or a tensor's, and no bool."""
    if isinstance(value, (bool, np.bool_, np.ndarray)) or "bool" in str(getattr(value, "dtype", "")):
        return False
    try:
        return least <= operator.index(value) <= most
    except (TypeError, RuntimeError):  # a tensor of several numbers is a RuntimeError
        return False


def whole(value: Any, name: str, error: type[Exception], least: int = 0, most: int = MOST) -> int:
    """A value as a whole number.

    Args:
        value: what was given.
        name: of the argument, for the error.
        error: what is raised.
        least: the smallest.
        most: the largest.
    """
    if not is_whole(value, least, most):
        top = "2**62" if most == MOST else str(most)
        raise error(f"{name}={str(value)[:60]}: give a whole number from {least} to {top}.")
    return operator.index(value)
