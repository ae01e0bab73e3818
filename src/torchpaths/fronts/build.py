"""``front``: search for the sub-networks and operating points worth having, measure them, keep what nothing beats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from torchpaths.errors import DataError, MeasureError
from torchpaths.fronts.candidates import search
from torchpaths.fronts.evaluate import Images, evaluate, undisturbed
from torchpaths.fronts.points import by_cost, undominated_by_kind
from torchpaths.fronts.result import Front
from torchpaths.meter.timing import Timer
from torchpaths.progress import clock, telling
from torchpaths.routed import Routed
from torchpaths.skips.network import skipping
from torchpaths.surveys.checks import batches, class_numbers

_CHUNK = 128
"""Images of the search that go through the network at a time."""

CLOUD = 500
"""How much of what was tried a front remembers."""


def front(
    net: Routed,
    loader: Images,
    *,
    batch: int | Sequence[int] = 1,
    threads: int | None = None,
    subset: int = 512,
    seconds: float = 1.0,
    seed: int = 0,
    progress: bool = False,
    timer: Timer | None = None,
) -> Front:
    """The sub-networks and operating points of a network that are worth having.

    Candidates are searched on a subset of the images, drawn by the seed (`torchpaths.fronts.candidates` tells where
    they come from). Those that no other of their kind beats there are measured on all images; those that still hold are
    timed on the device the network is on, all together with the plain network and taking turns. Modes and thresholds of
    the network are put back afterwards.

    Args:
        net: a routed network.
        loader: batches ``(images, labels)``, read twice: a list, a `torchpaths.data.Loader` or a DataLoader.
        batch: images in a batch for the times, one number or several; none, ``()``, times nothing.
        threads: torch's threads on the CPU for the times; None for as many as are set.
        subset: images to search on.
        seconds: timed work for each point and batch.
        seed: of the subset and of the order of runs.
        progress: tell on the standard error stream how far it is.
        timer: takes the times; by default the clock on the wall.

    Raises:
        DataError: for no images, an iterator that can be read only once, labels that are no class numbers, images of
            another size than MACs were counted for.
        RunError: for scores that are not finite.
        CallError: for gates that draw by chance or run everything in evaluation.
        MeasureError: for a batch below 1 and other things that cannot be timed.
    """
    if isinstance(loader, Iterator):
        raise DataError("this loader is an iterator, gone after one pass; give a list of batches or a DataLoader.")
    if subset < 1:
        raise DataError(f"subset={subset}: the search needs at least one image.")
    sizes = (batch,) if isinstance(batch, int) else tuple(batch)
    if min(sizes, default=1) < 1:
        raise MeasureError(f"batch={batch}: times need batches of at least one image.")
    sample = _sample(net, loader, subset, seed, "subset" if progress else None)
    fast = skipping(net)
    with undisturbed(fast):
        with telling("front", progress) as tell:
            choices = search(fast, sample, tell)
        tried = [worth.point for worth in evaluate(fast, choices, sample, "trying" if progress else None)]
        kept = undominated_by_kind(tried)
        kept += [point for point in tried if point.path is None and point.threshold == 0 and point not in kept]
        worths = evaluate(fast, kept, loader, "accuracy" if progress else None)
    points = [worth.point for worth in worths]
    made = Front(
        layout=net.layout,
        candidates=tuple(by_cost(undominated_by_kind(points))),
        profiles=(),
        accuracy=next(point.accuracy for point in points if point.kind == "full"),
        images=worths[0].images,
        cloud=tuple((point.macs, point.accuracy) for point in tried[:CLOUD]),
        searched=sum(len(x) for x, _ in sample),
        name=net.layout.network,
    )
    images = torch.cat([x for x, _ in sample])
    for size in sizes:
        with telling("front", progress) as tell:
            count = len(made.candidates)
            tell(f"timing {count} points and the plain network, batch {size}, {clock(count * seconds)} at least")
            made = made.profile(net, images, batch=size, threads=threads, seconds=seconds, seed=seed, timer=timer)
    return made


def _sample(net: Routed, loader: Images, count: int, seed: int, progress: str | None) -> list[tuple[Tensor, Tensor]]:
    """So many images and labels drawn evenly in one pass (reservoir sampling), all where there are fewer."""
    draw = np.random.default_rng(seed)
    kept: list[tuple[Tensor, int]] = []
    seen = 0
    for number, (x, y) in enumerate(batches(loader, progress)):
        if net.example_shape and tuple(x.shape[1:]) != net.example_shape:
            raise DataError(
                f"batch {number}: images of shape {tuple(x.shape[1:])} for a network whose MACs were counted for "
                f"{tuple(net.example_shape)}; route it with an example of their size."
            )
        for image, label in zip(x, class_numbers(y, len(x), None, number).tolist(), strict=True):
            if len(kept) < count:
                kept.append((image.clone(), label))  # not a view, which would keep its whole batch
            else:
                place = int(draw.integers(seen + 1))
                if place < count:
                    kept[place] = (image.clone(), label)
            seen += 1
    if not kept:
        raise DataError("the loader gave no images, so nothing can be said of them; check the split and its folder.")
    chunks = [kept[start : start + _CHUNK] for start in range(0, len(kept), _CHUNK)]
    return [(torch.stack([x for x, _ in chunk]), torch.tensor([y for _, y in chunk])) for chunk in chunks]
