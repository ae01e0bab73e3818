"""What a split establishes instead of guessing: which operand is the branch, which axis holds channels; and that what a
block makes from nothing goes with its parts."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import torchpaths as tp
import untouched_laws
from block_toys import WIDTH, Bare, Basic, chain
from torchpaths.errors import RouteError
from torchpaths.places.residual.split import split


class Projected(nn.Module):
    """A sum of two ways."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)  # type: ignore[no-any-return]


def _conv(inputs: int, outputs: int, size: int = 1, groups: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups)


WAYS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "a narrow grouped bottleneck beside its projection": (
        lambda: nn.Sequential(_conv(32, 4), nn.ReLU(), _conv(4, 4, 3, 4), nn.ReLU(), _conv(4, 64)),
        lambda: nn.Sequential(_conv(32, 64), nn.BatchNorm2d(64)),
    ),
    "one layer behind an activation beside a larger projection": (
        lambda: nn.Sequential(nn.ReLU(), _conv(32, 64, 1, 4)),
        lambda: nn.Sequential(nn.AvgPool2d(1), _conv(32, 64), nn.BatchNorm2d(64)),
    ),
    "two layers with an activation between beside a separable projection": (
        lambda: nn.Sequential(_conv(32, 2), nn.ReLU(), _conv(2, 64)),
        lambda: nn.Sequential(_conv(32, 32, 3, 32), nn.BatchNorm2d(32), _conv(32, 64)),
    ),
    "of two that are equally long, the one with more parameters": (
        lambda: nn.Sequential(_conv(32, 64, 3), nn.BatchNorm2d(64)),
        lambda: nn.Sequential(_conv(32, 64), nn.BatchNorm2d(64)),
    ),
}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("name", WAYS)
def test_the_branch_is_the_longer_way(name: str, swapped: bool) -> None:
    branch, shortcut = (make() for make in WAYS[name])
    block = (Projected(shortcut, branch) if swapped else Projected(branch, shortcut)).eval()
    [held] = split(block, torch.randn(2, 32, 6, 6)).params
    assert {id(p) for p in held} == {id(p) for p in branch.parameters()}


class OwnConv(nn.Module):
    """A convolution of one's own along the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(width, width, 3) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv1d(x, self.w, padding=1)


class Turning(nn.Module):
    """Turns its input around before a layer sees it."""

    def __init__(self, layer: nn.Module, *axes: int) -> None:
        super().__init__()
        self.layer, self.axes = layer, axes

    def forward(self, x: Tensor) -> Tensor:
        back = [self.axes.index(i) for i in range(len(self.axes))]
        return x + self.layer(x.permute(*self.axes)).permute(*back)  # type: ignore[no-any-return]


class Affine(nn.Module):
    """A scale for each channel of ``[batch, tokens, channels]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Mixing(nn.Module):
    """Tokens mixed as ResMLP does: both tokens and channels are fixed in number, the first layer reads channels."""

    def __init__(self) -> None:
        super().__init__()
        self.affine, self.mix = Affine(6), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.affine(x).transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


class Located(nn.Module):
    """Attention with a place for each of a fixed number of tokens, its layers inside one child."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.ModuleList([nn.Linear(6, 6)])
        self.inner = Placing()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)  # type: ignore[no-any-return]


class Placing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.place = nn.Linear(6, 6), nn.Parameter(torch.randn(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.place  # type: ignore[no-any-return]


AXES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "a layer of torch's, images": (Bare, (WIDTH, 7, 7), 1),
    "a layer of one's own": (lambda: Turning(OwnConv(6), 0, 1, 2), (6, 10), 1),
    "a layer of one's own, more channels than length": (lambda: Turning(OwnConv(12), 0, 1, 2), (12, 5), 1),
    "turned around before it": (lambda: Turning(OwnConv(6), 0, 2, 1), (10, 6), 2),
    "turned around before a layer of torch's": (lambda: Turning(nn.Conv2d(6, 6, 1), 0, 3, 1, 2), (4, 4, 6), 3),
    "[batch, channels, tokens] turned to a linear layer": (lambda: Turning(nn.Linear(6, 6), 0, 2, 1), (6, 9), 1),
    "as many tokens as channels": (lambda: Turning(nn.Linear(6, 6), 0, 2, 1), (6, 6), 1),
    "[batch, tokens, channels], both fixed": (Mixing, (5, 6), 2),
    "[batch, tokens, channels], both fixed by one child": (Located, (5, 6), 2),
    "[batch, height, width, channels]": (lambda: Projected(nn.Linear(6, 6), nn.Identity()), (4, 4, 6), 3),
    "[batch, channels]": (lambda: Projected(nn.Linear(6, 6), nn.Identity()), (6,), 1),
}


@pytest.mark.parametrize("name", AXES)
def test_the_channel_axis_is_the_one_the_branch_insists_on(name: str) -> None:
    make, shape, axis = AXES[name]
    [residual] = split(make().eval(), torch.randn(2, *shape)).residuals
    assert residual.axis == axis


def test_where_nothing_tells_the_channel_axis_the_block_is_refused_and_by_hand_it_is_taken() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(1))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.weight).relu()

    model = nn.Sequential(Projected(Scale(), nn.Identity()))
    x = torch.randn(2, 3, 4)
    with pytest.raises(RouteError, match=r"nothing tells which axis.*\(2, 3, 4\).*Residual\(\.\.\., axis=\)"):
        tp.route(model, example=x)
    hand = tp.Residual(lambda b, v: b.branch(v), lambda b, v: v, lambda b, v: v, axis=2)
    net = tp.route(model, tp.GatedBlocks(), example=x, residuals={"0": hand})
    assert net.deciders["0"].perceptron().channels == 4  # type: ignore[operator]


class Making(Bare):
    """Makes a tensor of its own from nothing, reads a buffer, and rounds a size up."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.arange(1.0, WIDTH + 1))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, -1, 1, 1) * self.steps.view(1, self.steps.shape[0], 1, 1)
        y: Tensor = x + self.conv(x * scale)
        return y


class Doubling(Bare):
    """Multiplies its sum by a number made in its forward."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = (x + self.conv(x)) * torch.tensor(2.0)
        return y


def test_what_a_block_makes_from_nothing_and_its_buffers_go_with_the_parts_and_into_a_cut() -> None:
    model, x = chain(block1=Making(), block2=Doubling())
    before = untouched_laws.attributes(model)
    want = model(x).detach()
    net = tp.route(model, tp.GatedBlocks(), example=x)
    assert untouched_laws.attributes(net.model) == before
    for other in (net, pickle.loads(pickle.dumps(tp.route(chain(block1=Making(), block2=Basic())[0], example=x)))):
        other(x)
    with torch.no_grad():
        assert torch.equal(net(x, tp.Path.full(net))[0], want)
        path = tp.Path({"block1": False, "block2": False})
        torch.testing.assert_close(tp.extract(net, path)(x), net(x, path)[0])
        model.block1.steps.mul_(2)  # type: ignore[operator]
        assert not torch.equal(net(x, tp.Path.full(net))[0], want), "the buffer is read anew"
