"""A model as it was: what running it may have left on its modules is taken away again.

To find places a model is run and its blocks are traced. Blocks may write on themselves while they run (a counter, an
attention map, the last frame of a video), and then hold what belongs to nobody, or a tracer's stand-in for a value.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

_CONTAINERS = (dict, list, set, deque)


class Untouched:
    """Remembers every attribute of a model's modules; `restore` puts all of them back, bit for bit."""

    def __init__(self, model: nn.Module) -> None:
        """
        Args:
            model: containers that its modules hold are remembered with what is in them, tensors with their values;
                parameters are taken not to change.
        """
        self._attributes: list[tuple[nn.Module, dict[str, Any]]] = []
        self._contents: dict[int, tuple[Any, Any]] = {}
        self._values: dict[int, tuple[Tensor, Tensor]] = {}
        for module in model.modules():
            self._attributes.append((module, dict(module.__dict__)))
            for value in module.__dict__.values():
                self._remember(value)

    def _remember(self, value: Any) -> None:
        if isinstance(value, _CONTAINERS) and id(value) not in self._contents:
            self._contents[id(value)] = value, copy.copy(value)
            for inner in value.values() if isinstance(value, dict) else value:
                self._remember(inner)
        elif isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            self._values[id(value)] = value, value.detach().clone()

    def restore(self) -> None:
        """Put everything back."""
        for module, attributes in self._attributes:
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for container, content in self._contents.values():
            container.clear()
            if isinstance(container, (dict, set)):
                container.update(content)
            else:
                container.extend(content)
        with torch.no_grad():
            for tensor, value in self._values.values():
                if tensor.shape != value.shape or not _same(tensor, value):
                    tensor.set_(value) if tensor.shape != value.shape else tensor.copy_(value)  # type: ignore[call-overload]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.is_meta or bool(torch.equal(a.nan_to_num(), b.nan_to_num()))
