"""``read``: one pass of a coded network that keeps of each image its scores and what each block's energies decode to.

Early decoders and calibration are arithmetic on these arrays, so a network runs once for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.coding.decode import coded_sites, decoders
from torchpaths.costs import evaluating
from torchpaths.decoding.words import Batches, check_words, no_images
from torchpaths.errors import DataError
from torchpaths.inputs import device_of
from torchpaths.routed import Routed
from torchpaths.surveys.checks import batches, check_logits, class_numbers
from torchpaths.trace import Trace


@dataclass(frozen=True)
class Readings:
    """What is kept of each image.

    Attributes:
        sites: the coded blocks, in order of execution.
        logits: of the whole network, float32 ``[image, class]``.
        labels: int64 ``[image]``.
        decoded: the class whose codeword a block's energies are nearest to, int64 ``[image, site]``; -1 where the image
            did not come to the block.
        margins: how much nearer it is than the second nearest, float32 ``[image, site]``, in the unit of
            `torchpaths.coding.decode.distances`; 0 where the image did not come.

    Raises:
        DataError: for arrays that do not belong together, and for no images.
    """

    sites: tuple[str, ...]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    decoded: NDArray[np.int64]
    margins: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise no_images("readings")
        wanted = (len(self.labels), len(self.sites))
        if len(self.logits) != wanted[0] or self.decoded.shape != wanted or self.margins.shape != wanted:
            raise DataError(
                f"scores of {len(self.logits)} images, decoded {self.decoded.shape} and margins {self.margins.shape} "
                f"for {wanted[0]} labels and {wanted[1]} sites; give each image one row and each site one column."
            )

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The network's own prediction, ``[image]``."""
        return np.asarray(self.logits.argmax(1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether it is the label, ``[image]``."""
        return np.asarray(self.predicted == self.labels)

    @property
    def agreeing(self) -> NDArray[np.int64]:
        """How many blocks decode to what the network predicts, ``[image]``."""
        return np.asarray((self.decoded == self.predicted[:, None]).sum(1))

    def only(self, images: NDArray[np.int64]) -> Readings:
        """Of some images, by number."""
        return Readings(
            self.sites, self.logits[images], self.labels[images], self.decoded[images], self.margins[images]
        )


def read(net: Routed, loader: Batches, *, progress: str | None = None) -> Readings:
    """The readings of images, in evaluation and without gradients.

    Args:
        net: a coded network in any mode.
        loader: labelled batches; what is kept of an image does not grow with its size.
        progress: name of a progress bar on the standard error stream; None for none.

    Raises:
        CodeError: for a network without coded blocks.
        DataError: for no images, or labels that are no classes of the network.
        RunError: for scores that are not finite.
    """
    sites = coded_sites(net)
    classes = check_words({name: code.words for name, code in sites.items()}, net)
    device = device_of(net)
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    with evaluating(net), torch.no_grad():
        for number, (x, y) in enumerate(batches(loader, progress)):
            logits, trace = net(x.to(device, non_blocking=True))
            check_logits(logits, len(x), number)
            labels = torch.from_numpy(class_numbers(y, len(x), classes, number))
            rows.append((logits.float().cpu(), labels, *_decoded(net, trace, tuple(sites), len(x))))
    if not rows:
        raise no_images("readings")
    return Readings(tuple(sites), *(torch.cat(column).numpy() for column in zip(*rows, strict=True)))


def _decoded(net: Routed, trace: Trace, sites: tuple[str, ...], images: int) -> tuple[Tensor, Tensor]:
    """The nearest class of every site ``[image, site]``, and its margin."""
    decoded = torch.full((images, len(sites)), -1)
    margins = torch.zeros(images, len(sites))
    for name, distances in decoders(net, trace).items():
        nearest, classes = distances.topk(2, dim=1, largest=False)
        came = trace[name].ran
        here = torch.ones(images, dtype=torch.bool) if came is None else came.cpu()
        at = sites.index(name)
        decoded[here, at] = classes[:, 0].cpu()[here]
        margins[here, at] = (nearest[:, 1] - nearest[:, 0]).float().cpu()[here]
    return decoded, margins
