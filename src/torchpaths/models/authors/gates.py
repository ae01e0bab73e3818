"""ConvNet-AIG: the networks of andreasveit/convnet-aig (convnet_aig.py), gates and blocks in one module.

A gate is ``fc1``, ``fc1bn``, ``fc2`` of its block, 1x1 convolutions on the pooled input; here it is the decider of the
block's site, linear layers. Of its two scores the second opens the block (the branch is multiplied by ``w[:, 1]``),
here too. Every block has a gate that decides, also where its target rate is 1: that only leaves it out of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from torchpaths.models.authors.layout import DECIDERS, Layout, Rules, modules

_BLOCK = r"^(layer\d+)\.(\d+)\."

GATE: Rules = (
    (_BLOCK + r"fc1bn\.", rf"{DECIDERS}\1/\2.norm."),
    (_BLOCK + r"(fc[12])\.", rf"{DECIDERS}\1/\2.\3."),
)
IMAGENET: Rules = (
    (_BLOCK + r"shortcut\.", r"\1.\2.downsample."),
    (r"^linear\.", "fc."),
)


def _rules(tensors: Mapping[str, Tensor]) -> Rules:
    """Their ResNet for CIFAR, of three stages, has the names of ours but for the gates; for ImageNet torchvision's."""
    return (*GATE, *IMAGENET) if any(name.startswith("layer4.") for name in tensors) else GATE


def _linear(name: str, value: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """A gate's 1x1 convolution ``[out, in, 1, 1]`` as a linear layer ``[out, in]``."""
    gate = name.rpartition(".")[0].rpartition(".")[2] in ("fc1", "fc2")
    return value.flatten(1) if gate and value.shape[2:] == (1, 1) else value


def _gates(tensors: Mapping[str, Tensor]) -> str:
    gates = modules(tensors, _BLOCK + "fc1bn")
    return (
        f"{gates} gates; in evaluation theirs draw, GatedBlocks(inference='sample'), where argmax is the default here"
    )


GATES = Layout(
    "ConvNet-AIG",
    "andreasveit/convnet-aig",
    mark=_BLOCK + r"fc1bn\.\w+",
    rules=_rules,
    network="torchvision/resnet50, /resnet101 or /resnet152, for CIFAR cifar_resnet110b, routed with GatedBlocks() as "
    "it is: a gate for every block, also where a schedule of targets has 1, of hidden=16 and with its norm",
    parts=_gates,
    value=_linear,
)
