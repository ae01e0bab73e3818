"""Random erasing of normalised images, as the recipes of timm and torchvision have it.

torchvision fills a box with 0, which after normalisation is the mean (2 to 33 % of the area, aspect ratio 0.3 to 3.3);
timm with noise of a normal distribution (2 % to a third, 0.3 to 1/0.3), in up to ``count`` boxes that share the area.
Both draw from global generators, see `torchpaths.data.drawn`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor

from torchpaths.optional import need

Fill: TypeAlias = Literal["bytes", "zero", "normal"]
"""What a box is filled with: random pixels, before normalisation; 0 after it (torchvision); noise after it (timm)."""


def erasing(probability: float, fill: Fill, count: int) -> Callable[[Tensor], Tensor]:
    """Erases boxes of a normalised image ``[C, H, W]``; "zero" or "normal".

    Raises:
        RunError: if timm is wanted and not installed.
    """
    found: Callable[[Tensor], Tensor]
    if fill == "zero":
        from torchvision.transforms import RandomErasing

        found = RandomErasing(p=probability)
    else:
        kind = need("timm.data.random_erasing", "timm").RandomErasing
        found = kind(probability, mode="pixel", max_count=count, device="cpu")
    return found
