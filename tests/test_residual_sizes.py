"""What blocks add: its size beside the shortcut (AdaptiveDepth, Eq. 3), its cosine with minus the gradient (Eq. 7)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import torchpaths as tp
from laws import random_path
from torchpaths.depth import BlockMean, Observed, gradient_cosines, residual_sizes
from torchpaths.depth.draw_residuals import draw_gradient_cosines, draw_residual_sizes
from torchpaths.errors import CallError, DataError, PathError, RouteError, RunError
from torchpaths.models import create_model
from torchpaths.surveys.figures.style import ACCENT, HEADING
from toys import toy

METHOD = tp.AdaptiveDepth()
Images = list[tuple[Tensor, Tensor]]


class Adds(nn.Module):
    """``h + body(h)``."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = h + self.body(h)
        return y


class Rectified(Adds):
    """``relu(h + body(h))``."""

    def forward(self, h: Tensor) -> Tensor:
        return functional.relu(h + self.body(h))


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data.copy_(weight)
    if bias is not None:
        layer.bias.data.copy_(bias)
    return layer


def squared(target: Tensor) -> Callable[[Any, Any], Tensor]:
    return lambda y, labels: (y - target).square().sum() / 2


def numbers(x: Tensor) -> Images:
    return [(x, torch.zeros(len(x), dtype=torch.long))]


@pytest.fixture(scope="module")
def net() -> tp.Routed:
    """Adaptive depth whose two sets of norms differ."""
    model, x = toy("torchvision/narrow")
    net = tp.route(model, METHOD, example=x)
    torch.manual_seed(2)
    for name, value in net.state_dict().items():
        if ".skipped." in name and value.is_floating_point():
            value.add_(0.2 * torch.rand_like(value))
    return net


@pytest.fixture(scope="module")
def images() -> Images:
    torch.manual_seed(5)
    return [(torch.randn(12, 3, 12, 12), torch.arange(12) % 5)]


def same(found: tuple[BlockMean, ...], wanted: tuple[BlockMean, ...]) -> None:
    assert [(a.block, a.images, a.missing) for a in found] == [(b.block, b.images, b.missing) for b in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert (a.mean is None) == (b.mean is None)
        assert a.mean == pytest.approx(b.mean or 0.0, rel=1e-4, abs=1e-6) or a.mean is None
        assert a.deviation == pytest.approx(b.deviation or 0.0, rel=1e-3, abs=1e-6) or a.deviation is None


@pytest.mark.parametrize(("factor", "cosine"), [(-0.5, 1.0), (0.5, -1.0), (-1.5, 1.0)])
def test_a_block_that_shrinks_towards_the_target_is_a_step_of_gradient_descent(factor: float, cosine: float) -> None:
    """With L = |y|^2 / 2 and y = (1 + c) h the gradient is (1 + c)^2 h: the cosine with c h is the sign of -c."""
    x = torch.randn(5, 6)
    model = nn.Sequential(Adds(linear(factor * torch.eye(6))))
    [size] = residual_sizes(model, numbers(x))
    [found] = gradient_cosines(model, numbers(x), loss=squared(torch.zeros(6)))
    assert (found.block, found.images, found.missing) == ("0", 5, "")
    assert found.mean == pytest.approx(cosine, abs=1e-6)
    assert found.deviation == pytest.approx(0, abs=1e-6)
    assert size.mean == pytest.approx(abs(factor), rel=1e-6)


def test_a_block_that_takes_the_step_itself_has_cosine_1_and_one_across_it_0() -> None:
    target = torch.randn(6)
    turned = torch.kron(torch.eye(3), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))  # at right angles with h
    step = Adds(linear(-0.1 * torch.eye(6), 0.1 * target))  # -0.1 (h - target)
    x = torch.randn(5, 6)
    [down] = gradient_cosines(nn.Sequential(step), numbers(x), loss=squared(target))
    [across] = gradient_cosines(nn.Sequential(Adds(linear(turned))), numbers(x), loss=squared(torch.zeros(6)))
    assert down.mean == pytest.approx(1, abs=1e-6)
    assert across.mean == pytest.approx(0, abs=1e-6)


def test_the_numbers_are_those_computed_by_hand() -> None:
    """Two blocks relu(h + W h) and a linear head, forward and backward written out in NumPy."""
    torch.manual_seed(0)
    first, second, head = torch.randn(4, 4), torch.randn(4, 4), torch.randn(3, 4)
    model = nn.Sequential(Rectified(linear(first)), Rectified(linear(second)), linear(head))
    x, y = torch.randn(7, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    w1, w2, w3, h0 = (t.double().numpy() for t in (first, second, head, x))
    sizes: list[list[float]] = [[], []]
    cosines: list[list[float]] = [[], []]
    for h, label in zip(h0, y.tolist(), strict=True):
        a1 = h + w1 @ h
        h1 = np.maximum(a1, 0)
        a2 = h1 + w2 @ h1
        scores = w3 @ np.maximum(a2, 0)
        p = np.exp(scores - scores.max())
        p /= p.sum()
        p[label] -= 1
        g1 = (np.eye(4) + w2).T @ ((a2 > 0) * (w3.T @ p))
        g0 = (np.eye(4) + w1).T @ ((a1 > 0) * g1)
        for i, (start, weight, g) in enumerate(((h, w1, g0), (h1, w2, g1))):
            f = weight @ start
            if np.linalg.norm(start) > 0:
                sizes[i].append(float(np.linalg.norm(f) / np.linalg.norm(start)))
            if np.linalg.norm(g) > 0 and np.linalg.norm(f) > 0:
                cosines[i].append(float(-f @ g / np.linalg.norm(f) / np.linalg.norm(g)))
    for found, wanted in ((residual_sizes(model, [(x, y)]), sizes), (gradient_cosines(model, [(x, y)]), cosines)):
        assert [one.block for one in found] == ["0", "1"]
        for one, values in zip(found, wanted, strict=True):
            assert one.mean == pytest.approx(np.mean(values), rel=1e-4, abs=1e-6)
            assert one.deviation == pytest.approx(np.std(values), rel=1e-3, abs=1e-6)
            assert one.images == len(values)


def test_they_are_those_of_a_resnets_block_by_autograd(net: tp.Routed, images: Images) -> None:
    x, y = images[0]
    model: Any = tp.plain(net).eval()
    h = model.layer1(model.stem(x)).detach().requires_grad_()
    block = model.layer2[0]
    branch = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(h)))))
    shortcut = block.downsample(h)
    h1 = (branch + shortcut).relu()
    last = model.layer2[1]
    added = last.bn2(last.conv2(last.relu(last.bn1(last.conv1(h1)))))
    loss = functional.cross_entropy(model.head((h1 + added).relu().mean((2, 3))), y)
    [g] = torch.autograd.grad(loss, h1)
    size = {one.block: one for one in residual_sizes(net, images)}
    cosine = {one.block: one for one in gradient_cosines(net, images)}
    ratio = (branch.flatten(1).norm(dim=1) / shortcut.flatten(1).norm(dim=1)).detach()
    assert size["layer2.0"].mean == pytest.approx(float(ratio.mean()), rel=1e-4)
    expected = functional.cosine_similarity(added.detach().flatten(1), -g.flatten(1))
    assert cosine["layer2.1"].mean == pytest.approx(float(expected.mean()), rel=1e-3, abs=1e-5)
    assert cosine["layer2.1"].deviation == pytest.approx(float(expected.std(correction=0)), rel=1e-3)


def test_a_residual_that_changes_the_shape_has_a_size_and_no_cosine(net: tp.Routed, images: Images) -> None:
    found = {one.block: one for one in gradient_cosines(net, images)}["layer2.0"]
    assert (found.mean, found.deviation, found.images, found.missing) == (None, None, 0, "the shape changes")


def test_blocks_that_can_be_left_out_are_told_and_absent_in_the_base_net(net: tp.Routed, images: Images) -> None:
    whole, base = (residual_sizes(net, images, METHOD.path(net, skip)) for skip in (False, True))
    assert [(one.block, one.skippable) for one in whole] == [
        ("layer1.0", False),
        ("layer1.1", True),
        ("layer2.0", False),
        ("layer2.1", True),
    ]
    assert [one.block for one in base] == ["layer1.0", "layer2.0"]


@pytest.mark.parametrize("skip", ["FF", "TF", "TT"])
def test_along_a_depth_the_numbers_are_those_of_the_network_cut_out_along_it(
    net: tp.Routed, images: Images, skip: str
) -> None:
    """The second norms included, and whether blocks are taken apart here or by route."""
    path = METHOD.path(net, skip)
    cut = tp.plain(net, path)
    assert len(residual_sizes(net, images, path)) == 4 - skip.count("T")
    same(residual_sizes(net, images, path), residual_sizes(cut, images))
    same(gradient_cosines(net, images, path), gradient_cosines(cut, images))


def test_images_for_which_a_gate_closes_a_block_do_not_count_for_it(images: Images) -> None:
    model, x = toy("torchvision/narrow")
    gated = tp.route(model, tp.GatedBlocks(), example=x).eval()
    deciders: Any = gated.deciders
    for decider in deciders.values():
        decider.fc2.bias.data.zero_()
        decider.fc2.weight.data.normal_()
    x, y = images[0]
    _, trace = gated(x)
    opened = {name: int(made.open.sum()) for name, made in trace.items()}
    assert 0 < sum(opened.values()) < 4 * 12
    for find in (residual_sizes, gradient_cosines):
        found = {one.block: one for one in find(gated, images)}
        one_by_one = [find(gated, [(x[i : i + 1], y[i : i + 1])]) for i in range(12)]
        for name, count in opened.items():
            alone = [one.mean for each in one_by_one for one in each if one.block == name]
            assert len(alone) == count, "a block that no image of a batch opens is absent"
            known = [value for value in alone if value is not None]
            if known:
                assert found[name].mean == pytest.approx(np.mean(known), rel=1e-3, abs=1e-5)


def test_depth_and_gates_together_are_watched_alike(images: Images) -> None:
    model, x = toy("torchvision/narrow")
    both = tp.route(model, [METHOD, tp.GatedBlocks()], example=x).eval()
    path = tp.Path.full(both)
    wanted = residual_sizes(tp.plain(both), images)
    same(residual_sizes(both, images, path), wanted)
    assert [one.skippable for one in residual_sizes(both, images, path)] == [False, True, False, True]
    found = residual_sizes(both, images, METHOD.path(both, "TF"))
    assert {one.block for one in found} <= {"layer1.0", "layer2.0", "layer2.1"}


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (METHOD, "torchvision/narrow"),
        (tp.GatedBlocks(), "torchvision/narrow"),
        ([METHOD, tp.GatedFilters()], "torchvision/narrow"),
        (tp.RandomDrop(0.5), "torchvision/narrow"),
        (tp.CodedPaths(classes=5), "own/resnext"),
        (None, "torchvision/vit"),
    ],
)
def test_of_every_method_the_observed_copy_answers_as_the_network_does(method: Any, name: str) -> None:
    torch.manual_seed(0)
    model, x = toy(name) if name != "own/resnext" else (create_model("resnext20_10x4d", 5), torch.randn(4, 3, 16, 16))
    net = tp.route(model, method, example=x).eval()
    observed = Observed(net, x)
    for path in (None, tp.Path.full(net)):
        torch.manual_seed(1)  # random drop draws in evaluation too
        wanted = net(x, path)[0]
        torch.manual_seed(1)
        got, sums = observed(x, path)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
        assert sums
    assert [found.block for found in sums] == list(observed.blocks)


def test_a_transformers_block_has_two_sums_with_inputs_of_their_own() -> None:
    model, x = toy("torchvision/vit")
    vit: Any = copy.deepcopy(model)
    y = torch.arange(4)
    found = {one.block.rpartition("encoder_layer_")[2]: one for one in gradient_cosines(model, [(x, y)])}
    assert list(found) == ["0.self_attention", "0.mlp", "1.self_attention", "1.mlp"]
    kept: dict[str, Tensor] = {}
    last = vit.encoder.layers.encoder_layer_1
    last.ln_2.register_forward_pre_hook(lambda _, given: kept.update(h=given[0]))
    last.mlp.register_forward_hook(lambda _, given, out: kept.update(f=out))
    [g] = torch.autograd.grad(functional.cross_entropy(vit(x), y), kept["h"])
    expected = functional.cosine_similarity(kept["f"].detach().flatten(1), -g.flatten(1))
    assert found["1.mlp"].mean == pytest.approx(float(expected.mean()), rel=1e-3, abs=1e-6)


def test_a_block_whose_last_norm_is_zero_adds_nothing_and_says_so(images: Images) -> None:
    model: Any = toy("torchvision/narrow")[0]
    nn.init.zeros_(model.layer1[1].bn2.weight)
    nn.init.zeros_(model.layer1[1].bn2.bias)
    size = {one.block: one for one in residual_sizes(model, images)}["layer1.1"]
    cosine = {one.block: one for one in gradient_cosines(model, images)}["layer1.1"]
    assert (size.mean, size.deviation, size.images, size.missing) == (0, 0, 12, "")
    assert (cosine.mean, cosine.images, cosine.missing) == (None, 0, "its residual is 0")


def test_a_shortcut_of_zeros_and_a_gradient_of_zero_are_named() -> None:
    x = torch.cat([torch.zeros(2, 4), torch.ones(3, 4)])
    model = nn.Sequential(Adds(linear(torch.eye(4), torch.ones(4))), linear(torch.zeros(3, 4)))
    [size] = residual_sizes(model, numbers(x))
    [cosine] = gradient_cosines(model, numbers(x))
    assert (size.images, size.missing) == (3, "its shortcut gives 0")
    assert size.mean == pytest.approx(2)
    assert (cosine.mean, cosine.images, cosine.missing) == (None, 0, "the gradient is 0")


def test_images_that_the_network_is_sure_of_have_a_cosine() -> None:
    """Of a probability of 1 - exp(-20) float32 keeps 1, and no gradient by that score."""
    x = torch.eye(2) * 40
    model = nn.Sequential(Adds(linear(-0.5 * torch.eye(2))), linear(2 * torch.eye(2)))
    [found] = gradient_cosines(model, [(x[:1], torch.tensor([1]))])
    [sure] = gradient_cosines(model, [(x[:1] / 2, torch.tensor([0]))])
    assert found.images == sure.images == 1
    assert found.mean == pytest.approx(1 / math.sqrt(2), rel=1e-5)
    assert sure.mean == pytest.approx(-1 / math.sqrt(2), rel=1e-5)


def test_how_images_come_in_batches_does_not_matter(net: tp.Routed, images: Images) -> None:
    [(x, y)] = images
    parts = [(x[:5], y[:5]), (x[5:], y[5:])]
    same(residual_sizes(net, parts), residual_sizes(net, images))
    same(gradient_cosines(net, parts), gradient_cosines(net, images))
    mean = gradient_cosines(net, parts, loss=functional.cross_entropy)
    same(mean, gradient_cosines(net, images))


def test_the_network_stays_as_it_was(net: tp.Routed, images: Images) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    inner: Any = net.model
    inner.layer1[0].bn1.eval()
    modes = [m.training for m in net.modules()]
    same(gradient_cosines(net, images), gradient_cosines(copy.deepcopy(net).eval(), images))
    with torch.inference_mode():
        frozen = [(x.clone(), y) for x, y in images]
        assert len(gradient_cosines(net, frozen)) == 4
    assert [m.training for m in net.modules()] == modes
    net.eval()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_frozen_weights_have_gradients_by_inputs_all_the_same(net: tp.Routed, images: Images) -> None:
    frozen = copy.deepcopy(net).requires_grad_(False)
    same(gradient_cosines(frozen, images), gradient_cosines(net, images))


def test_a_network_observed_once_answers_every_question_with_its_weights_of_now(images: Images) -> None:
    model, x = toy("torchvision/narrow")
    observed = Observed(model, x)
    same(residual_sizes(observed, images), residual_sizes(model, images))
    own: Any = model
    own.layer1[0].bn2.weight.data.mul_(3)
    same(gradient_cosines(observed, images), gradient_cosines(model, images))


def test_a_block_given_by_hand_is_measured() -> None:
    class Strange(Adds):
        def forward(self, h: Tensor) -> Tensor:
            return h + (self.body(h) if float(h.sum()) > -1e9 else h)

    model = nn.Sequential(Strange(linear(-0.5 * torch.eye(3))))
    x = torch.randn(4, 3)
    with pytest.raises(RouteError, match="residual"):
        residual_sizes(model, numbers(x))
    hand = {"0": tp.Residual(branch=lambda b, h: b.body(h), shortcut=lambda b, h: h, post=lambda b, y: y)}
    assert residual_sizes(Observed(model, x, hand), numbers(x))[0].mean == pytest.approx(0.5)


def test_what_cannot_be_measured_is_named(net: tp.Routed, images: Images) -> None:
    [(x, y)] = images
    for find in (residual_sizes, gradient_cosines):
        with pytest.raises(DataError, match="no images"):
            find(net, [])
        with pytest.raises(DataError, match=r"batch 0 is no pair \(images, labels\)"):
            find(net, [x])  # type: ignore[list-item]
        with pytest.raises(RunError, match=r"block 'layer1\.0' is not finite for 1 of 12 images"):
            find(net, [(x.index_fill(0, torch.tensor([3]), torch.nan), y)])
        with pytest.raises(RouteError, match="no residual block"):
            find(nn.Sequential(nn.Linear(4, 3)), numbers(torch.randn(4, 4)))
        with pytest.raises(PathError, match="each its own"):
            find(net, images, random_path(net, 12))
        with pytest.raises(PathError):
            find(net, images, tp.Path({"layer7": [True]}))
        with pytest.raises(CallError, match="a skipping network has no gradients"):
            find(tp.skipping(net.eval()), images)
    for labels in (None, ["a"] * 12, y.float(), y[:3]):
        with pytest.raises(DataError, match="batch 0: labels"):
            gradient_cosines(net, [(x, labels)])  # type: ignore[list-item]
    with pytest.raises(DataError, match="label 5 is out of range for 5 classes"):
        gradient_cosines(net, [(x, y + 1)])
    with pytest.raises(DataError, match="one class is 0 whatever it says"):
        gradient_cosines(nn.Sequential(Adds(nn.Linear(4, 4)), nn.Linear(4, 1)), numbers(torch.randn(3, 4)))
    losses: list[tuple[Any, str]] = [
        (lambda out, y: out, r"shape \(12, 5\)"),
        (lambda out, y: 0.5, "gives float"),
        (lambda out, y: out.detach().sum(), "with gradients"),
        (lambda out, y: out.sum() * torch.inf, "the loss is not finite"),
    ]
    for loss, told in losses:
        with pytest.raises(RunError, match=told):
            gradient_cosines(net, images, loss=loss)


def entry(block: str, mean: float | None, skippable: bool = False, missing: str = "") -> BlockMean:
    return BlockMean(block, skippable, mean, None if mean is None else 0.1, 0 if mean is None else 9, missing)


def test_figures_have_a_mark_for_each_block_of_each_network_and_name_what_is_missing() -> None:
    found = {
        "plain": (entry("a.0", 0.5), entry("a.1", 0.6)),
        "super-net": (entry("a.0", 0.7), entry("a.1", None, True, "its residual is 0")),
        "base-net": (entry("a.0", 0.4),),
    }
    for draw in (draw_residual_sizes, draw_gradient_cosines):
        figure = draw(found, "toy")
        [axes] = figure.axes
        assert [label.get_text() for label in axes.get_xticklabels()] == ["a.0", "a.1"]
        marks = {line.get_label(): line for line in axes.lines if line.get_marker() not in ("None", "", "_", "|")}
        heights = {name: np.ravel(marks[name].get_ydata()).tolist() for name in found}
        assert heights == {"plain": [0.5, 0.6], "super-net": [0.7], "base-net": [0.4]}
        assert marks["plain"].get_color() == ACCENT
        assert len({line.get_color() for line in marks.values()}) == 3
        assert "its residual is 0" in [text.get_text() for text in axes.texts]
        assert len([patch for patch in axes.patches if patch.get_alpha()]) == 1, "one block can be left out"
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == [*found, "can be left out"]
        assert len([artist for artist in figure.findobj() if artist.get_gid() == HEADING]) == 2
    with pytest.raises(DataError, match="no blocks to draw"):
        draw_residual_sizes({"plain": ()}, "toy")
    with pytest.raises(DataError, match="5 networks beside the plain one"):
        draw_residual_sizes({str(i): (entry("a", 1.0),) for i in range(5)}, "toy")
