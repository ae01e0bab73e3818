"""``survey``: one streaming pass over a data set (ConvNet-AIG, section 4.2).

Memory does not grow with the images, but for the counts of distinct paths, one packed path for each. Everything is
summed in integers, so the result does not depend on how the images were cut into batches.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchpaths.errors import DataError, PathError, RunError, near
from torchpaths.junction import Trace
from torchpaths.path import Layout, Path
from torchpaths.survey.result import Ints, PathCount, Samples, Survey

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
        for number, (x, y) in enumerate(_batches(loader, progress)):
            with torch.inference_mode():
                logits, trace = net(x.to(device, non_blocking=True), path)
                _check_logits(logits, len(x), number)
                opened = _opened(trace, net.layout, len(x))
                predictions = logits.argmax(1).cpu().numpy()
            if tally is None:
                tally = _Tally(net.layout, _names(classes, logits.shape[1]), keep_paths)
            tally.decided.update(site for site, decision in trace.items() if decision.score is not None)
            tally.add(opened, _labels(y, len(x), tally.classes, number), predictions)
    finally:
        for module, training in modes:
            module.training = training
    if tally is None:
        raise DataError(
            "the loader gave no images, so there is nothing to survey; check the split, its folder and drop_last."
        )
    return tally.result()


def _batches(loader: Iterable[Any], progress: bool) -> Iterator[tuple[Tensor, Any]]:
    """The loader's batches, checked to be pairs; empty batches are left out."""
    with contextlib.ExitStack() as stack:
        if progress:
            from rich.console import Console
            from rich.progress import track

            loader = track(loader, "survey", total=_length(loader), console=Console(stderr=True), transient=True)
            stack.callback(loader.close)  # type: ignore[attr-defined]
        for number, batch in enumerate(loader):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not isinstance(batch[0], Tensor):
                raise DataError(
                    f"batch {number} is no pair (images, labels) but {type(batch).__name__}; "
                    "a survey takes any iterable of (x, y) with x a tensor."
                )
            if len(batch[0]):
                yield batch[0], batch[1]


def _length(loader: Iterable[Any]) -> int | None:
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:
        return None


def _names(classes: Sequence[str] | None, scores: int) -> tuple[str, ...]:
    if classes is None:
        return tuple(str(i) for i in range(scores))
    if len(classes) != scores:
        raise DataError(
            f"{len(classes)} class names for a network that gives {scores} scores; "
            "pass the names of the data set it was trained on."
        )
    return tuple(classes)


def _labels(y: Any, batch: int, classes: tuple[str, ...], number: int) -> Ints:
    labels = torch.as_tensor(y)
    if labels.shape != (batch,) or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f"batch {number}: labels of {labels.dtype} and shape {tuple(labels.shape)} for {batch} images; "
            "a survey takes class numbers, integers of shape [batch]."
        )
    values: Ints = labels.to("cpu", torch.int64).numpy()
    if values.min() < 0 or values.max() >= len(classes):
        wrong = int(values[(values < 0) | (values >= len(classes))][0])
        raise DataError(
            f"batch {number}: label {wrong} is out of range for {len(classes)} classes (0 to {len(classes) - 1}); "
            "the data set and the network do not belong together."
        )
    return values


def _check_logits(logits: Tensor, batch: int, number: int) -> None:
    if logits.dim() != 2 or len(logits) != batch:
        raise DataError(
            f"batch {number}: scores of shape {tuple(logits.shape)} for {batch} images; "
            "a survey needs a classifier's [batch, class]."
        )
    bad = ~torch.isfinite(logits).all(1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise RunError(
            f"batch {number}: the scores of {int(bad.sum())} of {batch} images are not finite "
            f"(first: image {first} of the batch); the checkpoint is damaged "
            "or the images are not normalised as in training."
        )


def _opened(trace: Trace, layout: Layout, batch: int) -> NDArray[np.bool_]:
    """bool ``[batch, unit]`` in layout order; False for the units of sites that did not run."""
    sites = layout.sites
    for site, decision in trace.items():
        if site not in sites:
            raise PathError(f"the trace names site {site!r}, which the layout does not have. {near(site, sites)}")
        if decision.open.shape != (batch, len(sites[site])):
            raise PathError(
                f"the trace gives open of shape {tuple(decision.open.shape)} at site {site!r}; "
                f"its {len(sites[site])} units and this batch need [{batch}, {len(sites[site])}]."
            )
    device = next((d.open.device for d in trace.values()), torch.device("cpu"))
    columns = [
        trace[s].open if s in trace else torch.zeros(batch, len(u), dtype=torch.bool, device=device)
        for s, u in sites.items()
    ]
    together = torch.cat(columns, 1) if columns else torch.zeros(batch, 0, dtype=torch.bool)
    opened: NDArray[np.bool_] = together.cpu().numpy()
    return opened


class _Tally:
    """Sums over the images seen so far."""

    def __init__(self, layout: Layout, classes: tuple[str, ...], keep_paths: bool) -> None:
        units, count = len(layout.units), len(classes)
        self.layout, self.classes = layout, classes
        self.unit_macs = np.array([u.cost.macs for u in layout.units], dtype=np.int64)
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
        macs: Ints = self.layout.fixed.macs + opened.astype(np.int64) @ self.unit_macs
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
