"""Authors' checkpoints that do not fit: nothing is taken, and what is said has a way out that works."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import authors_toys as toys
from torchpaths import AdaptiveDepth, GatedBlocks, Routed, route
from torchpaths.errors import RunError
from torchpaths.methods.base import Method
from torchpaths.models import cifar_resnet, codewords, load_weights, read_weights
from torchpaths.train.finetune import completed
from torchpaths.train.folder import load_run
from torchpaths.train.recipe import Recipe
from torchpaths.train.run import train

Changed = Callable[[toys.State], Any]


def depth(layers: tuple[int, ...] = (2, 1, 3, 2), classes: int = 5) -> Routed:
    torch.manual_seed(0)
    return route(toys.resnet(layers, classes), AdaptiveDepth(), example=torch.randn(2, 3, 32, 32))


def gated(method: Method | None = None, shortcut: str = "B", classes: int = 10, channels: int = 3) -> Routed:
    torch.manual_seed(0)
    model = cifar_resnet(14, "A" if shortcut == "A" else "B", classes, channels)
    return route(model, method or GatedBlocks(), example=torch.randn(2, channels, 16, 16))


def refused(net: nn.Module, file: Path, message: str) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(RunError, match=message):
        load_weights(net, file)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def without(pattern: str) -> Changed:
    return lambda state: {name: value for name, value in state.items() if pattern not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("bn3_skip"),
            r"16 tensors absent from the file \(model.layer1.0.bn3.skipped.weight.*They are for .*AdaptiveDepth",
        ),
        (without("layer4."), r"tensors absent from the file \(model.layer4.0.conv1.weight"),
        (lambda state: dict(list(state.items())[: len(state) // 2]), "absent from the file.*Nothing was loaded"),
        (
            lambda state: {**state, f"features.{'9' * 5000}.0.norm1_skip.bias": torch.ones(1)},
            "1 tensors unknown to the",
        ),
        (lambda state: {**state, "layer1.0.gate.weight": torch.ones(1)}, r"unknown to the model \(layer1.0.gate.wei"),
        (lambda state: {**state, "layer1.1.bn1_skip.bias": torch.ones(8)}, r"unknown .*\(layer1.1.bn1_skip.bias\)"),
        (
            lambda state: {**state, "layer1.0.bn1.skipped.bias": torch.ones(8)},
            r"1 tensors given twice \(layer1.0.bn1.skipped.bias\)",
        ),
    ],
)
def test_a_file_of_adaptive_depth_with_less_or_more_is_refused(change: Changed, message: str, tmp_path: Path) -> None:
    net = depth()
    refused(net, toys.saved(change(toys.second(toys.own(net))), tmp_path), message)


def test_two_of_their_names_for_one_of_ours_are_refused(tmp_path: Path) -> None:
    net = gated()
    theirs = toys.gates(toys.own(net), imagenet=False)
    more = {"deciders.layer1/0.fc1.bias": theirs["layer1.0.fc1.bias"] + 1}
    refused(net, toys.saved({**theirs, **more}, tmp_path), r"1 tensors given twice \(deciders.layer1/0.fc1.bias\)")
    refused(net, toys.saved({**more, **theirs}, tmp_path), r"1 tensors given twice \(layer1.0.fc1.bias\)")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            partial(depth, (2, 1, 2, 2)),
            r"this routed ResNet: 33 tensors unknown to the model \(layer3.1.bn1_skip.weight",
        ),
        (partial(depth, (2, 1, 4, 2)), r"absent from the file \(model.layer3.3"),
        (partial(depth, classes=7), r"fc.weight \[5, 128\] for \[7, 128\].*as many classes, or fine-tune them"),
        (
            lambda: toys.resnet((2, 1, 3, 2)),
            r"12 second norms.*do not fit this plain ResNet: .*bn1_skip.*routed with AdaptiveDepth\(\)",
        ),
        (gated, "do not fit this routed CifarResNet: "),
    ],
)
def test_another_network_is_refused(make: Callable[[], nn.Module], message: str, tmp_path: Path) -> None:
    file = toys.saved(toys.second(toys.own(depth())), tmp_path)
    refused(make(), file, message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(gated, GatedBlocks(targets=(1.0, 0.6, 0.6, 0.6, 0.6, 0.6))), r"9 .*unknown .*\(layer1.0.fc1.weight"),
        (partial(gated, GatedBlocks(norm=False)), r"unknown to the model \(layer1.0.fc1bn.*with its norm"),
        (partial(gated, GatedBlocks(hidden=8)), r"layer1.0.fc1.weight \[16, 16\] for \[8, 16\].*hidden=16"),
        (partial(gated, shortcut="A"), r"layer2.0.shortcut.0.weight.*cifar_resnet110b"),
        (partial(cifar_resnet, 14, "B"), r"6 gates; .*this plain CifarResNet: .*routed with GatedBlocks\(\)"),
    ],
)
def test_gates_that_the_network_has_not_are_refused(
    make: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    refused(make(), toys.saved(toys.gates(toys.own(gated()), imagenet=False), tmp_path), message)


def test_other_codewords_are_refused_and_the_way_out_works(tmp_path: Path) -> None:
    file = toys.saved(toys.coded_file(toys.own(toys.coded_toy())), tmp_path)
    other = r"2 blocks have other codewords \(layer2.0.branches, .*CodedPaths\(schemes=torchpaths.models.codewords"
    refused(toys.coded_toy(toys.WORDS[::-1]), file, other)
    refused(toys.coded_toy().model, file, r"other codewords .*this plain ResNeXt|this plain ResNeXt: .*other codewords")
    load_weights(toys.coded_toy(codewords(file)[1]), file)
    maskless = toys.saved(without("Mask_perClass")(toys.coded_file(toys.own(toys.coded_toy()))), tmp_path)
    refused(toys.coded_toy(), maskless, r"net_list.5.conv_expand.weight \[96, 4, 1, 1\].*2 blocks have other codewords")
    with pytest.raises(RunError, match=r"has no codewords for its block net_list\.3"):
        codewords(maskless)
    odd = {**toys.coded_file(toys.own(toys.coded_toy())), "net_list.5.Mask_perClass": torch.tensor([True, False])}
    refused(toys.coded_toy(), toys.saved(odd, tmp_path), "1 blocks have other codewords")
    with pytest.raises(RunError, match=r"has no codewords for its block net_list\.5"):
        codewords(toys.saved(odd, tmp_path))
    with pytest.raises(RunError, match="is no file of Coded ResNeXt's authors"):
        codewords(toys.saved(gated().state_dict(), tmp_path))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_other_peoples_swin_is_not_taken_for_theirs(name: str, tmp_path: Path) -> None:
    net = route(toys.swin_net(), AdaptiveDepth(), example=torch.randn(2, 3, 32, 32))
    state = timm.create_model(name, depths=(1, 1, 1, 1), embed_dim=32, num_heads=(1, 1, 1, 1)).state_dict()
    with pytest.raises(RunError, match="another network than this SwinTransformer") as told:
        load_weights(net, toys.saved({"model": state}, tmp_path))
    assert "authors" not in str(told.value)


def test_a_network_of_the_authors_own_class_is_filled_as_it_is(tmp_path: Path) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn1, self.bn1_skip = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def theirs() -> nn.Module:
        return nn.ModuleDict({"layer1": nn.Sequential(Block())})

    file = toys.saved(toys.disturbed(theirs()).state_dict(), tmp_path)
    net = theirs()
    assert load_weights(net, file).remarks == ()
    assert torch.equal(net.state_dict()["layer1.0.bn1_skip.bias"], read_weights(file)["layer1.0.bn1_skip.bias"])


def test_an_average_beside_the_weights_is_told_of_and_can_be_taken(tmp_path: Path) -> None:
    net = depth()
    toys.disturbed(net)
    theirs = toys.second(toys.own(net))
    # As wchkang/depth writes it: torch.optim.swa_utils.AveragedModel beside the model's own.
    average = {"n_averaged": torch.tensor(9)} | {f"module.{name}": value + 1 for name, value in theirs.items()}
    held = {"model": theirs, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}}, "epoch": 3}
    file = toys.saved({**held, "model_ema": average}, tmp_path)
    said = str(load_weights(net, file))
    assert "weights of adaptive depth's authors (wchkang/depth), 12 second norms" in said
    assert "other weights in the file ('model_ema') were left" in said
    bias = net.state_dict()["model.fc.bias"]
    assert torch.equal(bias, theirs["fc.bias"])
    save_file(read_weights(file, entry="model_ema"), tmp_path / "weights.safetensors")
    assert len(load_weights(net, tmp_path / "weights.safetensors").remarks) == 1
    assert torch.equal(bias, theirs["fc.bias"] + 1)
    load_weights(net, file, entry="model")
    assert torch.equal(bias, theirs["fc.bias"])
    with pytest.raises(RunError, match=r"no entry 'ema' that holds weights by name; such entries are 'model', 'model_"):
        load_weights(net, file, entry="ema")
    with pytest.raises(RunError, match=r"no weights by name; give entry='model_ema', or"):
        load_weights(net, toys.saved({"model_ema": average}, tmp_path))
    with pytest.raises(RunError, match="it has no such entries"):
        load_weights(net, toys.saved(theirs, tmp_path), entry="model")


RECIPE: dict[str, Any] = {"epochs": 1, "batch": 8, "workers": 1, "steps": 1, "lr": 1e-12, "weight_decay": 0.0}


def recipe(file: Path, **changes: Any) -> Recipe:
    method = changes.pop("method", GatedBlocks())
    return Recipe(
        **{"model": "cifar_resnet14b", "data": "digits", "method": method, "weights": file} | RECIPE | changes
    )


def test_a_run_starts_from_authors_weights_and_says_whose_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = gated(channels=1)
    toys.disturbed(net)
    file = toys.saved({"state_dict": toys.gates(toys.own(net), imagenet=False)}, tmp_path)
    train(recipe(file), tmp_path / "run")
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"{file}: weights of ConvNet-AIG's authors (andreasveit/convnet-aig), 6 gates" in said
    got = load_run(tmp_path / "run").net.state_dict()
    name = "deciders.layer2/0.fc2.weight"
    assert torch.allclose(got[name], net.state_dict()[name], atol=1e-6)
    with pytest.raises(RunError, match=r"no plain network can start from, so there is no twin; leave it out \(--no-t"):
        train(recipe(file, twin=True), tmp_path / "twin", quiet=True)
    assert not list((tmp_path / "twin").glob("checkpoints/*"))
    with pytest.raises(RunError, match="this plain CifarResNet"):
        train(recipe(file, method=None), tmp_path / "plain", quiet=True)


def test_authors_weights_have_no_plain_network_for_a_teacher(tmp_path: Path) -> None:
    from torchpaths.train.distil import START, Distil

    file = toys.saved({"state_dict": toys.gates(toys.own(gated(channels=1)), imagenet=False)}, tmp_path)
    with pytest.raises(RunError, match=r"no plain network can start from to teach; leave the teacher out \(--distil N"):
        train(recipe(file, distil=Distil(START)), tmp_path / "taught", quiet=True)
    chosen, [said] = completed(recipe(file, distil=Distil(START), finetune=True, channels=1))
    assert chosen.distil is None
    assert "its last layer for 10 classes with them" in said


def test_fine_tuning_keeps_authors_gates_and_begins_another_last_layer(tmp_path: Path) -> None:
    net = gated(classes=7, channels=1)
    toys.disturbed(net)
    file = toys.saved({"state_dict": toys.gates(toys.own(net), imagenet=False)}, tmp_path)
    chosen, [said] = completed(recipe(file, finetune=True, channels=1))
    assert "a last layer linear for 7 classes, so one for 10 classes starts anew" in said
    train(chosen, tmp_path / "run", quiet=True)
    got = load_run(tmp_path / "run").net.state_dict()
    assert torch.allclose(got["deciders.layer1/0.fc1.bias"], net.state_dict()["deciders.layer1/0.fc1.bias"], atol=1e-6)
    assert got["model.linear.weight"].shape == (10, 64)
