"""Classifiers of one class: the network along the path of a class, of which only that class's logit is read (section
4.3, figures 2b, 2c and 3).

A threshold makes yes and no of the logit: the one of best F1 on training images. Beside them stand two others judged in
the same way: the whole network, and a plain twin cut by the same codewords.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.costs import evaluating
from torchpaths.decoding.words import Batches, Words, check_words, class_path, no_images
from torchpaths.errors import CodeError, DataError, RunError
from torchpaths.inputs import device_of
from torchpaths.routed import Routed
from torchpaths.surveys.checks import batches, check_logits, class_numbers

Floats: TypeAlias = NDArray[np.float64]

NEGATIVES = 9.0
"""Negatives for each positive where there are more than ten classes; the paper has nine on ImageNet (footnote 4), as
many as CIFAR-10 has."""
REPEATS = 10
"""How often they are drawn, from the authors' code; results are means over the draws."""


def negatives_for(classes: int) -> float | None:
    """How many negatives the paper judges by for each positive: all (None) up to ten classes, else `NEGATIVES`."""
    return None if classes <= 10 else NEGATIVES


@dataclass(frozen=True)
class Scores:
    """Scores of images for every class's classifier.

    Attributes:
        values: ``[image, class]``.
        labels: int64 ``[image]``; of images out of distribution they say nothing.

    Raises:
        DataError: for shapes that do not belong together, one class alone, or no images.
        RunError: for scores that are not finite.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.labels.shape != self.values.shape[:1]:
            raise DataError(
                f"scores of shape {self.values.shape} and labels of shape {self.labels.shape}; give [image, class] and "
                "[image]."
            )
        if not len(self.labels):
            raise no_images("scores")
        if self.values.shape[1] < 2:
            raise DataError("scores of one class: a classifier tells it from others, give those of at least two.")
        if not np.isfinite(self.values).all():
            bad = int((~np.isfinite(self.values).all(1)).sum())
            raise RunError(
                f"the scores of {bad} of {len(self.labels)} images are not finite; the checkpoint is damaged, or the "
                "images are not normalised as in training."
            )

    @property
    def classes(self) -> int:
        """How many."""
        return int(self.values.shape[1])


def class_scores(
    net: Routed,
    loader: Batches,
    words: Words | None = None,
    *,
    foreign: bool = False,
    progress: str | None = None,
) -> Scores:
    """Each class's logit for each image, in evaluation and without gradients.

    Args:
        net: a coded network, or any other whose sites the codewords fit, in any mode.
        loader: labelled batches.
        words: class k's logit is read along the path of class k, and the network runs once for each class. None: all
            logits are those of one run of the whole network.
        foreign: the images are of another data set, whose labels are not looked at.
        progress: name of a progress bar on the standard error stream; None for none.

    Raises:
        CodeError: for codewords that do not fit the network.
        DataError: for no images, or labels that are no classes of the network.
        RunError: for scores that are not finite.
    """
    paths = [class_path(words, net, k) for k in range(check_words(words, net))] if words is not None else None
    device = device_of(net)
    values: list[Tensor] = []
    labels: list[NDArray[np.int64]] = []
    with evaluating(net), torch.no_grad():
        for number, (x, y) in enumerate(batches(loader, progress)):
            x = x.to(device, non_blocking=True)
            if paths is None:
                logits, _ = net(x)
                check_logits(logits, len(x), number)
            else:
                columns = []
                for k, path in enumerate(paths):
                    logits, _ = net(x, path)
                    check_logits(logits, len(x), number)
                    if logits.shape[1] != len(paths):
                        raise CodeError(
                            f"codewords for {len(paths)} classes, and the network tells {logits.shape[1]} apart; give "
                            "one for each class."
                        )
                    columns.append(logits[:, k])
                logits = torch.stack(columns, 1)
            values.append(logits.float().cpu())
            labels.append(class_numbers(y, len(x), None if foreign else logits.shape[1], number))
    if not values:
        raise no_images("scores")
    return Scores(torch.cat(values).numpy(), np.concatenate(labels))


def best_threshold(positives: NDArray[Any], negatives: NDArray[Any]) -> tuple[float, float]:
    """The threshold of best F1, and that F1; of equals the highest. An image counts as positive from the threshold on.

    Exact: F1 changes at scores that occur only, so each of them is tried.

    Args:
        positives: scores of images of the class, ``[P]``, at least one.
        negatives: of others, ``[N]``.
    """
    scores = np.concatenate([positives, negatives]).astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    hits = np.cumsum(order < len(positives))
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + len(positives))
    whole = np.append(scores[1:] != scores[:-1], True)  # equal scores are accepted together
    best = int(np.where(whole, f1, -1.0).argmax())
    return float(scores[best]), float(f1[best])


@dataclass(frozen=True)
class Quality:
    """How good the classifiers are, in 0 to 1, by class and on average.

    Attributes:
        precision: ``[class]``; 0 where nothing was accepted.
        recall: ``[class]``.
        f1: ``[class]``.
    """

    precision: Floats
    recall: Floats
    f1: Floats

    @property
    def mean_f1(self) -> float:
        """Mean of the classes' F1."""
        return float(self.f1.mean())

    @property
    def f1_of_means(self) -> float:
        """F1 of the mean precision and the mean recall, as in the paper's section 4.3: of 93 % and 77 % it is 84 %."""
        p, r = float(self.precision.mean()), float(self.recall.mean())
        return 2 * p * r / (p + r) if p + r else 0.0

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "precision": float(self.precision.mean()),
            "recall": float(self.recall.mean()),
            "mean_f1": self.mean_f1,
            "f1_of_means": self.f1_of_means,
            "by_class": {
                "precision": self.precision.tolist(),
                "recall": self.recall.tolist(),
                "f1": self.f1.tolist(),
            },
        }


@dataclass(frozen=True)
class Classifiers:
    """One classifier for each class.

    Attributes:
        thresholds: of best F1 on training images, ``[class]``.
        train_f1: that F1, ``[class]``.
        test: quality on test images.
        foreign: quality where negatives are images of another data set; None without one.
    """

    thresholds: Floats
    train_f1: Floats
    test: Quality
    foreign: Quality | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "thresholds": self.thresholds.tolist(),
            "train_f1": self.train_f1.tolist(),
            "test": self.test.to_json(),
            "foreign": None if self.foreign is None else self.foreign.to_json(),
        }


def classifiers(
    train: Scores,
    test: Scores,
    foreign: Scores | None = None,
    *,
    ratio: float | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Classifiers:
    """Thresholds chosen on training images, and what they are worth on others.

    Args:
        train: on which thresholds are chosen.
        test: on which they are judged.
        foreign: images of another data set, negatives all, judged beside the positives of ``test``.
        ratio: negatives drawn for each positive, where there are more, in training and test; None for all. See
            `negatives_for`.
        repeats: how often they are drawn; thresholds, precisions, recalls and F1 are means over the draws.
        seed: of the draws.

    Raises:
        DataError: for scores of different numbers of classes, a class without images in ``train`` or ``test``, or a
            ratio or number of repeats out of range.
    """
    if len({s.classes for s in (train, test, foreign) if s is not None}) > 1:
        raise DataError("scores of networks with different numbers of classes; take all from one network.")
    if repeats < 1 or (ratio is not None and not ratio > 0):
        raise DataError(f"ratio={ratio}, repeats={repeats}: draw at least once, and a ratio above 0 of negatives.")
    found = np.zeros((train.classes, 2))
    for k, (positives, negatives) in enumerate(_sides(train, "training")):
        drawn = _draws(negatives, len(positives), ratio, repeats, (seed, k, 0))
        found[k] = np.mean([best_threshold(positives, some) for some in drawn], 0)
    thresholds = found[:, 0]
    judged = _quality(test, None, thresholds, ratio, repeats, seed)
    others = None if foreign is None else _quality(test, foreign, thresholds, ratio, repeats, seed)
    return Classifiers(thresholds, found[:, 1], judged, others)


def _quality(
    test: Scores, foreign: Scores | None, thresholds: Floats, ratio: float | None, repeats: int, seed: int
) -> Quality:
    rows = []
    for k, (positives, negatives) in enumerate(_sides(test, "test")):
        if foreign is not None:
            negatives = foreign.values[:, k]
        hits = int((positives >= thresholds[k]).sum())
        draws = []
        for some in _draws(negatives, len(positives), ratio, repeats, (seed, k, 1)):
            wrong = int((some >= thresholds[k]).sum())
            precision = hits / (hits + wrong) if hits + wrong else 0.0
            draws.append((precision, hits / len(positives), 2 * hits / (hits + wrong + len(positives))))
        rows.append(np.mean(draws, 0))
    precision, recall, f1 = np.array(rows).T
    return Quality(precision, recall, f1)


def _sides(scores: Scores, split: str) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Scores of the positives and of the negatives of each class."""
    for k in range(scores.classes):
        own = scores.labels == k
        if not own.any() or own.all():
            lacks = "images" if not own.any() else "images of any other class to be told from"
            raise DataError(f"class {k} has no {lacks} among {len(own)} {split} images; give more, of every class.")
        yield scores.values[own, k], scores.values[~own, k]


def _draws(
    negatives: NDArray[np.float32], positives: int, ratio: float | None, repeats: int, seed: tuple[int, int, int]
) -> Iterator[NDArray[np.float32]]:
    """The negatives to judge by: all of them once, or several draws without replacement."""
    count = len(negatives) if ratio is None else max(1, round(ratio * positives))
    if count >= len(negatives):
        yield negatives
        return
    for repeat in range(repeats):
        yield np.random.default_rng((*seed, repeat)).choice(negatives, count, replace=False)
