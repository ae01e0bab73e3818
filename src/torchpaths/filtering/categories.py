"""Filters and categories (network decoupling, section 4.3, figure 7): what a filter being open says of the class.

Three readings. The class heads' weights, as the paper draws them. The share of each class's images that open a filter.
And, by Bayes' rule with all classes as likely, the probability of each class where a filter is open, which is what the
paper says the weights stand for. The last two need no heads and are counts, not parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchpaths.errors import RouteError
from torchpaths.filtering.paths import ClassPaths, Floats, Ints
from torchpaths.filtering.sites import filter_sites
from torchpaths.layout import HasLayout

Heads = Mapping[str, Tensor]
"""Class heads: site -> weights ``[class, unit]``, ``W_cla`` of eq. 12."""


def head_weights(heads: nn.Module | Mapping[str, Tensor], net: HasLayout) -> dict[str, Tensor]:
    """The class heads of the sites of filters, float32 on the CPU.

    Args:
        heads: `torchpaths.Objective.heads` of a network trained with ``mutual`` above 0, alone or with other methods;
            or its tensors by name, as a checkpoint holds them.
        net: the network they are of.

    Raises:
        RouteError: if a site has no head, or one of another size.
    """
    tensors = dict(heads.named_parameters()) if isinstance(heads, nn.Module) else heads
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        # "layer1/0/conv1.weight", behind the method's name where there are several, behind "heads." in a checkpoint.
        found[name.removesuffix(".weight").rpartition(".")[2].replace("/", ".")] = tensor.detach().float().cpu()
    sites = filter_sites(net)
    for name, units in sites.items():
        shape = tuple(found[name].shape) if name in found else None
        if shape is None or len(shape) != 2 or shape[1] != units:
            raise RouteError(
                f"the class head of {name!r} is {'missing' if shape is None else f'of shape {shape}'}; it takes "
                f"{units} filters. Give Objective.heads of this network, trained with GatedFilters(mutual=...) above 0."
            )
    return {name: found[name] for name in sites}


def category_given_open(paths: ClassPaths) -> dict[str, Floats]:
    """Site -> ``P(class | filter open)`` where every class is as likely, ``[class, unit]``; NaN for silent filters, and
    0 for classes of which no image came."""
    found = {}
    for name, shares in paths.shares.items():
        known = np.nan_to_num(shares)
        with np.errstate(invalid="ignore"):
            found[name] = np.asarray(known / known.sum(0), np.float64)
    return found


def filter_information(paths: ClassPaths) -> dict[str, Floats]:
    """Site -> how many bits a filter by itself tells of the class, ``I(c; z_i)`` ``[unit]``, counted over the images
    that came; 0 for active and silent filters. Counts of few images tell more than there is."""
    return {name: _bits(opened, paths.came[name]) for name, opened in paths.opened.items()}


def _bits(opened: Ints, came: Ints) -> Floats:
    total = int(came.sum())
    if not total:
        return np.full(opened.shape[1], np.nan)
    joint = np.stack([opened, came[:, None] - opened]) / total  # [open or not, class, unit]
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    terms: NDArray[np.float64] = np.zeros_like(joint)
    there = joint > 0
    terms[there] = joint[there] * np.log2(joint[there] / apart[there])
    return np.asarray(np.maximum(terms.sum((0, 1)), 0.0), np.float64)


def weights_of(heads: Heads) -> dict[str, Floats]:
    """Class heads as arrays ``[class, unit]``, for figures."""
    return {name: weight.to(torch.float64).numpy() for name, weight in heads.items()}
