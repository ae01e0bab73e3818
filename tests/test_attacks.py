"""FGSM, PGD and JPEG on routed networks: equal to foolbox's, with gradients through gates or around them."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import torchpaths as tp
from decoding_toys import coded
from torchpaths.attacks import Aim, Pixels, Plan, Sample, attack_report, drawing, fgsm, jpeg, mimicry, pgd
from torchpaths.attacks.linf import fgsm_of_strengths
from torchpaths.attacks.pixels import as_levels
from torchpaths.errors import CallError, DataError, RunError
from torchpaths.trust import Answers, Known, answers
from toys import toy
from train_toys import ToyNet

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NETWORK = "torchvision/narrow"
METHODS: dict[str, tp.Method | list[tp.Method]] = {
    "blocks": tp.GatedBlocks(),
    "filters": tp.GatedFilters(),
    "depth": tp.AdaptiveDepth(),
    "blocks and depth": [tp.AdaptiveDepth(), tp.GatedBlocks()],
    "blocks and filters": [tp.GatedBlocks(), tp.GatedFilters()],
}


@functools.cache
def routed(name: str) -> tp.Routed:
    """A toy network whose gates decide by the image; not to be changed."""
    if name == "coded":
        return coded()
    model, x = toy(NETWORK)
    net = tp.route(model, METHODS[name], example=x).eval()
    torch.manual_seed(1)
    for decider in net.deciders.values():
        for parameter in decider.parameters():
            parameter.data.normal_(0, 0.7)
    return net


def pictures(net: tp.Routed, count: int = 6) -> tuple[Tensor, Tensor]:
    """Images of 0 to 1, some of their pixels at the ends, and labels."""
    torch.manual_seed(2)
    side = net.example_shape[-1]
    return (1.4 * torch.rand(count, 3, side, side) - 0.2).clamp(0, 1), torch.arange(count) % 5


@pytest.fixture(params=[*METHODS, "coded"])
def net(request: pytest.FixtureRequest) -> tp.Routed:
    return routed(request.param)


def theirs(pixels: Pixels, attack: Any, x: Tensor, y: Tensor, strength: float, targeted: bool) -> Tensor:
    """What foolbox makes of the same network, which normalises by itself."""
    foolbox = pytest.importorskip("foolbox", reason="foolbox is what attacks are checked against; pip install foolbox")

    class Scores(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            y: Tensor = pixels.net(given, pixels.path)[0]
            return y

    preprocessing = {"mean": list(MEAN), "std": list(STD), "axis": -3}
    model = foolbox.PyTorchModel(Scores().eval(), bounds=(0, 1), preprocessing=preprocessing, device="cpu")
    criterion = foolbox.criteria.TargetedMisclassification(y) if targeted else foolbox.criteria.Misclassification(y)
    made: Tensor = attack(foolbox)(model, x, criterion, epsilons=strength)[1]
    return made


@pytest.mark.parametrize("gradient", ["through", "around"])
def test_fgsm_is_foolboxs(net: tp.Routed, gradient: Any) -> None:
    pixels = Pixels(net, MEAN, STD, gradient=gradient)
    x, y = pictures(net)
    for strength in (0.5 / 255, 8 / 255):
        ours = fgsm(pixels, x, y, strength)
        other = theirs(pixels, lambda f: f.attacks.LinfFastGradientAttack(random_start=False), x, y, strength, False)
        assert float((ours - other).abs().max()) < 1e-5
        assert float((ours - x).abs().max()) > 0.9 * strength


@pytest.mark.parametrize(("name", "targeted"), [("blocks and filters", False), ("coded", True), ("depth", False)])
def test_pgd_is_foolboxs(name: str, targeted: bool) -> None:
    net = routed(name)
    pixels = Pixels(net, MEAN, STD)
    x, y = pictures(net)
    ours = pgd(pixels, x, y, 8 / 255, steps=5, step=0.3, start=False, targeted=targeted)
    other = theirs(
        pixels, lambda f: f.attacks.LinfPGD(rel_stepsize=0.3, steps=5, random_start=False), x, y, 8 / 255, targeted
    )
    assert float((ours - other).abs().max()) < 1e-5


def test_an_attack_stays_within_its_strength_and_within_pixels(net: tp.Routed) -> None:
    pixels = Pixels(net, MEAN, STD)
    x, y = pictures(net)
    net.zero_grad()
    before = torch.random.get_rng_state()
    for attacked in (fgsm(pixels, x, y, 0.1), pgd(pixels, x, y, 0.1, steps=3), pgd(pixels, x, y, 0.0, steps=2)):
        assert float((attacked - x).abs().max()) <= 0.1 + 1e-7
        assert bool(((attacked >= 0) & (attacked <= 1)).all())
        assert not attacked.requires_grad
    assert torch.equal(fgsm(pixels, x, y, 0.0), x)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(pgd(pixels, x, y, 0.1, steps=3, seed=4), pgd(pixels, x, y, 0.1, steps=3, seed=4))
    assert not torch.equal(pgd(pixels, x, y, 0.1, steps=3, seed=4), pgd(pixels, x, y, 0.1, steps=3, seed=5))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_strengths_share_one_gradient() -> None:
    pixels = Pixels(routed("blocks"), MEAN, STD)
    x, y = pictures(pixels.net)
    several = fgsm_of_strengths(pixels, x, y, [0.01, 0.05])
    assert all(torch.equal(one, fgsm(pixels, x, y, far)) for one, far in zip(several, (0.01, 0.05), strict=True))


def test_the_network_under_attack_answers_as_it_does_and_stays_as_it_was(net: tp.Routed) -> None:
    x, _ = pictures(net)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    deciders = dict(net.deciders.items())
    for gradient in ("through", "around"):
        y, trace = Pixels(net, MEAN, STD, gradient=gradient)(x)
        own, theirs_ = net((x - mean) / std)
        assert torch.equal(y, own)
        assert all(torch.equal(trace[site].open, theirs_[site].open) for site in theirs_)
    assert all(net.deciders[name] is decider for name, decider in deciders.items())


def test_around_the_gates_is_the_gradient_along_the_path_they_chose() -> None:
    net = routed("blocks and filters")
    x, y = pictures(net)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    path = tp.Path.of(net((x - mean) / std)[1])
    x.requires_grad_()
    nn.functional.cross_entropy(net((x - mean) / std, path)[0], y).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    by_path = torch.clamp(x.detach() + 0.01 * x.grad.sign(), 0, 1)
    assert float((fgsm(Pixels(net, MEAN, STD, gradient="around"), x, y, 0.01) - by_path).abs().max()) < 1e-6
    assert not torch.equal(fgsm(Pixels(net, MEAN, STD), x, y, 0.01), by_path)


def test_through_a_gate_goes_the_gradient_of_its_straight_through_estimator() -> None:
    net = tp.route(ToyNet(3), tp.GatedBlocks(), example=torch.zeros(2, 3, 6, 6)).eval()
    x = torch.rand(3, 3, 6, 6, requires_grad=True)
    _, trace = Pixels(net)(x)
    made = trace["block1"]
    assert made.score is not None
    [ours] = torch.autograd.grad(made.z.sum(), x, retain_graph=True)
    soft = torch.sigmoid(made.score)
    [wanted] = torch.autograd.grad(made.score, x, soft * (1 - soft))
    assert float(wanted.abs().max()) > 0
    torch.testing.assert_close(ours, wanted)


def test_gates_that_draw_differ_from_draw_to_draw_and_not_for_one_seed() -> None:
    net = routed("blocks")
    drawn = drawing(net)
    assert drawn is not None
    assert drawing(routed("filters")) is None
    pixels = Pixels(drawn, MEAN, STD)
    x, y = pictures(net, 12)
    assert torch.equal(fgsm(pixels, x, y, 0.05, seed=1), fgsm(pixels, x, y, 0.05, seed=1))
    assert not torch.equal(fgsm(pixels, x, y, 0.05, seed=1), fgsm(pixels, x, y, 0.05, seed=2))
    opened = torch.cat([pixels(x)[1][site].open.float() for _ in range(10) for site in net.sites])
    assert 0.02 < float(opened.mean()) < 0.98
    assert fgsm(pixels, x, y, 0.05, draws=3).shape == x.shape


def test_a_depth_is_attacked_along_its_path() -> None:
    net = routed("depth")
    x, y = pictures(net)
    method = METHODS["depth"]
    assert isinstance(method, tp.AdaptiveDepth)
    base = method.path(net, True)
    attacked = fgsm(Pixels(net, MEAN, STD, path=base), x, y, 0.05)
    assert not torch.equal(attacked, fgsm(Pixels(net, MEAN, STD), x, y, 0.05))


def test_jpeg_is_pillows_and_keeps_shape_and_grey() -> None:
    torch.manual_seed(0)
    for channels in (1, 3):
        x = torch.rand(2, channels, 16, 16)
        made = jpeg(x)
        assert made.shape == x.shape
        levels = (x[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        file = io.BytesIO()
        Image.fromarray(levels[..., 0] if channels == 1 else levels).save(file, "JPEG", quality=75)
        read = np.asarray(Image.open(file), np.float32).reshape(16, 16, channels) / 255
        assert np.array_equal(made[0].permute(1, 2, 0).numpy(), read)
    assert float((jpeg(x, 95) - x).abs().mean()) < float((jpeg(x, 10) - x).abs().mean())


def marks_of(pixels: Pixels, x: Tensor) -> Answers:
    """What the network under attack says of images, whose labels do not matter."""
    return answers(pixels.net, [((x - pixels.mean) / pixels.std, torch.zeros(len(x), dtype=torch.long))], pixels.path)


@pytest.mark.parametrize("name", ["blocks and filters", "coded"])
def test_who_matches_a_path_comes_nearer_to_it(name: str) -> None:
    pixels = Pixels(routed(name), MEAN, STD)
    x, y = pictures(pixels.net, 8)
    own = torch.from_numpy(marks_of(pixels, x).marks)
    aim = Aim(y, own.roll(1, 0), torch.full_like(own, 0.1) if name == "coded" else torch.ones_like(own))

    def apart(images: Tensor) -> float:
        return float((torch.from_numpy(marks_of(pixels, images).marks) - aim.marks).abs().mean())

    attacked = mimicry(pixels, x, aim, 0.4, weight=1000.0, steps=30)
    assert float((attacked - x).abs().max()) <= 0.4 + 1e-6
    assert apart(attacked) < 0.8 * apart(x)
    assert torch.equal(attacked, mimicry(pixels, x, aim, 0.4, weight=1000.0, steps=30))


def test_who_matches_answers_along_other_paths_brings_them_to_the_target() -> None:
    net = routed("depth")
    method = METHODS["depth"]
    assert isinstance(method, tp.AdaptiveDepth)
    base, pixels = method.path(net, True), Pixels(net, MEAN, STD)
    x, y = pictures(net, 8)
    aim = Aim(y, torch.zeros(8, 0), torch.zeros(8, 0))

    def off(images: Tensor) -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(pixels(images, base)[0], y))

    assert off(mimicry(pixels, x, aim, 0.4, weight=1000.0, steps=20, others=[base])) < 0.9 * off(x)


def known() -> Known:
    """Of a made-up network of three classes and two marks: class 0 takes 1 0, class 1 takes 0 1, nobody is class 2."""
    logits = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1]]
    marks = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 0]], np.float32)
    return Known.of(made_up(logits, [0, 0, 0, 1, 1, 1], marks))


def made_up(logits: Any, labels: Any, marks: Any) -> Answers:
    count = len(labels)
    return Answers(
        np.asarray(logits, np.float32), np.asarray(labels), np.asarray(marks, np.float32), ("a", "b"),
        np.ones(2, bool), np.ones(count), np.asarray(marks) > 0.5,
    )  # fmt: skip


def test_the_aim_is_a_clean_path_of_the_likeliest_other_class() -> None:
    clean = made_up([[3, 2, 1], [1, 2, 3]], [0, 1], [[1, 1], [0, 0]])
    nearest, middle = (Aim.at(known(), clean, where) for where in ("nearest", "middle"))
    assert nearest.targets.tolist() == middle.targets.tolist() == [1, 0], "nobody was taken for class 2"
    assert nearest.marks.tolist() == [[0, 1], [1, 0]]
    assert middle.marks.tolist() == [[0, 1], [1, 0]]
    alone = Known.of(made_up([[1, 0, 0]], [0], [[1, 0]]))
    with pytest.raises(DataError, match="no training image was taken for any other class"):
        Aim.at(alone, made_up([[1, 0, 0]], [0], [[1, 0]]), "nearest")


def refused() -> Iterator[tuple[str, Any]]:
    net = routed("blocks")
    x, y = pictures(net)
    pixels = Pixels(net, MEAN, STD)
    for strength in (-0.1, float("nan"), 8, "8/255", True):
        yield "a number from 0 to 1", lambda s=strength: fgsm(pixels, x, y, s)
    yield "of 0 to 1: give them before they are normalised", lambda: fgsm(pixels, x * 255, y, 0.1)
    yield "of 0 to 1: give them before they are normalised", lambda: fgsm(pixels, x - 0.5, y, 0.1)
    yield "not numbers", lambda: fgsm(pixels, x * float("nan"), y, 0.1)
    yield "levels of 0 to 255 divided by 255", lambda: fgsm(pixels, (x * 255).to(torch.uint8), y, 0.1)
    yield "floats \\[batch, channel, height, width\\]", lambda: fgsm(pixels, x[0], y, 0.1)
    yield "floats \\[batch, channel, height, width\\]", lambda: fgsm(pixels, x[:0], y[:0], 0.1)
    yield "one value per channel", lambda: fgsm(pixels, x[:, :2], y, 0.1)
    yield "label 5 is out of range", lambda: fgsm(pixels, x, y + 1, 0.1)
    yield "class numbers", lambda: fgsm(pixels, x, y.float(), 0.1)
    yield "whole numbers from 1 on", lambda: pgd(pixels, x, y, 0.1, steps=0)
    yield "whole numbers from 1 on", lambda: pgd(pixels, x, y, 0.1, step=float("nan"))
    yield "a step above 0", lambda: pgd(pixels, x, y, 0.1, step=0.0)
    yield "std above 0", lambda: Pixels(net, (0.5,), (0.0,))
    yield "one of each per channel", lambda: Pixels(net, MEAN, (0.5,))
    yield "whole number from 1 to 95", lambda: jpeg(x, 100)
    yield "outside of 0 to 1", lambda: jpeg(x * 2)
    yield "outside of 0 to 1", lambda: jpeg(x * float("nan"))
    yield "JPEG holds", lambda: jpeg(x[:, :2])


def test_what_makes_no_sense_is_refused_in_words() -> None:
    for words, call in refused():
        with pytest.raises(DataError, match=words):
            call()


def test_networks_without_gradients_are_refused() -> None:
    net = routed("blocks")
    x, y = pictures(net)
    for other in (tp.skipping(net), torch.compile(net), net.model):
        with pytest.raises(CallError, match=r"cannot be attacked.*before tp\.skipping, torch\.compile"):
            Pixels(other)  # type: ignore[arg-type]
    with pytest.raises(CallError, match="choose one of through, around"):
        Pixels(net, gradient="over")  # type: ignore[arg-type]

    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = ToyNet(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                y: Tensor = self.inner(x)
            return y

    blind = tp.route(Blind(), tp.GatedBlocks(), example=torch.zeros(2, 3, 6, 6))
    with pytest.raises(CallError, match="no gradient comes from the scores to the pixels"):
        fgsm(Pixels(blind), x, y, 0.1)
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken.model.head.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(RunError, match="not finite"):
        fgsm(Pixels(broken), x, y, 0.1)


def test_an_attack_needs_no_gradients_switched_on_outside() -> None:
    net = routed("blocks")
    x, y = pictures(net)
    wanted = fgsm(Pixels(net), x, y, 0.1)
    with torch.no_grad():
        assert torch.equal(fgsm(Pixels(net), x, y, 0.1), wanted)
    with torch.inference_mode():
        assert torch.equal(pgd(Pixels(net), x, y, 0.1, steps=1, step=1.0, start=False), wanted)


def test_a_report_of_attacks_that_fool_nobody_says_so(tmp_path: Path) -> None:
    net = routed("blocks")
    x, _ = pictures(net, 12)
    with torch.no_grad():
        test = Sample(x, Pixels(net, MEAN, STD)(x)[0].argmax(1))
    plan = Plan(strengths=(0.0,), detected=(0.0,), strength=0.0, steps=1, mimics=0)
    report = attack_report(net, test, test, MEAN, STD, plan=plan, folder=tmp_path)
    assert [(row["fooled"], row["scores"]) for row in report["detection"]] == [(0, {})] * 2
    assert report["crossing"] is None
    assert not (tmp_path / "attack-detection.png").exists()
    assert (tmp_path / "attack-accuracy.png").is_file()
    with pytest.raises(DataError, match="1 test images, of which one half"):
        attack_report(net, test, test.first(1), MEAN, STD, plan=plan)


def test_strengths_are_printed_in_levels() -> None:
    assert [as_levels(s) for s in (8 / 255, 0.5 / 255, 0.0)] == ["8/255", "0.5/255", "0/255"]
