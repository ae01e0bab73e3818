"""Detectors whose depth is chosen at run time, and Algorithm 1 for them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn

import torchpaths as tp
from detection_toys import SIDE, routed
from torchpaths.detection import CocoSet, backward, collate, evaluate, passes, shapes
from torchpaths.errors import CallError, DataError
from torchpaths.junction import junctions
from torchpaths.methods.distil import Features, divergence
from torchpaths.places.stages.switch import Doubled

Targets = list[dict[str, Tensor]]


def batch(count: int = 4) -> tuple[list[Tensor], Targets]:
    return collate([shapes(count, size=SIDE)[i] for i in range(count)])


def gradients(net: tp.Routed) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


# --- depth ---------------------------------------------------------------------------------------------------------


def test_the_depth_of_torchvisions_detector_is_chosen_at_run_time() -> None:
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, min_size=64, max_size=64)
    method = tp.AdaptiveDepth()
    images = [torch.rand(3, 64, 64)]
    net = tp.route(model.eval(), method, example=images)
    assert list(net.sites) == [f"backbone.body.layer{i}" for i in (1, 2, 3, 4)]
    ran: list[int] = []
    for module in net.get_submodule("model.backbone.body").modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, y: ran.append(y[0, 0].numel() * m.weight.numel()))
    counted = []
    for skip in ("FFFF", "TFFF", "TTFF", "TTTT"):
        ran.clear()
        detections, trace = net(images, method.path(net, skip))
        assert [set(d) for d in detections] == [{"boxes", "labels", "scores"}]
        assert [trace[site].whole for site in net.sites] == [(letter == "F",) for letter in skip]
        counted.append(sum(ran))
        saved = method.path(net, False).cost(net).macs - method.path(net, skip).cost(net).macs
        assert counted[0] - counted[-1] == saved
    assert counted == sorted(set(counted), reverse=True)


def test_at_less_depth_the_second_norms_run() -> None:
    method = tp.AdaptiveDepth()
    net = routed(method).eval()
    first, second = (
        next(j._place for n, j in junctions(net.model) if isinstance(j._place, Doubled) and f"layer{i}.0" in n)
        for i in (1, 2)
    )
    images = [torch.rand(3, SIDE, SIDE)]

    def levels(skip: str) -> list[Tensor]:
        found: list[Tensor] = []
        handle = net.get_submodule("model.backbone").register_forward_hook(lambda m, a, y: found.extend(y.values()))
        with torch.no_grad():
            net(images, method.path(net, skip))
        handle.remove()
        return found

    before = {skip: levels(skip) for skip in ("FF", "TF", "FT")}
    first.skipped.get_parameter("weight").data.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(levels("FF"), before["FF"], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(levels("FT"), before["FT"], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(levels("TF"), before["TF"], strict=True))
    second.block.get_parameter("weight").data.add_(1)
    assert not torch.equal(levels("FF")[1], before["FF"][1])
    assert all(torch.equal(a, b) for a, b in zip(levels("FT"), before["FT"], strict=True))


# --- losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [False, True])
def test_the_terms_are_the_detectors_losses_at_both_depths_and_the_features(masks: bool) -> None:
    method = tp.AdaptiveDepth(alpha=0.3)
    net = routed(method, masks).train()
    images, targets = batch()
    torch.manual_seed(0)
    parts = list(passes(net, method, images, targets))
    names = [
        "loss_classifier",
        "loss_box_reg",
        *(["loss_mask"] if masks else []),
        "loss_objectness",
        "loss_rpn_box_reg",
    ]
    assert [set(part) for part in parts] == [
        {f"super.{name}" for name in names},
        {f"base.{name}" for name in names} | {"features"},
    ]
    net = routed(method, masks).train()
    torch.manual_seed(0)
    teacher, taught = net(images, method.path(net, False), targets=targets)
    student, learnt = net(images, method.path(net, True), targets=targets)
    for name in names:
        assert parts[0][f"super.{name}"].item() == pytest.approx(0.3 * teacher[name].item(), rel=1e-5)
        assert parts[1][f"base.{name}"].item() == pytest.approx(0.7 * student[name].item(), rel=1e-5)
    compared = sum(divergence(taught[s].response["features"], learnt[s].response["features"]).item() for s in net.sites)
    assert parts[1]["features"].item() == pytest.approx(0.7 * compared, rel=1e-4)


def test_two_backward_passes_give_the_gradient_of_one() -> None:
    method = tp.AdaptiveDepth()
    nets = [routed(method, masks=True).train() for _ in range(2)]
    images, targets = batch()
    torch.manual_seed(0)
    losses = backward(passes(nets[0], method, images, targets))
    torch.manual_seed(0)
    terms = [term for part in passes(nets[1], method, images, targets) for term in part.values()]
    torch.stack(terms).sum().backward()  # type: ignore[no-untyped-call]
    assert sum(losses.values()).item() == pytest.approx(sum(t.item() for t in terms), rel=1e-6)  # type: ignore[union-attr]
    ours, theirs = gradients(nets[0]), gradients(nets[1])
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], rtol=1e-4, atol=1e-6), name


def test_every_parameter_learns_and_each_norm_from_its_own_depth() -> None:
    method = tp.AdaptiveDepth()
    net = routed(method, masks=True).train()
    images, targets = batch()
    parts = passes(net, method, images, targets)
    seen = []
    for _ in range(2):
        part = next(parts)
        torch.stack(list(part.values())).sum().backward()  # type: ignore[no-untyped-call]
        seen.append({name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0})
        net.zero_grad()
    first, second = seen
    blocks = {n for n, _ in net.named_parameters() if ".layer1.1." in n or ".layer2.1." in n}
    doubled = {n for n, _ in net.named_parameters() if ".skipped." in n}
    own = {n.replace(".skipped", "") for n in doubled}
    everything = {n for n, _ in net.named_parameters()}
    assert blocks
    assert doubled
    assert first == everything - doubled
    assert second == everything - blocks - own


def test_the_features_teach_the_base_net_alone() -> None:
    images, targets = batch()
    found = {}
    kinds: tuple[Features, ...] = ("pooled", "none")
    for kind in kinds:
        method = tp.AdaptiveDepth(features=kind)
        net = routed(method).train()
        torch.manual_seed(0)
        losses = backward(passes(net, method, images, targets))
        assert ("features" in losses) == (kind == "pooled")
        found[kind] = gradients(net)
    changed = {n for n, g in found["pooled"].items() if not torch.equal(g, found["none"][n])}
    assert any(".skipped." in name for name in changed)
    assert not any(".layer1.1." in name or ".layer2.1." in name for name in changed), "the super-net's own blocks"


def test_a_teacher_with_a_gradient_makes_one_part() -> None:
    images, targets = batch()
    method = tp.AdaptiveDepth(detach=False)
    parts = list(passes(routed(method).train(), method, images, targets))
    assert len(parts) == 1
    assert {name.partition(".")[0] for name in parts[0]} == {"super", "base", "features"}


def test_without_specialised_sub_paths_both_depths_learn_half_and_half_from_the_labels() -> None:
    images, targets = batch()
    method = tp.AdaptiveDepth(specialise=False, alpha=0.9)
    net = routed(method).train()
    torch.manual_seed(0)
    first, second = passes(net, method, images, targets)
    net = routed(method).train()
    torch.manual_seed(0)
    losses, _ = net(images, method.path(net, False), targets=targets)
    assert {f"super.{name}": pytest.approx(0.5 * v.item()) for name, v in losses.items()} == {
        name: value.item() for name, value in first.items()
    }
    assert "features" not in second


def test_a_plain_detector_has_its_own_losses_alone() -> None:
    images, targets = batch()
    net = routed(None).train()
    torch.manual_seed(0)
    [part] = passes(net, None, images, targets)
    torch.manual_seed(0)
    expected = copy.deepcopy(net.model).train()(images, targets)
    assert {name: value.item() for name, value in part.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-5
    )


def test_an_image_without_objects_teaches_the_background() -> None:
    method = tp.AdaptiveDepth()
    net = routed(method, masks=True).train()
    images, targets = batch(2)
    empty = {name: value[:0] for name, value in targets[0].items()}
    for chosen in ([empty, targets[1]], [empty, empty]):
        losses = backward(passes(net, method, images, chosen))
        assert all(loss.isfinite() for loss in losses.values())
    assert losses["super.loss_objectness"] > 0
    assert losses["super.loss_mask"] == 0
    assert all(gradient.isfinite().all() for gradient in gradients(net).values())


# --- what is refused -----------------------------------------------------------------------------------------------


def test_losses_need_training_mode() -> None:
    with pytest.raises(CallError, match=r"call net\.train\(\) first"):
        next(passes(routed(None).eval(), None, *batch(2)))


@pytest.mark.parametrize(
    ("routed_with", "given", "message"),
    [
        (None, tp.AdaptiveDepth(), "was not routed with AdaptiveDepth"),
        (tp.AdaptiveDepth(features="none"), tp.AdaptiveDepth(), "was not routed with AdaptiveDepth"),
        (tp.AdaptiveDepth(), tp.AdaptiveDepth(features="none"), "was not routed with AdaptiveDepth"),
        (tp.AdaptiveDepth(), None, r"was routed with a method, backbone.body.layer1: Switch\(open\)"),
    ],
)
def test_another_method_than_the_networks_is_refused(
    routed_with: tp.AdaptiveDepth | None, given: tp.AdaptiveDepth | None, message: str
) -> None:
    with pytest.raises(CallError, match=message):
        next(passes(routed(routed_with).train(), given, *batch(2)))


def test_targets_without_masks_and_labels_beyond_the_classes_are_refused() -> None:
    images, targets = batch(2)
    boxes = [{name: target[name] for name in ("boxes", "labels")} for target in targets]
    with pytest.raises(ValueError, match="should have a masks key"):
        next(passes(routed(None, masks=True).train(), None, images, boxes))
    high = [{**target, "labels": target["labels"] + 5} for target in boxes]
    with pytest.raises(DataError, match=r"labels, up to \d .* num_classes of at least"):
        next(passes(routed(None).train(), None, images, high))


# --- learning ------------------------------------------------------------------------------------------------------


def test_super_net_and_base_net_learn_four_images_by_heart() -> None:
    method = tp.AdaptiveDepth()
    net = routed(method).train()
    data: CocoSet = shapes(4, size=SIDE, most=2)
    images, targets = collate(list(data))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(80):
        torch.manual_seed(step)
        optimizer.zero_grad()
        backward(passes(net, method, images, targets))
        optimizer.step()
    for skip in (False, True):
        ap50 = evaluate(net, data, method.path(net, skip))["box"]["AP50"]
        assert ap50 is not None
        assert ap50 > 0.5, skip
