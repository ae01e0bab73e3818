"""What no scheme can exceed: upper bounds on the number of words, and so on the minimum distance.

``A(n, d, w)`` is the largest number of words of length ``n`` and weight ``w`` that differ in at least ``d`` places. A
scheme of more words than a bound on it allows has a smaller distance. Three theorems are used:

- *averaging* (Plotkin's argument for a constant weight): a column with ``s`` ones among ``K`` words adds ``s (K - s)``
  to the sum of all distances, which is largest when columns are as equal as possible; the minimum is at most the mean;
- *Johnson* (IRE Trans. Inf. Theory 8, 1962): ``A(n, d, w) <= n / w A(n-1, d, w-1)`` and
  ``A(n, d, w) <= n / (n-w) A(n-1, d, w)``, rounded down at each step;
- *Delsarte* (Philips Res. Rep. Suppl. 10, 1973): the linear programme of the Johnson scheme. A solver's answer in
  floating point is only a proposal: the dual solution is made rational and checked exactly, so the bound holds whatever
  was rounded.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np

AVERAGING = "averaging: the minimum is at most the mean distance of equal columns"
JOHNSON = "Johnson 1962"
DELSARTE = "Delsarte 1973, linear programme"
COUNTING = "words of one weight differ in an even number of places"

LARGEST = 128
"""Units up to which Johnson's recursion and the linear programme are worth their time; beyond, averaging alone is."""


def distance_bound(classes: int, units: int, weight: int) -> tuple[int, str]:
    """No ``classes`` words of this length and weight have a larger minimum distance.

    Returns:
        The distance, an even number, and the theorem that excludes the next even one.
    """
    best, theorem = 2 * min(weight, units - weight), COUNTING
    mean = _most_mean(classes, units, weight)
    if mean < best:
        best, theorem = int(mean) // 2 * 2, AVERAGING
    if units > LARGEST:
        return best, theorem
    while best > 0 and most_words(units, best, weight) < classes:
        best, theorem = best - 2, JOHNSON
    while best > 2 and delsarte(units, best, weight) < classes:
        best, theorem = best - 2, DELSARTE
    return best, theorem


def _most_mean(classes: int, units: int, weight: int) -> Fraction:
    """The mean distance of columns as equal as possible."""
    low, more = divmod(classes * weight, units)
    total = (units - more) * low * (classes - low) + more * (low + 1) * (classes - low - 1)
    return Fraction(2 * total, classes * (classes - 1))


@functools.cache
def most_words(units: int, distance: int, weight: int) -> int:
    """An upper bound on A(units, distance, weight) by Johnson's recursion; ``distance`` is even and at least 2."""
    weight = min(weight, units - weight)
    if distance > 2 * weight:
        return 1
    if distance == 2:
        return math.comb(units, weight)
    if distance == 2 * weight:
        return units // weight
    fewer = units * most_words(units - 1, distance, weight - 1) // weight
    return min(fewer, units * most_words(units - 1, distance, weight) // (units - weight))


@functools.cache
def delsarte(units: int, distance: int, weight: int) -> int:
    """An upper bound on A(units, distance, weight) by linear programming, proved in rational numbers.

    With ``c[i, k]`` the eigenvalues of the Johnson scheme, scaled to 1 at ``i = 0``, numbers ``y >= 0`` with
    ``sum_k y[k] c[i, k] <= -1`` for every allowed half distance ``i`` prove that there are at most ``1 + sum y`` words.
    """
    from scipy.optimize import linprog

    weight = min(weight, units - weight)
    halves = range(distance // 2, weight + 1)
    exact = [[_eigenvalue(units, weight, i, k) for k in range(1, weight + 1)] for i in halves]
    found = linprog(np.ones(weight), np.array(exact, float), -np.ones(len(exact)), bounds=(0, None), method="highs")
    if found.status != 0:
        return math.comb(units, weight)
    y = [Fraction(max(float(v), 0.0)).limit_denominator(10**12) for v in found.x]
    worst = max(sum((a * b for a, b in zip(y, row, strict=True)), Fraction(0)) for row in exact)
    return math.comb(units, weight) if worst >= 0 else math.floor(1 + sum(y, Fraction(0)) / -worst)


def _eigenvalue(units: int, weight: int, i: int, k: int) -> Fraction:
    total = sum(
        (-1) ** j * math.comb(k, j) * math.comb(weight - k, i - j) * math.comb(units - weight - k, i - j)
        for j in range(min(i, k) + 1)
    )
    return Fraction(total, math.comb(weight, i) * math.comb(units - weight, i))
