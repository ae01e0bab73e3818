"""Whom a run learns from (`torchpaths.train.distil`): the plain network that it starts from, or that of another run."""

from __future__ import annotations

import dataclasses

import torch

from torchpaths.data import ImageSet
from torchpaths.errors import RunError
from torchpaths.train.distil import START, Teacher, teaches
from torchpaths.train.folder import build, load_run
from torchpaths.train.recipe import Recipe


def teacher_of(recipe: Recipe, images: ImageSet, device: torch.device) -> Teacher | None:
    """Whom a run learns from; None for nobody.

    Raises:
        RunError: if the teacher's folder is no run, or one of other images.
    """
    distil = recipe.distil
    if distil is None:
        return None
    with torch.random.fork_rng(devices=[]):
        if distil.teacher == START and recipe.start is None:
            net = build(dataclasses.replace(recipe, method=None, distil=None, twin=False), images.classes, images.shape)
        else:
            run = load_run(distil.teacher if distil.teacher != START else str(recipe.start))
            net, shape = run.net, run.net.example_shape
            if len(run.classes) != len(images.classes) or shape != (images.shape[2], *images.shape[:2]):
                raise RunError(
                    f"the teacher {distil.teacher} knows {len(run.classes)} classes of images "
                    f"{'x'.join(map(str, shape))}, this run has {len(images.classes)} of "
                    f"{'x'.join(map(str, (images.shape[2], *images.shape[:2])))}; take one of the same."
                )
    net = net.to(device)
    return teaches(net.to(memory_format=torch.channels_last) if recipe.channels_last else net)
