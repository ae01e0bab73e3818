"""Early decoding: the class whose codeword a block's energies are nearest to (Coded ResNeXt, section 4.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import SupportsIndex

import torch
from torch import Tensor

from torchpaths.deciders.code import Code
from torchpaths.head import class_numbers
from torchpaths.layout import HasLayout
from torchpaths.path import Path
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.routed import Routed
from torchpaths.trace import Trace


def distances(energies: Tensor, words: Tensor) -> Tensor:
    """How far energies are from each codeword, as in the authors' code: Euclidean, the energies scaled so that their
    sum is the number of branches that work for a class.

    Args:
        energies: ``[B, N]``, normalised or not.
        words: bool ``[K, N]``, as many ones in each.

    Returns:
        ``[B, K]``; the decoded class is the smallest.
    """
    words = words.to(energies.dtype)
    share = energies / energies.sum(1, keepdim=True).clamp(min=torch.finfo(energies.dtype).tiny)
    # Not torch.cdist, whose products lose digits where energies are close to a codeword.
    return (share * words[0].sum()).unsqueeze(1).sub(words).square().sum(2).sqrt()


def coded_sites(net: Routed) -> dict[str, Code]:
    """The coded sites of a network in order of execution, and their codewords."""
    return {name: site.decider for name, site in net.sites.items() if isinstance(site.decider, Code)}


def path_of_classes(words: Mapping[str, Tensor], net: HasLayout, classes: Iterable[SupportsIndex]) -> Path:
    """The branches that work for one of some classes, at every coded site; other sites decide for themselves.

    Args:
        words: site -> codewords, bool ``[class, unit]``.
        net: a coded network, or another with these sites.
        classes: their numbers.

    Raises:
        PathError: for none, one given twice, or one that there is not.
    """
    wanted = class_numbers(classes, min((len(word) for word in words.values()), default=0))
    return Path({site: word[wanted].any(0).tolist() for site, word in words.items()}, net.layout.fingerprint)


def decoders(net: Routed, trace: Trace) -> dict[str, Tensor]:
    """The distances ``[B, K]`` of every coded block that ran, in order of execution."""
    ran = {name: code for name, code in coded_sites(net).items() if name in trace}
    return {name: distances(trace[name].response[ENERGIES], code.words) for name, code in ran.items()}
