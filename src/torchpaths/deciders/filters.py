"""``FilterGate``: scores all filters of a layer from its pooled input (network decoupling, section 3.1, "architecture
controlling module").

Two linear layers score every filter; training adds standard normal noise and mixes soft and hard decisions by Improved
SemHash (eq. 2 to 4; Kaiser and Bengio, 2018), evaluation opens where the score is above 0 (eq. 5).

The paper does not say how the two are mixed ("half of the time"). Kaiser and Bengio draw for each example; the authors
of network decoupling draw half of the filters, with repetition, for a whole batch, so that 39 % of them are hard. Nor
does it say where training starts: the authors' biases are 1; with weights of the last layer near zero, as here, all
filters of a pretrained network then start open, whatever the image. At least one filter stays open in evaluation, the
one of the highest score, whatever the threshold, since a convolution without rows is none; the decision and its score
say so. So nobody may go by `FilterGate.perceptron` instead of asking.

Processors compute 8 or 16 filters at a time, so that 33 take as long as 48. ``multiple`` opens the next best ones too,
up to a multiple of so many: an option of ours, which costs MACs and no time.

Once it is known which filters never open and which always do (section 4.1), a gate need not score them: `narrowed` is
one that decides about the others alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchpaths.deciders.gradients import semhash
from torchpaths.errors import RouteError
from torchpaths.perceptron import Perceptron, kept_in, plain_weights
from torchpaths.trace import Decider, Decision

Mixing: TypeAlias = Literal["image", "element", "batch"]
"""For what it is drawn, in training, whether decisions are soft or hard: ``image`` for each image (Kaiser and Bengio),
``element`` for each filter of each image, ``batch`` for filters of the whole batch (the authors' code)."""

EDGE = 1e-3
"""How far above the threshold the best filter is lifted where all scores lie below."""

_LARGEST = float(np.finfo(np.float32).max)


class FilterGate(Decider):
    """``Linear(channels, channels / squeeze)``, ReLU, ``Linear(channels / squeeze, filters)``.

    Attributes:
        filters: how many there are.
        scored: those that are scored, ascending, long ``[scored]``; the others are always open, with a score of
            infinity. None for all.
    """

    scored: Tensor | None

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
        self.filters = filters
        self.register_buffer("scored", None, persistent=False)  # like the number of filters it is no weight
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
            score = self.fc2(torch.relu(self.fc1(features.to(kept_in(self.fc1))))).float()
            if self.training:
                z = self._among(semhash(score + torch.randn_like(score), self._hard(score)), 1.0)
                return Decision(z > 0, z, self._among(score, math.inf))
            score = self._lifted(self._among(score, math.inf))
            opened = ~(score <= self.limit)  # not a number: everything open, so that the output is none either
            return Decision(opened, opened.float(), score)

    def single(self, features: Tensor) -> Decision:
        """See `Decider.single`: by products with vectors, which take a third of the time of products with matrices."""
        first, second = self.fc1, self.fc2
        # Weights that another library keeps in eight bits know no addmv.
        own = type(first.weight) is type(second.weight) is nn.Parameter and self.scored is None
        plain = own and first.weight.dtype == torch.float32 and features.is_cpu
        if not plain or torch.is_autocast_enabled("cpu"):
            return super().single(features)
        hidden = torch.addmv(first.bias, first.weight, features.view(-1)).relu_()
        score = torch.addmv(second.bias, second.weight, hidden)
        values = score.numpy()
        opened = values > self.limit
        count = int(np.count_nonzero(opened))
        if count == 0 or count % self.multiple or math.isnan(values.sum()):
            if np.isnan(values).any():
                return super().single(features)
            values = self._lifted_alone(values, max(count, 1))
            opened = values > self.limit
            score = torch.from_numpy(values)
        is_open = torch.from_numpy(opened).unsqueeze(0)
        return Decision(is_open, is_open.float(), score.unsqueeze(0), tuple(opened.tolist()))

    @property
    def limit(self) -> float:
        """The threshold as float32 scores are compared with it: an infinite one is the largest number there is, above
        which a score can still be lifted."""
        return max(-_LARGEST, min(_LARGEST, self.threshold))

    @property
    def _edge(self) -> float:
        """The least score to which the best one is lifted: `EDGE` above the threshold, or where float32 has no number
        there two of its numbers above."""
        edge = self.limit + max(EDGE, abs(self.limit) * 2.0**-22)
        return edge if edge <= _LARGEST else math.inf

    def _among(self, values: Tensor, other: float) -> Tensor:
        """Values of those that are scored, ``[batch, scored]``, among one for all others: ``[batch, filters]``."""
        if self.scored is None:
            return values
        return values.new_full((values.shape[0], self.filters), other).index_copy(1, self.scored, values)

    def _lifted(self, score: Tensor) -> Tensor:
        """Scores of which enough lie above the threshold, the best ones lifted there."""
        if self.multiple == 1:
            best = torch.zeros_like(score, dtype=torch.bool).scatter(1, score.argmax(1, keepdim=True), True)
        else:
            count = (score > self.limit).sum(1, keepdim=True).clamp(min=1)
            wanted = (count + self.multiple - 1).div(self.multiple, rounding_mode="floor") * self.multiple
            ranked = score.sort(dim=1, descending=True).values
            best = score >= ranked.gather(1, wanted.clamp(max=self.filters) - 1)
        return torch.where(best, score.clamp(min=self._edge), score)

    def _lifted_alone(self, score: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """See `_lifted`: of one image, of which ``count`` are to be open at least; none is not a number."""
        if self.multiple == 1:
            best = np.zeros(len(score), dtype=bool)
            best[score.argmax()] = True
        else:
            wanted = min(self.filters, -(-count // self.multiple) * self.multiple)
            best = score >= np.partition(score, -wanted)[-wanted]
        return np.where(best, np.maximum(score, np.float32(self._edge)), score)

    def _hard(self, score: Tensor) -> Tensor:
        """Where decisions are hard in this step, bool that broadcasts to the scores."""
        images, filters = score.shape
        if self.mixing == "image":
            return torch.rand(images, 1, device=score.device) < 0.5
        if self.mixing == "element":
            return torch.rand(images, filters, device=score.device) < 0.5
        drawn = torch.randint(filters, (filters // 2,), device=score.device)
        return torch.zeros(1, filters, dtype=torch.bool, device=score.device).index_fill(1, drawn, True)

    def soft(self, score: Tensor) -> Tensor:
        """See `Decider.soft`: the saturating sigmoid (eq. 4)."""
        return (1.2 * torch.sigmoid(score - self.limit) - 0.1).clamp(0, 1)

    def perceptron(self) -> Perceptron:
        """Its score in evaluation, before the best one is lifted, in float32 whatever the weights are in."""
        first, first_bias = plain_weights(self.fc1)
        second, bias = plain_weights(self.fc2)
        if self.scored is not None:
            second = second.new_zeros(self.filters, second.shape[1]).index_copy(0, self.scored, second)
            bias = bias.new_full((self.filters,), math.inf).index_copy(0, self.scored, bias)
        return Perceptron(first, first_bias, second, bias)

    @torch.no_grad()
    def narrowed(self, channels: Sequence[int], filters: Sequence[int], scored: Sequence[int]) -> FilterGate:
        """A gate of its own that decides alike for fewer channels and filters, where those that are left out are 0 and
        closed. Its hidden layer is as wide.

        Args:
            channels: of the features, those that are left, ascending.
            filters: those that are left, ascending.
            scored: those of them that it goes on scoring, at least one; the others are always open.
        """
        made = copy.deepcopy(self)
        own = range(self.filters) if self.scored is None else self.scored.tolist()
        rows = [own.index(filter) for filter in scored]
        _take(made.fc1, 1, channels)
        _take(made.fc2, 0, rows)
        places = [filters.index(filter) for filter in scored]
        made.filters = len(filters)
        every = len(places) == len(filters)
        made.scored = None if every else torch.tensor(places, device=self.fc2.weight.device)
        return made

    def __repr__(self) -> str:
        of = "" if self.scored is None else f" of {self.filters}"
        widths = f"{self.fc1.in_features} -> {self.fc1.out_features} -> {self.fc2.out_features}{of}"
        by = "" if self.multiple == 1 else f", multiples of {self.multiple}"
        return f"FilterGate({widths}, {self.mixing}{by})"


def _take(layer: nn.Linear, axis: int, kept: Sequence[int]) -> None:
    """Leave a linear layer only some of its outputs (0) or inputs (1)."""
    index = torch.tensor(kept, device=layer.weight.device)
    weight, bias = layer.weight, layer.bias
    layer.weight = nn.Parameter(weight.index_select(axis, index), weight.requires_grad)
    if axis == 0:
        layer.bias = nn.Parameter(bias.index_select(0, index), bias.requires_grad)
    layer.out_features, layer.in_features = layer.weight.shape
