"""``update_bn``: running statistics of batch norms as they are met in evaluation.

In training deciders draw, and Improved SemHash lets half of the images through filters that are open in part: the
running statistics are those of what was drawn. In evaluation decisions are hard, norms get other features, and a
network that has learnt answers badly. None of the four papers says so; gated filters can lose points by it
(``records/cifar10_gated_filters``). ``torch.optim.swa_utils.update_bn`` does the same for plain networks, but puts
gates in training mode as well, so that they draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from torchpaths.costs import evaluating
from torchpaths.errors import RouteError
from torchpaths.inputs import device_of, images_of
from torchpaths.path import Path
from torchpaths.routed import Routed


@torch.no_grad()
def update_bn(net: nn.Module, batches: Iterable[Any], path: Path | None = None) -> None:
    """Measure the running statistics of all batch norms anew, with every decision made as in evaluation.

    Means and variances are averages over the batches, of equal size at best. A norm that no image comes to keeps what
    it had, and so do all if an error ends the call.

    Args:
        net: routed, skipping or plain, changed in place; the mode of each module stays.
        batches: images ``[B, ...]``, tuples that begin with them, labels aside, or mappings as for models of
            transformers: some thousand training images, augmented as in training, since those that a network knows by
            heart have other statistics. In the type and range that the network takes.
        path: where to go instead of deciding, for a network that will be used or cut along it.

    Raises:
        RouteError: for a network without such norms, no batches, or a path for a network that is not routed.
    """
    deciders = set(net.deciders.modules()) if isinstance(net, Routed) else set()  # they decide by statistics of theirs
    every = (m for m in net.modules() if isinstance(m, _BatchNorm) and m not in deciders)
    norms = [m for m in every if m.running_mean is not None]
    if not norms:
        raise RouteError(f"{type(net).__name__} has no batch norm with running statistics: there is nothing to update.")
    if path is not None and not isinstance(net, Routed):
        raise RouteError(f"{type(net).__name__} is not routed and follows no path; leave path out.")
    place = device_of(net)
    before = [{name: value.clone() for name, value in norm.named_buffers(recurse=False)} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    count, updated = 0, False
    try:
        with evaluating(net):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the average of all batches
                norm.training = True
            if path is not None:  # a layer of which channels are left out is in the mode of its norm
                for layer in net.modules():
                    layer.training |= isinstance(layer, (_ConvNd, nn.Linear))
            for batch in batches:
                x = images_of(batch, place)
                net(x) if path is None else net(x, path)
                count += 1
        if not count:
            raise RouteError("no batches: the statistics stay as they were. Give some thousand training images.")
        updated = True
    finally:
        for norm, momentum, kept in zip(norms, momenta, before, strict=True):
            norm.momentum = momentum
            if not (updated and norm.num_batches_tracked):
                for name, value in kept.items():
                    getattr(norm, name).copy_(value)
