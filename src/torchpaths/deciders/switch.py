"""``Switch``: set from outside, looks at nothing (AdaptiveDepth)."""

from __future__ import annotations

import torch
from torch import Tensor

from torchpaths.errors import PathError
from torchpaths.path import Bools
from torchpaths.trace import Decider, Decision


class Switch(Decider):
    """Set from outside and looks at nothing (AdaptiveDepth): open until it is set otherwise, or a path says otherwise.

    Where a network runs inside other code that hands it no path, a detector's backbone for instance, its switches are
    how its depth is chosen: ``net.deciders["layer3"].set(False)``.
    """

    def __init__(self, units: int = 1) -> None:
        """
        Args:
            units: of its site.
        """
        super().__init__()
        self.constant: Bools = (True,) * units

    @classmethod
    def shut(cls) -> Switch:
        """One that keeps its unit closed, for a unit that is closed for good."""
        switch = cls()
        switch.set(False)
        return switch

    def set(self, *opened: bool) -> None:
        """Open and close its units, one bool for each.

        Raises:
            PathError: for another number of bools.
        """
        if len(opened) != len(self.constant):
            raise PathError(f"this switch has {len(self.constant)} units, got {len(opened)} bools; give one for each.")
        self.constant = tuple(bool(o) for o in opened)

    def forward(self, features: Tensor) -> Decision:
        opened = torch.tensor(self.constant, device=features.device).expand(len(features), -1)
        return Decision(opened, opened.float(), whole=self.constant)

    def __repr__(self) -> str:
        return f"Switch({', '.join('open' if o else 'closed' for o in self.constant)})"
