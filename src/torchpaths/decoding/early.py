"""Early decoders: how often the energies of a block tell the class, and what it is worth when blocks agree with the
network's prediction (figure 4, table 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchpaths.decoding.readings import Readings


@dataclass(frozen=True)
class Agreement:
    """The images on whose class so many early decoders agree with the network, a row of table 3.

    Attributes:
        label: the number of decoders, or ``"≥ 6"`` for several numbers together.
        images: how many.
        right: on how many of them the network is right.
    """

    label: str
    images: int
    right: int

    @property
    def accuracy(self) -> float | None:
        """Of the network on these images, in 0 to 1; None for no images."""
        return self.right / self.images if self.images else None


@dataclass(frozen=True)
class Early:
    """What the blocks tell before the network has finished.

    Attributes:
        sites: the coded blocks in order of execution.
        decoders: accuracy of each as a decoder, in 0 to 1, ``[site]``, over the images that came to it; NaN if none.
        accuracy: of the network itself.
        images: by number of decoders that agree with the network's prediction, ``[site + 1]``.
        right: of these, those on which the network is right.
    """

    sites: tuple[str, ...]
    decoders: NDArray[np.float64]
    accuracy: float
    images: NDArray[np.int64]
    right: NDArray[np.int64]

    def table(self, most: int = 6) -> list[Agreement]:
        """Rows of table 3: one for each number of agreeing decoders, the last for ``most`` (6 there) and more."""
        most = min(most, len(self.sites))
        pairs = list(zip(self.images.tolist(), self.right.tolist(), strict=True))
        rows = [Agreement(str(n), *pairs[n]) for n in range(most)]
        name = str(most) if most == len(self.sites) else f"≥ {most}"
        rest = pairs[most:]
        return [*rows, Agreement(name, sum(n for n, _ in rest), sum(n for _, n in rest))]

    def to_json(self, most: int = 6) -> dict[str, Any]:
        """As JSON values."""
        told = zip(self.sites, self.decoders.tolist(), strict=True)
        return {
            "decoders": {site: None if np.isnan(value) else value for site, value in told},
            "accuracy": self.accuracy,
            "agreement": [
                {"decoders": row.label, "images": row.images, "accuracy": row.accuracy} for row in self.table(most)
            ],
        }


def early(readings: Readings) -> Early:
    """Accuracy by block and by agreement, from what `read` kept."""
    came = readings.decoded >= 0
    hits = (readings.decoded == readings.labels[:, None]).sum(0)
    counts = came.sum(0)
    decoders = np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    size = len(readings.sites) + 1
    return Early(
        readings.sites,
        decoders,
        float(readings.right.mean()),
        np.bincount(readings.agreeing, minlength=size),
        np.bincount(readings.agreeing[readings.right], minlength=size),
    )
