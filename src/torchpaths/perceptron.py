"""``Perceptron``: how a decider that looks at features scores its units in evaluation, as weights that others join or
export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Perceptron:
    """Units' scores as ``second @ relu(first @ features + first_bias) + second_bias``, float32.

    Attributes:
        first: ``[hidden, channels]``.
        first_bias: ``[hidden]``.
        second: ``[units, hidden]``.
        second_bias: ``[units]``.
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
        """Features ``[batch, channels]`` -> scores ``[batch, units]``."""
        hidden = functional.linear(features, self.first, self.first_bias).relu_()
        return functional.linear(hidden, self.second, self.second_bias)

    @classmethod
    def joined(cls, several: Sequence[Perceptron]) -> Perceptron:
        """Perceptrons of one unit and of equal input side by side: scores ``[batch, several]``."""
        return cls(
            torch.cat([p.first for p in several]),
            torch.cat([p.first_bias for p in several]),
            torch.block_diag(*[p.second for p in several]),  # type: ignore[no-untyped-call]
            torch.cat([p.second_bias for p in several]),
        )


def plain_weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight ``[outputs, inputs]`` and bias ``[outputs]`` of a linear layer in float32, whatever they are kept in: also
    in eight bits, as ``quantize_dynamic`` (whose layers have them as methods) and torchao leave them."""
    weight, bias = layer.weight, layer.bias
    if not isinstance(weight, Tensor):
        weight, bias = weight(), bias()  # type: ignore[operator]
    assert isinstance(weight, Tensor)
    if weight.is_quantized or type(weight).dequantize is not Tensor.dequantize:
        weight = weight.dequantize()
    assert isinstance(bias, Tensor)
    return weight.float(), bias.float()


def kept_in(layer: nn.Module) -> torch.dtype:
    """The type of number a linear layer wants for its input."""
    weight = layer.weight
    return weight.dtype if isinstance(weight, Tensor) and weight.is_floating_point() else torch.float32
