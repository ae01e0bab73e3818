"""Random numbers as a function of counters: no state, no order of drawing.

A number belongs to (seed, stream, epoch, index, draw) and to nothing else, so an image is augmented alike whatever the
batch size, the number of ranks or workers, and wherever a run was interrupted. Each counter is folded in by one round
of splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014; the mixing constants are
Stafford's variant 13). A round is a bijection, so counters that differ only in the last place never share a number.
Written in numpy on whole arrays and, unlike numpy's generators, the same in every version.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)

ORDER, CROP, FLIP, RANDAUGMENT, ERASE, GROUPS, RESIZED, HOLDOUT, POLICY, JITTER, SCALING = range(11)
"""Streams: one per purpose, so that switching one augmentation on leaves the others' draws as they were."""


def bits(seed: int, *counters: ArrayLike) -> NDArray[np.uint64]:
    """64 random bits for each combination of counters.

    Args:
        seed: any integer; its lowest 64 bits count.
        *counters: non-negative integers or arrays of them, broadcast against each other.

    Returns:
        uint64 of the broadcast shape.
    """
    with np.errstate(over="ignore"):
        state = _mix(np.asarray(seed % 2**64, dtype=np.uint64))
        for counter in counters:
            state = _mix(state ^ np.asarray(counter).astype(np.uint64))
    return state


def uniform(seed: int, *counters: ArrayLike) -> NDArray[np.float64]:
    """Uniform in [0, 1), with 53 bits, for each combination of counters; see `bits`."""
    return (bits(seed, *counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(below: ArrayLike, seed: int, *counters: ArrayLike) -> NDArray[np.int64]:
    """Uniform integers in [0, below) for each combination of counters; ``below`` is small and may be an array."""
    return np.asarray(uniform(seed, *counters) * np.asarray(below)).astype(np.int64)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return np.asarray(state ^ (state >> np.uint64(31)))
