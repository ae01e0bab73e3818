"""Claims about VGG for CIFAR: it is the network that network decoupling reports on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import fx, nn

from torchpaths.costs import count_macs, count_params
from torchpaths.errors import RunError
from torchpaths.models import CifarVGG, cifar_vgg19_bn


def small(classes: int = 5, channels: int = 3) -> CifarVGG:
    torch.manual_seed(0)
    return CifarVGG(((8,), (12, 12), (16,), (16,), (16,)), classes, channels).eval()


@pytest.mark.parametrize(("classes", "params", "macs"), [(10, 20_035_018, 398_136_320), (100, 20_081_188, 398_182_400)])
def test_the_network_has_the_papers_numbers_of_parameters_and_macs(classes: int, params: int, macs: int) -> None:
    with torch.device("meta"):
        model, x = cifar_vgg19_bn(classes), torch.zeros(1, 3, 32, 32)
    assert (count_params(model), count_macs(lambda: model(x))) == (params, macs)


def test_the_convolutions_are_vgg_19s_and_the_classifier_is_one_linear_layer() -> None:
    with torch.device("meta"):
        layers = [m for m in cifar_vgg19_bn().modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    *convolutions, classifier = layers
    widths = [m.out_channels for m in convolutions if isinstance(m, nn.Conv2d)]
    assert widths == [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    assert isinstance(classifier, nn.Linear)


def test_the_last_two_by_two_pixels_are_averaged() -> None:
    model, x = small(), torch.randn(2, 3, 32, 32)
    y = model.features(x)
    assert y.shape == (2, 16, 2, 2)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), model.classifier(y.mean((2, 3))))


def test_a_trace_is_one_sequence_of_modules_and_gives_the_same() -> None:
    model, x = small(), torch.randn(2, 3, 32, 32)
    traced = fx.symbolic_trace(model)
    assert {node.op for node in traced.graph.nodes} == {"placeholder", "call_module", "output"}
    assert all(len(node.users) == 1 for node in traced.graph.nodes if node.op == "call_module")
    assert torch.equal(traced(x), model(x))


def test_convolutions_start_with_the_variance_of_he_et_al() -> None:
    torch.manual_seed(0)
    weight = CifarVGG(((64, 128),), 5, 3).get_parameter("features.3.weight")
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)


def test_grey_images_of_16_by_16_and_any_number_of_classes_are_taken() -> None:
    assert small(classes=7, channels=1)(torch.zeros(2, 1, 16, 16)).shape == (2, 7)


def test_a_network_without_classes_or_channels_is_refused() -> None:
    with pytest.raises(RunError, match="at least one class and one input channel, not 0 and 3"):
        cifar_vgg19_bn(classes=0)
    with pytest.raises(RunError, match="not 10 and 0"):
        cifar_vgg19_bn(channels=0)
