"""What to do about a network that takes no images of a size."""

from __future__ import annotations

from torchpaths.models import create_model


def made_for(model: str, side: int) -> str:
    """How to make a model by name for images of a size, as the end of an error's remedy; empty where it cannot be said.

    Args:
        model: its name.
        side: of the images, in pixels.
    """
    if not model.startswith("timm/"):  # whose constructors agree on what the size is called
        return ""
    try:
        create_model(model.partition(":")[0], 2, img_size=side)
    except Exception:  # whatever its constructor says of a number that it does not know
        return ""
    return f", or make it for that size: --model-args img_size {side}"
