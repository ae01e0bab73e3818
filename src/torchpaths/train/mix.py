"""Mixup and cutmix (Zhang et al., 2018; Yun et al., 2019): images of a batch blended in pairs, and their labels with
them, by timm's ``Mixup``, its draws a function of (seed, step, rank)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torchpaths.data.drawn import seed_all, undisturbed
from torchpaths.errors import RunError
from torchpaths.optional import need
from torchpaths.train.objective import Objective
from torchpaths.train.recipe import Recipe
from torchpaths.train.seed import seed_of_mix


class Mix:
    """What a recipe does to batches.

    Args:
        recipe: gives mixup, cutmix and seed.
        classes: of the labels.

    Raises:
        RunError: if timm is not installed.
    """

    def __init__(self, recipe: Recipe, classes: int) -> None:
        kind: Any = need("timm.data.mixup", "timm").Mixup
        # The loss smooths labels, mixed or not.
        self._mix = kind(recipe.mixup, recipe.cutmix, label_smoothing=0.0, num_classes=classes)
        self.seed = recipe.seed

    def __call__(self, x: Tensor, y: Tensor, step: int, rank: int) -> tuple[Tensor, Tensor]:
        """
        Args:
            x: this rank's images of the step, ``[B, C, H, W]``, B even; changed in place.
            y: labels, int64 ``[B]``.
            step: from 0.
            rank: this process's number.

        Returns:
            The images, and shares of the classes, float32 ``[B, classes]``.
        """
        with undisturbed():
            seed_all(seed_of_mix(self.seed, step, rank))
            mixed: tuple[Tensor, Tensor] = self._mix(x, y)
        return mixed


def mix_of(recipe: Recipe, objective: Objective, classes: int, share: int) -> Mix | None:
    """A recipe's mixing; None for none.

    Args:
        recipe: how.
        objective: what is trained.
        classes: of the labels.
        share: images of a step on each rank.

    Raises:
        RunError: for losses that need the class of each image, naming the method; a number of images that makes no
            pairs.
    """
    if not (recipe.mixup or recipe.cutmix):
        return None
    said = " and ".join(f"{f}={getattr(recipe, f):g}" for f in ("mixup", "cutmix") if getattr(recipe, f))
    method = objective.method
    if method is not None and method.labelled(objective.net, objective.heads) is not None:
        raise RunError(
            f"{said} blends labels, and {' and '.join(method.labelling)} needs the one class of each image; leave out "
            f"mixup and cutmix, or {method.unlabelled}."
        )
    if share % 2:
        raise RunError(
            f"{said} blends images in pairs, and each process has {share} of a batch of {recipe.batch}; choose an even "
            "number for each."
        )
    return Mix(recipe, classes)
