"""The papers' own networks which timm and torchvision lack, and models by name."""

from torchpaths.models.checkpoints import codewords, read_weights
from torchpaths.models.cifar_resnet import BasicBlock, CifarResNet, PadShortcut
from torchpaths.models.create import (
    MODELS,
    Source,
    cifar_googlenet,
    cifar_resnet,
    cifar_vgg19_bn,
    create_model,
    resnext,
    source,
)
from torchpaths.models.googlenet import CifarGoogLeNet, Inception
from torchpaths.models.resnext import ResNeXt
from torchpaths.models.vgg import CifarVGG
from torchpaths.models.weights import load_weights

__all__ = [
    "MODELS",
    "BasicBlock",
    "CifarGoogLeNet",
    "CifarResNet",
    "CifarVGG",
    "Inception",
    "PadShortcut",
    "ResNeXt",
    "Source",
    "cifar_googlenet",
    "cifar_resnet",
    "cifar_vgg19_bn",
    "codewords",
    "create_model",
    "load_weights",
    "read_weights",
    "resnext",
    "source",
]
