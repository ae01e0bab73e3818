"""Accuracy when branches are removed from one block, of an image's own class or of the others (figure 2a).

If branches specialise, then removing those that work for an image's class harms, and removing the others does not. In
the paper removing the others even helps a little: their output, though small, is noise. No accuracy to be had in
practice, since the class must be known to remove them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.costs import evaluating
from torchpaths.decoding.words import Batches, Words, check_words, no_images
from torchpaths.errors import DataError, PathError, near
from torchpaths.inputs import device_of
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.surveys.checks import batches, check_logits, class_numbers


@dataclass(frozen=True)
class Removal:
    """Accuracies in 0 to 1 by how many branches are removed, column k for k of them; each row another draw.

    Attributes:
        site: of the block.
        images: over how many.
        active: branches of the image's class removed, ``[repeat, active + 1]``.
        inactive: others removed, ``[repeat, units - active + 1]``.
    """

    site: str
    images: int
    active: NDArray[np.float64]
    inactive: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        sides = {"active": self.active.tolist(), "inactive": self.inactive.tolist()}
        return {"site": self.site, "images": self.images, **sides}


def removal(
    net: Routed,
    loader: Batches,
    words: Words,
    site: str,
    *,
    repeats: int = 3,
    seed: int = 0,
    progress: str | None = None,
) -> Removal:
    """Remove k branches of a block, drawn for each image without replacement, for every k that there is.

    Each repeat draws one order of removal for each image, so that the branches removed at k are removed at k + 1 too:
    every k has the distribution that it would have if it were drawn anew, and the curve less noise. How images are cut
    into batches does not matter.

    Args:
        net: a coded network in any mode, or its plain twin.
        loader: labelled batches.
        words: the codewords.
        site: of the block.
        repeats: draws.
        seed: of the draws.
        progress: name of a progress bar on the standard error stream; None for none.

    Raises:
        PathError: for a site without codewords.
        CodeError: for codewords that do not fit the network.
        DataError: for no images or no repeats, or labels that are no classes.
        RunError: for scores that are not finite.
    """
    classes = check_words(words, net)
    if site not in words:
        raise PathError(f"{site!r} is no coded site. {near(site, words)}")
    if repeats < 1:
        raise DataError(f"repeats={repeats}: draw at least once.")
    device = device_of(net)
    word = words[site].cpu()
    active = int(word[0].sum())
    tallies = [np.zeros((repeats, n + 1), np.int64) for n in (active, word.shape[1] - active)]
    draws = [np.random.default_rng((seed, repeat)) for repeat in range(repeats)]
    images = 0

    def right(x: Tensor, labels: Tensor, number: int, opened: Tensor | None) -> int:
        logits, _ = net(x, None if opened is None else Path({site: opened.to(device)}))
        check_logits(logits, len(x), number)
        return int((logits.argmax(1).cpu() == labels).sum())

    with evaluating(net), torch.no_grad():
        for number, (x, y) in enumerate(batches(loader, progress)):
            labels = torch.from_numpy(class_numbers(y, len(x), classes, number))
            x = x.to(device, non_blocking=True)
            images += len(x)
            own = word[labels]
            orders = [torch.from_numpy(rng.random(own.shape)) for rng in draws]
            untouched = right(x, labels, number, None)
            for tally, among in zip(tallies, (own, ~own), strict=True):
                tally[:, 0] += untouched
                last = tally.shape[1] - 1
                tally[:, last] += right(x, labels, number, ~among)  # all of them, in whatever order
                for repeat, order in enumerate(orders):
                    rank = order.masked_fill(~among, 2.0).argsort(1).argsort(1)
                    for k in range(1, last):
                        tally[repeat, k] += right(x, labels, number, ~among | (rank >= k))
    if not images:
        raise no_images("removal")
    return Removal(site, images, tallies[0] / images, tallies[1] / images)
