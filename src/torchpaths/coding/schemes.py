"""Coding schemes of Coded ResNeXt: a codeword for each class.

Avranas and Kountouris, *Towards Disentangling Information Paths with Coded ResNeXt*, NeurIPS 2022, section 3.2.1. A
scheme has

- A. in every row exactly ``active`` ones,
- B. column sums as equal as possible, so that every branch works for equally many classes,
- C. a minimum Hamming distance between rows as large as possible.

Equal rows would make two classes one, so rows are different. A and B can always be had exactly, so they always are.
"""

from __future__ import annotations

import functools
import math
import operator

import numpy as np

from torchpaths.coding.bits import Words, overlaps
from torchpaths.coding.bounds import distance_bound
from torchpaths.coding.constructions import construct
from torchpaths.coding.shipped import shipped
from torchpaths.errors import CodeError


def codes(classes: int, units: int, active: int, *, distance: int | None = None) -> Words:
    """Make a coding scheme: for each class the units that shall work for it.

    Args:
        classes: number of codewords, at least 2.
        units: their length: branches of a block, or groups of channels.
        active: ones in each codeword, from 1 to ``units - 1``.
        distance: the minimum Hamming distance that the scheme must have at least.

    Returns:
        Bool ``[classes, units]``, a new array. Rows are different and hold ``active`` ones each; column sums are equal
        where ``classes * active`` is divisible by ``units``, else within 1. The minimum distance is the largest that
        was found; `torchpaths.certificate` says how far that is from what is possible. The same arguments give the same
        scheme on every machine.

    Raises:
        CodeError: there is no such scheme, or none of this ``distance`` was found.

    Source: Avranas and Kountouris, NeurIPS 2022, section 3.2.1.
    """
    classes = _whole("classes", classes)
    units = _whole("units", units)
    active = _whole("active", active)
    _possible(classes, units, active)
    wanted = None if distance is None else _whole("distance", distance)
    if wanted is not None and wanted < 1:
        raise CodeError(f"distance={wanted}: codewords of different classes differ, give 1 or more, or leave it out.")
    words = _found(classes, units, active)
    if wanted is not None and wanted > (reached := _distance(words)):
        raise CodeError(_too_far(classes, units, active, wanted, reached))
    return words.copy()


@functools.lru_cache(maxsize=32)
def _found(classes: int, units: int, active: int) -> Words:
    """A scheme for arguments that are possible."""
    mirrored = 2 * active > units
    words = shipped(classes, units, units - active if mirrored else active)
    if words is None:
        return construct(classes, units, active)
    return ~words[::-1] if mirrored else words


def _distance(words: Words) -> int:
    """The minimum Hamming distance of rows of one weight."""
    most = 0
    for start in range(0, len(words), 512):
        shared = overlaps(words[start : start + 512], words)
        shared[np.arange(len(shared)), np.arange(start, start + len(shared))] = 0
        most = max(most, int(shared.max()))
    return 2 * (int(words[0].sum()) - most)


def _whole(name: str, value: object) -> int:
    """An argument that must be a whole number and no bool."""
    if not isinstance(value, bool | np.bool_):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise CodeError(f"{name}={value!r} is {type(value).__name__}: give a whole number.")


def _possible(classes: int, units: int, active: int) -> None:
    """Raise the error that says why there is no such scheme, and what there is."""
    if classes < 2:
        raise CodeError(f"classes={classes}: codewords tell classes apart, which takes classes=2 or more.")
    if units < 2:
        raise CodeError(
            f"units={units}: classes are told apart by the units they leave out. "
            f"Give {_remedy(classes, units, active)}."
        )
    if active == units:
        raise CodeError(
            f"active={active} of units={units}: every unit works for every class, so the block is plain. Blocks with "
            f"ratio 1 need no code: leave them out, or give {_remedy(classes, units, active)}."
        )
    if not 1 <= active < units:
        raise CodeError(
            f"active={active}: of {units} units, active can be 1 to {units - 1}. "
            f"Give {_remedy(classes, units, active)}."
        )
    if not _enough(units, active, classes):
        raise CodeError(
            f"classes={classes}: there are only {_counted(units, active)} different codewords of units={units} with "
            f"active={active}. Give {_remedy(classes, units, active)}."
        )


def _remedy(classes: int, units: int, active: int) -> str:
    """The nearest numbers of ones, or else of units, that give enough codewords, and how many."""
    offers = []
    least = next((a for a in range(1, units // 2 + 1) if _enough(units, a, classes)), None)
    if least is not None:  # and then every number up to units - least does
        other = min(max(active, least), units - least)
        offers.append(f"active={other} ({_counted(units, other)})")
    if active < 1 and not offers:
        offers.append(f"active=1 with units={classes} ({classes})")
    if active >= 1:
        below = max(units, active)
        above = below + 1
        while not _enough(above, active, classes):
            below, above = above, 2 * above
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (below, middle) if _enough(middle, active, classes) else (middle, above)
        offers.append(f"units={above} ({_counted(above, active)})")
    return " or ".join(offers)


def _enough(units: int, active: int, classes: int) -> bool:
    """Whether there are so many codewords, without counting many more."""
    count = 1
    for i in range(min(active, units - active)):
        count = count * (units - i) // (i + 1)
        if count >= classes:
            return True
    return count >= classes and active <= units


def _counted(units: int, active: int) -> str:
    """How many codewords there are, as text that can be read."""
    if _enough(units, active, 10**12):
        return "over 10^12"
    return str(math.comb(units, active))


def _too_far(classes: int, units: int, active: int, wanted: int, reached: int) -> str:
    bound, theorem = distance_bound(classes, units, active)
    limit = f"more than {bound} is impossible ({theorem})"
    if reached < wanted <= bound:
        limit += ", what lies between is not known here"
    return (
        f"distance={wanted}: the best scheme found for classes={classes}, units={units}, active={active} has minimum "
        f"distance {reached}; {limit}. Give distance={reached} or less, fewer classes or more units."
    )
