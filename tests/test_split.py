"""A block taken apart: ``y = post(shortcut(pre(x)) + branch(pre(x)))``, exactly, or a reason why not."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import timm.models.resnet
import timm.models.vision_transformer
import torch
import torchvision.models.resnet
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.vision_transformer import EncoderBlock

import laws
import torchpaths as tp
from block_toys import WIDTH, Bare, Basic, Plain, PreActivation, chain
from torchpaths.errors import RouteError
from torchpaths.places.residual.parts import Split, part
from torchpaths.places.residual.split import split


def _down(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


IMAGES: dict[str, Callable[[], nn.Module]] = {
    "torchvision basic": lambda: torchvision.models.resnet.BasicBlock(8, 8),
    "torchvision basic, projected": lambda: torchvision.models.resnet.BasicBlock(8, 4, 2, _down(8, 4, 2)),
    "torchvision bottleneck": lambda: torchvision.models.resnet.Bottleneck(8, 2),
    "torchvision bottleneck, projected": lambda: torchvision.models.resnet.Bottleneck(8, 4, 2, _down(8, 16, 2)),
    "timm basic": lambda: timm.models.resnet.BasicBlock(8, 8),
    "timm basic, projected": lambda: timm.models.resnet.BasicBlock(8, 4, 2, _down(8, 4, 2)),
    "timm bottleneck": lambda: timm.models.resnet.Bottleneck(8, 2),
    "timm bottleneck, projected": lambda: timm.models.resnet.Bottleneck(8, 4, 2, _down(8, 16, 2)),
    "timm bottleneck with squeeze and excitation": lambda: timm.models.resnet.Bottleneck(8, 2, attn_layer=SEModule),
}


def settle(block: nn.Module) -> nn.Module:
    """Weights and statistics at which every part counts."""
    torch.manual_seed(0)
    for tensor in (*block.parameters(), *block.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.2, 1.0).mul_(torch.randn_like(tensor).sign() if tensor.dim() > 1 else 1)
    return block.eval()


def recompose(block: nn.Module, parts: Split, x: Tensor, *, closed: int | None = None) -> Tensor:
    y = x.clone()
    for i, r in enumerate(parts.residuals):
        if r.pre is not None:
            y = part(r.pre)(block, y, x)
        branch = part(r.branch)(block, y, x)
        total = part(r.shortcut)(block, y, x) + branch * (0 if i == closed else 1)
        y = part(r.post)(block, total, x)
    return y


@pytest.mark.parametrize("name", IMAGES)
def test_a_residual_blocks_parts_put_together_are_the_block_bit_for_bit(name: str) -> None:
    block, x = settle(IMAGES[name]()), torch.randn(2, 8, 6, 6)
    parts = split(block, x)
    assert len(parts.residuals) == 1
    for size in (6, 10):  # also for an image of another size
        other = torch.randn(3, 8, size, size)
        with torch.no_grad():
            assert torch.equal(recompose(block, parts, other), block(other.clone()))


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_left_of_a_closed_block_is_the_relu_of_its_shortcut(name: str) -> None:
    block, x = settle(IMAGES[name]()), torch.randn(2, 8, 6, 6)
    downsample = getattr(block, "downsample", None) or nn.Identity()
    with torch.no_grad():
        assert torch.equal(recompose(block, split(block, x), x, closed=0), functional.relu(downsample(x)))


@pytest.mark.parametrize("name", [n for n in IMAGES if "projected" in n])
def test_the_branch_has_the_parameters_that_the_projection_has_not(name: str) -> None:
    block = IMAGES[name]().eval()
    [params] = split(block, torch.randn(2, 8, 6, 6)).params
    assert isinstance(block.downsample, nn.Module)
    shortcut = {id(p) for p in block.downsample.parameters()}
    assert {id(p) for p in params} == {id(p) for p in block.parameters()} - shortcut


TOKENS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "timm": (lambda: timm.models.vision_transformer.Block(16, 2, init_values=0.5), ["attn", "mlp"]),
    "torchvision": (lambda: EncoderBlock(2, 16, 32, 0.1, 0.1), ["self_attention", "mlp"]),
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_transformer_block_is_two_residuals_named_for_attention_and_mlp(name: str) -> None:
    make, names = TOKENS[name]
    block, x = settle(make()), torch.randn(2, 5, 16)
    parts = split(block, x)
    assert [r.name for r in parts.residuals] == names
    assert [r.axis for r in parts.residuals] == [2, 2]
    with torch.no_grad():
        assert torch.equal(recompose(block, parts, x), block(x))


def test_what_precedes_the_sum_of_a_pre_activation_block_always_runs() -> None:
    block, x = settle(PreActivation()), torch.randn(2, WIDTH, 6, 6)
    parts = split(block, x)
    assert parts.residuals[0].pre is not None
    with torch.no_grad():
        assert torch.equal(recompose(block, parts, x), block(x))
        assert torch.equal(recompose(block, parts, x, closed=0), functional.relu(block.bn(x)))  # type: ignore[operator]


def test_parts_know_whether_they_do_nothing_and_whether_they_write_in_place() -> None:
    x = torch.randn(2, WIDTH, 6, 6)
    [bare], [basic], [safe] = (split(b.eval(), x).residuals for b in (Bare(), Basic(), Basic(inplace=False)))
    assert part(bare.shortcut).identity
    assert part(bare.post).identity
    assert not part(bare.post).in_place
    assert not part(basic.post).identity
    assert part(basic.post).in_place
    assert not part(safe.post).in_place


def test_parts_survive_pickling() -> None:
    block, x = settle(IMAGES["timm bottleneck, projected"]()), torch.randn(2, 8, 6, 6)
    parts = pickle.loads(pickle.dumps(split(block, x)))
    with torch.no_grad():
        assert torch.equal(recompose(block, parts, x), block(x))


class _Block(nn.Module):
    """A convolution to build blocks that do not come apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.scale = nn.Conv2d(WIDTH, WIDTH, 1)


class Broadcast(_Block):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x) + x.mean((2, 3), keepdim=True)
        return y


class Doubled(_Block):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + y  # type: ignore[no-any-return]


class Scaled(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.conv(x), alpha=0.5)


class Unlearned(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.relu(x) + x)  # type: ignore[no-any-return]


class Shared(_Block):
    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return self.scale(h) + h.sigmoid() * x  # type: ignore[no-any-return]


class Moody(_Block):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + functional.dropout(self.conv(x), 0.5, self.training)
        return y


class Iterating(_Block):
    def forward(self, x: Tensor) -> Tensor:
        for sample in x:
            x = x + sample
        y: Tensor = x + self.conv(x)
        return y


class TwoTensors(_Block):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + self.conv(x), x


class Constant(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv.weight + self.conv.weight


class Foreign(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy()) + self.conv(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Plain, "no sum of two operands"),
        (Broadcast, "no sum of two operands"),
        (Doubled, "no sum of two operands"),
        (Scaled, "no sum of two operands"),
        (Unlearned, "holds parameters"),
        (Shared, "share.*conv"),
        (Moody, "training and evaluation"),
        (Iterating, "cannot be traced"),
        (Foreign, "cannot be traced"),
        (TwoTensors, "more than one tensor"),
        (Constant, "does not depend on its input"),
    ],
)
def test_a_block_that_does_not_come_apart_is_refused_with_the_reason(make: type[nn.Module], said: str) -> None:
    block = make().eval()
    kept = {k: v.clone() for k, v in block.state_dict().items()}
    with pytest.raises(RouteError, match=said):
        split(block, torch.randn(2, WIDTH, 6, 6))
    assert not block.training
    assert all(torch.equal(v, kept[k]) for k, v in block.state_dict().items())


class Chunked(_Block):
    """Two halves of the channels: the value before the sum is a tuple of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.halved = nn.Conv2d(WIDTH // 2, WIDTH // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return self.halved(a) + b  # type: ignore[no-any-return]


def test_a_sum_of_two_halves_of_the_channels_comes_apart() -> None:
    block, x = settle(Chunked()), torch.randn(2, WIDTH, 6, 6)
    parts = split(block, x)
    with torch.no_grad():
        assert torch.equal(recompose(block, parts, x), block(x))
        assert torch.equal(recompose(block, parts, x, closed=0), x[:, WIDTH // 2 :])


class WithSize(_Block):
    """A block that is told the image's size, as PVT's are."""

    def forward(self, x: Tensor, size: tuple[int, int], scale: float = 1.0) -> Tensor:
        height, width = size
        image = x.transpose(1, 2).reshape(x.shape[0], WIDTH, height, width)
        y: Tensor = x + self.conv(image).flatten(2).transpose(1, 2) * scale
        return y


@pytest.mark.parametrize("extra", [{"size": (3, 5)}, {"size": (3, 5), "scale": 2.0}])
def test_further_arguments_reach_every_part(extra: dict[str, Any]) -> None:
    block, x = settle(WithSize()), torch.randn(2, 15, WIDTH)
    parts = split(block, x, **extra)
    assert parts.extra == tuple(extra)
    [residual] = parts.residuals
    with torch.no_grad():
        for size in ((3, 5), (5, 3)):  # not the example's values, the call's
            inputs = {**extra, "size": size}
            y = part(residual.branch)(block, x, x, *inputs.values()) + part(residual.shortcut)(
                block, x, x, *inputs.values()
            )
            assert torch.equal(y, block(x, **inputs))


def test_a_second_tensor_is_no_further_argument() -> None:
    with pytest.raises(RouteError, match="more than one tensor"):
        split(Basic().eval(), torch.randn(2, WIDTH, 6, 6), other=torch.ones(1))


class Ending(Bare):
    """``end(x + conv(x))``."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.relu = end

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.conv(x))


@pytest.mark.parametrize(
    ("end", "rectifies", "rectifier"),
    [
        (nn.ReLU(), True, True),
        (functional.relu, True, True),
        (torch.relu, True, True),
        (lambda x: x.relu(), True, True),
        (lambda x: functional.relu(x - 1), True, False),
        (lambda x: functional.relu(x) - 1, False, False),
        (nn.ReLU6(), False, False),
        (nn.LeakyReLU(), False, False),
        (nn.Sequential(nn.ReLU()), False, False),
        (nn.Identity(), False, False),
        (lambda x: x, False, False),
    ],
)
def test_what_follows_a_sum_is_known_for_a_relu_only_where_it_is_one(
    end: Callable[[Tensor], Tensor], rectifies: bool, rectifier: bool
) -> None:
    [residual] = split(Ending(end).eval(), torch.randn(2, WIDTH, 6, 6)).residuals
    post = part(residual.post)
    assert (post.rectifies, post.rectifier) == (rectifies, rectifier)
    again = pickle.loads(pickle.dumps(post))
    assert (again.rectifies, again.rectifier) == (rectifies, rectifier)


class Placed(Bare):
    """``x + scale * conv(x + place(height))``: a reshaped parameter, and a child that never sees the input."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH))
        self.place = nn.Embedding(16, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        place = self.place(torch.arange(x.shape[2]))
        y: Tensor = x + self.scale.view(1, -1, 1, 1) * self.conv(x + place.T.view(1, WIDTH, -1, 1))
        return y


def test_a_branch_holds_its_parameters_also_where_they_do_not_touch_its_input_directly() -> None:
    block = Placed().eval()
    [held] = split(block, torch.randn(2, WIDTH, 6, 6)).params
    assert {id(p) for p in held} == {id(p) for p in block.parameters()}


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
    block = settle(Projected(shortcut, branch) if swapped else Projected(branch, shortcut))
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


def test_what_a_block_makes_from_nothing_and_its_buffers_go_with_the_parts_and_into_a_cut() -> None:
    model, x = chain(block1=Making(), block2=Ending(lambda v: v * torch.tensor(2.0)))
    before = laws.attributes(model)
    want = model(x).detach()
    net = tp.route(model, tp.GatedBlocks(), example=x)
    assert laws.attributes(net.model) == before
    for other in (net, pickle.loads(pickle.dumps(tp.route(chain(block1=Making(), block2=Basic())[0], example=x)))):
        other(x)
    with torch.no_grad():
        assert torch.equal(net(x, tp.Path.full(net))[0], want)
        path = tp.Path({"block1": False, "block2": False})
        torch.testing.assert_close(tp.extract(net, path)(x), net(x, path)[0])
        model.block1.steps.mul_(2)  # type: ignore[union-attr, operator]
        assert not torch.equal(net(x, tp.Path.full(net))[0], want), "the buffer is read anew"
