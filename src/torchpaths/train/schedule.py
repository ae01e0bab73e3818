"""The learning rate as a pure function of the recipe and the step: nothing to save, nothing to restore.

Step decay as in He et al. (2015) and ConvNet-AIG ("x 0.1 at epochs 150 and 250"), or half a cosine (Loshchilov and
Hutter, "SGDR", 2017), both after a linear warm-up (Goyal et al., 2017).
"""

from __future__ import annotations

import math

from torchpaths.train.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step.

    Args:
        recipe: gives lr, schedule, milestones, gamma, warmup (epochs), final_lr and epochs.
        step: from 0.
        steps_per_epoch: optimizer steps in an epoch.

    Returns:
        During warm-up ``lr (step + 1) / warmup steps``; then ``lr gamma^k`` after k milestones, or the cosine from
        ``lr`` at the end of the warm-up to ``final_lr`` at the last step.
    """
    warmup = round(recipe.warmup * steps_per_epoch)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    if recipe.schedule == "step":
        passed = sum(step >= milestone * steps_per_epoch for milestone in recipe.milestones)
        return recipe.lr * recipe.gamma**passed
    last = recipe.epochs * steps_per_epoch - 1
    along = (step - warmup) / max(1, last - warmup)
    return recipe.final_lr + (recipe.lr - recipe.final_lr) * (1 + math.cos(math.pi * along)) / 2
