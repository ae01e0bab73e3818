"""Codewords with a one in each of several groups of units: codes over a larger alphabet, written in unary.

Split the units into ``active`` groups of ``q`` and let a codeword have one unit of each group: it spells a word of
``active`` symbols, and two codewords differ in twice as many units as their words in symbols (concatenation, Forney
1966; MacWilliams and Sloane, 1977, chapter 10). The symbols are values ``Tr(a1 x^i + a2 x^j + ...) + c`` in GF(q) at
points x of GF(q^s); with s = 1 these are Reed-Solomon codes. Words that differ by the constant c share no unit, so q of
them have a one in every column, and the first words of such families, however many, have columns within 1.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from torchpaths.coding.algebra import PRIMITIVE, exponent, independent, power, powers
from torchpaths.coding.bits import Words, pack

MOST_BITS = 14
"""Codes of up to 2^14 words are looked at."""
LEADERS = 8
"""Exponents that are combined, up to three at a time."""


def grid(classes: int, units: int, active: int) -> tuple[int, Words] | None:
    """The code of this kind with the largest minimum distance and at least ``classes`` words, cut to ``classes``.

    Returns:
        Its minimum distance and bool ``[classes, units]`` with columns within 1; None where there is no such code: the
        units of a group must be a power of 2.
    """
    m = exponent(units // active) if units % active == 0 and units > 2 * active else None
    if m is None:
        return None
    big = next((n for n in range(m, max(PRIMITIVE) + 1, m) if 2**n >= active), None)
    if big is None:
        return None
    best: tuple[int, NDArray[np.int64]] | None = None
    for exponents in _choices(m, big):
        rows = _rows(m, big, exponents)[:, :active]
        basis = rows[_kept(rows, big)]
        if not math.log2(classes) <= len(basis) <= MOST_BITS:
            continue
        words = np.zeros((1, active), np.int64)
        for row in basis:
            words = np.concatenate([words, words ^ row])
        distance = 2 * int((words[1:] != 0).sum(1).min())
        if best is None or distance > best[0]:
            best = distance, words[:classes]
    if best is None:
        return None
    symbols = np.unique(_subfield(m, big))
    places = np.searchsorted(symbols, best[1]) + np.arange(active) * 2**m
    table = np.zeros((classes, units), bool)
    np.put_along_axis(table, places, True, axis=1)
    return best[0], table


def _choices(m: int, big: int) -> list[tuple[int, ...]]:
    """Sets of exponents, one for each coset: ``x^i`` and ``x^(q i)`` have the same traces."""
    size = 2**big - 1
    leaders = [i for i in range(1, size + 1) if i == min(i * 2 ** (m * k) % size or size for k in range(big // m))]
    return [chosen for n in (1, 2, 3) for chosen in itertools.combinations(leaders[:LEADERS], n)]


def _rows(m: int, big: int, exponents: tuple[int, ...]) -> NDArray[np.int64]:
    """Vectors over GF(q) that span the code by sums, constants first: elements of GF(2^big), ``[rows, 2^big]``."""
    generated = powers(big)
    rows = [np.full(2**big, c) for c in _subfield(m, big)[1:]]
    for i in exponents:
        values = power(big, i)
        for shift in range(big):
            scaled = np.zeros(2**big, np.int64)
            logarithms = np.argsort(generated)[values[values > 0] - 1]
            scaled[values > 0] = generated[(logarithms + shift) % len(generated)]
            rows.append(np.bitwise_xor.reduce([power(big, 2 ** (m * k))[scaled] for k in range(big // m)]))
    return np.array(rows)


def _subfield(m: int, big: int) -> NDArray[np.int64]:
    """The elements of GF(2^m) in GF(2^big), 0 first."""
    return np.array([0, *powers(big)[:: (2**big - 1) // (2**m - 1)]])


def _kept(rows: NDArray[np.int64], big: int) -> NDArray[np.int64]:
    """Indices of rows that are no sums of earlier ones."""
    return independent(pack((rows[:, :, None] >> np.arange(big) & 1).astype(bool).reshape(len(rows), -1)))
