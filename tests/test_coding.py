"""What coding schemes are made of: packed words, fields, groups and bounds, each held to what is known of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchpaths.coding import algebra, bits, bounds, orbits, search


def test_numbers_that_look_random_are_those_of_splitmix() -> None:
    state, expected = 0x2545F4914F6CDD1D, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        expected.append(z ^ z >> 31)
    assert bits.noise(0, 3).tolist() == expected


@pytest.mark.parametrize(
    ("units", "distance", "weight", "most"), [(24, 8, 8, 759), (12, 6, 6, 22), (16, 6, 8, 150), (8, 4, 4, 14)]
)
def test_the_linear_programme_gives_the_sizes_of_codes_that_are_known_to_be_optimal(
    units: int, distance: int, weight: int, most: int
) -> None:
    assert bounds.delsarte(units, distance, weight) == most


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 8), st.data())
def test_no_bound_is_below_a_code_that_exists(units: int, data: st.DataObject) -> None:
    weight = data.draw(st.integers(1, units - 1))
    distance = 2 * data.draw(st.integers(1, min(weight, units - weight)))
    pool = bits.pack(bits.every_word(units, weight))
    most = len(search.lexicode(pool, distance, len(pool)))
    assert most <= bounds.most_words(units, distance, weight)
    assert most <= bounds.delsarte(units, distance, weight)
    if most > 1:
        assert bounds.distance_bound(most, units, weight)[0] >= distance


@pytest.mark.parametrize("m", [2, 3, 4, 5, 6])
def test_the_units_of_a_field_are_all_powers_of_its_generator(m: int) -> None:
    assert sorted(algebra.powers(m)) == list(range(1, 2**m))
    x = np.arange(2**m)
    assert np.array_equal(algebra.power(m, 2**m), x)
    squares = algebra.power(m, 2)
    assert np.array_equal(squares[x ^ 1], squares ^ 1), "squaring is additive"


def test_trace_codes_have_the_weights_of_dual_bch_codes() -> None:
    code = algebra.trace_code(5, 2)
    assert code is not None
    weights = Counter(np.bitwise_count(code).sum(1).tolist())
    assert weights == {0: 1, 12: 496, 16: 1054, 20: 496, 32: 1}


@pytest.mark.parametrize("units", [7, 8, 10, 16])
def test_groups_are_transitive_groups(units: int) -> None:
    for maps in orbits.groups(units):
        present = set(map(tuple, maps.tolist()))
        assert len(present) == len(maps)
        assert {m[0] for m in present} == set(range(units))
        assert all(tuple(maps[0][other]) in present and tuple(maps[-1][other]) in present for other in maps)


def test_long_words_are_packed_and_unpacked_unchanged() -> None:
    words = bits.some_words(130, 50, 20, 1)
    packed = bits.pack(words)
    assert packed.shape == (20, 3)
    assert np.array_equal(bits.unpack(packed, 130), words)
    assert np.array_equal(bits.distances(packed, packed[3]), (words != words[3]).sum(1))
