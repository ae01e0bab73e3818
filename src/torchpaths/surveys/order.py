"""An order of classes in which neighbours open the same units (ConvNet-AIG, figure 4, orders by the label hierarchy).

Average-linkage clustering of the execution rates with optimal leaf order: no labels' hierarchy is needed, and where one
exists the figure shows whether the network found it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist


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
        order = known[leaves_list(optimal_leaf_ordering(linkage(distances, "average"), distances))]
    if len(order) > 1:
        weight = openness[order].sum(1)
        half = len(order) // 2
        if weight[:half].mean() > weight[-half:].mean():
            order = order[::-1]
    return [*map(int, order), *map(int, missing)]
