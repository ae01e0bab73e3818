"""An exponential moving average of the weights (Polyak averaging), kept beside the network, evaluated in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """The average of a network's parameters and floating-point buffers; other buffers follow the network.

    Args:
        net: whose weights; the average starts as a copy of them.
        decay: weight of the past at each step, in (0, 1).
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in _tensors(net).items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """One step: ``average += (1 - decay) (weights - average)``."""
        now = _tensors(net)
        floats = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [now[n].detach() for n in floats], 1 - self.decay)
        for name in now.keys() - set(floats):
            self.average[name].copy_(now[name])

    @contextmanager
    def in_place(self, net: nn.Module) -> Iterator[None]:
        """The network with the average as its weights, for the length of the block."""
        now = _tensors(net)
        kept = {name: value.detach().clone() for name, value in now.items()}
        _fill(now, self.average)
        try:
            yield
        finally:
            _fill(now, kept)


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    return net.state_dict(keep_vars=True)


@torch.no_grad()
def _fill(tensors: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(values[name])
