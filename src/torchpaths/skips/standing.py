"""``Standing``: the folded layers of a network, looked through before a call all at once.

Each could see for itself, when it runs, whether its weights were written since it was folded; for a network of twenty
layers that takes as long as one of its convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from torchpaths.skips.channels import SkippingLayer
from torchpaths.skips.folded import Folded
from torchpaths.skips.written import Unwritten


class Standing:
    """Layers as they were folded.

    Attributes:
        folded: the place of a layer -> it.
    """

    def __init__(self, folded: Mapping[SkippingLayer, Folded]) -> None:
        """
        Args:
            folded: see above.
        """
        self.folded = dict(folded)
        self._slots = [slot for made in self.folded.values() for slot in made.slots()]
        self._seen = Unwritten(self._tensors())

    def holds(self) -> bool:
        """Whether all are as they were. What a hook writes while a call runs is not seen before it: not for networks
        that have some."""
        for place, made in self.folded.items():
            norm = place.norm.block if made.norm is not None and place.norm is not None else None
            if place.folds() != (made.norm is not None) or not made.is_of(place.block, norm):
                return False
        return self._seen.holds(self._tensors())

    def _tensors(self) -> list[Tensor | None]:
        return [table.get(name) for table, name in self._slots]
