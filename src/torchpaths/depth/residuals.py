"""What blocks add to their input: how much, and whether it goes down the loss (AdaptiveDepth, section 3.2).

The blocks that can be left out are to refine features, not to learn new ones. The paper says so in two formulas, of
which it shows no figure:

* their residuals are small, E[F_{K+1}(h_K) + ... + F_L(h_{L-1})] -> 0 (Eq. 3). Measured is |F_j| / |shortcut|, image
  by image, which bounds that: residuals that only cancel each other over the images are not taken for small ones;
* each of them is like a step of gradient descent, F_j(h_{j-1}) ~ -dL/dh_{j-1} (Eq. 7). Measured is the cosine of the
  two, image by image, with the gradient of the whole network's loss.

What F and h are is said in `torchpaths.depth.observed`. In the paper's Eq. 1 the shortcut hands h on; where it projects
h to another shape, a residual has a size but no cosine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.depth.observed import Observed, Sum
from torchpaths.errors import DataError, RunError
from torchpaths.fronts.evaluate import Images
from torchpaths.inputs import device_of
from torchpaths.outputs import answer
from torchpaths.path import Path
from torchpaths.surveys.checks import batches, check_logits, class_numbers

Loss = Callable[[Any, Any], Tensor]
"""``(what the network gives, labels of the batch) -> scalar``."""


@dataclass(frozen=True)
class BlockMean:
    """A number of one residual sum: mean over images.

    Attributes:
        block: name of the block, with what tells its sums apart where it has several ("blocks.0.attn").
        skippable: whether AdaptiveDepth can leave it out.
        mean: over those images that have the number; None where none has.
        deviation: standard deviation over the same images.
        images: how many these are.
        missing: why the others have none, the commonest reason; "" if all have.
    """

    block: str
    skippable: bool
    mean: float | None
    deviation: float | None
    images: int
    missing: str = ""


def residual_sizes(
    net: nn.Module | Observed, images: Images, path: Path | None = None, *, progress: str | None = None
) -> tuple[BlockMean, ...]:
    """How large each block's residual is beside what it is added to, ``|F(h)| / |shortcut(h)|`` (Eq. 3).

    Norms are over all values of an image. A block whose last norm has weight and bias 0 adds nothing: 0.

    Args:
        net: a routed network or a plain one, in any mode; it is not changed. Where several questions are asked of one,
            or its blocks are given by hand, ``Observed(net, x)`` of it.
        images: batches of images ``[batch, ...]`` and labels, which are not looked at.
        path: along which, one for all images: for AdaptiveDepth ``method.path(net, True)`` is the base-net; None for
            the network's own decisions.
        progress: name of a progress bar on the standard error stream; None for none.

    Returns:
        Every residual sum that ran, in order of execution, without unit, at least 0. Images for which a gate closed a
        block do not count for it, nor do those for which the shortcut gives 0.

    Raises:
        RouteError: for a network without residual blocks.
        PathError: for a path that does not fit.
        DataError: for no images, or batches that are no pairs.
        RunError: for values that are not finite.
    """
    tally = _Tally()
    with torch.inference_mode(False), torch.no_grad():
        for number, (x, _), observed in _observing(net, images, progress):
            for found in observed(x, path)[1]:
                size, beside = _norms(found.residual), _norms(found.shortcut)
                _check_finite(size + beside, f"the sum of block {found.block!r}", number)
                tally.add(observed, found, size / beside, {"its shortcut gives 0": beside == 0})
    return tally.result()


def gradient_cosines(
    net: nn.Module | Observed,
    images: Images,
    path: Path | None = None,
    *,
    loss: Loss | None = None,
    progress: str | None = None,
) -> tuple[BlockMean, ...]:
    """The cosine of each block's residual with the negative gradient of the loss by the block's input (Eq. 7).

    ``-F(h) . g / (|F(h)| |g|)`` with ``g = dL/dh`` for each image: 1 where a block is a step of gradient descent, 0
    where it does not move along the loss, -1 where it climbs. L is the loss of the network that runs, the block itself
    and all behind it included. Parameters get no gradient.

    Args:
        net: a routed network or a plain one, in any mode; it is not changed. Where several questions are asked of one,
            or its blocks are given by hand, ``Observed(net, x)`` of it.
        images: batches of images ``[batch, ...]`` and labels.
        path: as for `residual_sizes`.
        loss: of what the network gives and the batch's labels, with a term for each image that knows nothing of the
            others; sum or mean is the same. None for the cross-entropy of a classifier and class numbers ``[batch]``.
        progress: name of a progress bar on the standard error stream; None for none.

    Returns:
        Every residual sum that ran, in order of execution. Images whose residual or gradient is 0 have no cosine, nor
        have blocks whose residual is of another shape than their input; what is missing is named.

    Raises:
        RouteError: for a network without residual blocks.
        PathError: for a path that does not fit.
        DataError: for no images, labels that are no class numbers of the network, or a network of one class, whose
            cross-entropy is 0 whatever it says.
        RunError: for values that are not finite, or a loss that is no scalar of the network's output.
    """
    tally = _Tally()
    with torch.inference_mode(False), torch.enable_grad():
        for number, (x, y), observed in _observing(net, images, progress):
            output, sums = observed(x, path)
            for found in sums:
                _check_finite(_norms(found.residual), f"the residual of block {found.block!r}", number)
            value = _cross_entropy(output, y, len(x), number) if loss is None else _of_ones_own(loss, output, y, number)
            edges = [found.input for found in sums if found.input is not None]
            for found, g in zip(sums, torch.autograd.grad(value, edges, allow_unused=True), strict=True):
                gradient = x.new_zeros(found.shape) if g is None else g  # None: the loss does not depend on it
                if found.residual.shape != gradient.shape:
                    wrong = torch.ones_like(found.ran)
                    tally.add(observed, found, wrong.double(), {"the shape changes": wrong})
                    continue
                size, slope = _norms(found.residual), _norms(gradient)
                _check_finite(slope, f"the gradient by the input of block {found.block!r}", number)
                product = -(found.residual.flatten(1).double() * gradient.flatten(1).double()).sum(1)
                zero = {"its residual is 0": size == 0, "the gradient is 0": slope == 0}
                tally.add(observed, found, (product / size / slope).clamp(-1, 1), zero)
    return tally.result()


def _observing(
    net: nn.Module | Observed, images: Images, progress: str | None
) -> Iterator[tuple[int, tuple[Tensor, Any], Observed]]:
    """Batches on the network's device, with their numbers and the network, observed from the first one on."""
    device = net.device if isinstance(net, Observed) else device_of(net)
    number = -1
    for number, (x, y) in enumerate(batches(images, progress)):
        x = x.to(device)
        x = x.clone() if x.is_inference() else x
        net = net if isinstance(net, Observed) else Observed(net, x)
        yield number, (x, y.to(device) if isinstance(y, Tensor) else y), net
    if number < 0:
        raise DataError("the loader gave no images, so nothing can be said of them; check the split and its folder.")


def _cross_entropy(output: Any, y: Any, batch: int, number: int) -> Tensor:
    """In float64: of images that the network is sure of, nothing would be left of the gradient in float32."""
    logits = answer(output)
    if isinstance(logits, Tensor) and logits.shape == (batch, 1):
        raise DataError(
            "the network gives one score an image, and the cross-entropy of one class is 0 whatever it says; give the "
            "loss that it was trained by: loss=function of (outputs, labels)."
        )
    check_logits(logits, batch, number)
    labels = torch.from_numpy(class_numbers(y, batch, logits.shape[1], number)).to(logits.device)
    value: Tensor = functional.cross_entropy(logits.double(), labels, reduction="sum")
    return value


def _of_ones_own(loss: Loss, output: Any, y: Any, number: int) -> Tensor:
    value = loss(output, y)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        shown = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise RunError(
            f"batch {number}: the loss gives {shown}; it is to give a tensor of one number that is computed of the "
            "network's output with gradients, (outputs, labels) -> scalar."
        )
    _check_finite(value.detach(), "the loss", number)
    return value.sum()


def _norms(values: Tensor) -> Tensor:
    """The Euclidean norm of each image's values, float64 ``[batch]``."""
    norms: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64)
    return norms


def _check_finite(values: Tensor, what: str, number: int) -> None:
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        raise RunError(
            f"batch {number}: {what} is not finite for {int(bad.sum())} of {values.numel()} images; the weights are "
            "damaged or have diverged, or the images are not normalised as in training."
        )


@dataclass
class _Sums:
    """Of one residual sum, over the images so far."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    ran: int = 0
    missing: dict[str, int] = field(default_factory=dict)

    def result(self, block: str, skippable: bool) -> BlockMean:
        why = max(self.missing, key=lambda reason: self.missing[reason]) if self.count < self.ran else ""
        if not self.count:
            return BlockMean(block, skippable, None, None, 0, why)
        mean = self.total / self.count
        deviation = math.sqrt(max(self.squares / self.count - mean * mean, 0.0))
        return BlockMean(block, skippable, mean, deviation, self.count, why)


class _Tally:
    """Sums over images of each residual sum."""

    def __init__(self) -> None:
        self._of: dict[str, _Sums] = {}
        self._blocks: dict[str, bool] = {}

    def add(self, observed: Observed, found: Sum, values: Tensor, without: dict[str, Tensor]) -> None:
        """
        Args:
            observed: whose sum it is.
            found: the sum.
            values: one for each image, ``[batch]``.
            without: why images have none -> which, bool ``[batch]``.
        """
        self._blocks = observed.blocks
        own = self._of.setdefault(found.block, _Sums())
        left = found.ran
        for reason, images in without.items():
            own.missing[reason] = own.missing.get(reason, 0) + int((left & images).sum())
            left = left & ~images
        kept = values[left]
        own.ran += int(found.ran.sum())
        own.count += len(kept)
        own.total += float(kept.sum())
        own.squares += float((kept * kept).sum())

    def result(self) -> tuple[BlockMean, ...]:
        return tuple(
            self._of[block].result(block, skippable)
            for block, skippable in self._blocks.items()
            if block in self._of and self._of[block].ran
        )
