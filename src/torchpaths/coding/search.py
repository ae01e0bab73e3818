"""Searches without algebra: lexicodes, balanced choice from a pool, balanced swaps.

The authors' heuristic (appendix A of arXiv v1) is a lexicode (Conway and Sloane, IEEE Trans. Inf. Theory 32, 1986)
followed by a random choice of rows. Here the choice is a descent on the columns' unevenness, rows may also be changed
by moving one of their ones, and schemes of few classes are searched among balanced tables only.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from torchpaths.coding.bits import (
    Packed,
    Words,
    distances,
    every_word,
    noise,
    order,
    overlaps,
    pack,
    some_words,
    unpack,
)

LISTED = 200_000
"""Up to so many words of a weight are written out; of more, some are drawn."""
COMPARED = 2_000_000
"""Pairs of words compared for one move."""
STEPS = 200
"""Exchanges of one word for another, at most."""


def lexicode(pool: Packed, distance: int, most: int) -> NDArray[np.int64]:
    """Indices of the words of a pool that differ from all earlier kept ones in at least ``distance`` places."""
    kept: list[int] = []
    left = np.arange(len(pool))
    while len(left) and len(kept) < most:
        kept.append(int(left[0]))
        left = left[1:]
        left = left[distances(pool[left], pool[kept[-1]]) >= distance]
    return np.array(kept, np.int64)


def spread(words: Words) -> int:
    """Largest minus smallest column sum."""
    columns = words.sum(0)
    return int(columns.max() - columns.min())


def choose(pool: Words, count: int, seed: int) -> Words:
    """``count`` words of a pool with column sums as equal as exchanges of single words make them.

    The sum of squares of what columns lack is lowered by the best exchange of one chosen word for another, until every
    column is within 1 or nothing helps.
    """
    mixed = order(seed, len(pool))
    inside, outside = mixed[:count], mixed[count:]
    units, active = pool.shape[1], int(pool[0].sum())
    for _ in range(STEPS):
        columns = pool[inside].sum(0)
        if len(outside) == 0 or columns.max() - columns.min() <= 1:
            break
        tried = outside[: max(1, COMPARED // count)]
        value = pool.astype(np.int64) @ (columns * units - columns.sum())
        gaps = 2 * (active - overlaps(pool[inside], pool[tried]))
        change = 2 * (value[tried][None, :] - value[inside][:, None]) + units * gaps
        out, into = np.unravel_index(int(change.argmin()), change.shape)
        if change[out, into] >= 0:
            break
        inside[out], outside[into] = outside[into], inside[out]
    return pool[np.sort(inside)]


def level(words: Words, distance: int) -> Words:
    """Column sums within 1 by moving ones from full columns to empty ones, as far as ``distance`` allows.

    At distance 2 this always succeeds: if column i has at least two ones more than column j, then more words have a one
    in i only than in j only, so for one of them the word with that one moved from i to j is not in the scheme yet.

    Returns:
        A new table; not level where no single move keeps the distance.
    """
    words = words.copy()
    packed = pack(words)
    while spread(words) > 1:
        if not _move(words, packed, distance):
            break
    return words


def _move(words: Words, packed: Packed, distance: int) -> bool:
    """Make one move in place; False if there is none."""
    columns = words.sum(0)
    full = np.flatnonzero(columns > columns.min() + 1)
    for i in full[np.argsort(-columns[full], kind="stable")]:
        empty = np.flatnonzero(columns < columns[i] - 1)
        for j in empty[np.argsort(columns[empty], kind="stable")]:
            rows = np.flatnonzero(words[:, i] & ~words[:, j])
            moved = words[rows]
            moved[:, i], moved[:, j] = False, True
            changed = pack(moved)
            free = _absent(changed, packed) if distance <= 2 else _apart(changed, packed, rows, distance)
            if free is not None:
                words[rows[free]], packed[rows[free]] = moved[free], changed[free]
                return True
    return False


def _absent(changed: Packed, packed: Packed) -> int | None:
    """The first changed word that is none of the present ones."""
    present = set(map(bytes, packed))
    return next((k for k, word in enumerate(changed) if bytes(word) not in present), None)


def _apart(changed: Packed, packed: Packed, rows: NDArray[np.int64], distance: int) -> int | None:
    """The first changed word that keeps the distance to all others; ``rows[k]`` is the word that it replaces."""
    for k, word in enumerate(changed[: max(1, COMPARED // len(packed))]):
        gaps = distances(packed, word)
        gaps[rows[k]] = distance
        if gaps.min() >= distance:
            return k
    return None


def drawn(units: int, active: int, count: int) -> Words:
    """At least ``count`` different words as if drawn at random; there must be that many."""
    if math.comb(units, active) <= LISTED:
        every = every_word(units, active)
        return every[order(0, len(every))]
    have = np.zeros((0, -(-units // 64)), np.uint64)
    at_once = max(1, 4_000_000 // units)
    seed = 0
    while len(have) < count:
        more = pack(some_words(units, active, min(at_once, 2 * count), seed))
        have = np.unique(np.concatenate([have, more]), axis=0)
        seed += 1
    return unpack(have[order(0, len(have))], units)


def distinct(classes: int, units: int, active: int) -> Words:
    """Different words with columns within 1, however many of all there are; their distance is at least 2."""
    return level(drawn(units, active, classes)[:classes], 2)


def shuffled(classes: int, units: int, active: int) -> Words:
    """Words with columns within 1 that are random otherwise: each takes the units that had the fewest, ties drawn.

    Long random words are far apart without a search. Equal words are not ruled out.
    """
    words = np.zeros((classes, units), bool)
    columns = np.zeros(units, np.int64)
    for k in range(classes):
        mixed = order(k, units)
        words[k, mixed[np.argsort(columns[mixed], kind="stable")[:active]]] = True
        columns += words[k]
    return words


def exchange(classes: int, units: int, active: int, distance: int, steps: int, seed: int) -> Words | None:
    """A balanced table at ``distance``, by exchanges that keep rows and columns; None if it is not found.

    Rows a and b exchange a one in column i for one in column j. The cost is the sum over pairs of the squared number of
    ones shared beyond ``active - distance / 2``; exchanges that do not raise it are made, so the search drifts where
    the cost is flat.
    """
    most = active - distance // 2
    words = _even(classes, units, active)
    steps = min(steps, 2_000_000 // units)
    shared = overlaps(words, words)
    np.fill_diagonal(shared, 0)
    excess = np.maximum(shared - most, 0) ** 2
    dice = noise(seed, 4 * steps).reshape(steps, 4)
    for step in range(steps):
        bad = np.flatnonzero(excess.any(1))
        if len(bad) == 0:
            return words
        a = bad[int(dice[step, 0] % np.uint64(len(bad)))]
        b = int(dice[step, 1] % np.uint64(classes))
        own, other = np.flatnonzero(words[a] & ~words[b]), np.flatnonzero(words[b] & ~words[a])
        if len(own) == 0 or a == b:
            continue
        i, j = own[int(dice[step, 2] % np.uint64(len(own)))], other[int(dice[step, 3] % np.uint64(len(other)))]
        shift = words[:, j].astype(np.int64) - words[:, i]
        rows = np.stack([shared[a] + shift, shared[b] - shift])
        rows[0, [a, b]] = 0, shared[a, b]
        rows[1, [a, b]] = shared[a, b], 0
        after = np.maximum(rows - most, 0) ** 2
        change = int(after.sum() - excess[a].sum() - excess[b].sum())
        if change <= 0:
            words[a, [i, j]] = False, True
            words[b, [i, j]] = True, False
            shared[[a, b]], shared[:, [a, b]] = rows, rows.T
            excess[[a, b]], excess[:, [a, b]] = after, after.T
    return None


def _even(classes: int, units: int, active: int) -> Words:
    """Rows of a weight and columns within 1: one row's ones begin where those of the row before end."""
    words = np.zeros((classes, units), bool)
    places = np.arange(classes * active).reshape(classes, active) % units
    np.put_along_axis(words, places, True, axis=1)
    return words
