"""``Pixels``: a routed network as an attacker sees it, from pixels of 0 to 1 to scores; and what is checked of images.

Strengths are told in the unit of a pixel: 8/255 is eight of 255 levels, whatever a network's mean and standard
deviation are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.attacks.gates import Passed, Way, passing
from torchpaths.errors import CallError, DataError
from torchpaths.inputs import device_of
from torchpaths.outputs import PROBABILITIES, answer, are_probabilities
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.surveys.checks import check_logits, class_numbers
from torchpaths.trace import Trace


class Pixels(nn.Module):
    """``x in [0, 1] -> (scores [batch, class], trace)``, with a gradient to the pixels.

    Attributes:
        net: the network, see `torchpaths.attacks.gates.passing`.
        path: units chosen from outside; None: the network decides.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: Routed,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        *,
        path: Path | None = None,
        gradient: Way = "through",
    ) -> None:
        """
        Args:
            net: a routed network of any methods, in any mode. It is not changed; its weights are shared.
            mean: by which images were normalised in training, per channel or one for all, scale 0 to 1.
            std: likewise.
            path: see above; one for the whole batch.
            gradient: the way that gradients take at gates.

        Raises:
            CallError: for something else than a routed network.
            DataError: for a mean or std that normalises nothing.
            PathError: for a path that does not fit.
        """
        super().__init__()
        if type(net) is not Routed:
            raise CallError(
                f"a {type(net).__name__} cannot be attacked, since nothing says that gradients come through it; give "
                "the routed network itself, before tp.skipping, torch.compile or an export."
            )
        mean_, std_ = (torch.tensor([float(v) for v in values]).view(1, -1, 1, 1) for values in (mean, std))
        if mean_.shape != std_.shape or not (mean_.isfinite().all() and std_.isfinite().all() and (std_ > 0).all()):
            raise DataError(f"mean {tuple(mean)} and std {tuple(std)}: give one of each per channel, std above 0.")
        if path is not None:
            path.check(net.layout)
        with torch.inference_mode(False):  # what is made in inference mode has no part in gradients, ever
            self.net = passing(net, gradient)
            device = device_of(net)
            self.register_buffer("mean", mean_.to(device, copy=True), persistent=False)
            self.register_buffer("std", std_.to(device, copy=True), persistent=False)
        self.path = path
        self._asked = False

    def forward(self, x: Tensor, path: Path | None = None) -> tuple[Tensor, Trace]:
        """
        Args:
            x: images of 0 to 1.
            path: in place of `path`.

        Returns:
            Scores and trace.

        Raises:
            RunError: for scores that are not finite.
        """
        y, trace = self.net((x - self.mean) / self.std, self.path if path is None else path)
        scores: Tensor = answer(y)
        check_logits(scores, len(x), 0)
        return scores, trace

    @property
    def gated(self) -> bool:
        """Whether there are gates, about which a gradient has a choice of ways."""
        free = (site for name, site in self.net.sites.items() if self.path is None or name not in self.path)
        return any(isinstance(site.decider, Passed) for site in free)

    @torch.no_grad()
    def classes(self, x: Tensor) -> int:
        """How many classes the network tells apart, of images like these."""
        scores, _ = self(x[:1])
        if not self._asked:
            self._asked = True
            if are_probabilities(scores):
                warnings.warn(PROBABILITIES, stacklevel=2)
        return int(scores.shape[-1])

    def checked(self, x: Tensor) -> Tensor:
        """Images as they are given, a copy on the network's device.

        Raises:
            DataError: unless they are floats ``[batch, channel, height, width]`` in 0 to 1.
        """
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        if not isinstance(x, Tensor) or x.dim() != 4 or not x.is_floating_point() or not len(x):
            raise DataError(
                f"images of shape {shape} and {getattr(x, 'dtype', 'no type')}; give floats [batch, channel, height, "
                "width] of 0 to 1, levels of 0 to 255 divided by 255."
            )
        channels = self.mean.shape[1]
        if channels not in (1, x.shape[1]):
            raise DataError(f"images of {x.shape[1]} channels for a mean of {channels}; give one value per channel.")
        x = x.detach()
        if not bool(x.isfinite().all()):
            raise DataError("images with values that are not numbers; nothing can be said of them.")
        low, high = float(x.min()), float(x.max())
        if low < 0 or high > 1:
            raise DataError(
                f"images of {low:.4g} to {high:.4g}, and pixels are of 0 to 1: give them before they are normalised, "
                "mean and std go to Pixels(net, mean, std)."
            )
        # Half and double precision too, in the network's own, which is the mean's.
        return x.to(self.mean.device, next((p.dtype for p in self.net.parameters()), self.mean.dtype), copy=True)


def gradient(total: Tensor, x: Tensor) -> Tensor:
    """The gradient of a sum over images to their pixels.

    Raises:
        CallError: where none comes through the network.
    """
    found = torch.autograd.grad(total, x, allow_unused=True)[0] if total.requires_grad else None
    if found is None:
        raise CallError(
            "no gradient comes from the scores to the pixels: the network holds something without one, such as weights "
            "in eight bits or an exported part. Attack the network it was made of."
        )
    return found


def check_strength(strength: float) -> float:
    """A strength as it is given.

    Raises:
        DataError: unless it is a number from 0 to 1.
    """
    number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    if not number or math.isnan(strength) or not 0 <= strength <= 1:
        raise DataError(
            f"strength {strength!r}: how far a pixel of 0 to 1 may be changed, so a number from 0 to 1; eight levels "
            "of 255 are 8 / 255."
        )
    return float(strength)


def check_labels(labels: Any, images: int, classes: int) -> Tensor:
    """Class numbers, long ``[batch]``.

    Raises:
        DataError: unless they are.
    """
    return torch.from_numpy(class_numbers(labels, images, classes, 0))


def as_levels(strength: float) -> str:
    """A strength as it is printed: ``"8/255"``, ``"0.5/255"``."""
    return f"{strength * 255:.4g}/255"
