"""Claims about published weights: what is known of them without a network, and how they are read from caches."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from published_toys import TINY, cached, config, offline
from torchpaths.errors import RunError
from torchpaths.models import create_model
from torchpaths.models.create import tagged
from torchpaths.models.hub import hosted
from torchpaths.models.published import fetched, published

__all__ = ["offline"]


@pytest.mark.parametrize(
    ("name", "full", "size"),
    [
        ("timm/resnet34", "timm/resnet34.a1_in1k", 224),
        ("timm/resnet34.tv_in1k", "timm/resnet34.tv_in1k", 224),
        ("torchvision/resnet18", "torchvision/resnet18:IMAGENET1K_V1", 224),
        ("torchvision/resnet50:DEFAULT", "torchvision/resnet50:IMAGENET1K_V2", 224),
        ("torchvision/vit_b_16:IMAGENET1K_SWAG_E2E_V1", "torchvision/vit_b_16:IMAGENET1K_SWAG_E2E_V1", 384),
    ],
)
def test_a_name_says_which_weights_and_for_which_images(name: str, full: str, size: int) -> None:
    found = published(name)
    assert found is not None
    assert (found.name, found.size, found.classes) == (full, size, 1000)
    assert 0.8 < found.crop <= 1
    assert found.mean == pytest.approx((0.485, 0.456, 0.406))
    assert tagged(found.name)


def test_the_form_of_images_is_timms_and_torchvisions_own() -> None:
    theirs = config("resnet34.a1_in1k")
    ours = published("timm/resnet34.a1_in1k")
    assert ours is not None
    assert (ours.crop, ours.bicubic, ours.std) == (
        theirs["crop_pct"],
        theirs["interpolation"] == "bicubic",
        theirs["std"],
    )
    form = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    ours = published("torchvision/resnet18")
    assert ours is not None
    assert (ours.size, ours.size / ours.crop, ours.bicubic) == (form.crop_size[0], form.resize_size[0], False)


@pytest.mark.parametrize("name", ["cifar_resnet20", "package.module:function", "timm/botnet50ts_256"])
def test_a_model_of_which_nothing_is_published_has_no_weights(name: str) -> None:
    assert published(name) is None
    assert not tagged(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm/resnet34.a1_in2k", r"no weights 'a1_in2k' for resnet34\. Did you mean 'a1_in1k'"),
        ("timm/botnet50ts_256.x", "Nothing is published for it"),
        ("torchvision/resnet18:IMAGENET1K_V9", "Did you mean 'IMAGENET1K_V1'"),
        ("timm/resnet3", r"no model 'timm/resnet3'\. Did you mean 'resnet34'"),
    ],
)
def test_an_unknown_name_or_tag_is_answered_with_near_ones(name: str, said: str) -> None:
    with pytest.raises(RunError, match=said):
        published(name)


@pytest.mark.parametrize(
    "name", [f"{TINY}.r160_in1k", "torchvision/resnet18:DEFAULT", "timm/vit_tiny_patch16_224.augreg_in21k"]
)
def test_without_a_network_it_says_so_at_once_and_what_to_do(name: str, offline: Path) -> None:
    with pytest.raises(RunError, match=r"not on this machine and cannot be fetched.*give that file, --weights FILE"):
        fetched(name)


def test_timms_weights_come_from_the_hubs_cache_without_a_network(offline: Path) -> None:
    model = timm.create_model("test_resnet")
    save_file(model.state_dict(), cached(offline, "timm/test_resnet.r160_in1k", "model.safetensors"))
    found = fetched(f"{TINY}.r160_in1k")
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
    grey = fetched(f"{TINY}.r160_in1k", channels=1)["conv1.0.weight" if "conv1.0.weight" in found else "conv1.weight"]
    assert grey.shape[1] == 1


def test_torchvisions_weights_come_from_torchs_cache_without_a_network(offline: Path, tmp_path: Path) -> None:
    model = models.resnet18()
    file = tmp_path / "torch/hub/checkpoints" / Path(models.ResNet18_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.save(model.state_dict(), file)
    assert torch.equal(fetched("torchvision/resnet18:DEFAULT")["fc.weight"], model.fc.weight)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RunError, match="cannot be read"):
        fetched("torchvision/resnet18:DEFAULT")


def test_somebodys_model_of_the_hub_is_an_architecture_and_a_file(offline: Path) -> None:
    written = {"architecture": "test_resnet", "num_classes": 5, "pretrained_cfg": config(), "model_args": {}}
    cached(offline, "me/mine", "config.json").write_text(json.dumps(written))
    save_file(
        timm.create_model("test_resnet", num_classes=5).state_dict(), cached(offline, "me/mine", "model.safetensors")
    )
    found = hosted("hf-hub:me/mine")
    assert (found.model, found.weights.name) == (TINY, "model.safetensors")
    assert found.config["num_classes"] == 5
    cached(offline, "me/mine", "config.json").write_text(json.dumps({**written, "model_args": {"width": 3}}))
    with pytest.raises(RunError, match=r"made with \{'width': 3\}; write a function"):
        hosted("hf-hub:me/mine")
    cached(offline, "me/mine", "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RunError, match="give a model of timm"):
        hosted("hf-hub:me/mine")


def test_a_tag_makes_no_difference_where_no_weights_are_asked_for(offline: Path) -> None:
    logging.getLogger("timm").setLevel(logging.ERROR)
    for name in (f"{TINY}.r160_in1k", "torchvision/resnet18:DEFAULT"):
        assert create_model(name, 3).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet18", "there is 'timm/resnet18' and 'torchvision/resnet18'"),
        ("resnet34.a1_in1k", r"there is 'timm/resnet34\.a1_in1k'\."),
        ("resnet18:DEFAULT", r"there is 'torchvision/resnet18:DEFAULT'\."),
        ("vit_b_16", r"there is 'torchvision/vit_b_16'\."),
    ],
)
def test_a_name_without_its_prefix_is_answered_with_those_that_exist(name: str, said: str) -> None:
    with pytest.raises(RunError, match=said):
        create_model(name, 10)


@pytest.mark.parametrize("name", ["hf-hub:nope", "hf-hub:a/b/c", "hf-hub:", "hf-hub:a b/c"])
def test_what_is_no_name_on_the_hub_is_said(name: str, offline: Path) -> None:
    with pytest.raises(RunError, match="write hf-hub:user/model"):
        hosted(name)
