"""The paths of classes: which branches work for which class, in a coded network or in its plain twin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from torchpaths.coding.decode import path_of_classes
from torchpaths.errors import CodeError, DataError
from torchpaths.layout import HasLayout
from torchpaths.path import Path

Words: TypeAlias = Mapping[str, Tensor]
"""Codewords: site -> bool ``[class, unit]``, as `torchpaths.CodedPaths.words` gives them."""

Batches: TypeAlias = Iterable[tuple[Tensor, Any]]
"""Images and their class numbers, batch by batch."""


def check_words(words: Words, net: HasLayout) -> int:
    """How many classes there are codewords for, after a look at whether they fit a network.

    Args:
        words: see `Words`.
        net: the coded network, or its plain twin routed with `torchpaths.Branches`.

    Raises:
        CodeError: for no codewords, or such as fit no site of this network.
    """
    name = net.layout.network
    if not words:
        raise CodeError(
            f"{name} has no coded site, so nothing of it can be decoded; route or train it with CodedPaths, and give "
            "it a ratio below 1 somewhere."
        )
    for site, word in words.items():
        units = net.layout.sites.get(site)
        if units is None or len(units) != word.shape[1]:
            found = "no site of that name" if units is None else f"{len(units)} units there"
            raise CodeError(
                f"there are codewords of {word.shape[1]} branches for {site!r}, and {name} has {found}; a twin is the "
                "same model trained without codes, routed with torchpaths.Branches()."
            )
    counts = {len(word) for word in words.values()}
    if len(counts) > 1:
        raise CodeError(
            f"the sites have codewords for {sorted(counts)} classes; give one for each class at every site."
        )
    return counts.pop()


def class_path(words: Words, net: HasLayout, label: int) -> Path:
    """The branches that work for a class, at every coded site; other sites decide for themselves.

    Args:
        words: see `Words`.
        net: as in `check_words`.
        label: the class's number.

    Raises:
        PathError: for a class that there is not.
        CodeError: as `check_words`.
    """
    check_words(words, net)
    return path_of_classes(words, net, [label])


def no_images(what: str) -> DataError:
    """What to say of a loader that gave nothing."""
    return DataError(f"the loader gave no images for {what}; check the split, its folder and drop_last.")
