"""Words as packed bits, distances between them, and numbers that look random and are the same on every machine.

A bool table ``[words, units]`` becomes ``[words, blocks]`` of 64 bits each: an exclusive or and a count of bits then
give Hamming distances of any length of word. NumPy's generators may change their streams between versions; SplitMix64
(Steele, Lea and Flood, OOPSLA 2014) is five lines and does not.
"""

from __future__ import annotations

import itertools
import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.bool_]
"""Bool ``[words, units]``."""

Packed: TypeAlias = NDArray[np.uint64]
"""The same as ``[words, blocks]``, 64 units in a block."""


def pack(words: Words) -> Packed:
    """Bool ``[words, units]`` as ``[words, blocks]``."""
    count, units = words.shape
    padded = np.zeros((count, -(-units // 64) * 64), bool)
    padded[:, :units] = words
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def unpack(packed: Packed, units: int) -> Words:
    """The inverse of `pack`."""
    octets = packed.astype("<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, count=units, bitorder="little").astype(bool)


def distances(pool: Packed, word: Packed) -> NDArray[np.int64]:
    """Hamming distances ``[words]`` of a pool ``[words, blocks]`` to one word ``[blocks]``."""
    differing = np.bitwise_count(pool ^ word)
    result: NDArray[np.int64] = differing.sum(1, dtype=np.int64) if pool.shape[1] > 1 else differing[:, 0].astype(int)
    return result


def overlaps(left: Words, right: Words) -> NDArray[np.int64]:
    """How many ones two words share, ``[left, right]``; exact, as the numbers are far below 2^24."""
    shared: NDArray[np.float32] = left.astype(np.float32) @ right.astype(np.float32).T
    return shared.astype(np.int64)


def noise(seed: int, count: int) -> NDArray[np.uint64]:
    """``count`` 64-bit numbers of SplitMix64, from a seed of 0 or more."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64((seed * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) % 2**64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def order(seed: int, count: int) -> NDArray[np.int64]:
    """A permutation of ``count`` numbers that depends on the seed only."""
    return np.argsort(noise(seed, count), kind="stable")


def every_word(units: int, active: int) -> Words:
    """All words of a weight in lexicographic order of their supports: bool ``[C(units, active), units]``."""
    count = math.comb(units, active)
    flat = itertools.chain.from_iterable(itertools.combinations(range(units), active))
    words = np.zeros((count, units), bool)
    np.put_along_axis(words, np.fromiter(flat, np.int64, count * active).reshape(count, active), True, axis=1)
    return words


def some_words(units: int, active: int, count: int, seed: int) -> Words:
    """``count`` words of a weight as if drawn at random, perhaps some twice: bool ``[count, units]``."""
    keys = noise(seed, count * units).reshape(count, units)
    words = np.zeros((count, units), bool)
    np.put_along_axis(words, np.argsort(keys, axis=1, kind="stable")[:, :active], True, axis=1)
    return words
