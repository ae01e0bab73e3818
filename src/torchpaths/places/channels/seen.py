"""What layers of a model do for one image, watched: ``Seen``; and the span of a layer's channels: ``Seen.span``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from torchpaths.costs import evaluating
from torchpaths.errors import ExampleError, RouteError, reason
from torchpaths.inputs import call, shape_of
from torchpaths.places.channels.follow import ended, followed
from torchpaths.places.channels.region import LEAVES, OUTSIDE, Region
from torchpaths.places.channels.spans import Span
from torchpaths.places.channels.weights import outputs
from torchpaths.trace import Inputs


class Seen:
    """What ran in a model, for one image.

    Attributes:
        model: is not touched.
        pixels: layer -> in how many places of an image it computes, tokens too; in order of execution.
        rows: layer -> how many rows its input has for one image.
        others: convolutions that are none over an image's two axes, or transposed, in order of execution.
        outputs: how many classes the model tells apart; None where it gives no scores ``[batch, class]``.
    """

    def __init__(self, model: nn.Module, example: Inputs, names: Collection[str]) -> None:
        """
        Args:
            model: see above.
            example: a batch for it.
            names: of the layers whose spans will be asked for.

        Raises:
            RouteError: if the model does not take the example.
        """
        self.model = model
        self.pixels: dict[str, int] = {}
        self.rows: dict[str, int] = {}
        self.others: list[str] = []
        self._called: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._regions: dict[str, Region | RouteError] = {}
        around = {outer for name in names for outer in _outer(name)}
        handles = []
        for name, module in model.named_modules():
            if name in around:
                handles.append(module.register_forward_pre_hook(partial(self._call, name), with_kwargs=True))
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                handles.append(module.register_forward_hook(partial(self._ran, name)))
            elif isinstance(module, _ConvNd):
                handles.append(module.register_forward_hook(partial(self._ran_too, name)))
        try:
            with torch.no_grad(), evaluating(model):
                y = call(model, example[:1])
        except Exception as error:
            raise ExampleError(
                f"{type(model).__name__} does not take one image of the example of shape {shape_of(example)} "
                f"({reason(error, 160)}). Give route(model, method, example=x) a batch x that model(x) accepts."
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        self.outputs = y.shape[1] if isinstance(y, Tensor) and y.dim() == 2 else None

    def _call(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        copied = [a.clone() if isinstance(a, Tensor) else a for a in args]  # somebody may write into them
        self._called[name] = tuple(copied), kwargs

    def _ran(self, name: str, module: nn.Module, inputs: Any, y: Tensor) -> None:
        # All of y is this one image's, though it may lie along the first axis, as the windows of Swin do.
        self.pixels[name] = self.pixels.get(name, 0) + y.numel() // outputs(module)
        self.rows[name] = len(y)

    def _ran_too(self, name: str, module: nn.Module, inputs: Any, y: Tensor) -> None:
        self.others += [] if name in self.others else [name]

    def span(self, name: str, ends: bool = False) -> tuple[str, Span]:
        """The smallest module that holds a layer with all that its channels reach, and these.

        Args:
            name: of the layer, which makes the channels or which they pass.
            ends: channels may go where no layer mixes them; then they end before that, see `ended`.

        Raises:
            RouteError: if there is none.
        """
        inner: Span | None = None
        refusal = RouteError("its module is not called")
        for around in _outer(name):
            if around not in self._called:
                continue
            prefix = f"{around}." if around else ""
            own = name.removeprefix(prefix)
            try:
                region = self._region(around)
                try:
                    return around, followed(region, own).within(prefix)
                except RouteError as error:
                    refusal = error
                    if around and (OUTSIDE in str(error) or (ends and LEAVES in str(error))):
                        inner = ended(region, own).within(prefix) if LEAVES in str(error) else inner
                        continue
                    if not ends or LEAVES in str(error):
                        raise
                return around, ended(region, own).within(prefix)
            except RouteError as error:
                if inner is None or not around:
                    raise
                refusal = error
                break
        if inner is None:
            raise refusal
        return name.rpartition(".")[0], inner

    def squeezed(self, name: str) -> bool:
        """Whether a layer sees an image's pixels only as their mean: it computes factors, as in squeeze-and-excitation,
        or stands behind the last map."""
        for around in _outer(name):
            if around in self._called:
                try:
                    return self._region(around).squeezed(name.removeprefix(f"{around}." if around else ""))
                except RouteError:
                    return False
        return False

    def _region(self, name: str) -> Region:
        """A module and what its forward does.

        Raises:
            RouteError: if it cannot be traced.
        """
        if name not in self._regions:
            args, kwargs = self._called[name]
            try:
                self._regions[name] = Region(self.model.get_submodule(name), args, kwargs)
            except RouteError as error:
                self._regions[name] = error
        found = self._regions[name]
        if isinstance(found, RouteError):
            raise found
        return found


def _outer(name: str) -> Iterator[str]:
    while name:
        name = name.rpartition(".")[0]
        yield name
