"""FGSM and PGD: an image changed so that the network errs, each pixel by at most the strength.

Goodfellow et al., "Explaining and harnessing adversarial examples", 2014: one step along the sign of the gradient.
Madry et al., "Towards deep learning models resistant to adversarial attacks", 2017: many smaller ones, each brought
back to the images within the strength. Both papers of gates attack by FGSM (ConvNet-AIG, section 4.3; network
decoupling, section 4.4).

An attack is a function of its arguments: what it draws it draws from its seed, and torch's generators stay as they
were.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from torchpaths.attacks.pixels import Pixels, check_labels, check_strength, gradient
from torchpaths.errors import DataError
from torchpaths.whole import is_whole, whole


def fgsm(
    pixels: Pixels, x: Tensor, labels: Any, strength: float, *, targeted: bool = False, draws: int = 1, seed: int = 0
) -> Tensor:
    """One step along the sign of the gradient of the cross-entropy.

    Args:
        pixels: the network.
        x: images ``[batch, channel, height, width]`` of 0 to 1.
        labels: what they are, ``[batch]``; with ``targeted`` what they are to be taken for.
        strength: how far each pixel may be changed, scale 0 to 1.
        targeted: see above.
        draws: over how many passes the gradient is averaged, where gates draw.
        seed: of the gates' draws.

    Returns:
        Attacked images, of 0 to 1.

    Raises:
        DataError: for images, labels or strengths out of range.
        CallError: where no gradient comes through the network.
        RunError: for scores that are not finite.
    """
    [attacked] = fgsm_of_strengths(pixels, x, labels, [strength], targeted=targeted, draws=draws, seed=seed)
    return attacked


def fgsm_of_strengths(
    pixels: Pixels,
    x: Tensor,
    labels: Any,
    strengths: Sequence[float],
    *,
    targeted: bool = False,
    draws: int = 1,
    seed: int = 0,
) -> list[Tensor]:
    """`fgsm` of several strengths, which share one gradient."""
    fars = [check_strength(strength) for strength in strengths]
    check_counts(1, draws, None)
    with torch.inference_mode(False), drawing_from(seed):
        x = pixels.checked(x)
        sign = _ascent(pixels, x, _labels(pixels, x, labels), draws) * (-1 if targeted else 1)
        return [within(x + far * sign, x, far) for far in fars]


def pgd(
    pixels: Pixels,
    x: Tensor,
    labels: Any,
    strength: float,
    *,
    steps: int = 20,
    step: float | None = None,
    start: bool = True,
    targeted: bool = False,
    draws: int = 1,
    seed: int = 0,
) -> Tensor:
    """Steps along the sign of the gradient, each brought back to within the strength and to pixels of 0 to 1.

    Args:
        steps: how many.
        step: how far each goes, as a share of the strength; None for ``2.5 / steps``, as in Madry et al.
        start: begin at an image drawn evenly from those within the strength.

    Other arguments, the result and errors are those of `fgsm`.
    """
    far = check_strength(strength)
    check_counts(steps, draws, step)
    with torch.inference_mode(False), drawing_from(seed):
        x = pixels.checked(x)
        y = _labels(pixels, x, labels)
        by = far * (2.5 / steps if step is None else step) * (-1 if targeted else 1)
        now = within(x + far * (2 * torch.rand_like(x) - 1), x, far) if start else x
        for _ in range(steps):
            now = within(now + by * _ascent(pixels, now, y, draws), x, far)
        return now


def within(now: Tensor, x: Tensor, far: float) -> Tensor:
    """Images brought back to within a distance of ``x`` in every pixel, and to 0 to 1."""
    return torch.clamp(torch.minimum(torch.maximum(now, x - far), x + far), 0, 1)


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Torch's generators seeded meanwhile. Raises `DataError` for a seed that is no whole number below 2**62."""
    seed = whole(seed, "seed", DataError)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _ascent(pixels: Pixels, x: Tensor, y: Tensor, draws: int) -> Tensor:
    """The sign of the gradient of the cross-entropy."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        losses = [functional.cross_entropy(pixels(x)[0], y, reduction="sum") for _ in range(draws)]
        return gradient(torch.stack(losses).sum(), x).sign()


def check_counts(steps: int, draws: int = 1, step: float | None = None) -> None:
    """Raise `DataError` unless these are numbers to attack by."""
    number = step is None or (isinstance(step, (int, float)) and not isinstance(step, bool) and 0 < step < math.inf)
    if not (is_whole(steps, 1) and is_whole(draws, 1) and number):
        raise DataError(f"steps={steps}, draws={draws}, step={step}: whole numbers from 1 on, and a step above 0.")


def _labels(pixels: Pixels, x: Tensor, labels: Any) -> Tensor:
    return check_labels(labels, len(x), pixels.classes(x)).to(x.device)
