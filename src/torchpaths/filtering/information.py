"""How much a layer tells of the class: ``I(c; z)`` of its decisions and ``I(c; y)`` of its features (network
decoupling, eq. 6 to 13 and theorem 1).

Both are estimated from below, as the paper's loss does (eq. 10): for any ``Q``, ``I(c; v) >= H(c) - E[-log Q(c | v)]``.
Here ``Q`` is a linear classifier of its own, fitted on some images after the network is trained and judged on others,
so that the bound is one in expectation and two networks can be compared, whether or not they were trained with class
heads. Where heads are given, their own bound stands beside it. ``H(c)`` is the entropy of the labels of the images
judged that came to the layer. Everything is in bits. A bound may come out below 0, where a classifier does worse than
none; the information itself never is. Theorem 1 claims that I(c; y) grows with I(c; z) where the divergence (eq. 13) is
small: compare networks trained with ``kl`` and without.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from torchpaths.errors import DataError
from torchpaths.filtering.categories import Heads
from torchpaths.filtering.classifier import Linear, entropy, fit_linear
from torchpaths.filtering.sites import Batches, came, chosen, passes
from torchpaths.places.channels.layer import FEATURES
from torchpaths.routed import Routed
from torchpaths.trace import Decision

MEMORY = 2**28
"""Bytes of decisions and features that are kept at a time."""


@dataclass(frozen=True)
class Bound:
    """A lower bound of mutual information with the class.

    Attributes:
        bits: the bound.
        error: standard error of it, from the spread over images; the classifier's own is not in it.
        entropy: ``H(c)``, bits: the most there is to tell.
        images: on how many it was judged.
    """

    bits: float
    error: float
    entropy: float
    images: int


@dataclass(frozen=True)
class Information:
    """Bounds of a network's layers, sites in order of execution; those that no image came to are absent.

    Attributes:
        encodings: site -> bound of I(c; z).
        features: site -> bound of I(c; y).
        heads: site -> bound of I(c; z) by the class heads of the training; empty where none were given.
        fitted_on: images that classifiers were fitted on.
    """

    encodings: dict[str, Bound]
    features: dict[str, Bound]
    heads: dict[str, Bound]
    fitted_on: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values, bits."""
        parts = {"encodings": self.encodings, "features": self.features, "heads": self.heads}
        return {
            "unit": "bits",
            "fitted_on": self.fitted_on,
            **{part: {name: vars(bound) for name, bound in found.items()} for part, found in parts.items()},
        }


def information(
    net: Routed,
    train_loader: Batches,
    test_loader: Batches,
    *,
    heads: Heads | None = None,
    sites: Iterable[str] | None = None,
    memory: int = MEMORY,
    seed: int = 0,
    progress: str | None = None,
) -> Information:
    """The bounds of every layer of filters.

    Kept are, of each training image, the decisions (a byte) and features (four bytes) of each filter of as many layers
    as fit into ``memory``; where not all do, training images are gone through again for the others. One layer is held
    in double precision while it is fitted. Nothing is kept of test images.

    Args:
        net: a network in any mode.
        train_loader: images to fit classifiers on, without augmentation.
        test_loader: others, to judge them on.
        heads: see `torchpaths.filtering.head_weights`.
        sites: names of layers; None for all.
        memory: bytes, see above.
        seed: of the images that penalties are chosen by.
        progress: name of progress bars on the standard error stream; None for none.

    Raises:
        RouteError: for a network without filters.
        PathError: for a name that is no site of filters.
        DataError: for no images, or labels that are no classes.
        RunError: for scores that are not finite.
    """
    left = list(chosen(net, sites))
    fitted: dict[str, dict[str, Linear]] = {"encodings": {}, "features": {}}
    count = classes = 0
    while left:
        kept, labels, classes = _gather(net, train_loader, left, memory, progress)
        count = len(labels)
        for name, (rows, z, y) in kept.items():
            here = labels[rows]
            if len(rows):
                fitted["encodings"][name] = fit_linear(z, here, classes, seed)
                fitted["features"][name] = fit_linear(y, here, classes, seed)
        left = left[len(kept) :]
    judged = {part: {name: _Sum(classes) for name in found} for part, found in fitted.items()}
    judged["heads"] = {name: _Sum(classes) for name in fitted["encodings"]} if heads is not None else {}
    for _, labels, _, trace in passes(net, test_loader, progress=progress):
        for name, classifier in fitted["encodings"].items():
            if name not in trace:
                continue
            here, z, y = _came(trace[name])
            own = labels[here]
            judged["encodings"][name].add(classifier.losses(z, own), own)
            judged["features"][name].add(fitted["features"][name].losses(y, own), own)
            if heads is not None:
                losses = functional.cross_entropy(z.float() @ heads[name].T, own, reduction="none")
                judged["heads"][name].add(losses.double(), own)
    bounds = {part: {name: s.bound() for name, s in found.items() if s.images} for part, found in judged.items()}
    return Information(bounds["encodings"], bounds["features"], bounds["heads"], count)


def _came(decision: Decision) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of the images that came, what is open for them and their features, on the CPU."""
    if FEATURES not in decision.response:
        raise DataError(
            "a layer's features were not noted, since its channels were left out for the whole batch; let the network "
            "decide by image."
        )
    here = came(decision).nonzero()[:, 0]
    return here.cpu(), decision.open[here].cpu(), decision.response[FEATURES][here].float().cpu()


Kept = dict[str, tuple[Tensor, Tensor, Tensor]]


def _gather(
    net: Routed, loader: Batches, names: list[str], memory: int, progress: str | None
) -> tuple[Kept, Tensor, int]:
    """Of the first of some layers, as many as there is room for: which images came, decisions, features; and labels and
    the number of classes."""
    parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in names}
    labels: list[Tensor] = []
    sizes = dict.fromkeys(names, 0)
    seen = classes = 0
    for _, y, logits, trace in passes(net, loader, progress=progress):
        classes = logits.shape[1]
        for name in parts:
            if name in trace:
                here, z, features = _came(trace[name])
                parts[name].append((here + seen, z, features))
                sizes[name] += 8 * here.numel() + z.numel() + 4 * features.numel()
        while sum(sizes.values()) > memory and len(parts) > 1:
            last = next(reversed(parts))  # for another pass
            del parts[last], sizes[last]
        labels.append(y)
        seen += len(y)
    none = torch.zeros(0, dtype=torch.long), torch.zeros(0, 1, dtype=torch.bool), torch.zeros(0, 1)
    kept: Kept = {
        name: (torch.cat([p[0] for p in found]), torch.cat([p[1] for p in found]), torch.cat([p[2] for p in found]))
        if found
        else none
        for name, found in parts.items()
    }
    return kept, torch.cat(labels), classes


class _Sum:
    """Losses of images, summed."""

    def __init__(self, classes: int) -> None:
        self.counts = torch.zeros(classes, dtype=torch.long)
        self.sum = self.squares = 0.0

    @property
    def images(self) -> int:
        return int(self.counts.sum())

    def add(self, losses: Tensor, labels: Tensor) -> None:
        self.counts += torch.bincount(labels, minlength=len(self.counts))
        self.sum += float(losses.sum())
        self.squares += float(losses.square().sum())

    def bound(self) -> Bound:
        n, bit = self.images, math.log(2)
        mean, most = self.sum / n, entropy(self.counts)
        spread = math.sqrt(max(self.squares / n - mean**2, 0.0) / n)
        return Bound((most - mean) / bit, spread / bit, most / bit, n)
