"""Pictures of the live page: images of the run's set, easy and hard, with what the network makes of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchpaths.explorer.answers import Answers
from torchpaths.explorer.document import PNG, document, image_of
from torchpaths.fronts.measured import Measured
from torchpaths.surveys.gallery import gallery, thumbnail
from torchpaths.surveys.told import images_json


def thumb(pixels: NDArray[np.uint8]) -> str:
    """Pixels ``[H, W, C]`` as a small PNG, as an address with the data in it."""
    return PNG + base64.b64encode(thumbnail(pixels)).decode()


def pictures(answers: Answers, looked: int = 256, kept: int = 48) -> list[dict[str, Any]]:
    """Of so many images of the set those that are spread most evenly from easy to hard, as the page reads them."""
    rows = np.random.default_rng(0).permutation(len(answers.images))[:looked]
    free = [-1] * len(answers.layout.units)
    _, opened, _ = answers.call(answers.normalised(answers.images.read(rows)), free)
    order = np.argsort(opened.sum(1), kind="stable")
    numbers = rows[order[np.linspace(0, len(order) - 1, min(kept, len(order))).round().astype(int)]]
    pixels = answers.images.read(numbers)
    labels = answers.images.labels[numbers].tolist()
    shown = gallery(answers.net, numbers, answers.normalised(pixels), labels, pixels)
    return [image_of(entry) for entry in images_json(shown)]


def live_document(answers: Answers, front: Measured | None, decoded: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the live page reads: the survey's document, with pictures of the set where the survey has none."""
    parameter = next(answers.net.parameters())
    threads = torch.get_num_threads()
    where = parameter.device.type + (f", {threads} thread{'s' if threads > 1 else ''}" if parameter.is_cpu else "")
    survey, images = answers.survey, answers.images
    counts = np.bincount(images.labels, minlength=len(survey.images))
    same = survey.split == images.split and np.array_equal(counts, survey.images)  # what it measures is of these images
    made = document(answers.survey, front, {"run": str(answers.run.folder), "live": where, "same": same}, decoded)
    if not made["images"]:
        made["images"] = pictures(answers)
    return made
