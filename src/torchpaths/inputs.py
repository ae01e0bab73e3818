"""What a model is called with, where that is not one tensor: values in order, values by name, and both.

Models of transformers are called by name, ``model(pixel_values=x)``, and their processors give a dictionary. So an
example, or the one value of a call, may be a mapping of names to values or a tuple of values in order; a list, or a
tuple of images ``[C, H, W]``, is one value, as detectors take.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Given:
    """Everything that a model is called with.

    Attributes:
        args: values in order.
        kwargs: values by name.
        main: the batch: the first tensor in the order of the model's forward, ``[batch, ...]``.
        first: whether that is the first value the model's forward takes.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    main: Tensor
    first: bool = False

    def __len__(self) -> int:
        return len(self.main)

    def __getitem__(self, rows: slice) -> Given:
        """The same for some images of the batch."""
        return self.changed(lambda value: value[rows])

    def changed(self, change: Any) -> Given:
        """The same with every tensor that has a row for each image changed."""

        def one(value: Any) -> Any:
            batched = isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == self.main.shape[0]
            return change(value) if batched else value

        kwargs = {name: one(value) for name, value in self.kwargs.items()}
        return Given(tuple(map(one, self.args)), kwargs, one(self.main), self.first)


def gather(model: nn.Module, x: Any) -> Any:
    """An example as it is handed on from here: a tensor or list of images as it is, anything else a `Given`; itself
    where no tensor is in it."""
    if isinstance(x, Mapping):
        args, kwargs = (), dict(x)
    elif isinstance(x, tuple) and not (x and all(isinstance(v, Tensor) and v.dim() == 3 for v in x)):
        args, kwargs = x, {}
    else:
        return x
    main, first = main_of(model, args, kwargs)
    return x if main is None else Given(args, kwargs, main, first)


def main_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor | None, bool]:
    """The first tensor with an axis for the batch, in the order of a model's forward; and whether that is the first
    value that the forward takes."""
    names = list(inspect.signature(model.forward).parameters)
    values = {**dict(zip(names, args, strict=False)), **{n: kwargs[n] for n in (*names, *kwargs) if n in kwargs}}
    ordered = sorted(values, key=lambda name: names.index(name) if name in names else len(names))
    found = next((n for n in ordered if isinstance(values[n], Tensor) and values[n].dim() > 0), None)
    return (None, False) if found is None else (values[found], found == names[0])


def call(model: nn.Module, x: Any, **more: Any) -> Any:
    """``model(x)`` for anything that `gather` gives."""
    return model(*x.args, **x.kwargs, **more) if isinstance(x, Given) else model(x, **more)


def shape_of(x: Any) -> Any:
    """The shapes of what `gather` gave, for a message."""
    if isinstance(x, Given):
        return shape_of([*x.args, *x.kwargs.values()])
    return tuple(x.shape) if isinstance(x, Tensor) else [tuple(v.shape) for v in x if isinstance(v, Tensor)]


def images_of(batch: Any, device: torch.device) -> Any:
    """What a network is called with of a loader's batch, on a device: the batch itself, what comes before the labels of
    a tuple, or the mapping that a processor of transformers makes."""
    x = batch[0] if isinstance(batch, (tuple, list)) else batch
    if isinstance(x, Mapping):
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in x.items()}
    return x.to(device) if isinstance(x, Tensor) else x


class HasParameters(Protocol):
    """A module, or what looks like one."""

    def parameters(self) -> Iterator[nn.Parameter]: ...


def device_of(net: HasParameters) -> torch.device:
    """Where a network's parameters are; the CPU for one without."""
    return next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
