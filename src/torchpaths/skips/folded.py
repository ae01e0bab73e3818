"""``Folded``: a layer's weights with the norm behind it in them, of which some rows and columns are computed.

Copying weights is most of what leaving filters out costs, so it is done in memory order: for channels_last images they
are kept as ``[N, pixels, C]``, of which rows are copied whole and columns gathered. A convolution of kernel 1 is a
matrix product, for which nothing is prepared anew whenever its sizes change; where images are small beside the weights,
any convolution is one (`torchpaths.skips.rates`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.places.channels.weights import biased, groups_of, width, zeros
from torchpaths.skips.written import Unwritten


class Folded:
    """A convolution or linear layer as it was, with the norm behind it.

    Attributes:
        layer: it.
        norm: the norm; None for none.
        bias: of both, ``[N]``; None where there is none.
        product: whether it is a matrix product as it stands.
        unfolds: whether it can be one of unfolded pixels.
        ways: how it computes fastest, see `torchpaths.skips.ways.way`, by what is open of an image of which size.
    """

    def __init__(self, layer: Any, norm: Any) -> None:
        """
        Args:
            layer: a convolution or a linear layer.
            norm: a batch norm in evaluation, or None.
        """
        self.layer = layer
        self.norm = norm
        self._seen = Unwritten(self.tensors())
        self._eps = None if norm is None else norm.eps
        with torch.no_grad():
            weight, bias = layer.weight, layer.bias
            if norm is not None:
                scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
                weight = weight * scale.view(-1, *(1,) * (weight.dim() - 1))
                bias = -norm.running_mean if bias is None else bias - norm.running_mean
                bias = (bias * scale if norm.bias is None else bias * scale + norm.bias).to(layer.weight.dtype)
                weight = weight.to(layer.weight.dtype)
        self.bias: Tensor | None = bias
        self.weight: Tensor = weight
        self.ways: dict[Hashable, Any] = {}
        self._last: Tensor | None = None
        conv = isinstance(layer, nn.Conv2d)
        single = conv and layer.groups == 1
        self.product = not conv or (
            single and layer.kernel_size == (1, 1) and layer.padding in ((0, 0), "valid", "same")
        )
        self.unfolds = single and not self.product and layer.dilation == (1, 1) and not isinstance(layer.padding, str)

    def slots(self) -> list[tuple[dict[str, Any], str]]:
        """Where layer and norm have what it is made of: tables and names in them."""
        layer, norm = self.layer, self.norm
        of = [(layer._parameters, "weight"), (layer._parameters, "bias")]
        if norm is not None:
            of += [(norm._parameters, "weight"), (norm._parameters, "bias")]
            of += [(norm._buffers, "running_mean"), (norm._buffers, "running_var")]
        return of

    def tensors(self) -> list[Tensor | None]:
        """What it is made of, as layer and norm have it now."""
        return [table.get(name) for table, name in self.slots()]

    def is_of(self, layer: nn.Module, norm: nn.Module | None) -> bool:
        """Whether it was made of these, whatever their values are now."""
        return layer is self.layer and norm is self.norm and (norm is None or norm.eps == self._eps)

    def holds(self, layer: nn.Module, norm: nn.Module | None) -> bool:
        """Whether it is still what it was made of."""
        return self.is_of(layer, norm) and self._seen.holds(self.tensors())

    def __call__(self, x: Tensor, rows: Tensor | None, columns: Tensor | None, unfold: bool = False) -> Tensor:
        """
        Args:
            x: input of one image, without the columns that are missing.
            rows: those to compute, long; at least one, or None for all.
            columns: those that ``x`` has; none: it holds zeros in all.
            unfold: compute a convolution as a product of its unfolded pixels, if it `unfolds`.
        """
        layer, bias = self.layer, self.bias
        bias = bias if rows is None or bias is None else bias.index_select(0, rows)
        if columns is not None and len(columns) == 0:
            return biased(layer, zeros(layer, x, width(layer, 0) if rows is None else len(rows)), bias)  # type: ignore[no-any-return]
        if isinstance(layer, nn.Linear):
            return functional.linear(x, self.taken(rows, columns, False), bias)
        last = is_last(x)
        weight = self.taken(rows, columns, last)
        if self.product:
            down, right = layer.stride
            return _product(x if (down, right) == (1, 1) else x[:, :, ::down, ::right], weight.flatten(1), bias)
        if unfold:
            return _unfolded(x, weight, bias, layer.padding, layer.stride)
        sides = layer.stride, layer.padding, layer.dilation
        return functional.conv2d(x, weight, bias, *sides, groups_of(layer, rows))

    def taken(self, rows: Tensor | None, columns: Tensor | None, last: bool) -> Tensor:
        """Weights ``[rows, columns, ...]``, whose channels lie innermost in memory if ``last``."""
        if not last or self.product:
            weight = self.weight if rows is None else self.weight.index_select(0, rows)
            return weight if columns is None else weight.index_select(1, columns)
        if self._last is None:
            self._last = self.weight.permute(0, 2, 3, 1).contiguous()
        weight = self._last if rows is None else self._last.index_select(0, rows)
        if columns is not None:
            flat = weight.view(-1, weight.shape[3])
            weight = torch.gather(flat, 1, columns.expand(len(flat), -1)).view(*weight.shape[:3], -1)
        return weight.permute(0, 3, 1, 2)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``weight`` ``[N, C]`` for every pixel of one image ``[1, C, H, W]``."""
    _, channels, height, breadth = x.shape
    if x.stride(1) == 1:
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        return functional.linear(pixels, weight, bias).view(1, height, breadth, -1).permute(0, 3, 1, 2)
    flat = x.reshape(channels, height * breadth)
    y = torch.mm(weight, flat) if bias is None else torch.addmm(bias.unsqueeze(1), weight, flat)
    return y.view(1, -1, height, breadth)


def _unfolded(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    """A convolution ``[N, C, k, k]`` of one image as a product, in the memory order of ``weight``."""
    count, channels, *kernel = weight.shape
    (above, left), (down, right) = padding, stride
    if any(padding):
        x = functional.pad(x, (left, left, above, above))
    height, breadth = ((x.shape[i + 2] - kernel[i]) // stride[i] + 1 for i in range(2))
    if weight.stride(1) != 1:
        pixels = functional.unfold(x, tuple(kernel), stride=stride)[0]
        weight = weight.flatten(1)
        y = torch.mm(weight, pixels) if bias is None else torch.addmm(bias.unsqueeze(1), weight, pixels)
        return y.view(1, count, height, breadth)
    x = x.permute(0, 2, 3, 1).contiguous()
    _, rows, step, _ = x.stride()
    shape = (height, breadth, *kernel, channels)
    windows = x.as_strided(shape, (rows * down, step * right, rows, step, 1)).reshape(height * breadth, -1)
    y = functional.linear(windows, weight.permute(0, 2, 3, 1).reshape(count, -1), bias)
    return y.view(1, height, breadth, count).permute(0, 3, 1, 2)


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
