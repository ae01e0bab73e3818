"""Claims about asking suspicious images again: which two budgets a network has, and what each costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import torchpaths as tp
from torchpaths.attacks import Plan, Sample, attack_report
from torchpaths.attacks.gates import thriftier
from torchpaths.models import create_model
from torchpaths.path import Path
from torchpaths.skips.network import skipping
from torchpaths.trust import answers
from torchpaths.trust.early import Place, early_answers, half_way

HALF = ((0.5,) * 3,) * 2
FEW = Plan(strengths=(0.0,), detected=(0.01,), steps=1, mimics=0)


def coded() -> tp.Routed:
    torch.manual_seed(0)
    model = create_model("resnext20_10x4d", 10)
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):  # a new network's blocks add nothing
            torch.nn.init.ones_(parameter)
    return tp.route(model.eval(), tp.CodedPaths(classes=10), example=torch.randn(2, 3, 8, 8))


def gated(method: tp.Method) -> tp.Routed:
    torch.manual_seed(0)
    net = tp.route(create_model("cifar_resnet14", 10), method, example=torch.randn(2, 3, 8, 8)).eval()
    for name, parameter in net.named_parameters():
        if name.startswith("deciders"):  # new gates decide alike for all
            torch.nn.init.normal_(parameter, std=1.0)
    return net


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 8, 8, generator=generator), torch.arange(count) % 10


def test_early_answers_are_those_of_images_that_leave_there() -> None:
    net = coded()
    fast = skipping(net, exit=tp.Exit(1, 0.0))  # all leave behind the first block
    assert fast.exits is not None
    place = Place(*next(iter(fast.exits.behind.items())))
    x, y = images(6)
    early = early_answers(answers(net, [(x, y)]), net, place)
    with torch.no_grad():
        left, trace = fast(x)
    assert set(fast.stopped(trace).tolist()) == {list(net.sites).index(place.site)}
    np.testing.assert_allclose(early.logits - early.logits.max(1, keepdims=True), left - left.amax(1, True), atol=1e-5)
    assert early.macs.tolist() == fast.macs(trace).tolist()
    assert set(early.sites) == {place.site}


def test_half_way_is_the_block_nearest_to_half_of_the_macs_and_none_where_images_cannot_leave() -> None:
    net = coded()
    found = half_way(net)
    assert found is not None
    x, y = images(4)
    whole = answers(net, [(x, y)])
    share = early_answers(whole, net, found).macs.mean() / whole.macs.mean()
    assert 0.3 < share < 0.7
    assert half_way(net, Path.full(net)) is None
    assert half_way(gated(tp.GatedBlocks())) is None


@pytest.mark.parametrize("method", [tp.GatedBlocks(), tp.GatedFilters()])
def test_higher_thresholds_leave_about_the_share_open_and_change_nothing_of_the_network(method: tp.Method) -> None:
    net = gated(method)
    x, y = images(40)
    fewer = thriftier(net, [(x, y)], None, 0.75)
    assert fewer is not None
    before, after = (answers(one, [(x, y)]) for one in (net, fewer))
    assert 0.55 < after.marks.sum() / before.marks.sum() < 0.95
    assert after.macs.mean() < before.macs.mean()
    assert np.array_equal(answers(net, [(x, y)]).opened, before.opened)
    assert thriftier(gated(tp.RandomDrop(0.5)), [(x, y)], None, 0.75) is None


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (coded, "early, at "),
        (lambda: gated(tp.GatedBlocks()), "higher thresholds"),
        (lambda: gated(tp.GatedFilters()), "higher thresholds"),
    ],
)
def test_a_report_asks_again_and_calibrates_at_both_budgets(make: object, first: str) -> None:
    net = make()  # type: ignore[operator]
    report = attack_report(net, Sample(*images(60)), Sample(*images(40, 1)), HALF[0], HALF[1], plan=FEW)
    assert report["asked"]["first"].startswith(first)
    assert report["asked"]["again"] == "as it is"
    assert set(report["selective"]) == {"rarity", "distance", "likelihood", "softmax", "energy"}
    budgets = {row["name"]: row for row in report["by_budget"]}
    assert {"as it is", report["asked"]["first"]} <= set(budgets)
    assert all(0 <= row["own"]["ece"] <= 1 for row in budgets.values())
    assert report["by_path"]
    for curve in report["selective"].values():
        assert curve["macs"] == sorted(curve["macs"])
    if first.startswith("early"):
        whole = net.layout.costs(np.ones(len(net.layout.units), bool))[0]
        assert curve["macs"][-1] == whole, "who goes on pays for the whole network, and nothing twice"
