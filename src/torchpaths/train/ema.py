"""An exponential moving average of the weights (Polyak averaging), kept beside the network, evaluated in its place.

An average that starts from the initial weights is worth nothing until they have faded: with a decay of 0.9999 that
takes tens of thousands of steps. So the first update copies the weights, as do all updates while the average is held
(torchvision does so during the warm-up), and the decay may rise to its final value as timm's does with warm-up:
``min(decay, 1 - (1 + updates)^(-2/3))``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_POWER = 2 / 3


class Ema:
    """The average of a network's parameters and floating-point buffers; other buffers follow the network.

    Args:
        net: whose weights; the average starts as a copy of them.
        decay: weight of the past at each update, in (0, 1).
        every: steps between updates.
        hold: steps during which updates copy the weights.
        ramp: let the decay rise from 0.
    """

    def __init__(self, net: nn.Module, decay: float, every: int = 1, hold: int = 0, ramp: bool = False) -> None:
        self.decay, self.every, self.hold, self.ramp = decay, every, hold, ramp
        self.average = {name: value.detach().clone() for name, value in _tensors(net).items()}

    def weight(self, step: int) -> float:
        """That of the past in the update after a step (counted from 0), of a step that has one; 0 copies."""
        updates = step // self.every - -(-self.hold // self.every)  # after the first that is not held
        if updates <= 0:
            return 0.0
        return min(self.decay, 1 - (1 + updates) ** -_POWER) if self.ramp else self.decay

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """After a step, counted from 0: ``average += (1 - weight) (weights - average)``, if it is one that updates."""
        if step % self.every:
            return
        now = _tensors(net)
        floats = [name for name, value in now.items() if value.is_floating_point()]
        share = 1 - self.weight(step)
        if share == 1:
            torch._foreach_copy_([self.average[n] for n in floats], [now[n].detach() for n in floats])
        else:
            torch._foreach_lerp_([self.average[n] for n in floats], [now[n].detach() for n in floats], share)
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
