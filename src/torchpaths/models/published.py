"""Weights that timm and torchvision publish, by name: ``timm/resnet34.a1_in1k``, ``torchvision/resnet18:DEFAULT``.

A name with a tag stands for trained weights, one without for a network alone. What is known of the weights, classes and
the images they were trained on, needs no network; the weights do, unless they were fetched before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchpaths.errors import RunError, near, reason
from torchpaths.models.create import source, split_tag
from torchpaths.models.hub import WEIGHTS, fetch, unreachable
from torchpaths.optional import need


@dataclass(frozen=True)
class Published:
    """Trained weights, and the images they take.

    Attributes:
        name: with its tag.
        classes: how many they tell apart.
        size: side of an image in pixels.
        mean: per channel, scale 0 to 1.
        std: per channel.
        crop: share of the shorter side that is left around the centre in evaluation.
        bicubic: whether images are scaled with bicubic weights, otherwise bilinear.
        url: from where.
    """

    name: str
    classes: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float
    bicubic: bool
    url: str = ""


def published(name: str) -> Published | None:
    """What is published for a name: with a tag those weights, without one the library's own choice; None for nothing.

    Raises:
        RunError: for an unknown name or tag (with near ones), or a missing library.
    """
    library = name.partition("/")[0]
    if library not in ("timm", "torchvision") or "/" not in name:
        return None
    source(name, 1).check()
    return _timm(name) if library == "timm" else _torchvision(name)


def fetched(name: str, channels: int = 3) -> dict[str, Tensor]:
    """The weights that a name with a tag stands for, as the network they were trained in has them.

    Args:
        name: with a tag.
        channels: of the images; timm fits the first layer to others than were trained on.

    Raises:
        RunError: if they cannot be fetched or read.
    """
    library, _, _ = name.partition("/")
    known = published(name)
    assert known is not None
    try:
        return _fetch_timm(name, channels) if library == "timm" else _fetch_torchvision(name)
    except RunError:
        raise
    except OSError as error:
        raise unreachable(name, known.url, error) from error
    except Exception as error:  # whatever a damaged file leads the libraries to
        raise RunError(
            f"the weights of {name} cannot be read ({reason(error, 160)}); remove them from the library's cache to "
            "have them fetched again, or give a file, --weights FILE."
        ) from error


def of_config(name: str, config: Any) -> Published:
    """From timm's ``pretrained_cfg``, as a dict."""
    return Published(
        name,
        int(config["num_classes"]),
        int(config["input_size"][-1]),
        tuple(map(float, config["mean"])),
        tuple(map(float, config["std"])),
        float(config.get("crop_pct") or 1.0),
        config.get("interpolation") != "bilinear",
        config.get("url") or "",
    )


def _timm(name: str) -> Published | None:
    timm = need("timm", "timm")
    bare, tag = split_tag(name)
    architecture = bare.partition("/")[2]
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        hint = near(tag, tags) if tags else "Nothing is published for it; leave the tag out."
        raise RunError(f"timm publishes no weights {tag!r} for {architecture}. {hint}")
    config = timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
    if config is None or not config.has_weights:
        return None
    return of_config(f"{bare}.{config.tag}" if config.tag else name, config.to_dict())


def _torchvision(name: str) -> Published | None:
    from torchvision import models

    bare, tag = split_tag(name)
    kinds = models.get_model_weights(bare.partition("/")[2])
    if tag and tag not in kinds.__members__:
        raise RunError(f"torchvision publishes no weights {tag!r} for {bare}. {near(tag, kinds.__members__)}")
    if not len(kinds):
        return None
    weights = kinds[tag or "DEFAULT"]
    form = weights.transforms()
    return Published(
        f"{bare}:{weights.name}",
        len(weights.meta["categories"]),
        form.crop_size[0],
        tuple(form.mean),
        tuple(form.std),
        form.crop_size[0] / form.resize_size[0],
        form.interpolation.value != "bilinear",
        weights.url,
    )


def _fetch_timm(name: str, channels: int) -> dict[str, Tensor]:
    timm = need("timm", "timm")
    bare = name.partition("/")[2]
    config = timm.get_pretrained_cfg(bare)
    overlay = None
    if config.hf_hub_id and config.custom_load != "hf":
        names = [config.hf_hub_filename] if config.hf_hub_filename else WEIGHTS
        overlay = {"file": str(fetch(config.hf_hub_id, names, name))}
    # timm knows how files of other forms are turned into its own; with its own number of classes it is strict.
    made = timm.create_model(bare, pretrained=True, in_chans=channels, pretrained_cfg_overlay=overlay)
    found: dict[str, Tensor] = made.state_dict()
    return found


def _fetch_torchvision(name: str) -> dict[str, Tensor]:
    from torchvision import models

    bare, tag = split_tag(name)
    weights = models.get_model_weights(bare.partition("/")[2])[tag]
    found: dict[str, Tensor] = weights.get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
    return found
