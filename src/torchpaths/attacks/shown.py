"""Images of a survey's gallery as they are after an attack: ``attacked_images``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from torchpaths.attacks.linf import fgsm
from torchpaths.attacks.pixels import Pixels
from torchpaths.errors import DataError
from torchpaths.routed import Routed
from torchpaths.surveys.columns import Attacked, Shown
from torchpaths.surveys.gallery import gallery


def attacked_images(
    net: Routed,
    shown: Sequence[Shown],
    pixels: NDArray[np.uint8],
    mean: Sequence[float],
    std: Sequence[float],
    strength: float,
    *,
    without: bool = False,
    seed: int = 0,
) -> tuple[Shown, ...]:
    """Images of a gallery, each with itself under FGSM, as whole levels of 255, so that the thumbnail is what was seen.

    Args:
        net: a routed network.
        shown: the gallery.
        pixels: its images, uint8 ``[image, height, width, channel]``.
        mean: by which the network's images are normalised, scale 0 to 1.
        std: likewise.
        strength: how far each pixel may be changed, scale 0 to 1.
        without: also what each is taken for with each unit shut that it opens.
        seed: of what gates draw.

    Raises:
        DataError: for a strength out of range or below one level of 255, or too many units to try each.
        CallError: for a network that gives no gradient.
        RunError: for scores that are not finite.
    """
    if 255 * strength < 1 - 1e-6:
        raise DataError(f"strength {strength:g}: less than one level of 255 changes no picture; give 1/255 or more.")
    numbers, labels = np.array([image.number for image in shown], np.int64), [image.label for image in shown]
    x = torch.from_numpy(np.array(pixels)).movedim(3, 1).float() / 255
    changed = fgsm(Pixels(net, mean, std), x, torch.tensor(labels), strength, seed=seed).cpu()
    # Towards the image where half a level is left over: rounded the other way it would be further off than allowed.
    levels = (255 * x + torch.trunc(255 * (changed - x) + 1e-3 * (changed - x).sign())).round().to(torch.uint8)
    middle, spread = (torch.tensor(list(values)).view(1, -1, 1, 1) for values in (mean, std))
    seen = gallery(
        net, numbers, (levels / 255 - middle) / spread, labels, levels.movedim(1, 3).numpy(), without=without
    )  # fmt: skip
    made = (
        Attacked(a.packed, a.top, a.score, a.without, name="fgsm", strength=strength, thumb=a.thumb) for a in seen
    )  # fmt: skip
    return tuple(
        dataclasses.replace(image, attacked=(*image.attacked, a)) for image, a in zip(shown, made, strict=True)
    )
