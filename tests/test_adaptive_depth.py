"""AdaptiveDepth: stages, switches, skip-aware norms, and the losses of Algorithm 1."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models.swin_transformer import SwinTransformer

import torchpaths as tp
from torchpaths.errors import CallError, PathError, RouteError
from torchpaths.junction import junctions
from torchpaths.methods import base
from torchpaths.methods.distil import divergence, pooled, spatial
from torchpaths.models import cifar_resnet
from torchpaths.places.stages.find import find_stages
from torchpaths.places.stages.switch import Doubled, Skippable
from toys import toy


def adaptive(method: tp.AdaptiveDepth | None = None, name: str = "own/cifar_resnet20") -> tuple[tp.Routed, Tensor]:
    model, x = toy(name)
    return tp.route(model, method or tp.AdaptiveDepth(), example=x), x


def labels(x: Tensor) -> Tensor:
    return torch.arange(len(x)) % 5


def losses(net: tp.Routed, method: tp.AdaptiveDepth, x: Tensor) -> dict[str, Tensor]:
    return base.losses(method, net, x, labels(x), functional.cross_entropy, lambda _, local: local)


# --- the networks of the paper -------------------------------------------------------------------------------------

PUBLISHED: dict[str, tuple[Any, tp.AdaptiveDepth, int, int, int, int]] = {
    "resnet50": (models.resnet50, tp.AdaptiveDepth(), 25_583_144, 17_112_360, 4_089, 2_561),
    "resnet101": (models.resnet101, tp.AdaptiveDepth(), 44_602_920, 27_167_016, 7_801, 4_526),
    "mobilenet_v2": (models.mobilenet_v2, tp.AdaptiveDepth(ends=True), 3_527_544, 2_934_376, 301, 205),
    "vit_b_16": (models.vit_b_16, tp.AdaptiveDepth(), 86_592_232, 58_216_168, 17_564, 11_748),
    "vit_b_32": (models.vit_b_32, tp.AdaptiveDepth(), 88_248_808, 59_872_744, 4_409, 2_978),
    "swin_t": (models.swin_t, tp.AdaptiveDepth(), 28_302_562, 15_308_725, 4_491, 2_340),
}
"""Constructor, method; parameters of everything and of the base-net alone, million MACs of super-net and base-net."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_those_of_the_authors_networks(name: str) -> None:
    make, method, everything, alone, largest, smallest = PUBLISHED[name]
    net = tp.route(make().eval(), method)
    super_net, base_net = method.path(net, False).cost(net), method.path(net, True).cost(net)
    assert sum(p.numel() for p in net.parameters()) == everything
    assert base_net.params == alone
    assert round(super_net.macs / 1e6) == largest
    assert round(base_net.macs / 1e6) == smallest
    assert sum(p.numel() for p in tp.plain(net, method.path(net, True)).parameters()) == alone


def test_without_the_ends_mobilenet_has_second_norms_only_in_its_stages() -> None:
    net = tp.route(models.mobilenet_v2().eval(), tp.AdaptiveDepth())
    assert sum(p.numel() for p in net.parameters()) == 3_520_344
    assert list(net.sites) == ["features.2-3", "features.4-6", "features.7-10", "features.11-13", "features.14-16"]


# --- stages --------------------------------------------------------------------------------------------------------


def test_the_larger_half_of_each_stage_always_runs() -> None:
    x = torch.zeros(1, 3, 64, 64)
    found = find_stages(models.resnet50().eval(), x)
    assert [s.name for s in found] == ["layer1", "layer2", "layer3", "layer4"]
    assert [s.skippable for s in found] == [
        ("layer1.2",),
        ("layer2.2", "layer2.3"),
        ("layer3.3", "layer3.4", "layer3.5"),
        ("layer4.2",),
    ]
    assert "layer1.0.bn1" in found[0].norms
    assert not any("downsample" in norm for stage in found for norm in stage.norms), "shortcuts are shared"
    assert not any(norm.startswith(found[0].skippable) for stage in found for norm in stage.norms)


def test_a_network_of_one_width_is_divided_into_equal_groups() -> None:
    model = models.VisionTransformer(32, 8, num_layers=12, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)
    x = torch.zeros(1, 3, 32, 32)
    names = "encoder.layers.encoder_layer_"
    found = find_stages(model.eval(), x)
    assert [len(s.mandatory) for s in found] == [2, 2, 2, 2]
    assert [s.skippable for s in found] == [(f"{names}{i}",) for i in (2, 5, 8, 11)]
    assert [len(s.skippable) for s in find_stages(model, x, groups=2)] == [3, 3]
    assert found[1].name == f"{names}3-encoder_layer_5"


def test_the_way_from_one_stage_to_the_next_takes_the_switch_of_the_next() -> None:
    model = SwinTransformer([2, 2], 16, [2, 2], [2, 2], [4, 4], num_classes=5).eval()
    first, second = find_stages(model, torch.zeros(1, 3, 32, 32))
    assert "features.2.norm" in second.norms  # PatchMerging
    assert not any(norm.startswith("features.2") for norm in first.norms)
    assert not any(norm.startswith("features.0") for norm in first.norms), "the stem's norm is shared"


def test_the_blocks_to_leave_out_can_be_named() -> None:
    net, _ = adaptive(tp.AdaptiveDepth(skippable=(r"layer2\.[12]", "layer3.1")))
    assert list(net.sites) == ["layer2", "layer3"]
    skipped = [name for name, junction in junctions(net.model) if isinstance(junction._place, Skippable)]
    assert skipped == ["layer2.1", "layer2.2", "layer3.1"]
    doubled = [name for name, junction in junctions(net.model) if isinstance(junction._place, Doubled)]
    assert doubled == ["layer2.0.bn1", "layer2.0.bn2", "layer3.0.bn1", "layer3.0.bn2"], "layer3.2 is nobody's"


def test_two_units_of_one_stage_each_have_blocks_of_their_own_before_them() -> None:
    model = models.VisionTransformer(32, 8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)
    names = "encoder.layers.encoder_layer_"
    found = find_stages(model.eval(), torch.zeros(1, 3, 32, 32), skippable=(f"{names}3", f"{names}1"))
    assert [(s.mandatory, s.skippable) for s in found] == [
        ((f"{names}0",), (f"{names}1",)),
        ((f"{names}2",), (f"{names}3",)),
    ]


@pytest.mark.parametrize(
    ("skippable", "message"),
    [
        (("layer2.0",), "no block of its stage .* stands before it"),
        (("layer1.[02]",), "not side by side"),
        (("layer9.1",), "matches no block of a stage"),
    ],
)
def test_blocks_that_cannot_be_left_out_are_refused(skippable: tuple[str, ...], message: str) -> None:
    with pytest.raises(RouteError, match=message):
        adaptive(tp.AdaptiveDepth(skippable=skippable))


def test_a_network_without_a_stage_of_two_blocks_is_refused() -> None:
    model = models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1]).eval()
    with pytest.raises(RouteError, match="no stage of two residual blocks or more"):
        tp.route(model, tp.AdaptiveDepth(), example=torch.zeros(1, 3, 32, 32))


class Repeated(nn.Module):
    """A residual block that uses one norm twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.norm(self.conv(self.norm(x)))
        return y


class Tied(nn.Module):
    """Residual blocks with one norm's weights in all."""

    def __init__(self) -> None:
        super().__init__()
        first, second = models.resnet.BasicBlock(4, 4), models.resnet.BasicBlock(4, 4)
        second.bn1.weight = first.bn1.weight
        self.blocks = nn.Sequential(first, second)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(x)
        return y


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Sequential(Repeated(), Repeated())), r"'0\.0\.norm' .* runs 2 times"),
        (Tied(), r"'blocks\.0\.bn1' .* shares its weights with 'blocks\.1\.bn1'"),
    ],
)
def test_norms_that_cannot_be_doubled_are_named(model: nn.Module, message: str) -> None:
    x = torch.randn(2, 4, 8, 8)
    with pytest.raises(RouteError, match=message):
        tp.route(model.eval(), tp.AdaptiveDepth(), example=x)
    assert not list(junctions(model)), "the model is as it was"
    tp.route(model, tp.AdaptiveDepth(norms=False), example=x)


# --- norms and switches --------------------------------------------------------------------------------------------


def test_both_norms_start_with_the_weights_that_were_there() -> None:
    net, _ = adaptive()
    state = net.model.state_dict()
    twins = {key: key.replace("skipped.", "") for key in state if ".skipped." in key}
    assert len(twins) == 3 * 2 * 2 * 5, "three stages, two blocks, two norms, five entries each"
    assert all(torch.equal(state[key], state[twin]) for key, twin in twins.items())
    assert all(a.data_ptr() != b.data_ptr() for a, b in ((state[k], state[t]) for k, t in twins.items()))


def test_each_norm_takes_its_statistics_from_its_own_depth_only() -> None:
    method = tp.AdaptiveDepth()
    net, x = adaptive(method)
    bn: Any = net.get_submodule("model.layer2.0.bn1")._place
    before = bn.block.running_mean.clone(), bn.skipped.running_mean.clone()
    net.train()
    net(x, method.path(net, "FTF"))
    assert torch.equal(bn.block.running_mean, before[0])
    assert not torch.equal(bn.skipped.running_mean, before[1])
    between = bn.skipped.running_mean.clone()
    net(x, method.path(net, False))
    assert not torch.equal(bn.block.running_mean, before[0])
    assert torch.equal(bn.skipped.running_mean, between)


def test_a_switch_chooses_the_depth_until_a_path_does() -> None:
    method = tp.AdaptiveDepth()
    net, x = adaptive(method)
    with torch.no_grad():
        for letters in ("FFF", "TFF", "TFT"):
            for site, letter in zip(net.sites, letters, strict=True):
                switch = net.deciders[site]
                assert isinstance(switch, tp.Switch)
                switch.set(letter == "F")
            y, trace = net(x)
            assert torch.equal(y, net(x, method.path(net, letters))[0])
            assert [trace[site].whole for site in net.sites] == [(letter == "F",) for letter in letters]
        assert torch.equal(net(x, tp.Path.full(net))[0], net(x, method.path(net, "FFF"))[0])
    assert repr(net.deciders["layer1"]) == "Switch(closed)"


def test_a_switch_wants_a_bool_for_each_unit() -> None:
    with pytest.raises(PathError, match="1 units, got 2 bools"):
        tp.Switch().set(True, False)


def test_in_training_a_path_of_each_sample_its_own_is_refused() -> None:
    net, x = adaptive()
    path = tp.Path({"layer2": torch.tensor([[True], [False], [True], [False]])})
    net.train()
    with pytest.raises(CallError, match="'layer2': in training a path must be one for the whole batch"):
        net(x, path)


def test_stochastic_depth_acts_in_the_super_net_only() -> None:
    model = SwinTransformer([2, 2], 16, [2, 2], [2, 2], [4, 4], stochastic_depth_prob=0.9, num_classes=5)
    x = torch.randn(4, 3, 32, 32)
    method = tp.AdaptiveDepth()
    net = tp.route(model, method, example=x).train()

    def runs(skip: bool) -> list[Tensor]:
        torch.manual_seed(0)
        return [net(x, method.path(net, skip))[0] for _ in range(3)]

    with torch.no_grad():
        first, *others = runs(False)
        assert any(not torch.allclose(first, other) for other in others)
        first, *others = runs(True)
        assert all(torch.allclose(first, other) for other in others)


def test_the_papers_notation_makes_paths() -> None:
    method = tp.AdaptiveDepth()
    net, _ = adaptive(method)
    assert method.path(net, "TFF") == tp.Path({"layer1": [False], "layer2": [True], "layer3": [True]})
    assert method.path(net, [True, False, False]) == method.path(net, "TFF")
    with pytest.raises(PathError, match="says something of 2 stages, this network has 3: layer1, layer2, layer3"):
        method.path(net, "TF")
    with pytest.raises(PathError, match="T for each stage"):
        method.path(net, "01T")


def test_a_block_that_always_runs_cannot_be_closed() -> None:
    net, x = adaptive()
    with pytest.raises(PathError, match=r"names site 'layer1\.0'.*layer1"):
        net(x, tp.Path({"layer1.0": [False]}))


# --- losses --------------------------------------------------------------------------------------------------------


def by_hand(teacher: Tensor, student: Tensor, temperature: float) -> float:
    """T^2 KL(teacher || student) over the last axis, averaged over the others, in NumPy."""
    p, q = (log_softmax(t.detach().double().numpy() / temperature, axis=-1) for t in (teacher, student))
    return float(temperature**2 * (np.exp(p) * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_is_the_formula(temperature: float) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 3, 7)
    assert divergence(a, b, temperature).item() == pytest.approx(by_hand(a, b, temperature), rel=1e-5)
    assert divergence(a, a, temperature).item() == pytest.approx(0, abs=1e-7)


def test_only_the_teachers_largest_classes_count() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 10)
    order = a.argsort(-1, descending=True)[:, :4]
    expected = by_hand(a.gather(-1, order), b.gather(-1, order), 1.0)
    assert divergence(a, b, top=4).item() == pytest.approx(expected, rel=1e-5)
    assert divergence(a, b, top=500).item() == divergence(a, b).item(), "fewer classes than that: all of them"


def test_features_are_read_over_channels_or_positions() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5)
    assert torch.allclose(pooled(x, 1), x.mean((2, 3)).unsqueeze(1))
    assert torch.allclose(pooled(x.movedim(1, 3), 3), x.mean((2, 3)).unsqueeze(1), atol=1e-6)
    assert torch.equal(spatial(x, 1), x.flatten(2))
    assert pooled(x.bfloat16(), 1).dtype == torch.float32
    flat = x[:, :, 0, 0]
    assert torch.equal(pooled(flat, 1), flat.unsqueeze(1)), "without positions there is nothing to average"
    assert torch.equal(spatial(flat, -1), flat.unsqueeze(2))


@pytest.mark.parametrize("kind", ["none", "pooled", "spatial"])
def test_the_loss_is_equation_8(kind: Any) -> None:
    method = tp.AdaptiveDepth(alpha=0.3, temperature=2.0, features=kind)
    net, x = adaptive(method)
    net.train()
    for module in net.modules():  # the same statistics in both ways of computing
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    found = losses(net, method, x)
    stages: dict[str, list[Tensor]] = {"super": [], "base": []}
    outputs = {}
    model: Any = net.model
    for name, skip in (("super", False), ("base", True)):
        handles = [
            stage.register_forward_hook(lambda _m, _a, y, name=name: stages[name].append(y))
            for stage in (model.layer1, model.layer2, model.layer3)
        ]
        outputs[name] = net(x, method.path(net, skip))[0]
        for handle in handles:
            handle.remove()
    assert found["task"].item() == pytest.approx(0.3 * functional.cross_entropy(outputs["super"], labels(x)).item())
    expected = 0.7 * by_hand(outputs["super"], outputs["base"], 2.0)
    assert found["outputs"].item() == pytest.approx(expected, rel=1e-3, abs=1e-7)
    if kind == "none":
        assert set(found) == {"task", "outputs"}
        return
    shaped = [[f.mean((2, 3)) if kind == "pooled" else f.flatten(2) for f in stages[n]] for n in ("super", "base")]
    expected = 0.7 * sum(by_hand(a, b, 2.0) for a, b in zip(*shaped, strict=True))
    assert found["features"].item() == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_without_specialisation_both_learn_from_the_labels() -> None:
    method = tp.AdaptiveDepth(specialise=False)
    net, x = adaptive(method)
    found = losses(net.eval(), method, x)
    for name, skip in (("task", False), ("base", True)):
        logits = net(x, method.path(net, skip))[0]
        assert found[name].item() == pytest.approx(0.5 * functional.cross_entropy(logits, labels(x)).item(), rel=1e-5)


@pytest.mark.parametrize(
    "method",
    [tp.AdaptiveDepth(), tp.AdaptiveDepth(detach=False), tp.AdaptiveDepth(specialise=False)],
    ids=["default", "teacher with gradient", "not specialised"],
)
def test_a_backward_pass_for_each_part_gives_the_same_gradient_as_one_for_all(method: tp.AdaptiveDepth) -> None:
    net, x = adaptive(method)
    net.double().train()
    twin = copy.deepcopy(net)
    torch.stack(list(losses(net, method, x.double()).values())).sum().backward()  # type: ignore[no-untyped-call]
    for part in base.parts(method, twin, x.double(), labels(x), functional.cross_entropy, lambda _, local: local):
        torch.stack(list(part.values())).sum().backward()  # type: ignore[no-untyped-call]
    for (name, a), b in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert a.grad is not None, f"{name} has no gradient"
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_the_teacher_learns_nothing_from_the_student_unless_asked_to() -> None:
    for detach in (True, False):
        method = tp.AdaptiveDepth(detach=detach)
        net, x = adaptive(method)
        net.train()
        found = losses(net, method, x)
        (found["outputs"] + found["features"]).backward()  # type: ignore[no-untyped-call]
        block: Any = net.get_submodule("model.layer1.2")
        only_super = block.conv1.weight
        assert (only_super.grad is None) == detach


def test_measured_features_stay_out_of_evaluation() -> None:
    net, x = adaptive()
    assert not net.eval()(x)[1]["layer1"].response
    assert net.train()(x)[1]["layer1"].response["features"].shape == (4, 1, 16)


def test_what_can_be_left_out_learns_to_refine() -> None:
    """On a toy task the base-net answers like the super-net after training, which it does not at the start."""
    torch.manual_seed(0)
    method = tp.AdaptiveDepth()
    x = torch.randn(64, 3, 8, 8)
    y = (x.mean((1, 2, 3)) > 0).long() + 2 * (x[:, 0].mean((1, 2)) > 0).long()
    net = tp.route(cifar_resnet(20, classes=4), method, example=x[:2]).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(40):
        for part in base.parts(method, net, x, y, functional.cross_entropy, lambda _, local: local):
            torch.stack(list(part.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        right = {s: float((net(x, method.path(net, s))[0].argmax(1) == y).float().mean()) for s in ("FFF", "TTT")}
    assert right["FFF"] > 0.9
    assert right["TTT"] > 0.9


# --- knobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"alpha": 0.0}, "between 0 and 1"),
        ({"alpha": 1.0}, "between 0 and 1"),
        ({"features": "all"}, "none, pooled, spatial"),
        ({"temperature": 0.0}, "above 0"),
        ({"groups": 0}, "at least one"),
        ({"top": 1}, "two classes"),
    ],
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(RouteError, match=message):
        dataclasses.replace(tp.AdaptiveDepth(), **knobs)
