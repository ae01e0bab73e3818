"""Images as they are after an attack, to be looked at: ``attacked_levels``, and ``attacked_images`` of a gallery."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from torchpaths.attacks.linf import fgsm
from torchpaths.attacks.pixels import Pixels
from torchpaths.errors import DataError
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.surveys.columns import Attacked, Shown
from torchpaths.surveys.gallery import gallery


def attacked_levels(
    net: Routed,
    pixels: NDArray[np.uint8],
    labels: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    strength: float,
    *,
    path: Path | None = None,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Images under FGSM as whole levels of 255, so that a picture of one is what a network sees.

    Args:
        net: a routed network.
        pixels: uint8 ``[image, height, width, channel]``.
        labels: their classes.
        mean: by which the network's images are normalised, scale 0 to 1.
        std: likewise.
        strength: how far each pixel may be changed, scale 0 to 1.
        path: units chosen from outside, for the whole batch.
        seed: of what gates draw.

    Returns:
        As ``pixels``.

    Raises:
        DataError, CallError, RunError: as for `torchpaths.attacks.fgsm`.
    """
    x = torch.from_numpy(np.array(pixels)).movedim(3, 1).float() / 255
    changed = fgsm(Pixels(net, mean, std, path=path), x, torch.tensor(labels), strength, seed=seed).cpu()
    # Towards the image where half a level is left over: rounded the other way it would be further off than allowed.
    levels = 255 * x + torch.trunc(255 * (changed - x) + 1e-3 * (changed - x).sign())
    return np.asarray(levels.round().to(torch.uint8).movedim(1, 3).numpy())


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
    """Images of a gallery, each with itself under FGSM, see `attacked_levels`.

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
    levels = attacked_levels(net, pixels, labels, mean, std, strength, seed=seed)
    middle, spread = (torch.tensor(list(values)).view(1, -1, 1, 1) for values in (mean, std))
    x = (torch.from_numpy(levels).movedim(3, 1) / 255 - middle) / spread
    seen = gallery(net, numbers, x, labels, levels, without=without)
    made = (
        Attacked(a.packed, a.top, a.score, a.without, name="fgsm", strength=strength, thumb=a.thumb) for a in seen
    )  # fmt: skip
    return tuple(
        dataclasses.replace(image, attacked=(*image.attacked, a)) for image, a in zip(shown, made, strict=True)
    )
