"""``Rates``: in which of several ways a layer that leaves filters out is fastest, by what its parts take here.

Leaving out work costs copies: rows of the weights are copied, columns gathered, and a convolution of weights that are
new is prepared anew. Where much is open, or weights are large beside the image, it is faster to compute all rows and
multiply by zero, or to put the image's channels among zeros and multiply by all columns; where the image is small, a
product of unfolded pixels is faster than a convolution, whatever is open. So each part is timed once for each kind of
layer, when one is first met, and taken to be in proportion to what is open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """How a layer computes.

    Attributes:
        rows: only those that are open; otherwise all.
        columns: by only those that are there; otherwise what is there is put among zeros.
        unfold: as a product of unfolded pixels.
    """

    rows: bool = True
    columns: bool = True
    unfold: bool = False


EXACT = Way()
"""Nothing closed is computed."""


@dataclass(frozen=True)
class Rates:
    """Seconds that a layer takes for one image.

    Attributes:
        compute: with all rows and columns, as a convolution and as a product of unfolded pixels; None where there is no
            such product.
        rows: to copy all rows.
        columns: to gather all columns of all rows.
        place: to put all of its input's channels in their places among zeros.
        mask: to multiply all of its output by zeros and ones.
    """

    compute: tuple[float, float | None]
    rows: float
    columns: float
    place: float
    mask: float

    def best(self, rows: float, columns: float) -> Way:
        """The way that takes least.

        Args:
            rows: the share that is open.
            columns: the share that is there.
        """
        convolution, product = self.compute
        unfold = product is not None and product < convolution
        full = product if product is not None and unfold else convolution
        best, least = EXACT, math.inf
        for own in (True, False) if rows < 1 else (True,):
            of_rows, copying = (rows, rows * self.rows * (rows < 1)) if own else (1.0, self.mask)
            for among in (True, False) if columns < 1 else (True,):
                of_columns = columns if among else 1.0
                preparing = of_rows * columns * self.columns if among and columns < 1 else 0.0
                placing = 0.0 if among else columns * self.place
                seconds = of_rows * of_columns * full + copying + preparing + placing
                if seconds < least:
                    best, least = Way(own, among, unfold), seconds
        return best
