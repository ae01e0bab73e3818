"""Which axis of a value holds its channels: established by what the layers behind it insist on.

A gate sees the mean over all axes but samples and channels (ConvNet-AIG, Eq. 4), so it has to know them apart. The
weights of a layer fix the number of channels, while a value may commonly have more or fewer pixels or tokens: the axis
that cannot vary is the one, whatever the layers are called and however they turn the value around.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

_ELEMENTWISE = (nn.Identity, nn.ReLU, nn.SiLU, nn.GELU, nn.Dropout)


def channel_axis(
    value: Tensor,
    readers: Iterable[nn.Module],
    branch: Callable[[Tensor], Tensor],
    children: Iterable[nn.Module],
) -> int | None:
    """The axis of a value that holds channels; None where nothing tells.

    Args:
        value: ``[batch, ...]``, as the branch gets it in the example.
        readers: the modules of the branch that are called with it and nothing else.
        branch: the whole of it, for values of other sizes too.
        children: all modules that the branch calls.
    """
    if value.dim() < 3:
        return 1 if value.dim() == 2 else None
    one = value[:1].clone()
    first = [layer for reader in readers for layer in _first_layer(reader)]
    for layer in first:
        known = _known(layer, one)
        if known is not None:
            return known
    runs: list[Callable[[Tensor], Tensor]] = [*first, branch]
    for run in runs:
        for size in _SIZES:
            fixed = [axis for axis in range(1, one.dim()) if not _takes(run, one, axis, size(one.shape[axis]))]
            if len(fixed) == 1:
                return fixed[0]
    return _arriving([layer for child in children for layer in child.modules()], branch, one)


_SIZES: tuple[Callable[[int], int], ...] = (lambda n: 2 * n, lambda n: n - 1, lambda n: n // 2)
"""Other sizes to try: windows and strides may insist on even ones, halves of the channels be taken from more."""


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
def _takes(run: Callable[[Tensor], Tensor], value: Tensor, axis: int, size: int) -> bool:
    """Whether something takes a value of another size along an axis."""
    if size < 2:
        return True  # a size of one would be spread over any
    try:
        run(torch.cat([value, value], axis).narrow(axis, 0, size).clone())
    except Exception:  # whatever it raises, it does not take this
        return False
    return True


class _ArrivedError(Exception):
    """The first layer was reached."""


@torch.no_grad()
def _arriving(layers: list[nn.Module], branch: Callable[[Tensor], Tensor], value: Tensor) -> int | None:
    """The axis of a value that arrives at the first layer as the one it takes for channels, however it was turned."""
    thread = threading.get_ident()
    met: list[tuple[nn.Module, Tensor]] = []

    def meet(layer: nn.Module, args: tuple[Any, ...]) -> None:
        tensor = bool(args) and isinstance(args[0], Tensor)
        if threading.get_ident() == thread and tensor and _known(layer, args[0]) is not None:
            met.append((layer, args[0].clone()))
            raise _ArrivedError

    found = []
    handles = [layer.register_forward_pre_hook(meet) for layer in layers]
    try:
        for axis in range(1, value.dim()):
            numbers = torch.arange(1, value.shape[axis] + 1, dtype=value.dtype, device=value.device)
            with suppress(_ArrivedError):
                branch(numbers.view(-1, *[1] * (value.dim() - 1 - axis)).expand(value.shape).clone())
            if met:
                layer, seen = met.pop()
                channels = seen.movedim(_known(layer, seen) or 0, 0).flatten(1)
                if (channels == channels[:, :1]).all() and (channels[1:] != channels[:-1]).any():
                    found.append(axis)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if len(found) == 1 else None
