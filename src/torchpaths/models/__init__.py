"""The papers' own networks which timm and torchvision lack, and models by name."""

from torchpaths.models.cifar_resnet import BasicBlock, CifarResNet, PadShortcut
from torchpaths.models.create import MODELS, Source, cifar_resnet, create_model, resnext, source
from torchpaths.models.resnext import ResNeXt
from torchpaths.models.weights import load_weights

__all__ = [
    "MODELS",
    "BasicBlock",
    "CifarResNet",
    "PadShortcut",
    "ResNeXt",
    "Source",
    "cifar_resnet",
    "create_model",
    "load_weights",
    "resnext",
    "source",
]
