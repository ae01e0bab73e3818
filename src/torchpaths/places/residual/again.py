"""Activation checkpointing that a block was asked for: its values are computed again in the backward pass, not kept.

Layers of transformers do it in their own call, which the parts of a routed block do not go through. What they were told
is on them: a flag, and the function that checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

FLAG = "gradient_checkpointing"
"""Where a layer is told. What it computes is the same either way."""

_FUNCTION = "_gradient_checkpointing_func"


def recomputed(block: nn.Module, run: Callable[..., Tensor], *args: Any) -> Tensor:
    """What ``run`` gives, checkpointed where the block was told to and as it was told.

    Args:
        block: a residual block.
        run: a part of it. What it reads and needs a gradient for is a parameter or in ``args``.
        *args: what it is called with.
    """
    if block.training and torch.is_grad_enabled() and getattr(block, FLAG, False):
        function = getattr(block, _FUNCTION, None)
        if function is not None:
            value: Tensor = function(run, *args)
            return value
    return run(*args)
