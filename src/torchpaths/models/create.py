"""Models by name: the papers' own networks, and those of timm and torchvision behind a prefix.

A `Source` is a name taken apart, data that makes a model: what is written beside weights so that others can.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from torchpaths.errors import RunError, near
from torchpaths.models.cifar_resnet import CifarResNet, Shortcut
from torchpaths.models.depth_twins import TWINS
from torchpaths.models.googlenet import STEM, TABLE_1, CifarGoogLeNet
from torchpaths.models.resnext import ResNeXt
from torchpaths.models.vgg import VGG19, CifarVGG
from torchpaths.optional import need

DEPTHS = (14, 20, 32, 44, 56, 110)


def cifar_resnet(depth: int, shortcut: Shortcut = "A", classes: int = 10, channels: int = 3) -> CifarResNet:
    """A CIFAR residual network with He initialisation.

    Args:
        depth: 14, 20, 32, 44, 56 or 110 layers with weights on the way through, i.e. 6n + 2 with n blocks per stage.
        shortcut: "A" without parameters, "B" a projection, where the shape changes.
        classes: width of the last layer.
        channels: of the images; 3 for RGB, 1 for grey.

    Raises:
        RunError: for another depth or shortcut.
    """
    if depth not in DEPTHS:
        raise RunError(f"there is no CIFAR ResNet of depth {depth}; choose one of {', '.join(map(str, DEPTHS))}.")
    if shortcut not in ("A", "B"):
        raise RunError(f"shortcut {shortcut!r} is unknown; choose 'A' (without parameters) or 'B' (projection).")
    _check(classes, channels)
    n = (depth - 2) // 6
    return CifarResNet((n, n, n), shortcut, classes, channels)


_SHORTCUTS: dict[str, Shortcut] = {"": "A", "b": "B"}

MODELS: dict[str, Callable[..., nn.Module]] = {
    f"cifar_resnet{depth}{suffix}": functools.partial(cifar_resnet, depth, shortcut)
    for depth in DEPTHS
    for suffix, shortcut in _SHORTCUTS.items()
}
"""The library's own models: ``cifar_resnet56`` with shortcut A, ``cifar_resnet56b`` with B, and so on; the networks of
Coded ResNeXt's Table 1, named by depth, branches and their width, with a small one of the same kind; and
``cifar_vgg19_bn`` and ``cifar_googlenet``, which network decoupling reports on; and the networks of
`torchpaths.models.depth_twins`."""

_RESNEXTS: dict[str, tuple[tuple[int, ...], int, int, int, int, bool]] = {
    # blocks of each stage, branches, width of a branch, channels of the stem and of the first stage, ImageNet's stem
    "resnext29_10x11d": ((3, 3, 3), 10, 11, 64, 256, False),
    "resnext29_20x6d": ((3, 3, 3), 20, 6, 64, 256, False),
    "resnext50_32x4d": ((3, 4, 6, 3), 32, 4, 64, 256, True),
    "resnext20_10x4d": ((2, 2, 2), 10, 4, 32, 96, False),
}


def resnext(name: str, classes: int = 10, channels: int = 3) -> ResNeXt:
    """One of Coded ResNeXt's networks (Table 1) as a plain ResNeXt, by the name it has in `MODELS`.

    Args:
        name: ``resnext29_10x11d`` (the paper's for CIFAR-10), ``resnext29_20x6d`` (CIFAR-100), ``resnext50_32x4d``
            (ImageNet), or ``resnext20_10x4d``, a tenth of the first one's work.
        classes: width of the last layer.
        channels: of the images; 3 for RGB, 1 for grey.
    """
    _check(classes, channels)
    return ResNeXt(*_RESNEXTS[name], classes, channels)


def cifar_vgg19_bn(classes: int = 10, channels: int = 3) -> CifarVGG:
    """Network Slimming's VGG-19 for CIFAR, which network decoupling reports on (Table 1). He initialisation.

    Args:
        classes: width of the last layer.
        channels: of the images; 3 for RGB, 1 for grey.
    """
    _check(classes, channels)
    return CifarVGG(VGG19, classes, channels)


def cifar_googlenet(classes: int = 10, channels: int = 3) -> CifarGoogLeNet:
    """GoogLeNet for CIFAR, which network decoupling reports on (Table 1). He initialisation.

    Args:
        classes: width of the last layer.
        channels: of the images; 3 for RGB, 1 for grey.
    """
    _check(classes, channels)
    return CifarGoogLeNet(STEM, TABLE_1, classes, channels)


def _check(classes: int, channels: int) -> None:
    if classes < 1 or channels < 1:
        raise RunError(f"a network needs at least one class and one input channel, not {classes} and {channels}.")


MODELS |= {name: functools.partial(resnext, name) for name in _RESNEXTS}
MODELS |= {"cifar_vgg19_bn": cifar_vgg19_bn, "cifar_googlenet": cifar_googlenet, **TWINS}


@dataclass(frozen=True)
class Source:
    """How a model is made.

    Attributes:
        library: "timm", "torchvision" or "torchpaths".
        name: of the model there.
        kwargs: for the library's constructor, the number of classes among them.
    """

    library: str
    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name if self.library == "torchpaths" else f"{self.library}/{self.name}"

    def check(self) -> Callable[..., nn.Module]:
        """What makes the model.

        Raises:
            RunError: for an unknown name (with near names) or a missing library.
        """
        if self.library not in _LIBRARIES:
            raise RunError(
                f"model {str(self)!r}: no library {self.library!r}; write 'timm/{self.name}' or "
                f"'torchvision/{self.name}'."
            )
        build, known = _LIBRARIES[self.library]()
        # timm's names may end in the tag of a set of weights, "resnet50.a1_in1k".
        if (self.name.partition(".")[0] if self.library == "timm" else self.name) not in known:
            own = self.library == "torchpaths"
            hint = near(self.name, known)
            prefixed = _prefixed(self.name) if own else []
            if prefixed:
                hint = f"With its prefix there is {' and '.join(map(repr, prefixed))}."
            elif own and ":" not in self.name:
                hint += " Others: 'timm/<name>', 'torchvision/<name>'."
            elif own:
                hint = (
                    "Nothing is imported because a file names it: give --model "
                    f"{self.name} on the command line, or put what makes it into torchpaths.models.MODELS."
                )
            raise RunError(f"there is no model {str(self)!r}. {hint}")
        return build

    def make(self) -> nn.Module:
        """A fresh model, without weights unless asked for.

        Raises:
            RunError: as `check`, and for arguments the model does not take.
        """
        build = self.check()
        try:
            return build(self.name, **self.kwargs)
        except (TypeError, ValueError, RuntimeError) as error:
            given = ", ".join(f"{key}={value!r}" for key, value in self.kwargs.items())
            raise RunError(f"model {str(self)!r} cannot be made with {given}: {error}") from error


def source(name: str, classes: int, *, channels: int = 3, **kwargs: Any) -> Source:
    """Where a model comes from, by name; see `create_model`."""
    library, _, bare = name.rpartition("/")
    if library == "torchvision":
        bare = bare.partition(":")[0]
    if library == "timm":
        return Source(library, bare, {"num_classes": classes, "in_chans": channels, **kwargs})
    if library == "torchvision" and channels != 3:
        raise RunError(f"{name} takes RGB images, not {channels} channel(s); timm's models take any: 'timm/{bare}'.")
    if library:
        return Source(library, bare, {"num_classes": classes, **kwargs})
    return Source("torchpaths", bare, {"classes": classes, "channels": channels, **kwargs})


def create_model(name: str, classes: int, *, channels: int = 3, **kwargs: Any) -> nn.Module:
    """A fresh model by name, without weights unless asked for.

    Args:
        name: one of `MODELS`, where models of your own may be put too, ``"timm/<name>"`` or ``"torchvision/<name>"``.
            The tag of a set of weights, as in ``"timm/resnet34.a1_in1k"`` or ``"torchvision/resnet18:DEFAULT"``, makes
            no difference here; see `torchpaths.models.published`.
        classes: width of the last layer.
        channels: of the images; torchvision's models take 3 only.
        **kwargs: passed on to the model's own constructor.

    Raises:
        RunError: for an unknown name (with near names), a missing library or arguments the model does not take.
    """
    return source(name, classes, channels=channels, **kwargs).make()


def split_tag(name: str) -> tuple[str, str]:
    """A model's name and the tag of a set of trained weights behind it; empty where there is none."""
    library, slash, bare = name.partition("/")
    if not slash or library not in ("timm", "torchvision"):
        return name, ""
    network, _, tag = bare.partition("." if library == "timm" else ":")
    return f"{library}/{network}", tag


def tagged(name: str) -> bool:
    """Whether a model's name stands for trained weights."""
    return bool(split_tag(name)[1])


def _prefixed(name: str) -> list[str]:
    """A name, or one with a tag, with the prefixes under which there is such a model."""
    found = [f"{library}/{name}" for library in ("timm", "torchvision")]
    return [each for each in found if split_tag(each)[0].partition("/")[2] in _names(each.partition("/")[0])]


def _names(library: str) -> list[str]:
    """Names of a library's models; none where it is not installed."""
    try:
        return _LIBRARIES[library]()[1]
    except RunError:
        return []


def _own() -> tuple[Callable[..., nn.Module], list[str]]:
    return lambda name, **kwargs: MODELS[name](**kwargs), list(MODELS)


def _timm() -> tuple[Callable[..., nn.Module], list[str]]:
    timm = need("timm", "timm")
    return timm.create_model, timm.list_models()


def _torchvision() -> tuple[Callable[..., nn.Module], list[str]]:
    from torchvision import models

    # The package's top level holds the classifiers; detection and segmentation models have other outputs.
    return models.get_model, models.list_models(module=models)


_LIBRARIES = {"timm": _timm, "torchvision": _torchvision, "torchpaths": _own}
