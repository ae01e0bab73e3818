"""What benchmarks of skipping run: a ResNet-50 whose gates open for half of the images, or a trained run, and images.

The ResNet-50 has random weights. Each gate's threshold is the median of its scores given what the gates before it do,
so that it opens for half of the images, independently of the others (random projections of the features).
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, Literal, TypeAlias

import torch
import torchvision
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional

import torchpaths as tp
from torchpaths.data import Loader, open_data
from torchpaths.trace import Decider
from torchpaths.train.folder import load_run

POOL = 128
"""Images that batches are drawn from."""
SAMPLE = 32
"""Images that thresholds are set with."""

Order: TypeAlias = Literal["channels_last", "contiguous"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def open_network(network: str, dtype: str, order: Order, data: str | None) -> tuple[tp.Routed, Tensor]:
    """A network and `POOL` images for it, the same every time.

    Args:
        network: "resnet50" or a run folder.
        dtype: of weights and images, see `DTYPES`.
        order: memory format of both.
        data: image set to take the images from; None for noise.
    """
    torch.manual_seed(0)
    memory = torch.channels_last if order == "channels_last" else torch.contiguous_format
    trained = network != "resnet50"
    if trained:
        run = load_run(network)
        net, shape = run.net, run.net.example_shape
    else:
        shape = (3, 224, 224)
        net = tp.route(torchvision.models.resnet50().eval(), tp.GatedBlocks(), example=torch.randn(1, *shape))
    if data is None:
        images = noise(shape)
    else:
        mean, std = (run.mean, run.std) if trained else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        images = next(iter(Loader(open_data(data, "test", False, shape[1]), POOL, mean=mean, std=std)))[0]
    net = net.to(DTYPES[dtype]).to(memory_format=memory)
    images = images.to(DTYPES[dtype]).contiguous(memory_format=memory)
    if not trained:
        _halve(net, images[:SAMPLE])
    return net, images


def random_path(net: tp.Routed) -> tp.Path:
    """Half of the units by chance, the same every time."""
    draw = torch.Generator().manual_seed(0)
    return tp.Path({s: [bool(torch.rand((), generator=draw) < 0.5)] for s in net.sites}, net.layout.fingerprint)


def read_rows(file: pathlib.Path) -> list[dict[str, Any]]:
    """The results so far, one JSON object per line."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def noise(shape: tuple[int, ...]) -> Tensor:
    """Images of blotches whose size, contrast and tint differ."""
    images = []
    for i in range(POOL):
        side = 4 + i % 12
        blotches = torch.randn(1, shape[0], side, side) * (0.3 + torch.rand(1)) + torch.randn(1, shape[0], 1, 1)
        images.append(functional.interpolate(blotches, size=shape[1:], mode="bilinear"))
    return torch.cat(images)


class _Halving(Decider):
    """Sets a gate's threshold to the median of the scores it gives, then lets it decide."""

    def __init__(self, gate: tp.Gate) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, features: Tensor) -> tp.Decision:
        score = self.gate(features).score
        self.gate.threshold = float(score.flatten().sort().values[len(score) // 2 - 1 : len(score) // 2 + 1].mean())
        decision: tp.Decision = self.gate(features)
        return decision


@torch.no_grad()
def _halve(net: tp.Routed, images: Tensor) -> None:
    """Each gate opens for half of the images, given what the gates before it do; one pass, as they decide in order."""
    gates = {name: site.decider for name, site in net.sites.items()}
    for name, gate in gates.items():
        assert isinstance(gate, tp.Gate)
        nn.init.normal_(gate.fc2.weight, std=1.0)
        net.sites[name].decider = _Halving(gate)
    net(images)
    for name, gate in gates.items():
        net.sites[name].decider = gate
