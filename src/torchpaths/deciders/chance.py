"""``Chance``: the control that shows what looking at the image is worth. It opens at the same rate, blindly."""

from __future__ import annotations

import torch
from torch import Tensor

from torchpaths.trace import Decider, Decision


class Chance(Decider):
    """Opens with a fixed probability, in training and evaluation, whatever the image: the control for `Gate`."""

    draws = True
    looks = False

    def __init__(self, rate: float) -> None:
        """
        Args:
            rate: probability of being open, in [0, 1].
        """
        super().__init__()
        self.rate = rate

    def forward(self, features: Tensor) -> Decision:
        drawn = torch.rand(features.shape[0], 1, device=features.device) < self.rate
        return Decision(drawn, drawn.float())

    def __repr__(self) -> str:
        return f"Chance({self.rate:.2f})"
