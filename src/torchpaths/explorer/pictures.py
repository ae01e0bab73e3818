"""Pictures of the live page: images of the run's set, easy and hard, with what the network makes of them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from torchpaths.explorer.answers import Answers
from torchpaths.explorer.document import document
from torchpaths.fronts.measured import Measured

SIDE = 32


def thumb(pixels: NDArray[np.uint8]) -> str:
    """Pixels ``[H, W, C]`` as a PNG of at most 32 pixels a side, as an address with the data in it."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def gallery(answers: Answers, looked: int = 256, kept: int = 48) -> list[dict[str, Any]]:
    """Of so many images of the set those that are spread most evenly from easy to hard, as the page reads them."""
    rows = np.random.default_rng(0).permutation(len(answers.images))[:looked]
    free = [-1] * len(answers.layout.units)
    scores, opened, macs = answers.call(answers.normalised(answers.images.read(rows)), free)
    order = np.argsort(opened.sum(1), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(kept, len(order))).round().astype(int)]
    shares = scores.softmax(1)
    found = []
    for i in chosen.tolist():
        top = shares[i].argsort(descending=True)[:5].tolist()
        found.append(
            {
                "id": int(rows[i]),
                "label": int(answers.images.labels[rows[i]]),
                "thumb": thumb(answers.images.read([rows[i]])[0]),
                "path": np.packbits(opened[i]).tobytes().hex(),
                "macs": int(macs[i]),
                "top": [[k, float(shares[i, k])] for k in top],
            }
        )
    return found


def live_document(answers: Answers, front: Measured | None) -> dict[str, Any]:
    """What the live page reads: the survey's document, with pictures of the set where the survey has none."""
    parameter = next(answers.net.parameters())
    threads = torch.get_num_threads()
    where = parameter.device.type + (f", {threads} thread{'s' if threads > 1 else ''}" if parameter.is_cpu else "")
    survey, images = answers.survey, answers.images
    counts = np.bincount(images.labels, minlength=len(survey.images))
    same = survey.split == images.split and np.array_equal(counts, survey.images)  # what it measures is of these images
    made = document(answers.survey, front, {"run": str(answers.run.folder), "live": where, "same": same})
    if not made["images"]:
        made["images"] = gallery(answers)
    return made
