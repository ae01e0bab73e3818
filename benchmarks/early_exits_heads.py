"""A trained ResNet-56 with classifiers at places between its blocks: how it is taken apart, and how they learn.

Exits at fixed places are BranchyNet's (Teerapittayanon et al., 2016); the trained network is left as it is, in
evaluation mode, as in Shallow-Deep Networks (Kaya et al., 2019), so that what nobody leaves early for answers as
before. All kinds of heads learn in the same pass, since they share everything that takes time: by the cross-entropy of
each and Adam, as in the toolkit's own training, which runs in float32 and does not go on where it was killed; here the
learning rate falls along half a cosine.
"""

from __future__ import annotations

import copy
import io
import itertools
import math
import pathlib
import sys
from collections.abc import Callable

import numpy as np
import torch
from earlyon.core.exit_head import EarlyExitHead
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.data import ImageSet, Loader
from torchpaths.files.write import write_file
from torchpaths.models.cifar_resnet import CifarResNet
from torchpaths.train.recipe import Recipe

CLASSES = 10
WIDTH = 64


def toolkit(channels: int) -> nn.Module:
    """The toolkit's own: global average pooling and two linear layers with 128 features between them."""
    head: nn.Module = EarlyExitHead(channels, CLASSES)
    return head


def linear(channels: int) -> nn.Module:
    """The cheapest: global average pooling and one linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def conv(channels: int) -> nn.Module:
    """BranchyNet's: a convolution before the pooling, here on every second pixel."""
    layer = nn.Conv2d(channels, WIDTH, 3, stride=2, padding=1, bias=False)
    classify = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES)
    return nn.Sequential(layer, nn.BatchNorm2d(WIDTH), nn.ReLU(), *classify)


HEADS: dict[str, Callable[[int], nn.Module]] = {"toolkit": toolkit, "linear": linear, "conv": conv}


def stages(model: CifarResNet, exits: int) -> nn.Sequential:
    """The network in ``exits + 1`` parts of nearly as many blocks, which share its weights and answer as it does."""
    blocks = [*model.layer1, *model.layer2, *model.layer3]
    at = [round(len(blocks) * i / (exits + 1)) for i in range(exits + 2)]
    parts = [blocks[start:stop] for start, stop in itertools.pairwise(at)]
    parts[0] = [model.conv1, model.bn1, model.relu, *parts[0]]
    parts[-1] += [model.pool, model.flatten, model.linear]
    return nn.Sequential(*(nn.Sequential(*part) for part in parts))


def new_heads(trunk: nn.Sequential, example: Tensor) -> dict[str, nn.ModuleList]:
    """Untrained heads of every kind behind each part but the last."""
    with torch.no_grad():
        channels = [y.shape[1] for y in features(trunk, example)[:-1]]
    torch.manual_seed(0)
    return {kind: nn.ModuleList(HEADS[kind](c) for c in channels) for kind in HEADS}


def features(trunk: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What each part gives; the last one gives logits."""
    found = []
    for part in trunk:
        x = part(x)
        found.append(x)
    return found


def logits(trunk: nn.Sequential, heads: dict[str, nn.ModuleList], loader: Loader) -> tuple[dict[str, Tensor], Tensor]:
    """All answers to all images.

    Returns:
        For each kind of heads ``[exits + 1, images, classes]``, the network's own answer last; and the labels.
    """
    answers: dict[str, list[Tensor]] = {kind: [] for kind in heads}
    labels = []
    with torch.no_grad():
        for x, y in loader:
            *between, last = features(trunk, x)
            for kind, own in heads.items():
                early = [head.eval()(each) for head, each in zip(own, between, strict=True)]
                answers[kind].append(torch.stack([*early, last]))
            labels.append(y)
    return {kind: torch.cat(found, 1) for kind, found in answers.items()}, torch.cat(labels)


def split(images: ImageSet, held: int) -> tuple[ImageSet, ImageSet]:
    """Training images to learn from, and the last ``held`` to choose thresholds with."""
    rows = np.arange(len(images))

    def part(chosen: np.ndarray) -> ImageSet:
        name, labels = images.name, images.labels[chosen]
        return ImageSet(name, images.split, images.classes, labels, images.read(chosen))

    return part(rows[:-held]), part(rows[-held:])


def train(
    trunk: nn.Sequential, heads: dict[str, nn.ModuleList], images: ImageSet, recipe: Recipe, file: pathlib.Path
) -> None:
    """Train the heads, in place; what ``file`` holds of it is not done again.

    Args:
        trunk: the network in parts, in evaluation mode; it stays as it is.
        heads: of every kind.
        images: to learn from.
        recipe: epochs, batch, learning rate, augmentation and normalisation.
        file: the state after the last whole epoch.
    """
    quick = copy.deepcopy(trunk).to(memory_format=torch.channels_last)
    every = nn.ModuleDict(heads)
    optimizer = torch.optim.Adam(every.parameters(), lr=recipe.lr)
    loader = Loader(
        images,
        recipe.batch,
        augment=recipe.augment,
        shuffle=True,
        seed=recipe.seed,
        drop_last=True,
        mean=recipe.mean,
        std=recipe.std,
    )
    done = 0
    if file.is_file():
        state = torch.load(file, weights_only=True)
        every.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["epochs"]
    for epoch in range(done, recipe.epochs):
        torch.manual_seed(recipe.seed + epoch)  # of dropout: an epoch is the same whenever it is run
        every.train()
        losses = torch.zeros(len(heads), len(trunk) - 1)
        for step, (x, y) in enumerate(loader.epoch(epoch)):
            share = (epoch + step / len(loader)) / recipe.epochs
            optimizer.param_groups[0]["lr"] = recipe.lr * (1 + math.cos(math.pi * share)) / 2
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    between = features(quick, x.to(memory_format=torch.channels_last))[:-1]
                answers = [head(each) for own in heads.values() for head, each in zip(own, between, strict=True)]
            each = torch.stack([functional.cross_entropy(answer.float(), y) for answer in answers])
            optimizer.zero_grad()
            each.sum().backward()
            optimizer.step()
            losses += each.detach().view_as(losses) / len(loader)
        keep(file, {"heads": every.state_dict(), "optimizer": optimizer.state_dict(), "epochs": epoch + 1})
        told = "; ".join(
            f"{kind} " + " ".join(f"{v:.3f}" for v in row) for kind, row in zip(heads, losses, strict=True)
        )
        print(f"epoch {epoch + 1} of {recipe.epochs}, cross-entropy: {told}", file=sys.stderr, flush=True)


def keep(file: pathlib.Path, what: object) -> None:
    """Write tensors and numbers whole or not at all."""
    buffer = io.BytesIO()
    torch.save(what, buffer)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, buffer.getvalue())
