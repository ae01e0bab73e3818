"""Augmentation policies by the names that timm and torchvision give them: ``rand-m9-mstd0.5``, ``ta_wide``.

timm's are strings of sections, read by timm itself, which takes what it does not know for nothing said (``rand-m``) or
stops with an assertion; so they are checked first. torchvision's names are those of its reference scripts.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from PIL import Image, ImageOps

from torchpaths.data.scaling import Interpolation, mode, resampling
from torchpaths.errors import DataError, near
from torchpaths.optional import need

Policy: TypeAlias = Callable[[Image.Image], Image.Image]

_NUMBER = r"\d+(\.\d+)?"
_TIMM: dict[str, str] = {
    "rand": rf"m\d+|n[1-9]\d*|p{_NUMBER}|mstd{_NUMBER}|mmax\d+|inc[01]|t(weights|3a|3aw)",
    "original": rf"mstd{_NUMBER}",
    "originalr": rf"mstd{_NUMBER}",
    "v0": rf"mstd{_NUMBER}",
    "v0r": rf"mstd{_NUMBER}",
    "3a": rf"mstd{_NUMBER}",
    "augmix": rf"m\d+|w\d+|d\d+|a{_NUMBER}|b[01]|mstd{_NUMBER}",
}
"""timm's policies, and the form of the sections that may follow each."""

_TORCHVISION = ("ra", "ta_wide", "augmix", "imagenet", "cifar10", "svhn")
"""What torchvision's reference scripts call theirs; "augmix" alone is timm's here, which has sections."""

_TORCHVISIONS = tuple(name for name in _TORCHVISION if name not in _TIMM)
_SAID = (
    "timm's are rand, augmix, original, originalr, v0, v0r and 3a with sections, as rand-m9-n2-mstd0.5; "
    f"torchvision's are {', '.join(_TORCHVISIONS)}"
)


def check(name: str) -> None:
    """Raise unless a policy is known to timm or torchvision.

    Raises:
        DataError: naming the part that is unknown, and what is known.
    """
    kind, *sections = name.split("-") if isinstance(name, str) else [repr(name)]
    if name in _TORCHVISIONS:
        return
    if kind not in _TIMM:
        raise DataError(
            f"policy {name!r} is known to neither timm nor torchvision. {near(kind, [*_TIMM, *_TORCHVISIONS])} {_SAID}."
        )
    for section in sections:
        if not re.fullmatch(_TIMM[kind], section):
            raise DataError(
                f"policy {name!r}: {section!r} is no section of timm's {kind}; {_SAID}."
                + (
                    " Sections of rand: mMAGNITUDE, nOPERATIONS, pPROBABILITY, mstdDEVIATION, mmaxMOST, inc1, tweights."
                    if kind == "rand"
                    else ""
                )
            )


@functools.lru_cache(maxsize=16)
def policy(name: str, interpolation: Interpolation, fill: tuple[int, ...], side: int) -> Policy:
    """A policy, which draws from the global generators.

    Args:
        name: as `check` allows it.
        interpolation: of its geometric operations.
        fill: grey level, or RGB, of pixels from outside the image, as timm has it (the data set's mean); torchvision's
            are black.
        side: of the images, of which timm translates by up to 45 %.

    Raises:
        RunError: if timm is wanted and not installed.
    """
    check(name)
    if name in _TORCHVISIONS:
        return _torchvisions(name, interpolation)
    timm: Any = need("timm.data.auto_augment", "timm")
    mean: Any = fill if len(fill) > 1 else fill[0]
    told: dict[str, Any] = {"translate_const": math.floor(side * 0.45), "img_mean": mean}
    if interpolation != "random":
        told["interpolation"] = resampling(interpolation)
    if name.startswith("rand"):
        found: Policy = timm.rand_augment_transform(name, told)
    elif name.startswith("augmix"):
        found = timm.augment_and_mix_transform(name, {**told, "translate_pct": 0.3})
    else:
        found = timm.auto_augment_transform(name, told)
    for op in _operations(found):
        if op.name.startswith("Posterize"):
            op.aug_fn = _posterize
    return found


def _operations(found: Any) -> list[Any]:
    """The operations of one of timm's policies."""
    return [op for part in found.policy for op in part] if hasattr(found, "policy") else list(found.ops)


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """timm's, which at low magnitudes asks for 0 bits: a black image, as older versions of Pillow gave; newer ones
    raise."""
    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)


def _torchvisions(name: str, interpolation: Interpolation) -> Policy:
    from torchvision.transforms import v2

    how = {"interpolation": mode("bilinear" if interpolation == "random" else interpolation)}
    if name == "ra":
        found: Policy = v2.RandAugment(magnitude=9, **how)
    elif name == "ta_wide":
        found = v2.TrivialAugmentWide(**how)
    else:
        found = v2.AutoAugment(v2.AutoAugmentPolicy(name), **how)
    return found


def jitter(strength: float) -> Policy:
    """Brightness, contrast and saturation by a factor within ``1 - strength`` and ``1 + strength``, in random order, as
    torchvision's ``ColorJitter`` and timm's ``color_jitter``; it draws from torch's global generator."""
    from torchvision.transforms import v2

    found: Policy = v2.ColorJitter(strength, strength, strength)
    return found


def grey_levels(mean: Sequence[float]) -> tuple[int, ...]:
    """A mean on the scale 0 to 1 as pixel values, as timm rounds it."""
    return tuple(min(255, round(255 * m)) for m in mean)
