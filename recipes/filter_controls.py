"""What stands beside a network with gated filters in its record: its usual path as a static network, other thresholds
without training, and MACs counted on one side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from record import shuffled
from torch import nn

import torchpaths as tp
from torchpaths.costs import decider_cost
from torchpaths.data import ImageSet, Loader
from torchpaths.train.evaluate import Surveyed
from torchpaths.train.folder import Run
from torchpaths.train.recipe import Json

PLAIN = 125_485_696
"""MACs of the network without gates."""


def usual_path(net: tp.Routed, rates: NDArray[Any], batches: list[Any], test: Loader) -> Json:
    """The static network of the filters that most images open, of each layer at least the one that opens most: as it
    stands, and with statistics of its own."""
    shares = by_site(net, rates)
    path = tp.Path({site: (own >= min(0.5, own.max())).tolist() for site, own in shares.items()})
    cut = tp.extract(net, path)
    macs, accuracy = tp.cost(net, torch.zeros(1, *net.example_shape), path).macs, right(cut, test)
    tp.update_bn(cut, batches)
    return {"macs": macs, "accuracy": accuracy, "updated": right(cut, test)}


def dialled(run: Run, share: float, batches: list[Any], images: ImageSet) -> Json:
    """The network at one threshold for all gates that brings it to a share of the plain network's MACs, found on
    training images, with the norms' statistics at it; beside it what the whole one has beside it."""
    net = run.net
    low, high = -4.0, 4.0
    for _ in range(8):
        threshold = (low + high) / 2
        turn(net, threshold)
        tp.update_bn(net, batches[:2])
        low, high = (threshold, high) if spent(net, batches[2:4]) > share * PLAIN else (low, threshold)
    turn(net, high)
    tp.update_bn(net, batches)
    return {"asked": share, "threshold": high, **at_threshold(run, batches, images)}


def at_threshold(run: Run, batches: list[Any], images: ImageSet) -> Json:
    """Numbers of a network that is dialled."""
    test = Loader(images, 250, mean=run.mean, std=run.std)
    survey = tp.survey(run.net, test, classes=run.classes)
    return {
        "macs": survey.macs,
        "accuracy": survey.accuracy,
        "shuffled": shuffled(Surveyed(survey, images, run)),
        "usual": usual_path(run.net, survey.rates, batches, test),
    }


def turn(net: tp.Routed, threshold: float) -> None:
    for decider in net.deciders.values():
        decider.threshold = threshold


@torch.no_grad()
def spent(net: tp.Routed, batches: Iterable[Any]) -> float:
    """Mean MACs."""
    net.eval()
    return float(torch.cat([tp.Path.of(net(x)[1]).macs(net).double() for x, _ in batches]).mean())


def by_site(net: tp.Routed, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Values of all units, apart by site."""
    ends = np.cumsum([len(site.units) for site in net.sites.values()])
    return dict(zip(net.sites, np.split(values, ends[:-1]), strict=True))


def one_sided(net: tp.Routed, rates: NDArray[Any]) -> float:
    """Mean MACs if only a layer's own closed filters were left out, and not its inputs: which the paper counts is not
    said."""
    dense: dict[str, int] = {}
    layers = {name: module for name, module in net.model.named_modules() if name in net.sites}
    handles = [
        layer.register_forward_hook(lambda m, _, y, name=name: dense.update({name: y[0, 0].numel() * m.weight.numel()}))
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        net.model(torch.zeros(1, *net.example_shape))
    for handle in handles:
        handle.remove()
    shares = by_site(net, rates)
    saved = sum((1 - float(shares[name].mean())) * macs for name, macs in dense.items())
    gates = sum(decider_cost(site.decider).macs for site in net.sites.values() if site.decider is not None)
    return net.layout.plain.macs - saved + gates


@torch.no_grad()
def right(model: nn.Module, test: Loader) -> float:
    """Accuracy of a plain network."""
    model.eval()
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in test) / len(test.data)
