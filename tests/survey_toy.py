"""A routed network whose trace and scores can be read off its input: every number of a survey is known by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchpaths.layout import Cost, Layout, Unit
from torchpaths.path import Path
from torchpaths.trace import Decision, Trace

LAYOUT = Layout(
    units=(
        Unit("layer1.0", 0, Cost(10, 1)),
        Unit("layer1.1", 0, Cost(20, 2)),
        Unit("layer2.0", 0, Cost(30, 3)),
        Unit("layer2.0", 1, Cost(7, 4)),
    ),
    fixed=Cost(100, 50),
    plain=Cost(160, 55),
    network="Toy",
)
UNITS, CLASSES = 4, 3


class Toy(nn.Module):
    """Images are ``[batch, 7]``: a positive one of the first four numbers opens a unit, the last three are the scores.

    Nothing decides at ``layer1.0``, it is open. ``layer2.0`` runs only in batches where some image opens ``layer1.1``.
    """

    layout = LAYOUT

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.BatchNorm1d(2)
        self.live = nn.BatchNorm1d(2)
        self.batches: list[int] = []

    def forward(self, x: Tensor, path: Path | None = None) -> tuple[Tensor, Trace]:
        assert not self.live.training
        assert not torch.is_grad_enabled()
        self.batches.append(len(x))
        trace: Trace = {}
        start = 0
        for site, units in LAYOUT.sites.items():
            score = x[:, start : start + len(units)]
            start += len(units)
            if path is not None and site in path:
                opened = torch.tensor(path[site]).expand(len(x), -1)
                trace[site] = Decision(opened, opened.float())
            elif site == "layer1.0":
                opened = torch.ones(len(x), 1, dtype=torch.bool)
                trace[site] = Decision(opened, opened.float())
            elif site != "layer2.0" or bool(trace["layer1.1"].open.any()):
                trace[site] = Decision(score > 0, (score > 0).float(), score)
        return x[:, UNITS:], trace


def image(opened: str, prediction: int) -> Tensor:
    """An image that opens the units marked 1 and is taken for that class."""
    scores = torch.zeros(CLASSES)
    scores[prediction] = 1.0
    return torch.cat([torch.tensor([1.0 if o == "1" else -1.0 for o in opened]), scores])


# Opened units, prediction and label of ten images; class 2 has none. layer1.0 is always open.
IMAGES = [
    ("1110", 0, 0),
    ("1110", 0, 0),
    ("1101", 1, 0),
    ("1000", 0, 0),
    ("1111", 1, 1),
    ("1111", 2, 1),
    ("1011", 1, 1),
    ("1110", 1, 1),
    ("1001", 1, 1),
    ("1111", 0, 1),
]


def loader(sizes: tuple[int, ...] = (10,)) -> list[tuple[Tensor, Tensor]]:
    """The ten images in batches of those sizes."""
    x = torch.stack([image(opened, prediction) for opened, prediction, _ in IMAGES])
    y = torch.tensor([label for _, _, label in IMAGES])
    return list(zip(torch.split(x, list(sizes)), torch.split(y, list(sizes)), strict=True))
