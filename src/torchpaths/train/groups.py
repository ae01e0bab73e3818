"""Which parameters decay and how fast they learn: ``make_optimizer`` with the groups a recipe asks for.

ConvNet-AIG and the networks of Coded ResNeXt decay everything. Adaptive depth does not decay norms and biases of CNNs
and Swin, nor Swin's embeddings; timm decays no vector. ConvNet-AIG's code has a learning rate of its own for gates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from torchpaths.errors import RunError, near
from torchpaths.train.recipe import Recipe

FACTOR = "factor"
"""Key of a group: what the schedule's learning rate is multiplied by for it."""

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Whose parameters "norms" are: batch and instance norms, and those of a single image."""

_EMBEDDINGS = re.compile(
    r"(.*\.)?(class_token|cls_token|dist_token|reg_token|pos_embed(ding)?|position_embeddings?|"
    r"relative_position_bias_table)"
)
_GATES = "deciders."


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all parameters of a module, with foreach kernels: few launches for many tensors.

    Args:
        module: an `Objective`, or another of whose parameters the network's have names that begin with ``net.``.
        recipe: gives optimizer, rates and groups.

    Raises:
        RunError: for parameters that the recipe names and the network has not.
    """
    groups = _groups(module, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            foreach=True,
        )
    betas = (recipe.momentum, 0.999)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=betas, weight_decay=recipe.weight_decay, foreach=True)


def _groups(module: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Parameters by (factor of the learning rate, decay), in the module's order within each."""
    named = dict(_named(module))
    bare = {name for kind in recipe.no_decay for name in _matching(kind, module, named)}
    gates = {name for name in named if name.startswith(_GATES)}
    if not gates and (recipe.gate_lr != 1 or recipe.gate_decay is not None):
        raise RunError(
            f"gate_lr and gate_decay are for deciders that learn, and {_who(recipe)} has none; leave them out."
        )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        gate = name in gates
        decay = recipe.gate_decay if gate and recipe.gate_decay is not None else recipe.weight_decay
        key = (recipe.gate_lr if gate else 1.0, 0.0 if name in bare else decay)
        groups.setdefault(key, []).append(parameter)
    return [{"params": p, "weight_decay": decay, FACTOR: factor} for (factor, decay), p in groups.items()]


def _named(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters under the names that a weights file has for them."""
    for name, parameter in module.named_parameters():
        yield name.removeprefix("net."), parameter


def _matching(kind: str, module: nn.Module, named: dict[str, nn.Parameter]) -> set[str]:
    """The names of the parameters that an entry of ``no_decay`` stands for."""
    of: dict[str, Callable[[], set[str]]] = {
        "norms": lambda: _norms(module, named),
        "biases": lambda: {name for name in named if name.rpartition(".")[2] == "bias"},
        "embeddings": lambda: {name for name in named if _EMBEDDINGS.fullmatch(name)},
        "gates": lambda: {name for name in named if name.startswith(_GATES)},
    }
    try:
        # A module's own names may be given without what the library puts before and between them.
        found = of[kind]() if kind in of else {n for n in named if kind == n or re.fullmatch(kind, _plain(n))}
    except re.error as error:
        raise RunError(f"no_decay={kind!r} is no kind of parameters and no regular expression ({error}).") from error
    if not found:
        hint = near(kind, [*of, *map(_plain, named)]) if kind not in of else "Leave it out."
        raise RunError(f"no_decay={kind!r} matches no parameter of this network. {hint}")
    return found


def _norms(module: nn.Module, named: dict[str, nn.Parameter]) -> set[str]:
    own = {id(p) for part in module.modules() if isinstance(part, NORMS) for p in part.parameters(recurse=False)}
    return {name for name, parameter in named.items() if id(parameter) in own}


def _plain(name: str) -> str:
    return name.removeprefix("model.")


def _who(recipe: Recipe) -> str:
    return recipe.model if recipe.method is None else f"{recipe.model} with {' and '.join(recipe.method.names)}"
