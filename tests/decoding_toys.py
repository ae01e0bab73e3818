"""Small coded networks and made-up readings for the tests of decoding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.coding.schemes import codes
from torchpaths.decoding import Readings
from torchpaths.models.resnext import ResNeXt

METHOD = tp.CodedPaths(classes=10)
SIDE = 8


def resnext(seed: int = 0) -> ResNeXt:
    """Five blocks of 10 branches whose norms do not silence them, as fresh ones do."""
    torch.manual_seed(seed)
    model = ResNeXt((1, 2, 2), 10, 2, 8, 16, False, 10, 3)
    for name, parameter in model.named_parameters():
        if "bn" in name:
            nn.init.normal_(parameter, 0.5 * name.endswith("weight"), 0.5)
    return model.eval()


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise, and labels of which every class has some."""
    torch.manual_seed(seed)
    return torch.randn(count, 3, SIDE, SIDE), torch.arange(count) % 10


def coded(method: tp.Method = METHOD) -> tp.Routed:
    """`resnext`, coded."""
    return tp.route(resnext(), method, example=images(2)[0]).eval()


class Exact(nn.Module):
    """One block whose branches have the energies that the image's ten channels have: an image that is a codeword has
    that codeword's energies. Branch n is a pair of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(10, 20, 1, bias=False)
        self.conv2 = nn.Conv2d(20, 20, 3, padding=1, groups=10, bias=False)
        self.conv3 = nn.Conv2d(20, 20, 1, bias=False)
        self.fc = nn.Linear(20, 10)
        with torch.no_grad():
            self.conv1.weight.copy_(torch.eye(10).repeat_interleave(2, 0)[..., None, None])
            self.conv2.weight.zero_()
            self.conv2.weight[:, :, 1, 1] = torch.eye(2).repeat(10, 1)
            self.conv3.weight.copy_(torch.eye(20)[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.conv3(self.conv2(self.conv1(x))).mean((2, 3)))
        return y


def exact() -> tuple[tp.Routed, Tensor, Tensor]:
    """`Exact`, coded with 3 of 10, and two images of each class that are its codeword."""
    words = codes(10, 10, 3)
    x = torch.from_numpy(words).float().repeat(2, 1)[..., None, None].expand(-1, -1, 4, 4)
    texts = tuple("".join(str(int(bit)) for bit in word) for word in words)
    net = tp.route(Exact(), tp.CodedPaths(classes=10, schemes=(texts,)), example=x)
    return net.eval(), x, torch.arange(20) % 10


def made_up(count: int = 4000, blocks: int = 8, seed: int = 0) -> Readings:
    """Readings of a network that is too sure of itself, and all the surer of what its decoders do not see: its logits
    are five times too large where few of them agree, and right where all do."""
    rng = np.random.default_rng(seed)
    true = 2.0 * rng.normal(size=(count, 10))
    powers = np.exp(true)
    labels = np.array([rng.choice(10, p=p) for p in powers / powers.sum(1, keepdims=True)])
    share = rng.random(count)
    logits = (true * np.exp(1.6 * (1 - share))[:, None]).astype(np.float32)
    agrees = rng.random((count, blocks)) < share[:, None]
    decoded = np.where(agrees, logits.argmax(1)[:, None], (logits.argmax(1)[:, None] + 1) % 10)
    margins = (agrees + 0.1 * rng.random((count, blocks))).astype(np.float32)
    return Readings(tuple(f"block{i}" for i in range(blocks)), logits, labels, decoded, margins)
