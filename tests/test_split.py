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

from block_toys import WIDTH, Bare, Basic, Plain, PreActivation
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
        y: Tensor = x + (self.conv(x) * 2 if self.training else self.conv(x))
        return y


class Choosy(_Block):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + (self.conv(x) if x.mean() > 0 else x)
        return y


class Dropping(_Block):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + functional.dropout(self.conv(x), 0.5, self.training)
        return y


def test_a_function_that_is_told_whether_the_block_trains_is_told_so_again() -> None:
    block: Any = settle(Dropping())
    x = torch.randn(2, WIDTH, 6, 6)
    [residual] = split(block, x).residuals
    branch = part(residual.branch)
    with torch.no_grad():
        assert torch.equal(branch(block, x, x), block.conv(x))
        torch.manual_seed(0)
        dropped = branch(block.train(), x, x)
        torch.manual_seed(0)
        assert torch.equal(x + dropped, block(x))
    assert (dropped == 0).any()


class Iterating(_Block):
    def forward(self, x: Tensor) -> Tensor:
        for sample in x:
            x = x + sample
        y: Tensor = x + self.conv(x)
        return y


class TwoTensors(_Block):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x + self.conv(x)
        return y, self.scale(y)


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
        (Choosy, "a condition about values"),
        (Iterating, "cannot be traced"),
        (Foreign, "cannot be traced"),
        (TwoTensors, "not made in one of its branches"),
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
