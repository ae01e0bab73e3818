"""Words for a scheme: algebra first, then orbits and searches, each for one minimum distance at a time.

The distance begins at what theorems allow (`bounds`) and goes down by two until a construction succeeds. What a
construction yields has the distance; it is taken only with columns as equal as can be, so rule B is never traded for
rule C. At distance 2 there is a construction that cannot fail. Everything is limited by numbers of steps, never by a
clock, so the result is the same on every machine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np

from torchpaths.coding import algebra
from torchpaths.coding.bits import Packed, Words, every_word, pack, unpack
from torchpaths.coding.bounds import distance_bound
from torchpaths.coding.grids import grid
from torchpaths.coding.orbits import Pool, candidates, groups, summing
from torchpaths.coding.search import LISTED, choose, distinct, drawn, exchange, level, lexicode, shuffled, spread

FEW = 160
"""Up to so many classes, tables are searched by exchanges."""
TURNED = 64
"""Up to so many units orbits are tried; beyond, their groups are large and many distances would have to be tried."""
MANY = 4_000
"""Of more classes a search among orbits is made once only, as each takes long."""
SEARCHED = 512
"""Up to so many units there is a search at all; longer words are drawn."""
EXCHANGES = 10_000
TABLES = 2
"""Exchanges of ones in a search among balanced tables, and how many such searches."""
ROUNDS = 300
CHAINS = 3
"""Rounds of a search among orbits, and how many such searches."""


def construct(classes: int, units: int, active: int) -> Words:
    """The scheme of the largest minimum distance that the constructions find.

    Args:
        classes: at least 2, and at most C(units, active).
        units: length of a codeword.
        active: ones in each, from 1 to units - 1.

    Returns:
        Bool ``[classes, units]``, different rows, columns within 1, rows in order.
    """
    if 2 * active > units:  # complementing keeps all distances
        return ~construct(classes, units, units - active)[::-1]
    if units > SEARCHED:
        words = shuffled(classes, units, active)
        repeated = len(np.unique(pack(words), axis=0)) < classes
        return ordered(distinct(classes, units, active) if repeated else words)
    attempts = Attempts(classes, units, active)
    bound, _ = distance_bound(classes, units, active)
    found = (words for distance in range(bound, 2, -2) for words in attempts.at(distance) if spread(words) <= 1)
    best = next(found, None)
    return ordered(distinct(classes, units, active) if best is None else best)


def ordered(words: Words) -> Words:
    """Rows in descending order, the first unit counting most."""
    return words[np.lexsort(~words.T[::-1])]


class Attempts:
    """The constructions for one number of classes, units and ones; ``active`` is at most half of the units."""

    def __init__(self, classes: int, units: int, active: int):
        self.classes = classes
        self.units = units
        self.active = active
        self._pools: dict[int, Pool] = {}
        self._grid = grid(classes, units, active)

    @functools.cached_property
    def _listed(self) -> Packed:
        """All words of the weight in order, or some."""
        if math.comb(self.units, self.active) <= LISTED:
            return pack(every_word(self.units, self.active))
        return pack(drawn(self.units, self.active, min(4 * self.classes, 50_000)))

    def at(self, distance: int) -> Iterator[Words]:
        """Schemes of at least this minimum distance, good columns or not; quick constructions first."""
        yield from self.from_field(distance)
        yield from self.from_grid(distance)
        yield from self.from_exchanges(distance)
        yield from self.from_lexicode(distance)
        yield from self.from_orbits(distance)

    def from_field(self, distance: int) -> Iterator[Words]:
        """From the words of a weight in the largest trace code of that distance, where units are a power of 2."""
        m = algebra.exponent(self.units)
        if m is None:
            return
        for terms in range(m // 2 + 1, 0, -1):
            code = algebra.trace_code(m, terms)
            if code is None:
                continue
            weights = np.bitwise_count(code).sum(1, dtype=np.int64)
            if weights[weights > 0].min() < distance:  # the distance of a linear code
                continue
            slice_ = code[weights == self.active]
            if 2 * self.active == self.units and len(slice_) >= self.classes:
                yield self._in_pairs(slice_)
            elif len(slice_) >= self.classes and self.units <= TURNED:
                pool = Pool(unpack(slice_, self.units), algebra.translations(m))
                yield from self._of_orbits([pool.orbit(i) for i in range(len(pool.words))], distance)
            return

    def _in_pairs(self, pool: Packed) -> Words:
        """Words beside their complements, which a code with the word of ones has: a pair has a one in every column."""
        firsts = unpack(pool, self.units)
        firsts = firsts[firsts[:, 0]]
        pairs = self.classes // 2
        return np.concatenate([firsts[:pairs], ~firsts[:pairs], firsts[pairs : self.classes - pairs]])

    def from_grid(self, distance: int) -> Iterator[Words]:
        """From a code over a larger alphabet, where groups of units are a power of 2."""
        if self._grid is not None and self._grid[0] >= distance:
            yield self._grid[1]

    def from_exchanges(self, distance: int) -> Iterator[Words]:
        """From balanced tables, improved by exchanges, where classes are few."""
        if self.classes > FEW:
            return
        for seed in range(TABLES):
            words = exchange(self.classes, self.units, self.active, distance, EXCHANGES, seed)
            if words is not None:
                yield words

    def from_lexicode(self, distance: int) -> Iterator[Words]:
        """From the lexicode of all words, forwards and backwards, or of words drawn."""
        for listed in (self._listed, self._listed[::-1]):
            kept = unpack(listed[lexicode(listed, distance, 4 * self.classes)], self.units)
            if len(kept) >= self.classes:
                for seed in range(4):
                    yield level(choose(kept, self.classes, seed), distance)

    def from_orbits(self, distance: int) -> Iterator[Words]:
        """From orbits of transitive groups that are not much larger than the scheme."""
        if self.units > TURNED:
            return
        for number, maps in enumerate(groups(self.units)):
            if len(maps) > 4 * self.classes:
                continue
            if number not in self._pools:
                self._pools[number] = Pool(candidates(self.units, self.active, maps, number), maps)
            pool = self._pools[number]
            for seed in range(CHAINS if self.classes <= MANY else 1):
                for orbits in pool.improve(distance, self.classes, ROUNDS, seed):
                    yield from self._of_orbits(orbits, distance)

    def _of_orbits(self, orbits: list[Packed], distance: int) -> Iterator[Words]:
        """From orbits that go together: some that are as many words as wanted, or else single words of them all."""
        sizes = [len(orbit) for orbit in orbits]
        if sum(sizes) < self.classes:
            return
        exact = summing(sizes, self.classes)
        if exact is not None:
            yield unpack(np.concatenate([orbits[i] for i in exact]), self.units)
        else:
            yield level(choose(unpack(np.concatenate(orbits), self.units), self.classes, 0), distance)
