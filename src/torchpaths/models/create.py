"""Models by name: the papers' own networks, and those of timm and torchvision behind a prefix."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from torchpaths.errors import RunError, near
from torchpaths.models.cifar_resnet import DEPTHS, Shortcut, cifar_resnet

_SHORTCUTS: dict[str, Shortcut] = {"": "A", "b": "B"}

MODELS: dict[str, Callable[..., nn.Module]] = {
    f"cifar_resnet{depth}{suffix}": functools.partial(cifar_resnet, depth, shortcut)
    for depth in DEPTHS
    for suffix, shortcut in _SHORTCUTS.items()
}
"""The library's own models: ``cifar_resnet56`` with shortcut A, ``cifar_resnet56b`` with B, and so on."""


def create_model(name: str, classes: int, *, channels: int = 3, **kwargs: Any) -> nn.Module:
    """A fresh model by name, without weights unless asked for.

    Args:
        name: one of `MODELS`, ``"timm/<name>"`` or ``"torchvision/<name>"``.
        classes: width of the last layer.
        channels: of the images; torchvision's models take 3 only.
        **kwargs: passed on to the model's own constructor.

    Raises:
        RunError: for an unknown name (with near names), a missing library or arguments the model does not take.
    """
    library, _, bare = name.rpartition("/")
    if library == "timm":
        build, known = _timm()
        kwargs = {"num_classes": classes, "in_chans": channels, **kwargs}
    elif library == "torchvision":
        build, known = _torchvision()
        kwargs = {"num_classes": classes, **kwargs}
        if channels != 3:
            raise RunError(
                f"{name} takes RGB images, not {channels} channel(s); timm's models take any: 'timm/{bare}'."
            )
    elif not library:
        build, known = lambda model, **kw: MODELS[model](**kw), list(MODELS)
        kwargs = {"classes": classes, "channels": channels, **kwargs}
    else:
        raise RunError(f"model {name!r}: no library {library!r}; write 'timm/{bare}' or 'torchvision/{bare}'.")
    # timm's names may end in the tag of a set of weights, "resnet50.a1_in1k".
    if (bare.partition(".")[0] if library == "timm" else bare) not in known:
        prefix = f"{library}/" if library else ""
        hint = near(bare, known) if library else near(bare, known) + " Others: 'timm/<name>', 'torchvision/<name>'."
        raise RunError(f"there is no model {prefix + bare!r}. {hint}")
    try:
        return build(bare, **kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
        raise RunError(f"model {name!r} cannot be made with {given}: {error}") from error


def _timm() -> tuple[Callable[..., nn.Module], list[str]]:
    try:
        import timm
    except ImportError as error:
        raise RunError("timm is not installed; install it with: pip install 'torchpaths[timm]'.") from error
    return timm.create_model, timm.list_models()


def _torchvision() -> tuple[Callable[..., nn.Module], list[str]]:
    from torchvision import models

    # The package's top level holds the classifiers; detection and segmentation models have other outputs.
    return models.get_model, models.list_models(module=models)
