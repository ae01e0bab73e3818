"""Whether a layer can do without some of its rows (outputs) or columns (inputs), tried out once, when it is routed.

A layer of torch computes each output from a row of its own, and adds its inputs up. A class with a forward of its own
need not: it may quantise its weights by the largest of them, normalise them over all, or scale what it reads by its
range; without some of them the others are then different ones. In the weights as they are such a dependence may be too
small to see, and training makes it another. So the trial takes weights without ties and zeros, and makes what will be
left out a hundred times as large as what stays, and a hundredth: then the largest or the smallest lies in it, and no
mean, norm or quantile over both is that of what stays.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchpaths.models.spread import is_spread
from torchpaths.places.channels.weights import (
    by_rows,
    computed,
    has_forward,
    is_torchs,
    width,
    with_tensors,
)

_LARGER, _SMALLER = 100.0, 0.01


@dataclass(frozen=True)
class _Trial:
    """What stays, ascending, and how many times as large the rest is made; which sign all inputs have."""

    kept: Sequence[int]
    factor: float
    sign: int


def why_whole(layer: nn.Module, axis: int) -> str:
    """Why a layer without some of its rows (0) or columns (1) does not give what it gives of the others; "" if it does.

    Args:
        layer: a convolution, a linear layer or a batch normalisation, with weights of its own.
        axis: see above. Without rows of a norm, or of a convolution in groups, their inputs are missing too.
    """
    if is_torchs(layer):
        return ""
    some = ("outputs", "inputs")[axis]
    if has_forward(layer):
        return f"has a forward that was put on it, not on its class, and computes all {some}, so none can be left out"
    try:
        # What its own forward draws at random is none of the caller's.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            shaken = _shaken(layer)
            apart = all(_is_apart(shaken, axis, trial) for trial in _trials(_units(layer, axis)))
    except Exception as error:  # whatever its own forward raises for weights or inputs of another size
        said = str(error).split("\n")[0][:200]
        return f"does not run with only some of its {some} ({type(error).__name__}: {said}), so none can be left out"
    if apart:
        return ""
    return f"computes its {some} from one another, as where weights are normalised over them, so none can be left out"


def _is_wise(layer: nn.Module) -> bool:
    """Whether it hands its inputs on by channels or groups, so that rows and inputs are missing at once."""
    return isinstance(layer, _BatchNorm) or (isinstance(layer, nn.Conv2d) and layer.groups > 1)


def _units(layer: Any, axis: int) -> int:
    """How many parts it may be left with some of: rows or columns, or whole groups."""
    return int(layer.groups) if isinstance(layer, nn.Conv2d) and layer.groups > 1 else width(layer, axis)


def _trials(units: int) -> Iterator[_Trial]:
    """Of every second unit and of halves at random; none where there is one unit, which is never left out alone."""
    if units < 2:
        return
    order = torch.randperm(units, generator=torch.Generator().manual_seed(0)).tolist()
    for sign, start in ((1, 0), (-1, 1)):
        yield _Trial(range(start, units, 2), _LARGER, sign)
        half = sorted(order[start::2])
        yield _Trial(half, _LARGER, -sign)
        yield _Trial(half, _SMALLER, sign)


def _shaken(layer: nn.Module) -> nn.Module:
    """A copy in evaluation whose numbers are not equal, zero, or of another sign than they were."""
    made = copy.deepcopy(layer).eval()
    random = torch.Generator().manual_seed(0)
    tensors = {}
    for name, t in by_rows(made):
        if t.is_floating_point():
            noise = torch.rand(t.shape, generator=random).to(t.device, t.dtype)
            tensors[name] = torch.where(t == 0, 0.1 * noise, t * (0.5 + noise))
    return with_tensors(made, tensors, None)


def _is_apart(layer: nn.Module, axis: int, trial: _Trial) -> bool:
    """Whether a layer gives of what stays what it gives where the rest is there, or is zeros in its input."""
    tried: Any = with_tensors(layer, _scaled(layer, axis, trial), None)
    x = _input(layer, trial.sign)
    rows = _places(trial, width(layer, 0), _units(layer, axis)) if axis == 0 else None
    narrow = x
    if axis == 1 or _is_wise(layer):
        there = torch.tensor(_places(trial, x.shape[1], _units(layer, axis)), device=x.device)
        narrow = x.index_select(1, there)
        x = (x * (trial.factor if axis == 0 else 0.0)).index_copy(1, there, narrow)
    # All of it first: a layer that keeps the weights that it computed then shows that it does.
    expected: Tensor = tried.narrow(x) if is_spread(tried) else tried.forward(x)
    got = computed(tried, narrow, rows, None if axis == 0 else list(trial.kept))
    if rows is not None:
        expected = expected.index_select(1, torch.tensor(rows, device=x.device))
    # Rounding is no difference, and what is one is larger here than in the weights as they were.
    tolerance = math.sqrt(torch.finfo(expected.dtype).eps)
    return got.shape == expected.shape and torch.allclose(
        got, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
    )


def _places(trial: _Trial, channels: int, units: int) -> list[int]:
    """The channels of the units that stay."""
    each = channels // units
    return [unit * each + i for unit in trial.kept for i in range(each)]


def _scaled(layer: nn.Module, axis: int, trial: _Trial) -> dict[str, Tensor]:
    """Its tensors, what will be left out of them made larger or smaller."""
    tensors = {}
    for name, t in by_rows(layer):
        if t.is_floating_point() and (axis == 0 or name == "weight"):
            index = torch.tensor(_places(trial, t.shape[axis], _units(layer, axis)), device=t.device)
            tensors[name] = (t * trial.factor).index_copy(axis, index, t.index_select(axis, index))
    return tensors


def _input(layer: Any, sign: int) -> Tensor:
    """A batch of two, no value of which is near zero."""
    channels = layer.in_channels if isinstance(layer, nn.Conv2d) else width(layer, int(isinstance(layer, nn.Linear)))
    shape = [2, channels]
    if isinstance(layer, nn.Conv2d):
        shape += [max(layer.kernel_size) * max(layer.dilation) + 2] * 2
    elif not isinstance(layer, (nn.Linear, nn.BatchNorm1d)):
        shape += [3, 3]
    x = sign * (0.5 + torch.rand(shape, generator=torch.Generator().manual_seed(0)))
    like = next((t for _, t in by_rows(layer) if t.is_floating_point()), x)
    return x.to(like.device, like.dtype)
