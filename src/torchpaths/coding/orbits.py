"""Schemes made of whole orbits of a transitive group of permutations of the units.

In an orbit every unit works for equally many words, so a union of orbits obeys rule B exactly, and one comparison of a
representative with an orbit settles the distances of all words of two orbits. What is left is to choose compatible
orbits, greedily, in an order that looks random. Codes from prescribed groups: Nurmela, Kaikkonen and Ostergard, IEEE
Trans. Inf. Theory 43, 1997.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from torchpaths.coding.algebra import Maps, exponent, rotations, semilinear, spirals, translations
from torchpaths.coding.bits import Packed, Words, distances, every_word, noise, order, pack, some_words

MOST_WORDS = 50_000
"""Where there are more words of a weight, at most so many are drawn."""
MOST_WORK = 300_000_000
"""Units of all words under all maps together, at most: fewer words are drawn for larger groups."""

TRIAL = 15
PATIENCE = 60
"""Rounds after which a search that is far from its aim, or stands still, is given up."""


def groups(units: int) -> list[Maps]:
    """Transitive groups on the units, larger ones first: all affine maps over GF(2^m) or the integers modulo units."""
    found = [rotations(units)]
    orders: set[int] = {units}
    for factor in range(2, min(units, 32)):
        if math.gcd(factor, units) == 1:
            maps = spirals(units, factor)
            if len(maps) not in orders and len(maps) <= 8 * units:
                orders.add(len(maps))
                found.append(maps)
    m = exponent(units)
    if m is not None:
        found += [translations(m), semilinear(m)]
    return sorted(found, key=len, reverse=True)


def candidates(units: int, active: int, maps: Maps, seed: int) -> Words:
    """Words whose orbits may be chosen: all of the weight or many drawn, and those with a period, of short orbits."""
    most = min(MOST_WORDS, MOST_WORK // maps.size)
    if math.comb(units, active) <= most:
        return every_word(units, active)
    words = [some_words(units, active, most, seed)]
    for shift in range(2, units):
        period = units // math.gcd(units, shift)
        if shift * period == units and active % period == 0 and math.comb(shift, active // period) <= most:
            short = every_word(shift, active // period)
            words += [np.tile(short, (1, period)), np.repeat(short, period, axis=1)]
    return np.concatenate(words)


class Pool:
    """The orbits of some words under a group.

    Attributes:
        words: one word of each orbit, ``[orbits, units]``.
        inner: the smallest distance within each orbit, ``[orbits]``; units + 1 where an orbit is one word.
    """

    def __init__(self, words: Words, maps: Maps):
        packed = pack(words)
        units = words.shape[1]
        inner = np.full(len(words), units + 1)
        smallest = packed.copy()
        for places in maps:
            moved = pack(words[:, places])
            gaps = np.bitwise_count(moved ^ packed).sum(1, dtype=np.int64)
            inner = np.minimum(inner, np.where(gaps == 0, units + 1, gaps))
            less = _before(moved, smallest)
            smallest[less] = moved[less]
        _, first = np.unique(smallest, axis=0, return_index=True)
        first = np.sort(first)
        self.maps = maps
        self.words = words[first]
        self.inner = inner[first]
        self._packed = packed[first]

    def orbit(self, index: int) -> Packed:
        """The words of an orbit, each once: ``[words, blocks]``."""
        return np.unique(pack(self.words[index][self.maps]), axis=0)

    def choose(self, distance: int, enough: int, preferred: NDArray[np.int64]) -> dict[int, Packed]:
        """Orbits whose words all differ in at least ``distance`` places.

        Args:
            distance: between any two words.
            enough: stop at so many words.
            preferred: indices of orbits to try, in this order.

        Returns:
            Index -> words of the orbits chosen, in order.
        """
        left = preferred[self.inner[preferred] >= distance]
        chosen: dict[int, Packed] = {}
        count = 0
        while len(left) and count < enough:
            orbit = self.orbit(int(left[0]))
            chosen[int(left[0])] = orbit
            count += len(orbit)
            left = left[1:]
            for word in orbit:
                left = left[distances(self._packed[left], word) >= distance]
        return chosen

    def improve(self, distance: int, wanted: int, rounds: int, seed: int) -> Iterator[list[Packed]]:
        """Choices of orbits, each of more words than the one before: half of one is given up, the rest filled anew.

        Iterated greedy search (Ruiz and Stuetzle, Eur. J. Oper. Res. 177, 2007). It is given up where it is far below
        the ``wanted`` number of words after some rounds, or has not improved for long.
        """
        kept: list[int] = []
        best, last = 0, 0
        for turn in range(rounds):
            draw = 2 * (seed * rounds + turn)
            mixed = order(draw, len(self.words))
            halved = [i for i, coin in zip(kept, noise(draw + 1, len(kept)), strict=True) if coin < 2**63]
            tried = np.array([*halved, *mixed[~np.isin(mixed, halved)]], np.int64)
            chosen = self.choose(distance, wanted + len(self.maps), tried)
            count = sum(map(len, chosen.values()))
            if count >= best:
                kept = list(chosen)
            if count > best:
                best, last = count, turn
                yield list(chosen.values())
            if turn - last > PATIENCE or (turn >= TRIAL and 4 * best < 3 * wanted):
                return


def _before(left: Packed, right: Packed) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether rows of ``left`` come before those of ``right``, compared block by block."""
    result = np.zeros(len(left), bool)
    equal = np.ones(len(left), bool)
    for block in range(left.shape[1]):
        result |= equal & (left[:, block] < right[:, block])
        equal &= left[:, block] == right[:, block]
    return result


def summing(sizes: list[int], total: int) -> list[int] | None:
    """Indices of sizes that add up to ``total``, or None: the classical table of reachable sums."""
    reached: dict[int, list[int]] = {0: []}
    for i, size in enumerate(sizes):
        for value in sorted(reached, reverse=True):
            if value + size <= total and value + size not in reached:
                reached[value + size] = [*reached[value], i]
        if total in reached:
            return reached[total]
    return reached.get(total)
