"""Algorithm 1 of AdaptiveDepth for detectors (section 4.5, "with slight adaptation").

A detector has losses of its own (of proposals, classes, boxes, masks) instead of one on logits. As in the co-author's
detectors the base-net learns from the labels too, since there are no logits of which a base-net could learn the same:

    alpha (sum of the super-net's losses)
    + (1 - alpha) (sum of the base-net's losses + sum over stages KL(features of super || of base))

The super-net's features are a teacher without gradient, so both parts have graphs of their own and run backward one
after the other; the memory is that of one. The features are those of the backbone's stages, pooled (section 3.2), not
the pyramid's levels: each stage has a switch, and what it hands on should not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from torchpaths.errors import CallError, DataError, reason
from torchpaths.methods.adaptive_depth import AdaptiveDepth
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.trace import Trace


def passes(
    net: Routed, method: AdaptiveDepth | None, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]
) -> Iterator[dict[str, Tensor]]:
    """The terms of the loss in parts, each with a graph of its own: the backward pass of one may run, and free its
    memory, before the next is asked for. The loss is the sum of all terms.

    Args:
        net: a routed detector of torchvision's form, in training mode.
        method: how it was routed; None for a plain network, whose own losses are the only part.
        images: float ``[3, H, W]`` each, in 0 to 1.
        targets: "boxes", "labels" and what else the detector learns from, for each image.

    Yields:
        Term -> weighted loss: "super.<loss>", then "base.<loss>" and "features"; in one part where
        ``AdaptiveDepth(detach=False)`` gives the teacher a gradient.

    Raises:
        CallError: if the network is not in training mode, or was not routed with this method.
        DataError: for labels beyond the detector's classes.
        ValueError: for targets without what the detector learns from, as torchvision tells it.
    """
    if method is None:
        if any(site.decider is not None for site in net.sites.values()):
            raise CallError(f"this network was routed with a method, {_sites(net)}; give that method, not None.")
        yield _run(net, None, images, targets)[0]
        return
    found, taught = _run(net, method.path(net, False), images, targets)
    teacher = method.features_of(taught)
    if not method.path(net, False) or bool(teacher) != (method.specialise and method.features != "none"):
        raise CallError(
            f"this network was not routed with {method}; route the model with it: route(model, method, ...)."
        )
    part = {f"super.{name}": method.share * loss for name, loss in found.items()}
    if method.detach:
        yield part
        part = {}
    found, learnt = _run(net, method.path(net, True), images, targets)
    part |= {f"base.{name}": (1 - method.share) * loss for name, loss in found.items()}
    yield part | method.compare(teacher, learnt)


def _run(
    net: Routed, path: Path | None, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]
) -> tuple[dict[str, Tensor], Trace]:
    """A detector's losses along a path, and what happened."""
    if not net.training:
        raise CallError("a detector gives losses in training mode only; call net.train() first.")
    try:
        losses, trace = net(list(images), path, targets=list(targets))
    except IndexError as error:
        largest = max((int(target["labels"].max()) for target in targets if len(target["labels"])), default=0)
        raise DataError(
            f"the detector cannot take these labels, up to {largest} ({reason(error)}); make it with num_classes of "
            f"at least {largest + 1}, the background counted."
        ) from error
    return losses, trace


def _sites(net: Routed) -> str:
    return ", ".join(f"{name}: {site.decider!r}" for name, site in net.sites.items())
