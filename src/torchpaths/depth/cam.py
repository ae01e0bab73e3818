"""Where each block of a stage looks: class activation maps by block (AdaptiveDepth, fig. 4).

Grad-CAM (Selvaraju et al., 2017): with A the block's output and g the gradient of a class's score with respect to it,
the map is ``relu(sum_c mean(g_c) A_c)``. In a network whose blocks all do the same the maps change from block to block;
where the second half of a stage only refines, they hardly do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.costs import evaluating
from torchpaths.depth.observed import check_gradients
from torchpaths.errors import CallError, RouteError, near
from torchpaths.path import Path
from torchpaths.routed import Routed


def activation_maps(
    net: Routed, x: Tensor, labels: Tensor, blocks: Sequence[str], path: Path | None = None, axis: int = 1
) -> dict[str, Tensor]:
    """Grad-CAM of each block.

    Args:
        net: a routed network in any mode; it is not changed.
        x: images, ``[batch, ...]``.
        labels: the class whose score is asked for, long ``[batch]``.
        blocks: names of modules of ``net.model``.
        path: along which; None for the network's own decisions.
        axis: which axis of outputs with two dimensions of space holds channels; tokens ``[batch, n, channels]`` are
            taken as a square, without class tokens.

    Returns:
        Block -> maps, float32 ``[batch, height, width]``, at least 0. Blocks that the path leaves out are absent.

    Raises:
        RouteError: for a module that is not there, or whose output is no map.
        CallError: for labels that are no classes of the network, or a skipping network, which has no gradients.
    """
    check_gradients(net)
    modules = dict(net.model.named_modules())
    for name in blocks:
        if name not in modules:
            raise RouteError(f"{name!r} is no module of {net.layout.network}. {near(name, modules)}")
    outputs: dict[str, Tensor] = {}
    handles = [modules[name].register_forward_hook(_keep(outputs, name)) for name in blocks]
    try:
        with evaluating(net), torch.enable_grad():
            logits, _ = net(x.detach().requires_grad_(), path)
    finally:
        for handle in handles:
            handle.remove()
    if labels.shape != (len(x),) or int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise CallError(
            f"labels of shape {tuple(labels.shape)} for {len(x)} images and {logits.shape[1]} classes; give one class "
            "number for each image."
        )
    scores = logits.gather(1, labels.to(logits.device).view(-1, 1)).sum()
    gradients = torch.autograd.grad(scores, list(outputs.values()))
    return {
        name: _cam(_channels_first(y.detach(), name, axis), _channels_first(g, name, axis))
        for (name, y), g in zip(outputs.items(), gradients, strict=True)
    }


def _keep(outputs: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], y: Any) -> None:
        if not any(y is a for a in args):  # a closed block hands on its input
            outputs[name] = y

    return hook


def _cam(y: Tensor, gradient: Tensor) -> Tensor:
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * y).sum(1).relu().float()


def _channels_first(y: Tensor, name: str, axis: int) -> Tensor:
    if y.dim() == 4:
        return y.movedim(axis, 1)
    if y.dim() == 3:
        side = math.isqrt(y.shape[1])
        return y[:, y.shape[1] - side * side :].movedim(2, 1).reshape(len(y), -1, side, side)
    raise RouteError(f"the output of {name!r} has shape {tuple(y.shape)}, which is no map; choose another block.")
