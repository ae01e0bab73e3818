"""Codewords and symmetries from finite fields.

Number the units by the elements of GF(2^m). The words ``Tr(a1 x + a3 x^3 + ...) + c``, all choices of the coefficients,
are the extended dual BCH codes (MacWilliams and Sloane, The Theory of Error-Correcting Codes, 1977, chapters 9 and 15):
few words, far apart. Those of one weight are a pool to take codewords from. Adding ``b`` to ``x`` permutes the units
and leaves each such pool as it is, so a pool is a union of orbits, and in an orbit of a transitive group all columns
are equal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torchpaths.coding.bits import Packed, Words, pack, unpack

PRIMITIVE = {2: 0b111, 3: 0b1011, 4: 0b10011, 5: 0b100101, 6: 0b1000011, 7: 0b10001001, 8: 0b100011101}
"""A primitive polynomial over GF(2) of each degree, as bits."""

MOST_BITS = 18
"""Codes of up to 2^18 words are written out."""

Maps = NDArray[np.int64]
"""Permutations of the units, ``[maps, units]``: map g sends the unit at place ``maps[g, u]`` to place ``u``."""


def exponent(units: int) -> int | None:
    """The m with ``units == 2 ** m`` if the field GF(2^m) is known here, else None."""
    m = units.bit_length() - 1
    return m if units == 2**m and m in PRIMITIVE else None


def powers(m: int) -> NDArray[np.int64]:
    """The powers ``g^0 .. g^(2^m - 2)`` of the generator of GF(2^m)."""
    found = [1]
    for _ in range(2**m - 2):
        following = found[-1] << 1
        found.append(following ^ PRIMITIVE[m] if following >> m else following)
    return np.array(found)


def power(m: int, k: int) -> NDArray[np.int64]:
    """``x^k`` for every element x of GF(2^m), ``k >= 1``: ``[2^m]``."""
    generated = powers(m)
    result = np.zeros(2**m, np.int64)
    result[generated] = generated[np.arange(len(generated)) * k % len(generated)]
    return result


def trace_code(m: int, terms: int) -> Packed | None:
    """All words ``Tr(a1 x + a3 x^3 + ...) + c`` with so many odd powers, once each; None where they are too many.

    The functions ``Tr(a x^k)`` for one k are spanned by the bits of ``x^k``, so the code is spanned by those bits and
    1.

    Returns:
        ``[words, blocks]``, words of length 2^m, in an order that holds for every machine.
    """
    rows = [np.ones(2**m, np.int64)]
    rows += [power(m, 2 * term + 1) >> bit & 1 for term in range(terms) for bit in range(m)]
    packed = pack(np.array(rows, bool))
    basis = packed[independent(packed)]
    if len(basis) > MOST_BITS:
        return None
    words = np.zeros((1, basis.shape[1]), np.uint64)
    for row in basis:
        words = np.concatenate([words, words ^ row])
    return words


def independent(rows: Packed) -> NDArray[np.int64]:
    """Indices of rows of ``[rows, blocks]`` that are no sums, bit by bit, of earlier ones."""
    bits = unpack(rows, 64 * rows.shape[1])
    kept: list[int] = []
    reduced: list[tuple[int, Words]] = []
    for i, row in enumerate(bits):
        left = row.copy()
        for lead, other in reduced:
            if left[lead]:
                left ^= other
        if left.any():
            reduced.append((int(left.argmax()), left))
            kept.append(i)
    return np.array(kept, np.int64)


def translations(m: int) -> Maps:
    """``x -> x + b`` on GF(2^m): ``[2^m, 2^m]``."""
    x = np.arange(2**m)
    return np.bitwise_xor.outer(x, x)


def semilinear(m: int) -> Maps:
    """``x -> x^(2^k) + b`` on GF(2^m): ``[m 2^m, 2^m]``."""
    return np.concatenate([translations(m)[:, power(m, 2**k)] for k in range(m)])


def rotations(units: int) -> Maps:
    """``i -> i + b`` modulo ``units``: ``[units, units]``."""
    i = np.arange(units)
    return (i[None, :] + i[:, None]) % units


def spirals(units: int, factor: int) -> Maps:
    """``i -> factor^k i + b`` modulo ``units``; ``factor`` is prime to ``units``."""
    i, multiple = np.arange(units), 1
    found: list[Maps] = []
    while not found or multiple != 1:
        found.append((i[None, :] * multiple + i[:, None]) % units)
        multiple = multiple * factor % units
    return np.concatenate(found)
