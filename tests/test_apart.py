"""Which axis is the batch, and whether images pass a block without touching each other: found out, and refused by name
where a decision image by image would be wrong."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

import torchpaths as tp
from block_toys import WIDTH, Bare, Basic, chain
from torchpaths.errors import CallError, RouteError
from torchpaths.places.residual.find import find_residuals


class Shifted(Bare):
    """Every image gets some channels of the one before it, as the frames of a clip do (temporal shift)."""

    def forward(self, x: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        return x + self.conv(torch.cat([before[:, :1], x[:, 1:]], 1))  # type: ignore[no-any-return]


class Centred(Bare):
    """Divides by the mean of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x / (1 + x.abs().mean()))  # type: ignore[no-any-return]


class Statistics(Bare):
    """Batch normalisation without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(WIDTH, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn(self.conv(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("images", [1, 2, 4])
@pytest.mark.parametrize("kind", [Shifted, Centred, Statistics])
def test_blocks_whose_images_touch_each_other_are_known(kind: type[nn.Module], images: int) -> None:
    model, x = chain(block1=Basic(), block2=kind(), block3=Bare())
    search = find_residuals(model, x[:images])
    assert {p.module: p.apart for p in search.places} == {"block1": True, "block2": False, "block3": True}


def test_an_example_of_one_colour_tells_as_well() -> None:
    model, x = chain(block1=Basic(), block2=Statistics())
    search = find_residuals(model, torch.zeros_like(x))
    assert [p.apart for p in search.places] == [True, False]


@pytest.mark.parametrize("kind", [Shifted, Centred, Statistics])
def test_there_a_path_by_image_is_refused_and_one_for_the_batch_is_not(kind: type[nn.Module]) -> None:
    model, x = chain(block1=Basic(), block2=kind())
    net = tp.route(model, example=x)
    path = tp.Path({"block2": [[True], [False], [True], [True]]})
    for called in (net, tp.skipping(net)):
        with pytest.raises(CallError, match=r"'block2' cannot be chosen image by image.*path\[0\]"):
            called(x, path)
        called(x, path[0])  # the remedy
        called(x, tp.Path({"block1": [[True], [False], [True], [True]]}))


def test_there_gates_are_refused_and_the_pattern_in_the_message_leaves_them_out() -> None:
    model, x = chain(block1=Basic(), block10=Basic(), block2=Shifted(), block3=Centred())
    with pytest.raises(RouteError, match=r"block 'block2', 'block3' cannot be decided image by image") as error:
        tp.route(model, tp.GatedBlocks(), example=x)
    found = re.search(r"sites=\((.*?),\)", str(error.value))
    assert found is not None
    net = tp.route(model, tp.GatedBlocks(sites=(eval(found.group(1)),)), example=x)
    assert [name for name, site in net.sites.items() if site.decider is not None] == ["block1", "block10"]
    net.train()(x)


def test_where_every_block_is_like_that_the_message_names_what_works() -> None:
    def net(track: bool) -> nn.Module:
        def norm(width: int) -> nn.Module:
            return nn.BatchNorm2d(width, track_running_stats=track)

        made: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5, norm_layer=norm)
        return made

    x = torch.randn(3, 3, 64, 64)
    with pytest.raises(RouteError, match=r"'layer1.0', .*running statistics, or route it without gates, method=None"):
        tp.route(net(False), tp.GatedBlocks(), example=x)
    tp.route(net(True), tp.GatedBlocks(), example=x)(x)
    plain = tp.route(net(False), example=x)
    plain(x, ~tp.Path.full(plain))


class Sequence(nn.Module):
    """Sequence-first: blocks get ``[tokens, batch, channels]``."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Mixed()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x.transpose(0, 1))
        return y.mean(0)


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layer(x)
        return y


@pytest.mark.parametrize("images", [1, 2, 4])
def test_a_sequence_first_block_is_refused_also_with_as_many_tokens_as_images(images: int) -> None:
    torch.manual_seed(0)
    search = find_residuals(Sequence(), torch.randn(images, images, 6))
    assert not search.places
    assert "first axis" in search.refused["block"]
    with pytest.raises(RouteError, match=r"'block', given by hand.*first axis"):
        tp.route(
            Sequence(), example=torch.randn(images, images, 6), residuals={"block": tp.Residual(layer, same, same)}
        )


def layer(block: Mixed, x: Tensor) -> Tensor:
    y: Tensor = block.layer(x)
    return y


def same(block: nn.Module, x: Tensor) -> Tensor:
    return x


class Insisting(nn.Module):
    """A model that takes one number of images and no other."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.block = Mixed()
        self.images = images

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x.view(self.images, 6))
        return y


@pytest.mark.parametrize("images", [1, 4])
def test_where_no_other_number_of_images_runs_images_are_apart_only_if_there_is_one(images: int) -> None:
    [place] = find_residuals(Insisting(images), torch.randn(images, 6)).places
    assert place.apart == (images == 1)
