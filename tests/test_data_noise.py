"""Claims about counter-based random numbers."""

from __future__ import annotations

import numpy as np
import pytest

from torchpaths.data import noise


def test_the_numbers_are_splitmix64s() -> None:
    # The first output of the reference implementation (Vigna's splitmix64.c) for the state 1234567.
    assert int(noise.bits(1234567)) == 6457827717110365317


def test_numbers_are_uniform_and_uncorrelated_along_every_counter() -> None:
    draws = noise.uniform(3, np.arange(8)[:, None, None], np.arange(50)[:, None], np.arange(50))
    assert draws.shape == (8, 50, 50)
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square with 19 degrees of freedom, p = 0.001
    for axis in range(3):
        neighbours = (
            np.take(draws, range(draws.shape[axis] - 1), axis),
            np.take(draws, range(1, draws.shape[axis]), axis),
        )
        assert abs(np.corrcoef(neighbours[0].ravel(), neighbours[1].ravel())[0, 1]) < 0.025


def test_counters_do_not_commute_and_seeds_differ_also_negative_ones() -> None:
    assert noise.bits(0, 1, 2) != noise.bits(0, 2, 1)
    assert len({int(noise.bits(seed, 5)) for seed in (-2, -1, 0, 1, 2)}) == 5


def test_a_number_does_not_depend_on_the_others_that_are_drawn_with_it() -> None:
    together = noise.bits(7, 1, np.arange(100))
    assert np.array_equal(together, [noise.bits(7, 1, i) for i in range(100)])


@pytest.mark.parametrize("below", [1, 2, 7, 256])
def test_integers_take_every_value_below_the_bound_and_no_other(below: int) -> None:
    assert set(noise.integers(below, 0, np.arange(20 * below))) == set(range(below))
