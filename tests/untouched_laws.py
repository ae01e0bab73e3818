"""Laws of `route` itself: a model that it refused, or routed, is in every attribute what it was."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.junction import Junction, Place
from torchpaths.methods.base import Method
from torchpaths.methods.blocks import plan_blocks
from torchpaths.places.plan import Plan


def attributes(model: nn.Module) -> list[Any]:
    """Everything that a model's modules have on them, in depth, in a form that can be compared; junctions unseen."""
    return [(name, type(module), _seen(vars(module), set())) for name, module in model.named_modules()]


def _seen(value: Any, known: set[int]) -> Any:
    while isinstance(value, Junction):
        value = value._place.block
    if isinstance(value, Tensor):
        bits = hashlib.sha256(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        return id(value), type(value), value.shape, value.dtype, value.requires_grad, id(value.grad), bits
    if isinstance(value, nn.Module) or id(value) in known:
        return id(value)
    if isinstance(value, (dict, list, tuple, set, deque)):
        pairs = list(value.items()) if isinstance(value, dict) else [(None, inner) for inner in value]
        own = {*known, id(value)}
        kept = None if isinstance(value, tuple) else id(value)
        return kept, type(value), [(k, _seen(inner, own)) for k, inner in pairs]
    if hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        return id(value), _seen(vars(value), {*known, id(value)})
    return repr(value) if isinstance(value, (int, float, str, bool)) else id(value)


def check_a_refused_model_is_untouched(model: nn.Module, x: Tensor) -> None:
    """After a refusal at the last moment, and after an interruption, a model is what it was in every attribute."""
    before = attributes(model)
    with pytest.raises(ValueError, match="no such site"):
        tp.route(model, tp.GatedBlocks(sites=("no such site",)), example=x)
    assert attributes(model) == before
    with pytest.raises(KeyboardInterrupt):
        tp.route(model, Interrupted(), example=x)
    assert attributes(model) == before


def check_a_routed_model_keeps_its_attributes(model: nn.Module, x: Tensor) -> None:
    """Routed, every module under its name is what it was, but for the doors in the place of some."""
    before = attributes(model)
    net = tp.route(model, example=x)
    assert net.sites
    assert attributes(net.model) == before


class Interrupted(Method):
    """A method whose user loses patience when everything is found and swapped."""

    def find(self, model: nn.Module, example: Any, residuals: Any = None) -> list[Plan]:
        return [replace(plan, build=self._build) for plan in plan_blocks(model, example, residuals)]

    def _build(self, block: nn.Module) -> Place:
        block.extra_state = {"half": "done"}  # type: ignore[assignment]
        raise KeyboardInterrupt
