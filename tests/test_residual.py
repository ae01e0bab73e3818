"""A residual block with its branch open, closed or multiplied: Eq. 3 of ConvNet-AIG, and the traps around it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import torchpaths as tp
from block_toys import WIDTH, Bare, Basic, Chain, PreActivation, chain
from torchpaths.errors import CallError, RouteError
from torchpaths.junction import Junction
from torchpaths.layout import Cost, Layout, Unit
from torchpaths.places.residual.place import ResidualPlace
from torchpaths.places.residual.split import split
from torchpaths.trace import Decider, Decision, Site


def masked(path: tp.Path, batch: int) -> tp.Path:
    """The same choice given per sample, so that nothing is left out but multiplied by 0."""
    return tp.Path({s: torch.tensor([v]).expand(batch, -1) for s, v in path.items()})


class View(nn.Module):
    """A shortcut that looks at a part of its input without copying it."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:]


class Overwriting(nn.Module):
    """Its branch begins with an operation in place on the block's own input."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(WIDTH, WIDTH, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x) + x
        return y


class Named(Bare):
    """Its shortcut and what follows its sum are children that do nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Identity()
        self.act = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.shortcut(x) + self.conv(x))
        return y


class Reusing(nn.Module):
    """The stem's output is needed again after the block, and whatever follows the block may write in place."""

    def __init__(self, block: nn.Module, inplace: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.block = block
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.relu(self.block(a))
        return torch.cat([a, b], 1)


REUSED: dict[str, tuple[nn.Module, bool]] = {
    "ReLU in place after an identity shortcut": (Basic(inplace=True), False),
    "ReLU in place after a shortcut that is a view": (Basic(inplace=True, shortcut=View()), False),
    "ReLU in place outside a block that ends in its sum": (Bare(), True),
    "ReLU in place outside a block that ends in a child which does nothing": (Named(), True),
    "ReLU in place outside a pre-activation block": (PreActivation(), True),
    "branch that begins in place": (Overwriting(), False),
}


@pytest.mark.parametrize("name", REUSED)
def test_a_closed_block_does_not_overwrite_its_input(name: str) -> None:
    torch.manual_seed(0)
    block, inplace = REUSED[name]
    x = torch.randn(4, 3, 8, 8)
    try:
        net = tp.route(Reusing(copy.deepcopy(block), inplace).eval(), example=x)
    except RouteError:
        assert isinstance(block, Overwriting), "only a block that overwrites its own input may be refused"
        return
    closed = ~tp.Path.full(net)
    with torch.no_grad():
        torch.testing.assert_close(net(x, closed)[0], net(x, masked(closed, 4))[0], rtol=0, atol=0)
        assert torch.equal(net(x, closed)[0][:, :WIDTH], net.model.stem(x))  # type: ignore[operator]


@pytest.mark.parametrize("name", REUSED)
def test_a_gated_block_with_operations_in_place_can_be_trained(name: str) -> None:
    torch.manual_seed(0)
    block, inplace = REUSED[name]
    x = torch.randn(4, 3, 8, 8)
    try:
        net = tp.route(Reusing(copy.deepcopy(block), inplace), tp.GatedBlocks(), example=x)
    except RouteError:
        assert isinstance(block, Overwriting), "only a block that overwrites its own input may be refused"
        return
    net(x)[0].square().mean().backward()
    gate = net.deciders["block"]
    assert isinstance(gate, tp.Gate)
    assert gate.fc2.bias.grad is not None
    assert bool(gate.fc2.bias.grad.any())


class Dial(Decider):
    """A multiplier for each sample that a test can set and read the gradient of."""

    def __init__(self, z: Tensor) -> None:
        super().__init__()
        self.z = nn.Parameter(z)

    def forward(self, features: Tensor) -> Decision:
        return Decision(self.z > 0, self.z)


def dialled(block: nn.Module, x: Tensor, z: Tensor) -> tp.Routed:
    """A block alone under a dial."""
    site = Site("block", (Unit("block", 0, Cost(0, 0)),), ("block",), Dial(z))
    junction = Junction(ResidualPlace(block, split(block, x), ((site, 0),)))
    return tp.Routed(nn.Sequential(junction), (site,), Layout(site.units, Cost(1, 1), Cost(1, 1)))


def test_a_gates_gradient_is_that_of_equation_3_and_not_that_of_mixing_the_whole_block() -> None:
    torch.manual_seed(0)
    block = Basic(inplace=False).double().eval()
    x = torch.randn(5, WIDTH, 6, 6, dtype=torch.float64).relu()
    z = torch.ones(5, 1, dtype=torch.float64)
    weight = torch.randn(5, WIDTH, 6, 6, dtype=torch.float64)
    net = dialled(block, x, z)
    (net(x)[0] * weight).sum().backward()
    branch = block.bn(block.conv(x)).detach()

    def gradient(wrapped: bool) -> Tensor:
        free = z.clone().view(5, 1, 1, 1).requires_grad_()
        y = free * functional.relu(x + branch) + (1 - free) * x if wrapped else functional.relu(x + free * branch)
        [g] = torch.autograd.grad((y * weight).sum(), free)
        return g.view(5, 1)

    got = net.get_parameter("deciders.block.z").grad
    torch.testing.assert_close(got, gradient(wrapped=False))
    assert (gradient(wrapped=True) - gradient(wrapped=False)).abs().mean() > 0.1, "the trap this guards against"


@pytest.mark.parametrize("block", [Basic(inplace=False), Bare(), PreActivation()], ids=lambda b: type(b).__name__)
def test_all_gradients_are_those_of_the_plain_formula(block: nn.Module) -> None:
    torch.manual_seed(0)
    block = copy.deepcopy(block).double().eval()
    x = torch.randn(3, WIDTH, 6, 6, dtype=torch.float64, requires_grad=True)
    z = torch.tensor([[0.0], [1.0], [0.3]], dtype=torch.float64)
    net = dialled(block, x.detach(), z)
    leaves = {"x": x, **dict(net.named_parameters())}
    got = torch.autograd.grad(net(x)[0].square().sum(), list(leaves.values()))
    factor = net.get_parameter("deciders.block.z").view(3, 1, 1, 1)
    if isinstance(block, Basic):
        y = functional.relu(x + factor * block.bn(block.conv(x)))
    elif isinstance(block, PreActivation):
        s = functional.relu(block.bn(x))
        y = s + factor * block.conv(s)
    else:
        y = x + factor * block.conv(x)  # type: ignore[operator]
    expected = torch.autograd.grad(y.square().sum(), list(leaves.values()))
    for name, a, b in zip(leaves, got, expected, strict=True):
        torch.testing.assert_close(a, b, msg=name)


class Shaped(nn.Module):
    """Pads where the sides are odd, as window attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.even = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if x.shape[-1] % 2 == 0:
            h = self.even(h)
        y: Tensor = x + h
        return y


def test_a_shape_that_takes_another_way_through_the_block_is_refused_in_the_call() -> None:
    model, x = chain(block=Shaped())
    net = tp.route(copy.deepcopy(model), example=x)
    with torch.no_grad():
        for size in (8, 12):
            other = torch.randn(2, 3, size, size)
            assert torch.equal(net(other)[0], model(other))
        with pytest.raises(CallError, match=r"'block'.*\(2, 4, 7, 7\)"):
            net(torch.randn(2, 3, 7, 7))
        assert torch.equal(net(x)[0], model(x)), "and the network goes on working"


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if x.abs().max() > 100:
            h = h / 100
        y: Tensor = x + h
        return y


def test_a_condition_about_values_is_refused_with_what_to_write_instead() -> None:
    model, x = chain(block=DataDependent())
    with pytest.raises(RouteError, match=r"condition about values \(.*torch.where"):
        tp.route(model, example=x)


class Sized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int], scale: float = 1.0) -> Tensor:
        height, width = size
        y: Tensor = x + scale * self.conv(x.view(x.shape[0], WIDTH, height, width)).flatten(2)
        return y


class Told(Chain):
    """Flattens the image and tells its block the image's size."""

    more: dict[str, Any]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y: Tensor = self.head(self.block(x.flatten(2), x.shape[2:], **self.more).mean(2))
        return y


def told(**more: Any) -> Told:
    torch.manual_seed(0)
    model = Told(block=Sized()).eval()
    model.more = more
    return model


def test_a_block_that_is_told_the_images_size_is_told_each_calls() -> None:
    model, x = told(), torch.randn(2, 3, 8, 8)
    net = tp.route(copy.deepcopy(model), example=x)
    with torch.no_grad():
        for shape in ((8, 8), (4, 10)):
            other = torch.randn(3, 3, *shape)
            assert torch.equal(net(other)[0], model(other))
            assert not torch.equal(net(other, tp.Path({"block": False}))[0], model(other))


def test_an_argument_that_was_left_at_its_default_must_stay_there() -> None:
    x = torch.randn(2, 3, 8, 8)
    net = tp.route(told(), example=x)
    assert isinstance(net.model, Told)
    net.model.more = {"scale": 1.0}
    net(x)
    net.model.more = {"scale": 2.0}
    with pytest.raises(CallError, match=r"scale=2\.0.*default \(1\.0\)"):
        net(x)


def test_an_argument_that_was_given_is_passed_on_with_each_calls_value() -> None:
    model, x = told(scale=2.0), torch.randn(2, 3, 8, 8)
    net = tp.route(copy.deepcopy(model), example=x)
    assert isinstance(net.model, Told)
    for scale in (2.0, 3.0):
        net.model.more = model.more = {"scale": scale}
        with torch.no_grad():
            assert torch.equal(net(x)[0], model(x))


def test_a_junction_is_the_block_it_replaced_for_whoever_looks_inside() -> None:
    model, x = chain()
    block = model.block1
    assert isinstance(block, Basic)
    net = tp.route(model, example=x)
    junction = net.model.block1
    assert isinstance(junction, Junction)
    assert junction.conv is block.conv
    assert list(junction.state_dict()) == list(block.state_dict())
    net.train()
    assert block.training
    net.to(torch.float64)
    assert block.conv.weight.dtype == torch.float64


def test_batch_statistics_of_a_closed_block_do_not_move() -> None:
    model, x = chain()
    net = tp.route(model, example=x).train()
    before = {n: b.clone() for n, b in net.named_buffers()}
    net(x, tp.Path({"block1": False, "block2": True}))
    moved = {n.split(".")[1] for n, b in net.named_buffers() if not torch.equal(b, before[n])}
    assert moved == {"block2"}
