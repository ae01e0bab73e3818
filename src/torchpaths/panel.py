"""Gates as perceptrons, and the scores of several gates at once: ``Perceptron`` and ``Panel``.

A gate is two small layers, so nearly all its time on a processor is the start of each operation (a dozen of them), and
a network has tens of gates. In evaluation, batch normalisation and the difference of the two outputs (ConvNet-AIG, Eq.
5 to 8) fold into the layers, and the perceptrons of several gates are one wider perceptron. If a block stays closed for
all images, the next gate sees the very same features, and its score is there already.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from torchpaths.junction import Decider


@dataclass(frozen=True)
class Perceptron:
    """A unit's score as ``second @ relu(first @ features + first_bias) + second_bias``, float32.

    Attributes:
        first: ``[hidden, channels]``.
        first_bias: ``[hidden]``.
        second: ``[1, hidden]``.
        second_bias: ``[1]``.
    """

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor

    @property
    def channels(self) -> int:
        """How many features it takes."""
        return self.first.shape[1]

    def __call__(self, features: Tensor) -> Tensor:
        """Features ``[batch, channels]`` -> scores ``[batch, 1]``."""
        hidden = functional.linear(features, self.first, self.first_bias).relu_()
        return functional.linear(hidden, self.second, self.second_bias)

    @classmethod
    def joined(cls, several: Sequence[Perceptron]) -> Perceptron:
        """Perceptrons of equal input side by side: scores ``[batch, several]``."""
        return cls(
            torch.cat([p.first for p in several]),
            torch.cat([p.first_bias for p in several]),
            torch.block_diag(*[p.second for p in several]),  # type: ignore[no-untyped-call]
            torch.cat([p.second_bias for p in several]),
        )


class Panel:
    """Deciders that see equally many channels, joined into one perceptron, and joined anew after their weights changed.

    A change is noticed by the version that in-place operations count up; one through ``parameter.data`` counts nothing.
    """

    def __init__(self, deciders: Sequence[Decider]) -> None:
        """
        Args:
            deciders: such that decide by score.
        """
        self.deciders = tuple(deciders)
        self._tensors = [t for d in deciders for t in (*d.parameters(), *d.buffers()) if t.is_floating_point()]
        self._state: list[int] = []
        self._joined: Perceptron
        self._second: list[tuple[int, list[float], float]] = []

    def refresh(self) -> None:
        """Join the deciders anew if their weights changed since."""
        state = [t._version for t in self._tensors] + [t.data_ptr() for t in self._tensors]
        if state != self._state:
            several = [decider.perceptron() for decider in self.deciders]
            self._joined = Perceptron.joined(several)
            starts = [0, *accumulate(len(p.first) for p in several)]
            self._second = [
                (start, p.second[0].tolist(), p.second_bias.item()) for start, p in zip(starts, several, strict=False)
            ]
            self._state = state

    def __call__(self, features: Tensor) -> Tensor:
        """Features ``[batch, channels]`` -> scores ``[batch, deciders]``, with the weights as last refreshed."""
        return self._joined(features)

    def hidden(self, features: Tensor) -> list[float]:
        """Features of one image, ``[1, channels]`` -> what all deciders' hidden layers hold before their ReLU."""
        hidden: list[float] = torch.addmv(self._joined.first_bias, self._joined.first, features.view(-1)).tolist()
        return hidden

    def score(self, hidden: list[float], decider: int) -> float:
        """One decider's score from `hidden`, without any tensor: to start an operation after a convolution, with the
        caches full of other things, takes fifty times as long as these sixteen products."""
        start, weights, bias = self._second[decider]
        rectified = [value if value > 0 else 0.0 for value in hidden[start : start + len(weights)]]
        products: float = sum(map(operator.mul, weights, rectified))
        return bias + products
