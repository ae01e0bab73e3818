"""Gates as perceptrons, and the scores of several gates at once: ``Perceptron`` and ``Panel``.

A gate is two small layers, so nearly all its time on a processor is the start of each operation (a dozen of them), and
a network has tens of gates. In evaluation, batch normalisation and the difference of the two outputs (ConvNet-AIG, Eq.
5 to 8) fold into the layers, and the perceptrons of several gates are one wider perceptron. If a block stays closed for
all images, the next gate sees the very same features, and its score is there already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

    def __call__(self, features: Tensor) -> Tensor:
        """Features ``[batch, channels]`` -> scores ``[batch, 1]``."""
        if len(features) == 1:  # half the time of linear()
            hidden = torch.addmv(self.first_bias, self.first, features.view(-1)).relu_()
            return torch.addmv(self.second_bias, self.second, hidden).view(1, -1)
        hidden = functional.linear(features, self.first, self.first_bias).relu_()
        return functional.linear(hidden, self.second, self.second_bias)

    @classmethod
    def joined(cls, several: Sequence[Perceptron]) -> Perceptron:
        """Perceptrons of equal input side by side: scores ``[batch, several]``."""
        return cls(
            torch.cat([p.first for p in several]),
            torch.cat([p.first_bias for p in several]),
            torch.block_diag(*[p.second for p in several]),
            torch.cat([p.second_bias for p in several]),
        )


class Panel:
    """Deciders that see equally many channels, joined into one perceptron, and joined anew after their weights changed.

    A change is noticed by the version that in-place operations count up; one through ``parameter.data`` counts nothing.
    """

    def __init__(self, deciders: Sequence[Decider]) -> None:
        """
        Args:
            deciders: such that have a perceptron.
        """
        self.deciders = tuple(deciders)
        self._tensors = [t for d in deciders for t in (*d.parameters(), *d.buffers()) if t.is_floating_point()]
        self._state: list[int] = []
        self._joined: Perceptron

    def refresh(self) -> None:
        """Join the deciders anew if their weights changed since."""
        state = [t._version for t in self._tensors] + [t.data_ptr() for t in self._tensors]
        if state != self._state:
            self._joined = Perceptron.joined([p for d in self.deciders if (p := d.perceptron()) is not None])
            self._state = state

    def __call__(self, features: Tensor) -> Tensor:
        """Features ``[batch, channels]`` -> scores ``[batch, deciders]``, with the weights as last refreshed."""
        return self._joined(features)
