"""Claims about models by name."""

from __future__ import annotations

import ast
import inspect
import sys

import pytest
import torch

from torchpaths.errors import RunError
from torchpaths.models import MODELS, CifarGoogLeNet, CifarResNet, CifarVGG, ResNeXt, create_model


@pytest.mark.parametrize(
    "name",
    ["cifar_resnet20", "cifar_resnet20b", "cifar_vgg19_bn", "cifar_googlenet", "timm/resnet18", "torchvision/resnet18"],
)
def test_a_model_has_the_classes_that_were_asked_for(name: str) -> None:
    model = create_model(name, 7).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_a_name_that_ends_in_b_has_projections() -> None:
    names = {n for n, _ in create_model("cifar_resnet20b", 10).named_parameters()}
    assert "layer2.0.shortcut.0.weight" in names
    assert not any("shortcut" in n for n, _ in create_model("cifar_resnet20", 10).named_parameters())
    assert len([name for name in MODELS if name.startswith("cifar_resnet")]) == 12


@pytest.mark.parametrize("kind", [CifarResNet, CifarVGG, CifarGoogLeNet, ResNeXt])
def test_a_file_that_goes_with_a_cut_network_needs_torch_alone(kind: type) -> None:
    tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots = {str(name).partition(".")[0] for name in froms | names}
    assert roots - sys.stdlib_module_names == {"torch"}


@pytest.mark.parametrize("name", ["cifar_resnet20", "timm/resnet18"])
def test_grey_images_are_taken(name: str) -> None:
    with torch.inference_mode():
        assert create_model(name, 3, channels=1).eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


def test_further_arguments_reach_the_model() -> None:
    assert create_model("torchvision/resnet18", 2, width_per_group=64, zero_init_residual=True)
    with pytest.raises(RunError, match=r"cannot be made with .*width=3"):
        create_model("cifar_resnet20", 2, width=3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar_resnet65", "Did you mean 'cifar_resnet56'"),
        ("cifar_resnet56.tag", "Did you mean 'cifar_resnet56'"),
        ("timm/resnet5o", "Did you mean 'resnet50'"),
        ("torchvision/resnet51", "Did you mean 'resnet50'"),
        ("resnet50", "With its prefix there is 'timm/resnet50' and 'torchvision/resnet50'"),
        ("my_network", "Others: 'timm/<name>'"),
        ("keras/resnet50", "no library 'keras'; write 'timm/resnet50'"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        create_model(name, 10)


def test_grey_images_for_torchvision_are_refused_with_the_model_that_takes_them() -> None:
    with pytest.raises(RunError, match="'timm/resnet18'"):
        create_model("torchvision/resnet18", 10, channels=1)


def test_a_missing_timm_is_answered_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RunError, match=r"pip install 'torchpaths\[timm\]'"):
        create_model("timm/resnet18", 10)
