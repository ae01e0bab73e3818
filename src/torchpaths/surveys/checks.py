"""What every pass over a data set checks: batches, labels, scores and traces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.errors import DataError, PathError, RunError, near, reason
from torchpaths.layout import Layout
from torchpaths.outputs import TWO_SCORES
from torchpaths.progress import tracked
from torchpaths.trace import Trace


def batches(loader: Iterable[Any], progress: str | None = None) -> Iterator[tuple[Tensor, Any]]:
    """The loader's batches, checked to be pairs; empty batches are left out. With a bar of that name, if any."""
    with contextlib.ExitStack() as stack:
        if progress is not None:
            told = tracked(loader, progress, _length(loader))
            stack.callback(told.close)
            loader = told
        for number, batch in enumerate(loader):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not isinstance(batch[0], Tensor):
                raise DataError(
                    f"batch {number} is no pair (images, labels) but {type(batch).__name__}; "
                    "give any iterable of (x, y) with x a tensor."
                )
            if len(batch[0]):
                yield batch[0], batch[1]


def _length(loader: Iterable[Any]) -> int | None:
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:
        return None


def class_numbers(y: Any, batch: int, classes: int | None, number: int) -> NDArray[np.int64]:
    """The labels of batch ``number``, int64 ``[batch]``, checked to be numbers of so many classes (None: any)."""
    try:
        labels = torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError) as error:  # None, names of classes, lists of unequal length
        raise DataError(
            f"batch {number}: labels of type {type(y).__name__} that are no numbers ({reason(error, 120)}); they must "
            "be class numbers, integers of shape [batch]."
        ) from error
    if labels.shape != (batch,) or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f"batch {number}: labels of {labels.dtype} and shape {tuple(labels.shape)} for {batch} images; "
            "they must be class numbers, integers of shape [batch]."
        )
    values: NDArray[np.int64] = labels.to("cpu", torch.int64).numpy()
    if classes is not None and (values.min() < 0 or values.max() >= classes):
        wrong = int(values[(values < 0) | (values >= classes)][0])
        raise DataError(
            f"batch {number}: label {wrong} is out of range for {classes} classes (0 to {classes - 1}); "
            "the data set and the network do not belong together."
        )
    return values


def check_logits(logits: Tensor, batch: int, number: int) -> None:
    """Raise unless these are finite scores ``[batch, class]`` of at least two classes; ``number`` is the batch's."""
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != batch:
        raise DataError(
            f"batch {number}: scores of shape {shape} for {batch} images; this needs a classifier's [batch, class]."
        )
    if logits.shape[1] < 2:  # the largest of one is always the first, so that every label 0 would be right
        raise DataError(
            f"batch {number}: scores of shape {shape}, one an image, and of one class every answer is right and the "
            f"cross-entropy 0 whatever the network says; {TWO_SCORES}."
        )
    bad = ~torch.isfinite(logits).all(1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise RunError(
            f"batch {number}: the scores of {int(bad.sum())} of {batch} images are not finite "
            f"(first: image {first} of the batch); the checkpoint is damaged "
            "or the images are not normalised as in training."
        )


def opened_units(trace: Trace, layout: Layout, batch: int) -> NDArray[np.bool_]:
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
