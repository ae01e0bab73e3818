"""An order of classes in which neighbours open the same units (ConvNet-AIG, figure 4, orders by the label hierarchy).

Average-linkage clustering of the execution rates with optimal leaf order: no labels' hierarchy is needed, and where one
exists the figure shows whether the network found it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist

MOST_OPTIMAL = 512
"""Rows up to which leaves are in the best order that the tree allows, which takes long for more."""


def similarity_order(openness: NDArray[np.float64]) -> list[int]:
    """Class numbers in order of similarity, from execution rates ``[class, unit]``.

    Classes without images (rows of NaN) come last. The end with the fewer open units comes first, since a tree has no
    direction of its own.
    """
    known = np.flatnonzero(~np.isnan(openness).any(1))
    missing = np.flatnonzero(np.isnan(openness).any(1))
    order = known
    if len(known) > 2:
        distances = pdist(openness[known])
        tree = linkage(distances, "average")
        order = known[leaves_list(optimal_leaf_ordering(tree, distances) if len(known) <= MOST_OPTIMAL else tree)]
    if len(order) > 1:
        weight = openness[order].sum(1)
        half = len(order) // 2
        if weight[:half].mean() > weight[-half:].mean():
            order = order[::-1]
    return [*map(int, order), *map(int, missing)]


def class_order(openness: NDArray[np.float64], groups: Sequence[str] = ()) -> list[int]:
    """Class numbers in order of similarity, those of a group together.

    Args:
        openness: ``[class, unit]``.
        groups: of each class the name of its group; none where there are no groups.
    """
    if not groups:
        return similarity_order(openness)
    names = list(dict.fromkeys(groups))
    members = [[c for c, group in enumerate(groups) if group == name] for name in names]
    known = [[c for c in rows if not np.isnan(openness[c]).any()] for rows in members]
    means = np.array([openness[k or rows].mean(0) for k, rows in zip(known, members, strict=True)])
    return [members[g][i] for g in similarity_order(means) for i in similarity_order(openness[members[g]])]


def unit_order(openness: NDArray[np.float64]) -> list[int]:
    """Numbers of a site's units in order of similarity, those that open alike together.

    Args:
        openness: ``[class, unit]``, of classes with images.
    """
    return similarity_order(openness.T)
