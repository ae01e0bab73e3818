"""Coded ResNeXt: the networks of avranasa/Coded-ResNeXt (CIFAR/NN_ResNeXt.py and Imagenet/CodedResNeXt.py, their blocks
in NN_modules.py), a list of modules in which blocks stand one behind the other.

A coded block's last convolution is grouped there, branch n giving outputs ``n C ... n C + C`` from its own d channels;
here it is an ordinary one whose columns are the branches. Codewords lie in the file (``Mask_perClass``, of each block).
They were known before training, so weights mean nothing with others: a network must have the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from torchpaths.errors import RunError
from torchpaths.models.authors.layout import DECIDERS, WORDS, Layout, Rules

MASK = "Mask_perClass"

BLOCK: Rules = (
    (r"\.(conv|bn)_reduce\.", r".\g<1>1."),
    (r"\.(conv|bn)_internal\.", r".\g<1>2."),
    (r"\.(conv|bn)_expand\.", r".\g<1>3."),
    (r"\.skip_connection\.conv_skip\.", ".downsample.0."),
    (r"\.skip_connection\.bn_skip\.", ".downsample.1."),
    (rf"^(layer\d+)\.(\d+)\.{MASK}$", rf"{DECIDERS}\1/\2/branches{WORDS}"),
)


def places(tensors: Mapping[str, Tensor]) -> dict[int, tuple[int, int]]:
    """Stage and number in it, from 1 and 0, of each block by its number in their list. A stage begins where channels
    change, and so where a block has a convolution in its shortcut."""
    found: dict[int, tuple[int, int]] = {}
    stage, number = 0, 0
    for i in sorted(
        {int(match[1]) for name in tensors if (match := re.match(r"net_list\.(\d{1,4})\.conv_reduce\.", name))}
    ):
        begins = f"net_list.{i}.skip_connection.conv_skip.weight" in tensors or not found
        stage, number = (stage + 1, 0) if begins else (stage, number + 1)
        found[i] = stage, number
    return found


def _rules(tensors: Mapping[str, Tensor]) -> Rules:
    layers = {i: f"layer{stage}.{number}" for i, (stage, number) in places(tensors).items()}
    behind = max((int(match[1]) for name in tensors if (match := re.match(r"net_list\.(\d{1,4})\.", name))), default=0)
    others = {0: "conv1", 1: "bn1", **({behind: "fc"} if behind not in layers else {})}

    def put(match: re.Match[str]) -> str:
        name = {**others, **layers}.get(int(match[1]))
        return match[0] if name is None else f"{name}."

    return ((r"^net_list\.(\d{1,4})\.", put), *BLOCK)


def _joined(name: str, value: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """A grouped last convolution ``[N C, d, 1, 1]`` as an ordinary one, ``[C, N d, 1, 1]``."""
    block, _, own = name.partition(".conv_expand.")
    mask = tensors.get(f"{block}.{MASK}")
    if own != "weight" or mask is None or mask.dim() != 2 or mask.bool().all():
        return value
    branches = mask.shape[1]
    if value.dim() != 4 or len(value) % branches:
        return value
    return value.reshape(branches, -1, *value.shape[1:]).transpose(0, 1).flatten(1, 2)


def _coded(tensors: Mapping[str, Tensor]) -> str:
    masks = [value for name, value in tensors.items() if name.endswith(f".{MASK}")]
    return f"codewords of {sum(not mask.bool().all() for mask in masks)} blocks"


CODED = Layout(
    "Coded ResNeXt",
    "avranasa/Coded-ResNeXt",
    mark=rf"net_list\.\d{{1,4}}\.(conv_reduce\.weight|{MASK})",
    rules=_rules,
    network="resnext29_10x11d, resnext29_20x6d or resnext50_32x4d of this library, routed with "
    "CodedPaths(schemes=torchpaths.models.codewords(FILE))",
    parts=_coded,
    value=_joined,
)


def schemes(tensors: Mapping[str, Tensor], where: str) -> tuple[tuple[str, ...], ...]:
    """The codewords of a file of Coded ResNeXt's authors, as `torchpaths.CodedPaths` takes them: for each stage a text
    of 0 and 1 for each class, nothing for a stage in which every branch works for every class.

    Args:
        tensors: by their names.
        where: what errors call the file.

    Raises:
        RunError: for a file without codewords, or in which blocks of one stage have different ones.
    """
    found: dict[int, Tensor] = {}
    for i, (stage, _) in places(tensors).items():
        mask = tensors.get(f"net_list.{i}.{MASK}")
        if mask is None or mask.dim() != 2:
            raise RunError(
                f"{where} has no codewords for its block net_list.{i}; with others its weights mean nothing. Ask for a "
                "file with all its buffers."
            )
        if not torch.equal(found.setdefault(stage, mask.bool()), mask.bool()):
            raise RunError(f"{where} has different codewords in stage {stage}; CodedPaths has one scheme for a stage.")
    if not found:
        raise RunError(f"{where} is no file of Coded ResNeXt's authors: it has no net_list with blocks in it.")
    return tuple(
        () if mask.all() else tuple("".join(str(int(bit)) for bit in word) for word in mask.tolist())
        for mask in found.values()
    )
