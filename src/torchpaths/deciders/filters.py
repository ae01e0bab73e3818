"""``FilterGate``: scores all filters of a layer from its pooled input (network decoupling, section 3.1, "architecture
controlling module").

Two linear layers score every filter; training adds standard normal noise and mixes soft and hard decisions by Improved
SemHash (eq. 2 to 4; Kaiser and Bengio, 2018), evaluation opens where the score is above 0 (eq. 5).

The paper does not say how the two are mixed ("half of the time"). Kaiser and Bengio draw for each example; the authors
of network decoupling draw half of the filters, with repetition, for a whole batch, so that 39 % of them are hard. Nor
does it say where training starts: the authors' biases are 1; with weights of the last layer near zero, as here, all
filters of a pretrained network then start open, whatever the image. At least one filter stays open in evaluation, the
one of the highest score, since a convolution without rows is none; the decision and its score say so.

Processors compute 8 or 16 filters at a time, so that 33 take as long as 48. ``multiple`` opens the next best ones too,
up to a multiple of so many: an option of ours, which costs MACs and no time.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from torchpaths.deciders.gradients import semhash
from torchpaths.errors import RouteError
from torchpaths.trace import Decider, Decision, Perceptron

Mixing: TypeAlias = Literal["image", "element", "batch"]
"""For what it is drawn, in training, whether decisions are soft or hard: ``image`` for each image (Kaiser and Bengio),
``element`` for each filter of each image, ``batch`` for filters of the whole batch (the authors' code)."""

EDGE = 1e-3
"""How far above the threshold the best filter is lifted where all scores lie below."""


class FilterGate(Decider):
    """``Linear(channels, channels / squeeze)``, ReLU, ``Linear(channels / squeeze, filters)``."""

    by_score = True

    def __init__(
        self, channels: int, filters: int, squeeze: int = 4, mixing: Mixing = "image", multiple: int = 1
    ) -> None:
        """
        Args:
            channels: of the pooled features.
            filters: how many it decides about.
            squeeze: by how much the hidden layer is narrower than the features.
            mixing: see `Mixing`.
            multiple: in evaluation a multiple of so many filters opens, or all; 1 in the paper.

        Raises:
            RouteError: for another mixing.
        """
        super().__init__()
        if mixing not in get_args(Mixing):
            raise RouteError(f"mixing={mixing!r}; choose one of {', '.join(get_args(Mixing))}.")
        self.fc1 = nn.Linear(channels, max(1, channels // squeeze))
        self.fc2 = nn.Linear(self.fc1.out_features, filters)
        self.mixing = mixing
        self.multiple = multiple
        nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
        nn.init.normal_(self.fc2.weight, std=0.001)
        nn.init.ones_(self.fc1.bias)
        nn.init.ones_(self.fc2.bias)

    def forward(self, features: Tensor) -> Decision:
        """
        Args:
            features: ``[batch, channels]``.

        Returns:
            Decision of all filters; ``score`` is the score without noise. In training ``z`` lies in [0, 1], and open is
            what is above 0.
        """
        with torch.autocast(features.device.type, enabled=False):
            score = self.fc2(torch.relu(self.fc1(features.to(self.fc1.weight.dtype)))).float()
            if self.training:
                z = semhash(score + torch.randn_like(score), self._hard(score))
                return Decision(z > 0, z, score)
            score = self._lifted(score)
            opened = score > self.threshold
            return Decision(opened, opened.float(), score)

    def _lifted(self, score: Tensor) -> Tensor:
        """Scores of which enough lie above the threshold, the best ones lifted there."""
        if self.multiple == 1:
            best = torch.zeros_like(score, dtype=torch.bool).scatter(1, score.argmax(1, keepdim=True), True)
        else:
            count = (score > self.threshold).sum(1, keepdim=True).clamp(min=1)
            wanted = (count + self.multiple - 1).div(self.multiple, rounding_mode="floor") * self.multiple
            best = score.argsort(dim=1, descending=True, stable=True).argsort(1) < wanted
        return torch.where(best, score.clamp(min=self.threshold + EDGE), score)

    def _hard(self, score: Tensor) -> Tensor:
        """Where decisions are hard in this step, bool that broadcasts to the scores."""
        images, filters = score.shape
        if self.mixing == "image":
            return torch.rand(images, 1, device=score.device) < 0.5
        if self.mixing == "element":
            return torch.rand(images, filters, device=score.device) < 0.5
        drawn = torch.randint(filters, (filters // 2,), device=score.device)
        return torch.zeros(1, filters, dtype=torch.bool, device=score.device).index_fill(1, drawn, True)

    def perceptron(self) -> Perceptron:
        """Its score in evaluation, before the best one is lifted, in float32 whatever the weights are in."""
        parts = (self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        return Perceptron(*(part.float() for part in parts))

    def __repr__(self) -> str:
        widths = f"{self.fc1.in_features} -> {self.fc1.out_features} -> {self.fc2.out_features}"
        by = "" if self.multiple == 1 else f", multiples of {self.multiple}"
        return f"FilterGate({widths}, {self.mixing}{by})"
