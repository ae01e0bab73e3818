"""Layers of which some rows (outputs) or columns (inputs) are missing: computed without them, and cut down for good."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from torchpaths.errors import CallError
from torchpaths.models.spread import is_spread
from torchpaths.path import Bools

Kept: TypeAlias = "Sequence[int] | None"
"""Numbers of the rows or columns that are there, ascending; None for all."""


def width(layer: Any, axis: int) -> int:
    """How many rows (0) or columns (1) a layer has; a norm as many of both."""
    if isinstance(layer, _BatchNorm):
        return int(layer.num_features)
    return int(layer.weight.shape[axis])


def outputs(layer: Any) -> int:
    """How many channels a layer gives, the zeros of one that spreads them included."""
    return int(layer.spread_channels) if is_spread(layer) else width(layer, 0)


def channel_axis(layer: nn.Module, x: Tensor) -> int:
    """Which axis of a layer's input and output holds channels: a linear layer's last, others' second."""
    return x.dim() - 1 if isinstance(layer, nn.Linear) else 1


def numbers(kept: Bools, channels: int) -> list[int]:
    """The channels of the units that are kept, which are equal groups of consecutive channels."""
    each = channels // len(kept)
    return [unit * each + i for unit, is_open in enumerate(kept) if is_open for i in range(each)]


def computed(layer: Any, x: Tensor, rows: Kept, columns: Kept) -> Tensor:
    """What a layer gives, in evaluation, with only some of its rows or columns; side by side where it spreads them.

    Args:
        layer: a convolution, a linear layer or a batch normalisation.
        x: its input, without the channels that are missing where it reads those.
        rows: see `Kept`; at least one.
        columns: likewise; none of them: ``x`` holds zeros in all channels and says only how large it is.
    """
    y: Tensor
    is_plain = is_torchs(layer)
    if columns is not None and not columns and not is_plain:
        columns = None  # what a forward of its own makes of zeros need not be the biases
    if columns is not None and not columns:
        bias = layer.bias if rows is None or layer.bias is None else layer.bias[list(rows)]
        y = biased(layer, zeros(layer, x, width(layer, 0) if rows is None else len(rows)), bias)
        return y
    taken = _taken(layer, rows, columns, x.device)
    if isinstance(layer, _BatchNorm) and is_plain:
        mean, var = taken.get("running_mean"), taken.get("running_var")
        weight, bias = taken.get("weight"), taken.get("bias")
        y = functional.batch_norm(x, mean, var, weight, bias, training=mean is None, eps=layer.eps)
        return _acted(layer, y) if acts(layer) else y
    bias = taken.get("bias", layer.bias)
    if isinstance(layer, nn.Conv2d) and is_plain and layer.padding_mode == "zeros":
        groups = groups_of(layer, rows)
        y = functional.conv2d(x, taken["weight"], bias, layer.stride, layer.padding, layer.dilation, groups)
        return y
    if isinstance(layer, nn.Linear) and is_plain:
        return functional.linear(x, taken["weight"], bias)
    made: Any = with_tensors(layer, taken, rows)  # a class built on these, with a forward of its own
    y = made.narrow(x) if is_spread(layer) else made.forward(x)
    return y


def kind_of(layer: nn.Module) -> Any:
    """The class of a layer, where it spreads its channels of the one that does not."""
    kind: Any = type(layer)
    return kind.plain if is_spread(layer) else kind


def is_torchs(layer: nn.Module) -> bool:
    """Whether a layer computes as torch's own class does: neither its class nor itself has another forward."""
    kind = kind_of(layer)
    if has_forward(layer):
        return False
    if isinstance(layer, nn.Conv2d):
        own = kind.forward, kind._conv_forward
        return own == (nn.Conv2d.forward, nn.Conv2d._conv_forward)
    return kind.forward in (nn.Linear.forward, _BatchNorm.forward) or acts(layer)


def has_forward(layer: nn.Module) -> bool:
    """Whether the forward of a layer was replaced on itself; it holds that layer's weights, whatever copy calls it."""
    return "forward" in layer.__dict__ or "_conv_forward" in layer.__dict__


def _acted(layer: Any, y: Tensor) -> Tensor:
    acted: Tensor = layer.act(layer.drop(y))
    return acted


def acts(layer: nn.Module) -> bool:
    """Whether a norm is timm's, which has an activation in it; known by name, as timm need not be there."""
    kind = kind_of(layer)
    return bool(kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm."))


def zeros(layer: nn.Module, x: Any, channels: int) -> Any:
    """Zeros of the size of a layer's output: for a layer without inputs torch gives no output channels, or raises.

    Args:
        layer: a convolution or a linear layer.
        x: its input, or a proxy for it, of which only sizes are read.
        channels: of the output.
    """
    if isinstance(layer, nn.Linear):
        return x.new_zeros(x.shape[:-1] + (channels,))  # noqa: RUF005, a proxy cannot be unpacked
    assert isinstance(layer, nn.Conv2d)
    sides = zip(layer.kernel_size, layer.stride, _padding(layer), layer.dilation, strict=True)
    sizes = [(x.shape[i + 2] + p - d * (k - 1) - 1) // s + 1 for i, (k, s, p, d) in enumerate(sides)]
    return x.new_zeros((x.shape[0], channels, *sizes))


def biased(layer: nn.Module, y: Any, bias: Any) -> Any:
    """A layer's output with a bias, if there is one."""
    return y if bias is None else y + (bias if isinstance(layer, nn.Linear) else bias.view(1, -1, 1, 1))


def _padding(layer: nn.Conv2d) -> list[int]:
    """Pixels that are added on both sides together."""
    if isinstance(layer.padding, str):
        sides = zip(layer.kernel_size, layer.dilation, strict=True)
        return [d * (k - 1) if layer.padding == "same" else 0 for k, d in sides]
    return [2 * int(p) for p in layer.padding]


def _taken(layer: nn.Module, rows: Kept, columns: Kept, device: torch.device) -> dict[str, Tensor]:
    """The parameters and buffers that have an entry for each row, or column, with those that are kept.

    Raises:
        CallError: for weights that are computed of others.
    """
    if any(name not in layer._parameters for name in ("weight", "bias")):
        raise CallError(
            f"the weights of a {type(layer).__name__} are computed of others (pruned, normalised or parametrised), so "
            "none can be left out; make them plain again: prune.remove, remove_weight_norm or "
            "parametrize.remove_parametrizations."
        )
    found = {name: t for name, t in by_rows(layer) if rows is not None or name == "weight"}
    if rows is not None:
        index = torch.tensor(rows, device=device)
        found = {name: t.index_select(0, index) for name, t in found.items()}
    if columns is not None:
        found["weight"] = found["weight"].index_select(1, torch.tensor(columns, device=device))
    return found


def by_rows(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A layer's own parameters and buffers that have an entry for each row; not, say, one scale for all weights."""
    rows = width(layer, 0)
    for name, t in (*layer._parameters.items(), *layer._buffers.items()):
        if t is not None and t.dim() > 0 and len(t) == rows:
            yield name, t


def groups_of(layer: nn.Conv2d, rows: Sequence[int] | Tensor | None) -> int:
    """The groups of a convolution that keeps some of its rows: whole groups, or equal parts of each."""
    return layer.groups if rows is None or layer.groups == 1 else layer.groups * len(rows) // layer.out_channels


def smaller(layer: nn.Module, rows: Kept = None, columns: Kept = None) -> nn.Module:
    """A layer of the same class with only some of the rows or columns, as a copy; itself with all of them."""
    if rows is None and columns is None:
        return layer
    with torch.no_grad():
        taken = _taken(layer, rows, columns, next((t.device for _, t in by_rows(layer)), torch.device("cpu")))
    own = {n: nn.Parameter(t, layer._parameters[n].requires_grad) for n, t in taken.items() if n in layer._parameters}  # type: ignore[union-attr]
    return with_tensors(layer, {**taken, **own}, rows)


def with_tensors(layer: nn.Module, taken: Mapping[str, Tensor], rows: Kept) -> nn.Module:
    """The same layer with other weights, and the sizes that they have."""
    made = copy.copy(layer)
    made._parameters = {name: taken.get(name, p) for name, p in layer._parameters.items()}  # type: ignore[misc]
    made._buffers = {name: taken.get(name, b) for name, b in layer._buffers.items()}
    if isinstance(made, _BatchNorm):
        made.num_features = len(rows) if rows is not None else made.num_features
    elif isinstance(made, nn.Linear):
        made.out_features, made.in_features = made.weight.shape
    else:
        assert isinstance(made, nn.Conv2d) and isinstance(layer, nn.Conv2d)  # noqa: PT018
        made.groups = groups_of(layer, rows)
        made.out_channels, made.in_channels = len(made.weight), made.weight.shape[1] * made.groups
    return made
