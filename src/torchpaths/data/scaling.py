"""How images are scaled, in Pillow's words and in torchvision's; ``Scaling`` brings one to a size for evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from PIL import Image, ImageOps

Interpolation: TypeAlias = Literal["bilinear", "bicubic", "random"]
"""Weights of pixels when an image is scaled or turned; "random" draws one of the two for each image, as timm does."""


def resampling(interpolation: Interpolation) -> Image.Resampling:
    """Of Pillow; not "random"."""
    return Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR


def mode(interpolation: Interpolation) -> Any:
    """Of torchvision; not "random"."""
    from torchvision.transforms.v2 import InterpolationMode

    return InterpolationMode.BICUBIC if interpolation == "bicubic" else InterpolationMode.BILINEAR


@dataclass(frozen=True, slots=True)
class Scaling:
    """The centre of an image in a size: the shorter side is scaled, then the rest cut off.

    Attributes:
        crop: share of the shorter side that is left around the centre, as timm's ``crop_pct``.
        bicubic: whether to scale with bicubic weights, otherwise bilinear; both over all pixels that fall on one.
        resize: pixels to which the shorter side is scaled, in place of ``crop``, then as torchvision's ``Resize`` and
            ``CenterCrop``, to the pixel.
    """

    crop: float = 1.0
    bicubic: bool = False
    resize: int | None = None

    @property
    def cuts(self) -> bool:
        """Whether it changes an image that has the size already."""
        return self.crop < 1 or self.resize is not None

    def __call__(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The centre of an image in a size, (width, height)."""
        how: Interpolation = "bicubic" if self.bicubic else "bilinear"
        if self.resize is None:
            return ImageOps.fit(image, size, resampling(how), bleed=(1 - self.crop) / 2)
        # torchvision takes a second to import.
        from torchvision.transforms.v2 import functional as tv

        scaled = tv.resize(image, [self.resize], mode(how))
        centre: Image.Image = tv.center_crop(scaled, [size[1], size[0]])
        return centre


UNCUT = Scaling()
"""As much of an image as its shape lets."""
