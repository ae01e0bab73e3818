"""``route``: turn a model into one whose parts can be open or closed.

Everything is found and checked on the untouched model first; only then are modules swapped, inner ones before outer
ones. Parameters, buffers and state_dict keys of the model stay as they were, pretrained weights survive, and with every
unit open the routed network gives the original's output bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.cost import count_macs, count_params, evaluating
from torchpaths.errors import RouteError
from torchpaths.find import ByHand
from torchpaths.junction import Decider, Inputs, Junction, Routed, Site, extent
from torchpaths.methods.base import Method, Plan
from torchpaths.methods.blocks import plan_blocks
from torchpaths.path import Cost, Layout


def route(
    model: nn.Module, method: Method | None = None, *, example: Inputs | None = None, residuals: ByHand | None = None
) -> Routed:
    """Route a model. Its residual blocks are replaced in place; the returned network owns it.

    Args:
        model: a network of timm or torchvision, or your own, whose forward takes one tensor.
        method: who decides. None: nobody, every unit is open until a path closes it.
        example: a batch the model accepts, ``[batch, ...]``, or a list of images for a detector; MACs are counted for
            its size. May be left out for models
            that say their input size (timm) and for those that take 224 x 224 RGB.
        residuals: blocks that cannot be taken apart automatically, by hand: name or regular expression of modules ->
            ``Residual(branch, shortcut, post)``, or several for several sums.

    Returns:
        ``net(x, path=None) -> (y, trace)``; ``print(net)`` is a table of its units.

    Raises:
        RouteError: if the model is routed already, does not take the example, or holds nothing to route; if a pattern
            matches nothing; or if the method is none, such as a list of several. The model is then as it was.
    """
    if not isinstance(method, Method | None):
        raise RouteError(f"method={method!r}: give one method, an instance such as GatedBlocks(), or None.")
    if isinstance(model, Routed) or any(isinstance(m, Junction) for m in model.modules()):
        raise RouteError(f"{type(model).__name__} is routed already; route the original model once, with all methods.")
    x = _example(model) if example is None else example
    plans = plan_blocks(model, x, residuals) if method is None else method.find(model, x, residuals)
    sites = tuple({site.name: site for plan in plans for site in plan.sites}.values())  # many modules may obey one
    layout = _layout(model, x, sites)
    junctions = _swap(model, plans)
    net = Routed(model, sites, junctions, layout, tuple(x.shape[1:]) if isinstance(x, Tensor) else ())
    net.deciders.to(extent(x)[1])
    net.training = model.training  # not net.train(): modules the user keeps in evaluation mode stay there
    net.deciders.train(model.training)
    return net


def _example(model: nn.Module) -> Tensor:
    """Zeros of the size the model says it wants; 224 x 224 RGB for those that say nothing."""
    config: Any = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    size = config.get("input_size", (3, 224, 224)) if isinstance(config, dict) else (3, 224, 224)
    parameter = next(model.parameters(), torch.zeros(()))
    return torch.zeros(1, *size, device=parameter.device, dtype=parameter.dtype)


def _layout(model: nn.Module, x: Inputs, sites: tuple[Site, ...]) -> Layout:
    with evaluating(model):
        macs = count_macs(lambda: model(x[:1]))
    plain = Cost(macs, count_params(model))
    units = tuple(unit for site in sites for unit in site.units)
    closable = sum((unit.cost for unit in units), Cost(0, 0))
    deciders = sum((_decider_cost(site.decider) for site in sites if site.decider is not None), Cost(0, 0))
    return Layout(units, plain - closable + deciders, plain, type(model).__name__)


def _decider_cost(decider: Decider) -> Cost:
    """MACs of the decider's linear layers for one image, and its parameters."""
    linear = [m for m in decider.modules() if isinstance(m, nn.Linear)]
    return Cost(sum(m.in_features * m.out_features for m in linear), count_params(decider))


def _swap(model: nn.Module, plans: list[Plan]) -> tuple[Junction, ...]:
    """Replace modules by junctions, inner ones first."""
    built: dict[str, Junction] = {}
    for plan in sorted(plans, key=lambda p: -p.module.count(".")):
        parent, _, child = plan.module.rpartition(".")
        holder = model.get_submodule(parent)
        built[plan.module] = plan.build(holder.get_submodule(child))
        setattr(holder, child, built[plan.module])
    return tuple(built[plan.module] for plan in plans)
