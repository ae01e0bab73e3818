"""The scores of several gates at once: ``Panel``.

A gate is two small layers, so nearly all its time on a processor is the start of each operation (a dozen of them), and
a network has tens of gates. In evaluation, batch normalisation and the difference of the two outputs (ConvNet-AIG, Eq.
5 to 8) fold into the layers, and the perceptrons of several gates are one wider perceptron. If a block stays closed for
all images, the next gate sees the very same features, and its score is there already.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from torchpaths.perceptron import Perceptron
from torchpaths.skips.written import sample
from torchpaths.trace import Decider


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
        """Such that decide by a perceptron of equally many channels."""
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
        rectified = [0.0 if value <= 0 else value for value in hidden[start : start + len(weights)]]
        products: float = sum(map(operator.mul, weights, rectified))
        return bias + products


class Panel:
    """Deciders that see equally many channels, joined, and joined anew after anything they are made of has changed.

    Noticed are other layers, other tensors, other memory and writing in place, by which torch counts versions. Fused
    optimizers and writing through ``parameter.data`` count nothing; of these a step that trains the first decider is
    seen by its values, and nothing else: `forget` after it.
    """

    def __init__(self, deciders: Sequence[Decider]) -> None:
        """
        Args:
            deciders: such that decide by a perceptron alone, see `Decider.by_perceptron`.
        """
        self.deciders = tuple(deciders)
        self._made: _Made | None = None

    @property
    def asked(self) -> bool:
        """Whether a decider is to be asked by itself, since it has a hook or another forward; as it was `joined`."""
        made = self._made
        return made is not None and (any(made.hooks) or any("forward" in d.__dict__ for d in self.deciders))

    @property
    def _device(self) -> str:
        return next((p.device.type for d in self.deciders for p in d.parameters()), "cpu")

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_made": None}

    def forget(self) -> None:
        """Join anew at the next call."""
        self._made = None

    def joined(self) -> Joined:
        """The deciders as they are now. Threads may ask at once."""
        made = self._made
        if made is None or not made.holds():
            with torch.no_grad(), torch.autocast(self._device, enabled=False):
                made = self._made = _Made(self.deciders)
        return made.joined


class _Made:
    """Deciders as they were when they were joined. Looked through before each call, so in few and cheap steps.

    Attributes:
        joined: they.
        hooks: tables of all their hooks.
    """

    def __init__(self, deciders: Sequence[Decider]) -> None:
        modules = [module for decider in deciders for module in decider.modules()]
        self.joined = Joined.of(deciders)
        self.hooks = [hooks for module in modules for hooks in (module._forward_hooks, module._forward_pre_hooks)]
        self._holders = [module._modules for module in modules if module._modules]
        self._children = [child for table in self._holders for child in table.values()]
        tables: list[Mapping[str, Tensor | None]] = [t for m in modules for t in (m._parameters, m._buffers)]
        self._tables = [table for table in tables if table]
        self._tensors = [t for table in self._tables for t in table.values()]
        self._there = [t for t in self._tensors if t is not None]
        self._norms = [module for module in modules if isinstance(module, _NormBase)]
        self._eps = [norm.eps for norm in self._norms]
        self._versions = _versions(self._there)
        self._pointers = [t.data_ptr() for t in self._there]
        self._first = next((p for decider in deciders for p in decider.parameters()), None)
        self._values = None if self._first is None else sample(self._first).clone()
        # They keep their memory, so that no other tensor can come to lie there.
        self._aliases = [t.detach() for t in self._there]

    def holds(self) -> bool:
        """Whether all is as it was."""
        children = [child for table in self._holders for child in table.values()]
        tensors = [t for table in self._tables for t in table.values()]
        if len(children) != len(self._children) or any(map(operator.is_not, children, self._children)):
            return False
        if len(tensors) != len(self._tensors) or any(map(operator.is_not, tensors, self._tensors)):
            return False
        if [norm.eps for norm in self._norms] != self._eps:
            return False
        there = self._there
        counted = _versions(there) == self._versions and [t.data_ptr() for t in there] == self._pointers
        first, values = self._first, self._values
        return counted and (first is None or values is None or torch.equal(sample(first), values))


def _versions(tensors: Sequence[Tensor]) -> list[int]:
    """How often each was written, as far as torch counts it: not for those made in inference mode."""
    return [0 if t.is_inference() else t._version for t in tensors]
