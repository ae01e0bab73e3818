"""Early exit: the curve is what comes of running at each threshold, and calibration keeps what is asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import torchpaths as tp
from exit_toys import coded, images
from torchpaths.coding.decode import decoders
from torchpaths.errors import BudgetError, DataError
from torchpaths.surveys.exits import Curve, calibrated, exit_curve


@pytest.fixture(scope="module")
def toy() -> tuple[tp.Routed, Tensor]:
    return coded()


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


# which threshold


def labelled(net: tp.Routed) -> list[tuple[Tensor, Tensor]]:
    """120 images in batches of several sizes, whose labels the network and its decoders often hit."""
    draw = torch.Generator().manual_seed(2)
    x = images(120, seed=1)
    _, trace = net(x)
    told = torch.stack([d.argmin(1) for d in decoders(net, trace).values()], 1)
    y = told[torch.arange(120), torch.randint(4, (120,), generator=draw)]
    return [(x[i:j], y[i:j]) for i, j in ((0, 50), (50, 51), (51, 120))]


@pytest.fixture(scope="module")
def curve(toy: tuple[tp.Routed, Tensor]) -> Curve:
    return exit_curve(toy[0], labelled(toy[0]), agree=1)


@pytest.mark.parametrize("agree", [1, 2])
def test_the_curve_is_what_comes_of_running_at_each_threshold(toy: tuple[tp.Routed, Tensor], agree: int) -> None:
    net, _ = toy
    curve = exit_curve(net, labelled(net), agree=agree)
    rows = np.linspace(0, len(curve.thresholds) - 1, 5).astype(int)
    assert len(curve.thresholds) > 20
    assert (curve.shares > 0).any(0).sum() >= 3, "images stop at several blocks"
    for row in rows.tolist():
        fast = tp.skipping(net, exit=tp.Exit(agree, float(curve.thresholds[row])))
        right, stopped, macs = [], [], []
        for x, y in labelled(net):
            scores, trace = fast(x)
            right.append(scores.argmax(1) == y)
            stopped.append(fast.stopped(trace))
            macs.append(fast.macs(trace))
        hit, where = torch.cat(right), torch.cat(stopped)
        assert curve.accuracy[row] == pytest.approx(float(hit.double().mean()))
        assert curve.macs[row] == pytest.approx(float(torch.cat(macs).mean()))
        assert curve.shares[row] == pytest.approx([float((where == i).double().mean()) for i in (0, 1, 2, 3, -1)])
        if row:
            assert curve.exited[row] == pytest.approx(float(hit[where >= 0].double().mean()))
        assert curve.at(float(curve.thresholds[row])) == row
    assert math.isnan(curve.exited[0])


def test_calibration_reaches_its_target_with_the_lowest_threshold_and_is_monotone(
    toy: tuple[tp.Routed, Tensor], curve: Curve
) -> None:
    best = float(np.nanmax(curve.exited))
    targets = [target for target in (0.0, 0.3, 0.5, best) if target <= best]
    thresholds = [curve.exit(accuracy=target).threshold for target in targets]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]
    for target, threshold in zip(targets, thresholds, strict=True):
        row = curve.at(threshold)
        assert curve.exited[row] >= target
        assert not (curve.exited[row + 1 :] >= target).any(), "no lower threshold would do"
    losses = [curve.exit(loss=loss) for loss in (0.0, 0.02, 0.5)]
    assert [e.threshold for e in losses] == sorted((e.threshold for e in losses), reverse=True)
    for loss, exit in zip((0.0, 0.02, 0.5), losses, strict=True):
        row = curve.at(exit.threshold)
        assert curve.accuracy[row] >= curve.accuracy[0] - loss - 1e-9
        assert not (curve.accuracy[row + 1 :] >= curve.accuracy[0] - loss).any()
    assert calibrated(toy[0], labelled(toy[0]), agree=1, accuracy=best) == curve.exit(accuracy=best)


def test_requests_that_cannot_be_met_say_what_can(toy: tuple[tp.Routed, Tensor], curve: Curve) -> None:
    net, x = toy
    if np.nanmax(curve.exited) < 1:
        with pytest.raises(BudgetError, match=r"reach 0\.\d+ at best.*loss=0\.01"):
            curve.exit(accuracy=1.0)
    assert curve.exit(loss=0.01)  # the remedy
    for both in ({}, {"accuracy": 0.9, "loss": 0.1}):
        with pytest.raises(BudgetError, match="either accuracy"):
            curve.exit(**both)
    with pytest.raises(BudgetError, match=r"loss=2.*from 0 to 1"):
        curve.exit(loss=2)
    nobody = exit_curve(net, [(x, torch.zeros(12, dtype=torch.long))], agree=5)
    assert len(nobody.thresholds) == 1
    with pytest.raises(BudgetError, match="take a smaller agree"):
        nobody.exit(accuracy=0.0)
    assert nobody.exit(loss=0.0).threshold == math.inf
    with pytest.raises(DataError, match="no images"):
        exit_curve(net, [])


def test_a_curve_is_json(curve: Curve) -> None:
    import json

    data = json.loads(json.dumps(curve.to_json(), allow_nan=False))
    assert data["thresholds"][0] is None
    assert data["sites"] == list(curve.sites)
    assert len(data["shares"][0]) == 5
