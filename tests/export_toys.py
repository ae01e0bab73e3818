"""Networks to export whose gates open for about half of the images, and files run the way their users run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import torchpaths as tp
from toys import made, toy
from train_toys import ToyNet

VIT = partial(VisionTransformer, 32, 8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)
"""A block of attention and one of a perceptron."""


def gated(name: str) -> tuple[tp.Routed, Tensor]:
    """A toy whose gates each open for three of a batch of 6; "toy" and "vit" are the smallest, with two gates.

    Tracing takes most of a second for each decision.
    """
    if name == "toy":
        torch.manual_seed(0)
        x = torch.randn(6, 1, 6, 6) * torch.linspace(0.2, 2.0, 6).view(-1, 1, 1, 1)
        return halved(tp.route(ToyNet(), tp.GatedBlocks(), example=x), x), x
    model, x = made(VIT, 32) if name == "vit" else toy(name)
    x = torch.cat([x, torch.randn(2, *x.shape[1:], generator=torch.Generator().manual_seed(1))])
    return halved(tp.route(model, tp.GatedBlocks(), example=x), x), x


@torch.no_grad()
def halved(net: tp.Routed, x: Tensor) -> tp.Routed:
    """A gated network with thresholds at the median of the scores for a batch, given the gates before."""
    net.eval()
    for i, site in enumerate(net.sites.values()):
        gate = site.decider
        assert isinstance(gate, tp.Gate)
        nn.init.normal_(gate.fc2.weight, std=3.0, generator=torch.Generator().manual_seed(i))
        score = net(x)[1][site.name].score
        assert score is not None
        gate.threshold = float(score.flatten().sort().values[len(x) // 2 - 1 : len(x) // 2 + 1].mean())
    return net


@torch.no_grad()
def masked(net: tp.Routed, x: Tensor) -> tuple[Tensor, Tensor]:
    """The routed network's output, and what it opens, bool ``[batch, unit]``."""
    y, trace = net(x)
    return y, torch.cat([trace[site].open for site in net.sites], 1)


def run(file: Path, x: Tensor) -> list[Tensor]:
    """What a file gives, without anything of torchpaths."""
    return opened(file)(x)


def opened(file: Path) -> Callable[[Tensor], list[Tensor]]:
    """A file, loaded once for several runs."""
    if file.suffix == ".onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda x: _tensors(session.run(None, {"x": x.numpy()}))
    if file.suffix == ".xml":
        core = pytest.importorskip("openvino").Core()
        compiled = core.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda x: _tensors(compiled(x.numpy()).values())
    module = torch.export.load(file).module()

    def call(x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            y = module(x)
        return [*y] if isinstance(y, tuple) else [y]

    return call


def _tensors(arrays: Sequence[Any]) -> list[Tensor]:
    return [torch.as_tensor(array) for array in arrays]
