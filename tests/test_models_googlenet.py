"""Claims about GoogLeNet for CIFAR: it is the network that network decoupling reports on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import fx, nn

from torchpaths.costs import count_macs, count_params
from torchpaths.errors import RunError
from torchpaths.models import CifarGoogLeNet, Inception, cifar_googlenet

WIDTHS = (4, 3, 6, 2, 5, 7)


def small(classes: int = 5, channels: int = 3) -> CifarGoogLeNet:
    torch.manual_seed(0)
    return CifarGoogLeNet(8, ((WIDTHS,), (WIDTHS, WIDTHS), (WIDTHS,)), classes, channels).eval()


@pytest.mark.parametrize(
    ("classes", "params", "macs"), [(10, 6_166_250, 1_521_756_160), (100, 6_258_500, 1_521_848_320)]
)
def test_the_network_has_the_papers_numbers_of_parameters_and_macs(classes: int, params: int, macs: int) -> None:
    with torch.device("meta"):
        model, x = cifar_googlenet(classes), torch.zeros(1, 3, 32, 32)
    assert (count_params(model), count_macs(lambda: model(x))) == (params, macs)


def test_each_of_nine_inceptions_has_seven_convolutions_with_a_norm_and_a_relu_behind() -> None:
    with torch.device("meta"):
        found = [m for m in cifar_googlenet().modules() if isinstance(m, Inception)]
    assert len(found) == 9
    for block in found:
        kinds = [type(m) for m in block.modules() if not isinstance(m, Inception | nn.Sequential | nn.MaxPool2d)]
        assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 7


def test_the_outputs_of_the_branches_lie_side_by_side() -> None:
    torch.manual_seed(0)
    block, x = Inception(8, WIDTHS).eval(), torch.randn(2, 8, 6, 6)
    assert block.outputs == 4 + 6 + 5 + 7
    with torch.inference_mode():
        parts = block(x).split((4, 6, 5, 7), 1)
        for part, branch in zip(parts, (block.branch1, block.branch2, block.branch3, block.branch4), strict=True):
            assert torch.equal(part, branch(x))


def test_the_resolution_is_halved_twice() -> None:
    model, seen = small(), {}
    for name in ("inception3", "inception4", "inception5"):
        layer = model.get_submodule(name)
        layer.register_forward_hook(lambda module, inputs, y, name=name: seen.update({name: tuple(y.shape[2:])}))
    model(torch.zeros(1, 3, 32, 32))
    assert seen == {"inception3": (32, 32), "inception4": (16, 16), "inception5": (8, 8)}


def test_an_inception_traces_to_four_sequences_and_one_concatenation() -> None:
    block, x = Inception(8, WIDTHS).eval(), torch.randn(2, 8, 6, 6)
    traced = fx.symbolic_trace(block)
    functions = [node for node in traced.graph.nodes if node.op in ("call_function", "call_method")]
    assert [node.target for node in functions] == [torch.cat]
    assert torch.equal(traced(x), block(x))
    model, images = small(), torch.randn(2, 3, 32, 32)
    assert torch.equal(fx.symbolic_trace(model)(images), model(images))


def test_convolutions_start_with_the_variance_of_he_et_al_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    model = CifarGoogLeNet(64, (((8, 64, 64, 8, 8, 8),), (WIDTHS,), (WIDTHS,)), 5, 3)
    weight = model.get_parameter("inception3.0.branch2.3.weight")
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert not any(parameter.any() for name, parameter in model.named_parameters() if name.endswith("bias"))


def test_grey_images_of_8_by_8_and_any_number_of_classes_are_taken() -> None:
    assert small(classes=7, channels=1)(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


def test_a_network_without_classes_or_channels_is_refused() -> None:
    with pytest.raises(RunError, match="at least one class and one input channel, not 0 and 3"):
        cifar_googlenet(classes=0)
    with pytest.raises(RunError, match="not 10 and 0"):
        cifar_googlenet(channels=0)
