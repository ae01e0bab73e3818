"""``survey``: one streaming pass over a data set (ConvNet-AIG, section 4.2).

Memory does not grow with the images, but for the counts of distinct paths, one packed path for each. Everything is
summed in integers, so the result does not depend on how the images were cut into batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchpaths.errors import DataError
from torchpaths.layout import Layout
from torchpaths.outputs import answer
from torchpaths.path import Path
from torchpaths.surveys.checks import batches, check_logits, class_numbers, opened_units
from torchpaths.surveys.counts import Ints, PathCount, Samples
from torchpaths.surveys.result import Survey
from torchpaths.trace import Trace

TOP_PATHS = 20
"""How many of the most frequent paths a survey keeps."""


class RoutedNet(Protocol):
    """What a survey needs of a network: `torchpaths.Routed` has it."""

    @property
    def layout(self) -> Layout: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def eval(self) -> Any: ...
    def __call__(self, x: Tensor, path: Path | None = None) -> tuple[Tensor, Trace]: ...


def survey(
    net: RoutedNet,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    classes: Sequence[str] | None = None,
    keep_paths: bool = False,
    path: Path | None = None,
    progress: bool = False,
) -> Survey:
    """What a network does over a data set, in evaluation mode and without gradients.

    The training mode of every module is put back afterwards, also after an exception. Images go to the device of the
    network's parameters.

    Args:
        net: a routed network, ``net(x, path) -> (logits [batch, class], trace)``.
        loader: any iterable of (x, y): images and int labels ``[batch]``.
        classes: names of the classes; their numbers where None.
        keep_paths: keep path, prediction and MACs of every image (`Survey.samples`), in the loader's order: for images
            to be found again it must not shuffle.
        path: units chosen from outside, for every batch; the rest decides for itself.
        progress: draw a progress bar on the standard error stream.

    Raises:
        DataError: no images, labels that are no class numbers, a wrong number of class names.
        RunError: scores that are not finite.
        PathError: a path that does not fit, or a trace that does not fit the network's layout.
    """
    modes = [(module, module.training) for module in net.modules()]
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    tally: _Tally | None = None
    net.eval()
    try:
        for number, (x, y) in enumerate(batches(loader, "survey" if progress else None)):
            with torch.inference_mode():
                output, trace = net(x.to(device, non_blocking=True), path)
                logits = answer(output)
                check_logits(logits, len(x), number)
                opened = opened_units(trace, net.layout, len(x))
                predictions = logits.argmax(1).cpu().numpy()
            if tally is None:
                # Where a path chooses everything, no decider is asked.
                chosen = path is not None and set(net.layout.sites) <= set(path)
                layout = net.layout.undecided() if chosen else net.layout
                tally = _Tally(layout, _names(classes, logits.shape[1]), keep_paths)
            tally.decided.update(site for site, decision in trace.items() if decision.score is not None)
            tally.add(opened, class_numbers(y, len(x), len(tally.classes), number), predictions)
    finally:
        for module, training in modes:
            module.training = training
    if tally is None:
        raise DataError(
            "the loader gave no images, so there is nothing to survey; check the split, its folder and drop_last."
        )
    return tally.result()


def _names(classes: Sequence[str] | None, scores: int) -> tuple[str, ...]:
    if classes is None:
        return tuple(str(i) for i in range(scores))
    if len(classes) != scores:
        raise DataError(
            f"{len(classes)} class names for a network that gives {scores} scores; "
            "pass the names of the data set it was trained on."
        )
    return tuple(classes)


class _Tally:
    """Sums over the images seen so far."""

    def __init__(self, layout: Layout, classes: tuple[str, ...], keep_paths: bool) -> None:
        units, count = len(layout.units), len(classes)
        self.layout, self.classes = layout, classes
        self.images = np.zeros(count, np.int64)
        self.correct = np.zeros(count, np.int64)
        self.opened = np.zeros((count, units), np.int64)
        self.histogram = np.zeros((count, units + 1), np.int64)
        # Python's integers, exact at any size: squares of MACs pass 2^63 after a few images of a large network.
        self.macs = [0] * count
        self.macs_squared = [0] * count
        self.taken: Counter[tuple[bytes, int]] = Counter()
        self.kept: list[tuple[NDArray[np.uint8], Ints, Ints, Ints]] | None = [] if keep_paths else None
        self.decided: set[str] = set()

    def add(self, opened: NDArray[np.bool_], labels: Ints, predictions: Ints) -> None:
        """bool [batch, unit], int [batch], int [batch]."""
        np.add.at(self.images, labels, 1)
        np.add.at(self.correct, labels, predictions == labels)
        np.add.at(self.opened, labels, opened)
        np.add.at(self.histogram, (labels, opened.sum(1)), 1)
        macs: Ints = self.layout.costs(opened)[:, 0]
        packed = np.packbits(opened, axis=1)
        for row, label, cost in zip(packed, labels.tolist(), macs.tolist(), strict=True):
            self.taken[row.tobytes(), label] += 1
            self.macs[label] += cost
            self.macs_squared[label] += cost * cost
        if self.kept is not None:
            self.kept.append((packed, labels, predictions.astype(np.int64), macs))

    def result(self) -> Survey:
        means = np.full(len(self.classes), np.nan)
        deviations = np.full(len(self.classes), np.nan)
        for c, n in enumerate(self.images.tolist()):
            if n:
                means[c] = self.macs[c] / n
                deviations[c] = np.sqrt((n * self.macs_squared[c] - self.macs[c] ** 2) / n**2)
        order = {site: i for i, site in enumerate(self.layout.sites)}
        samples = Samples(*(np.concatenate(column) for column in zip(*self.kept, strict=True))) if self.kept else None
        return Survey(
            layout=self.layout,
            classes=self.classes,
            images=self.images,
            correct=self.correct,
            opened=self.opened,
            histogram=self.histogram,
            macs_by_class=means,
            macs_std_by_class=deviations,
            distinct_paths=len({packed for packed, _ in self.taken}),
            top_paths=self._top(),
            decided=tuple(sorted(self.decided, key=order.__getitem__)),
            samples=samples,
            name=self.layout.network,
        )

    def _top(self) -> tuple[PathCount, ...]:
        """The most frequent paths; equals in order of their bits, so the order of images does not matter."""
        total: Counter[bytes] = Counter()
        by_path: dict[bytes, list[tuple[int, int]]] = {}
        for (packed, label), count in self.taken.items():
            total[packed] += count
            by_path.setdefault(packed, []).append((-count, label))
        top = []
        for packed, count in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:TOP_PATHS]:
            most, label = min(by_path[packed])
            top.append(PathCount(packed, count, label, -most / int(self.images[label])))
        return tuple(top)
