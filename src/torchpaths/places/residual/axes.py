"""Which axis of a value holds its channels: established by what the layers behind it insist on.

A gate sees the mean over all axes but samples and channels (ConvNet-AIG, Eq. 4), so it has to know them apart. A layer's
weights fix the number of channels, while a value may commonly have more or fewer pixels or tokens: the axis that cannot
vary is the one, whatever the layers are called and however they turn the value around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

_ELEMENTWISE = (nn.Identity, nn.ReLU, nn.SiLU, nn.GELU, nn.Dropout)


def channel_axis(
    value: Tensor,
    readers: Iterable[nn.Module],
    branch: Callable[[Tensor], Tensor],
    layers: Iterable[tuple[nn.Module, Callable[[Tensor], Tensor]]],
) -> int | None:
    """The axis of a value that holds channels; None where nothing tells.

    Args:
        value: ``[batch, ...]``, as the branch gets it in the example.
        readers: the modules of the branch that are called with it and nothing else.
        branch: the whole of it, for values of other sizes too.
        layers: the modules of the branch in order, and what each of them gets as a function of the value.
    """
    if value.dim() < 3:
        return 1 if value.dim() == 2 else None
    one = value[:1].clone()
    first = [layer for reader in readers for layer in _first_layer(reader)]
    for layer in first:
        known = _known(layer, one)
        if known is not None:
            return known
    for run in (*first, branch):
        fixed = [axis for axis in range(1, one.dim()) if not _varies(run, one, axis)]
        if len(fixed) == 1:
            return fixed[0]
    return next((axis for layer, given in layers for axis in _arriving(layer, given, one)), None)


def _first_layer(module: nn.Module) -> Iterator[nn.Module]:
    """The first module in a chain that does not treat every number by itself."""
    if type(module).forward is nn.Sequential.forward:
        yield from (layer for child in list(module.children())[:4] for layer in _first_layer(child))
    elif not isinstance(module, _ELEMENTWISE):
        yield module


def _known(layer: nn.Module, value: Tensor) -> int | None:
    """The axis a layer of torch's takes for channels."""
    last = value.dim() - 1
    if isinstance(layer, _ConvNd) and layer.in_channels == value.shape[1]:
        return 1
    if isinstance(layer, (_BatchNorm, nn.GroupNorm)) and value.shape[1] in (
        getattr(layer, "num_features", 0),
        getattr(layer, "num_channels", 0),
    ):
        return 1
    alone = type(layer) in (nn.LayerNorm, nn.RMSNorm) and layer.normalized_shape == (value.shape[last],)
    return last if alone or type(layer) is nn.Linear else None


@torch.no_grad()
def _varies(run: Callable[[Tensor], Tensor], value: Tensor, axis: int) -> bool:
    """Whether something takes a value of another size along an axis."""
    size = value.shape[axis]
    twice = torch.cat([value, value], axis)
    for other in (2 * size, size // 2):  # where windows, strides and halves of a value may come out even too
        if other > 1:  # a size of one would be spread over any
            try:
                run(twice.narrow(axis, 0, other).clone())
            except Exception:  # whatever it raises, it does not take this
                continue
            return True
    return False


@torch.no_grad()
def _arriving(module: nn.Module, given: Callable[[Tensor], Tensor], value: Tensor) -> Iterator[int]:
    """The axes of a value that arrive at a layer as the one it takes for channels, however they were turned."""
    for layer in _first_layer(module):
        for axis in range(1, value.dim()):
            numbers = torch.arange(value.shape[axis], dtype=value.dtype, device=value.device)
            seen = given(numbers.view(-1, *[1] * (value.dim() - 1 - axis)).expand(value.shape).clone())
            known = _known(layer, seen)
            if known is not None:
                lines = seen.movedim(known, 0).flatten(1)
                if len(lines) > 1 and (lines == lines[:, :1]).all() and (lines[1:] != lines[:-1]).any():
                    yield axis
