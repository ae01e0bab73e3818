"""``Folded``: a layer's weights with the norm behind it in them, of which some rows and columns are computed.

Copying weights is most of what leaving filters out costs, so it is done in memory order: for channels_last images they
are kept as ``[N, pixels, C]``, of which rows are copied whole and columns gathered. A convolution of kernel 1 is a
matrix product, for which nothing is prepared anew whenever its sizes change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.places.channels.weights import biased, groups_of, width, zeros

SAMPLED = 64
"""Values of a weight that are looked at to see whether it was written."""


class Folded:
    """A convolution or linear layer as it was, with the norm behind it.

    Attributes:
        layer: it.
        norm: the norm; None for none.
        bias: of both, ``[N]``; None where there is none.
    """

    def __init__(self, layer: Any, norm: Any) -> None:
        """
        Args:
            layer: a convolution or a linear layer.
            norm: a batch norm in evaluation, or None.
        """
        self.layer = layer
        self.norm = norm
        # It keeps the tensors that it was made of, so that no others can come to lie in their memory.
        self._of = self._tensors()
        self._seen = self._versions()
        self._eps = None if norm is None else norm.eps
        self._values = [sample(t).clone() for t in self._of if t is not None]
        with torch.no_grad():
            weight, bias = layer.weight, layer.bias
            if norm is not None:
                scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
                weight = weight * scale.view(-1, *(1,) * (weight.dim() - 1))
                bias = -norm.running_mean if bias is None else bias - norm.running_mean
                bias = (bias * scale if norm.bias is None else bias * scale + norm.bias).to(layer.weight.dtype)
                weight = weight.to(layer.weight.dtype)
        self.bias: Tensor | None = bias
        self._weight: Tensor = weight
        self._last: Tensor | None = None
        one = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
        self._product = one and layer.padding in ((0, 0), "valid", "same")

    def _tensors(self) -> list[Any]:
        layer, norm = self.layer, self.norm
        of = [layer.weight, layer.bias]
        return of if norm is None else [*of, norm.weight, norm.bias, norm.running_mean, norm.running_var]

    def _versions(self) -> list[tuple[int, int]]:
        return [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in self._of if t is not None]

    def holds(self, layer: nn.Module, norm: nn.Module | None) -> bool:
        """Whether it is still what it was made of.

        A norm in training and fused optimizers write without torch's counting it, so values are compared too: all of a
        norm's, and some of a weight's, of which a step of training leaves none as it was.
        """
        if layer is not self.layer or norm is not self.norm or (norm is not None and norm.eps != self._eps):
            return False
        now = self._tensors()
        if any(a is not b for a, b in zip(now, self._of, strict=True)) or self._versions() != self._seen:
            return False
        there = (t for t in self._of if t is not None)
        return all(torch.equal(sample(t), value) for t, value in zip(there, self._values, strict=True))

    def __call__(self, x: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """
        Args:
            x: input of one image, without the columns that are missing.
            rows: those to compute, long; at least one, or None for all.
            columns: those that ``x`` has; none: it holds zeros in all.
        """
        layer, bias = self.layer, self.bias
        bias = bias if rows is None or bias is None else bias.index_select(0, rows)
        y: Tensor
        if columns is not None and len(columns) == 0:
            y = biased(layer, zeros(layer, x, width(layer, 0) if rows is None else len(rows)), bias)
        elif isinstance(layer, nn.Linear):
            y = functional.linear(x, _taken(self._weight, rows, columns), bias)
        elif self._product:
            y = self._products(x, _taken(self._weight.flatten(1), rows, columns), bias)
        else:
            weight = self._in_order(rows, columns) if is_last(x) else _taken(self._weight, rows, columns)
            sides = layer.stride, layer.padding, layer.dilation
            y = functional.conv2d(x, weight, bias, *sides, groups_of(layer, rows))
        return y

    def _in_order(self, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """Weights ``[rows, columns, k, k]`` whose channels lie innermost in memory."""
        if self._last is None:
            self._last = self._weight.permute(0, 2, 3, 1).contiguous()
        weight = self._last if rows is None else self._last.index_select(0, rows)
        if columns is not None:
            flat = weight.view(-1, weight.shape[3])
            weight = torch.gather(flat, 1, columns.expand(len(flat), -1)).view(*weight.shape[:3], -1)
        return weight.permute(0, 3, 1, 2)

    def _products(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A convolution of kernel 1."""
        down, right = self.layer.stride
        if (down, right) != (1, 1):
            x = x[:, :, ::down, ::right]
        _, channels, height, breadth = x.shape
        if x.stride(1) == 1:
            pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
            y = functional.linear(pixels, weight, bias)
            return y.view(1, height, breadth, -1).permute(0, 3, 1, 2)
        flat = x.reshape(channels, height * breadth)
        y = torch.mm(weight, flat) if bias is None else torch.addmm(bias.unsqueeze(1), weight, flat)
        return y.view(1, -1, height, breadth)


def sample(t: Tensor) -> Tensor:
    """A vector; of a weight a few values from all over it: what to look at to see whether it was written uncounted."""
    flat = t.detach().reshape(-1) if t.is_contiguous() else t.detach().as_strided((t.numel(),), (1,))
    return flat if t.dim() < 2 else flat[:: max(1, len(flat) // SAMPLED)]


def is_last(x: Tensor) -> bool:
    """Whether an image's channels lie innermost in memory."""
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def placed(y: Tensor, rows: Tensor, channels: int, axis: int) -> Tensor:
    """Channels in their places among zeros, in the memory order of ``y``.

    Args:
        y: of one image.
        rows: places of its channels, long.
        channels: how many there are with the zeros.
        axis: which holds channels.
    """
    if not is_last(y):
        shape = (*y.shape[:axis], channels, *y.shape[axis + 1 :])
        return y.new_zeros(shape).index_copy_(axis, rows, y)
    _, few, height, breadth = y.shape
    pixels = y.permute(0, 2, 3, 1).view(-1, few)
    full = y.new_zeros(len(pixels), channels).index_copy_(1, rows, pixels)
    return full.view(1, height, breadth, channels).permute(0, 3, 1, 2)


def _taken(weight: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    weight = weight if rows is None else weight.index_select(0, rows)
    return weight if columns is None else weight.index_select(1, columns)
