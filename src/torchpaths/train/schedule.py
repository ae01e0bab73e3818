"""The learning rate as a pure function of the recipe and the step: nothing to save, nothing to restore.

Step decay as in He et al. (2015) and ConvNet-AIG ("x 0.1 at epochs 150 and 250"), or half a cosine (Loshchilov and
Hutter, "SGDR", 2017), both after a linear warm-up (Goyal et al., 2017). Warm-up and cosine move with every step, or, as
in the training scripts of torchvision and timm, with every epoch: the rate is then that of the epoch's beginning, so
that the first epoch trains at ``warmup_from`` and the last one before the cosine's end.
"""

from __future__ import annotations

import math

from torchpaths.train.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step.

    Args:
        recipe: gives lr, schedule, schedule_by, milestones, gamma, warmup, cooldown (epochs), warmup_from,
            warmup_within, final_lr and epochs.
        step: from 0.
        steps_per_epoch: optimizer steps in an epoch.

    Returns:
        During warm-up, from ``warmup_from lr`` to ``lr`` in equal parts, the first of which the first step has (by
        epochs, the second epoch); then ``lr gamma^k`` after k milestones, or the cosine from ``lr`` at the end of the
        warm-up (with ``warmup_within`` at the beginning) to ``final_lr`` at the last step (by epochs, after the last
        epoch) before the cooldown.
    """
    by_epoch = recipe.schedule_by == "epoch"
    unit = 1 if by_epoch else steps_per_epoch
    now = step // steps_per_epoch if by_epoch else step
    warmup = round(recipe.warmup * unit)
    if now < warmup:
        along = (now if by_epoch else now + 1) / warmup
        return recipe.lr * (recipe.warmup_from + (1 - recipe.warmup_from) * along)
    if recipe.schedule == "step":
        passed = sum(step >= milestone * steps_per_epoch for milestone in recipe.milestones)
        return recipe.lr * recipe.gamma**passed
    last = recipe.epochs * unit - round(recipe.cooldown * unit) - (0 if by_epoch else 1)
    begin = 0 if recipe.warmup_within else warmup
    along = min(1.0, (now - begin) / max(1, last - begin))
    return recipe.final_lr + (recipe.lr - recipe.final_lr) * (1 + math.cos(math.pi * along)) / 2
