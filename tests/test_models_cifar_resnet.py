"""Claims about the CIFAR residual networks: they are the published ones, to the last image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import fx, nn

from shared import SHARED, needs_shared
from torchpaths.data import Loader, open_data
from torchpaths.errors import RunError
from torchpaths.models import BasicBlock, PadShortcut, cifar_resnet, load_weights
from torchpaths.models.cifar_resnet import Shortcut


@pytest.mark.parametrize(
    ("depth", "shortcut", "parameters"),
    [(20, "A", 269_722), (56, "A", 853_018), (110, "A", 1_727_962), (110, "B", 1_730_714)],
)
def test_the_networks_have_the_papers_numbers_of_parameters(depth: int, shortcut: Shortcut, parameters: int) -> None:
    assert sum(p.numel() for p in cifar_resnet(depth, shortcut).parameters()) == parameters


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_the_depth_counts_the_layers_with_weights_on_the_way_through(depth: int) -> None:
    layers = [m for m in cifar_resnet(depth, "A").modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


def correct(depth: int, images: int) -> int:
    data = open_data(SHARED / "data" / "cifar10", "test")
    loader = Loader(data, 100, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    model = cifar_resnet(depth).eval()
    load_weights(model, SHARED / "data" / "weights" / f"cifar10_resnet{depth}.safetensors")
    with torch.inference_mode():
        batches = [batch for batch, _ in zip(loader, range(images // 100), strict=False)]
        return sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)


@needs_shared
def test_resnet20_with_the_published_weights_is_right_on_exactly_9173_of_10000_cifar10_test_images() -> None:
    assert correct(20, 10_000) == 9173


@needs_shared
@pytest.mark.parametrize(("depth", "right"), [(32, 928), (44, 933), (56, 926)])
def test_the_deeper_published_weights_are_right_on_the_same_of_the_first_1000_images(depth: int, right: int) -> None:
    assert correct(depth, 1_000) == right


def test_shortcut_a_takes_every_second_pixel_and_pads_with_zero_channels_on_both_sides() -> None:
    x = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4) + 1
    y = PadShortcut(pad=2, stride=2)(x)
    assert y.shape == (2, 7, 2, 2)
    assert torch.equal(y[:, 2:5], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 5:].any()


@pytest.mark.parametrize(("inputs", "stride", "shortcut"), [(8, 1, "A"), (4, 2, "A"), (4, 2, "B")])
def test_a_block_traces_to_one_sum_of_branch_and_shortcut(inputs: int, stride: int, shortcut: Shortcut) -> None:
    class Opaque(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return True

    torch.manual_seed(0)
    block = BasicBlock(inputs, 8, stride, shortcut).eval()
    graph = Opaque().trace(block)
    functions = [node for node in graph.nodes if node.op in ("call_function", "call_method")]
    assert len(functions) == 1
    branch, other = functions[0].args
    assert (branch.target, other.target) == ("bn2", "shortcut")
    x = torch.randn(2, inputs, 8, 8)
    assert torch.equal(fx.GraphModule(block, graph)(x), block(x))


def test_a_block_leaves_its_input_as_it_was() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 4, 4)
    before = x.clone()
    BasicBlock(8, 8, 1, "A")(x)
    assert torch.equal(x, before)


def test_convolutions_start_with_the_variance_of_he_et_al() -> None:
    torch.manual_seed(0)
    weight = cifar_resnet(20).get_parameter("layer3.2.conv2.weight")
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)


def test_grey_images_of_8_by_8_and_any_number_of_classes_are_taken() -> None:
    assert cifar_resnet(20, "B", classes=7, channels=1)(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize(
    ("depth", "shortcut", "classes", "message"),
    [(21, "A", 10, "choose one of 14, 20, 32"), (20, "C", 10, "choose 'A'"), (20, "A", 0, "at least one class")],
)
def test_a_network_that_does_not_exist_is_refused_with_the_ones_that_do(
    depth: int, shortcut: Shortcut, classes: int, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        cifar_resnet(depth, shortcut, classes)
