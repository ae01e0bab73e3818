"""Codewords for classes (Coded ResNeXt, section 3.2.1): so far the cyclic shifts of one word."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import CodeError


def codes(classes: int, units: int, active: int) -> NDArray[np.bool_]:
    """Bool ``[class, unit]`` with ``active`` ones in each row and each column."""
    if classes != units:
        raise CodeError(f"{classes} classes on {units} branches: only as many classes as branches so far.")
    shifts = (np.arange(units)[:, None] + np.arange(units)) % units
    best: NDArray[np.bool_] = max(
        (np.isin(shifts, first) for first in itertools.combinations(range(units), active)),
        key=lambda words: (words[:, None] != words[None]).sum(2)[np.triu_indices(units, 1)].min(),
    )
    return best
