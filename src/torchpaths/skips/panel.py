"""The scores of several gates at once: ``Panel``.

A gate is two small layers, so nearly all its time on a processor is the start of each operation (a dozen of them), and
a network has tens of gates. In evaluation, batch normalisation and the difference of the two outputs (ConvNet-AIG, Eq.
5 to 8) fold into the layers, and the perceptrons of several gates are one wider perceptron. If a block stays closed for
all images, the next gate sees the very same features, and its score is there already.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor, nn

from torchpaths.trace import Decider, Perceptron

_Table: TypeAlias = Mapping[str, "Tensor | None"]


@dataclass(frozen=True)
class Joined:
    """Deciders as one perceptron, with the weights they had.

    Attributes:
        perceptron: of all of them, scores ``[batch, deciders]``.
        second: for each decider where its hidden layer starts, its second layer's weights and its bias.
    """

    perceptron: Perceptron
    second: tuple[tuple[int, list[float], float], ...]

    @classmethod
    def of(cls, deciders: Sequence[Decider]) -> Joined:
        """Such that decide by score and see equally many channels."""
        several = [decider.perceptron() for decider in deciders]
        starts = accumulate((len(p.first) for p in several), initial=0)
        pairs = zip(starts, several, strict=False)  # the last start is the end of all
        second = ((start, p.second[0].tolist(), p.second_bias.item()) for start, p in pairs)
        return cls(Perceptron.joined(several), tuple(second))

    def __call__(self, features: Tensor) -> Tensor:
        """Features ``[batch, channels]`` -> scores ``[batch, deciders]``."""
        return self.perceptron(features)

    def hidden(self, features: Tensor) -> list[float]:
        """Features of one image, ``[1, channels]`` -> what all deciders' hidden layers hold before their ReLU."""
        first, bias = self.perceptron.first, self.perceptron.first_bias
        hidden: list[float] = torch.addmv(bias, first, features.view(-1)).tolist()
        return hidden

    def score(self, hidden: list[float], decider: int) -> float:
        """One decider's score from `hidden`, without any tensor: to start an operation after a convolution, with the
        caches full of other things, takes fifty times as long as these sixteen products."""
        start, weights, bias = self.second[decider]
        rectified = [value if value > 0 else 0.0 for value in hidden[start : start + len(weights)]]
        products: float = sum(map(operator.mul, weights, rectified))
        return bias + products


class Panel:
    """Deciders that see equally many channels, joined, and joined anew after anything they are made of has changed.

    Noticed are other layers, other tensors, other memory and writing in place, by which torch counts versions. Writing
    through ``parameter.data`` counts nothing and can't be seen; `forget` after it.
    """

    def __init__(self, deciders: Sequence[Decider]) -> None:
        """
        Args:
            deciders: such that decide by score.
        """
        self.deciders = tuple(deciders)
        self._made: tuple[Joined, list[tuple[dict[str, nn.Module | None], list[nn.Module | None]]], list[_Seen]] | None
        self.forget()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_made": None}

    def forget(self) -> None:
        """Join anew at the next call."""
        self._made = None

    @torch.no_grad()
    def joined(self) -> Joined:
        """The deciders as they are now. Threads may ask at once."""
        made = self._made
        if made is None or not self._holds(made[1], made[2]):
            modules = [module for decider in self.deciders for module in decider.modules()]
            seen = [_Seen(table, name, t) for module in modules for table, name, t in _tensors(module)]
            made = Joined.of(self.deciders), [(m._modules, list(m._modules.values())) for m in modules], seen
            self._made = made
        return made[0]

    def _holds(
        self, children: list[tuple[dict[str, nn.Module | None], list[nn.Module | None]]], seen: list[_Seen]
    ) -> bool:
        for table, kept in children:
            if len(table) != len(kept) or any(map(operator.is_not, table.values(), kept)):
                return False
        for was in seen:
            now = was.table.get(was.name)
            if now is not was.tensor or now._version != was.version or now.data_ptr() != was.pointer:
                return False
        return True


class _Seen:
    """A tensor as it was when deciders were joined."""

    __slots__ = ("alias", "name", "pointer", "table", "tensor", "version")

    def __init__(self, table: _Table, name: str, tensor: Tensor) -> None:
        self.table, self.name, self.tensor = table, name, tensor
        self.version, self.pointer = tensor._version, tensor.data_ptr()
        self.alias = tensor.detach()  # keeps its memory, so that no other tensor can come to lie there


def _tensors(module: nn.Module) -> Iterator[tuple[_Table, str, Tensor]]:
    tables: tuple[_Table, _Table] = module._parameters, module._buffers
    for table in tables:
        for name, tensor in table.items():
            if tensor is not None and tensor.is_floating_point():
                yield table, name, tensor
