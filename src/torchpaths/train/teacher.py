"""Whom a run learns from (`torchpaths.train.distil`): the plain network that it starts from, or that of another run."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import torch
from torch import Tensor

from torchpaths.train.belongs import check_belongs
from torchpaths.train.distil import START, Teacher, teaches
from torchpaths.train.folder import build, load_run
from torchpaths.train.images import Images
from torchpaths.train.recipe import Recipe

Normed: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel."""


def teacher_of(recipe: Recipe, data: Images, device: torch.device) -> Teacher | None:
    """Whom a run learns from; None for nobody.

    A run that normalises otherwise is given its own normalisation: what the student sees, brought back to pixels and
    normalised again, is what it knows. Blends of images (mixup) stay blends, since that is affine.

    Raises:
        RunError: if the teacher's folder is no run.
        DataError: if it is one of other classes or images.
    """
    distil = recipe.distil
    if distil is None:
        return None
    again: tuple[Tensor, Tensor] | None = None
    images = data.test
    with torch.random.fork_rng(devices=[]):
        if distil.teacher == START and recipe.start is None:
            net = build(dataclasses.replace(recipe, method=None, distil=None, twin=False), images.classes, images.shape)
        else:
            run = load_run(distil.teacher if distil.teacher != START else str(recipe.start))
            check_belongs(images, run, "run" if distil.teacher == START else "teacher")
            net = run.net
            if (run.mean, run.std) != (data.mean, data.std):
                again = _again((data.mean, data.std), (run.mean, run.std), device)
    net = net.to(device)
    return teaches(net.to(memory_format=torch.channels_last) if recipe.channels_last else net, again)


def _again(student: Normed, teacher: Normed, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand, ``[C, 1, 1]``, that normalise a student's input as its teacher's."""
    mean, std, mean_there, std_there = (torch.tensor(v, dtype=torch.float64) for v in (*student, *teacher))
    made = (std / std_there, (mean - mean_there) / std_there)
    factor, summand = (v.to(device, torch.float32)[:, None, None] for v in made)
    return factor, summand
