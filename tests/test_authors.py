"""Authors' checkpoints: their names, and that a network filled from them answers what their equations give."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import MobileNetV2, ResNet, VisionTransformer
from torchvision.models.resnet import Bottleneck

import authors_toys as toys
from torchpaths import AdaptiveDepth, CodedPaths, GatedBlocks, Routed, route
from torchpaths.models import cifar_resnet, codewords, create_model, load_weights
from torchpaths.models.authors import translated

SETTINGS = [(1, 8, 1, 1), (2, 16, 2, 2), (2, 24, 3, 2), (2, 32, 1, 1)]

Row = tuple[Callable[[], nn.Module], str, Callable[[toys.State], toys.State], int, dict[str, tuple[int, ...]]]

# What is called X_skip there: model, norms with a second version, their names from ours, how many tensors their
# state_dict has, and some of them with their shapes, as their own classes give them.
DEPTH: dict[str, Row] = {
    "models/resnet.py": (
        torchvision.models.resnet50,
        r"layer[124]\.[01]\.bn\d|layer3\.[012]\.bn\d",
        toys.second,
        455,
        {
            "layer3.2.bn3_skip.running_var": (1024,),
            "layer2.0.downsample.1.weight": (512,),
            "layer4.1.bn1_skip.weight": (512,),
        },
    ),
    "models/mobilenetv2.py": (
        torchvision.models.mobilenet_v2,
        r"features\.(?!(?:3|6|9|10|13|16)\.)(?:\d+\.1|\d+\.conv\.\d\.1|1\.conv\.2|\d+\.conv\.3)",
        partial(toys.mobilenet, blocks=(1, 2, 3, 4, 3, 3, 1)),
        484,
        {
            "features.0.norm_skip.weight": (32,),
            "features.1.conv.1.conv_layer.weight": (16, 32, 1, 1),
            "features.1.conv.0.norm_skip.bias": (32,),
            "features.4.1.conv.2.norm_skip.weight": (64,),
            "features.4.3.conv.1.conv_layer.weight": (384, 1, 3, 3),
            "features.6.2.conv.0.norm.running_mean": (960,),
            "features.7.conv.2.norm_skip.weight": (320,),
            "features.8.conv_layer.weight": (1280, 320, 1, 1),
            "classifier.1.weight": (1000, 1280),
        },
    ),
    "models/swin_transformer.py": (
        torchvision.models.swin_t,
        r"features\.(?:[137]\.0|5\.[012])\.norm\d|features\.[246]\.norm",
        toys.swin,
        215,
        {
            "pre.0.weight": (96, 3, 4, 4),
            "pre.2.bias": (96,),
            "features.0.0.norm1_skip.weight": (96,),
            "features.1.norm_skip.weight": (384,),
            "features.1.reduction.weight": (192, 384),
            "features.4.2.norm2_skip.bias": (384,),
            "features.4.5.attn.relative_position_bias_table": (169, 12),
            "features.6.1.mlp.3.weight": (768, 3072),
            "head.weight": (1000, 768),
        },
    ),
    "models/vision_transformer.py": (
        torchvision.models.vit_b_16,
        r"encoder\.layers\.encoder_layer_(?:0|1|3|4|6|7|9|10)\.ln_\d",
        toys.second,
        184,
        {
            "encoder.pos_embedding": (1, 197, 768),
            "encoder.layers.encoder_layer_10.ln_2_skip.bias": (768,),
            "encoder.layers.encoder_layer_11.self_attention.in_proj_weight": (2304, 768),
            "heads.head.weight": (1000, 768),
        },
    ),
}

# convnet_aig.py: ResNet50_ImageNet and ResNet110_cifar.
GATES: dict[str, tuple[Callable[[], nn.Module], bool, int, dict[str, tuple[int, ...]]]] = {
    "ResNet50_ImageNet": (
        torchvision.models.resnet50,
        True,
        464,
        {
            "layer1.0.fc1.weight": (16, 64, 1, 1),
            "layer1.0.fc1bn.running_mean": (16,),
            "layer4.2.fc2.weight": (2, 16, 1, 1),
            "layer3.0.shortcut.0.weight": (1024, 512, 1, 1),
            "linear.weight": (1000, 2048),
        },
    ),
    "ResNet110_cifar": (
        partial(create_model, "cifar_resnet110b", 10),
        False,
        1154,
        {
            "layer3.17.fc1.weight": (16, 64, 1, 1),
            "layer2.0.shortcut.1.bias": (32,),
            "layer1.0.fc2.bias": (2,),
            "linear.bias": (10,),
        },
    ),
}


def shapes(state: toys.State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize("file", DEPTH)
def test_every_name_of_adaptive_depths_networks_is_known(file: str) -> None:
    make, doubled, renamed, count, listed = DEPTH[file]
    with torch.device("meta"):
        ours = dict(make().state_dict())
    for name in list(ours):
        module, _, leaf = name.rpartition(".")
        if re.fullmatch(doubled, module):
            ours[f"{module}.skipped.{leaf}"] = ours[name]
    theirs = renamed(ours)
    assert len(theirs) == count
    assert listed.items() <= shapes(theirs).items()
    found = translated(theirs)
    assert found is not None
    assert shapes(found.tensors) == shapes(ours)
    seconds = sum(name.endswith(".skipped.weight") for name in ours)
    assert found.remark == (
        f"weights of adaptive depth's authors (wchkang/depth), {seconds} second norms, theirs X_skip, here X.skipped"
    )


@pytest.mark.parametrize("network", GATES)
def test_every_name_of_convnet_aigs_networks_is_known(network: str) -> None:
    make, imagenet, count, listed = GATES[network]
    with torch.device("meta"):
        ours = dict(make().state_dict())
        blocks = {m[0]: m for name in ours if (m := re.match(r"(layer\d)\.(\d+)\.conv1", name))}
        for name, match in blocks.items():
            gate = {"fc1": nn.Linear(ours[f"{name}.weight"].shape[1], 16), "norm": nn.BatchNorm1d(16)}
            for part, module in {**gate, "fc2": nn.Linear(16, 2)}.items():
                state = module.state_dict()
                ours |= {f"deciders.{match[1]}/{match[2]}.{part}.{leaf}": value for leaf, value in state.items()}
    theirs = toys.gates(ours, imagenet)
    assert len(theirs) == count
    assert listed.items() <= shapes(theirs).items()
    found = translated(theirs)
    assert found is not None
    assert shapes(found.tensors) == shapes(ours)
    assert f"andreasveit/convnet-aig), {len(blocks)} gates" in found.remark


def filled(
    make: Callable[[], Routed], renamed: Callable[[toys.State], toys.State], folder: Path
) -> tuple[Routed, toys.State]:
    """A network filled from a file of the authors, which holds what another of its kind does; and the file."""
    torch.manual_seed(0)
    other = make()
    toys.disturbed(other)
    theirs = renamed(toys.own(other))
    torch.manual_seed(1)
    net = make()
    loaded = load_weights(net, toys.saved({"state_dict": theirs, "epoch": 90, "optimizer": {"state": {}}}, folder))
    assert loaded.tensors == len([name for name in theirs if not name.endswith("Mask_perClass")])
    assert "authors" in str(loaded)
    return net.eval(), theirs


def near(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    assert float(theirs.std()) > 1e-3
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < tolerance


def test_a_resnet_of_adaptive_depth_answers_as_theirs_at_every_depth(tmp_path: Path) -> None:
    method, x = AdaptiveDepth(), torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))

    def make() -> Routed:
        return route(toys.resnet((2, 1, 3, 2)), method, example=x)

    net, theirs = filled(make, toys.second, tmp_path)
    answers = []
    with torch.no_grad():
        for skip in product((False, True), repeat=3):
            # One block is no stage that could be skipped.
            flags = (skip[0], False, *skip[1:])
            answers.append(toys.depth_resnet(theirs, x, flags))
            near(net(x, method.path(net, skip))[0], answers[-1])
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(answers) for b in answers[:i])


def test_a_mobilenet_of_adaptive_depth_answers_as_theirs_at_every_depth(tmp_path: Path) -> None:
    method, x = AdaptiveDepth(ends=True), torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))

    def make() -> Routed:
        settings = [list(row) for row in SETTINGS]
        return route(MobileNetV2(5, inverted_residual_setting=settings), method, example=x)

    net, theirs = filled(make, partial(toys.mobilenet, blocks=[row[2] for row in SETTINGS]), tmp_path)
    with torch.no_grad():
        answers = [toys.depth_mobilenet(theirs, x, skip, SETTINGS) for skip in product((False, True), repeat=2)]
        for skip, answer in zip(product((False, True), repeat=2), answers, strict=True):
            near(net(x, method.path(net, skip))[0], answer)
    assert all(not torch.allclose(a, b, atol=1e-4) for i, a in enumerate(answers) for b in answers[:i])


def vit() -> nn.Module:
    made: nn.Module = VisionTransformer(32, 8, num_layers=6, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)
    return made


@pytest.mark.parametrize(
    ("make", "groups", "renamed", "where"),
    [
        # models/swin_transformer.py: a patch merging has the flag of the stage it leads to, skip[(i + 1) // 2].
        (toys.swin_net, 4, toys.swin, {"features.0.0.norm1": 0, "features.1.norm": 1, "features.2.0.norm2": 1}),
        # models/vision_transformer.py: of three blocks the last can be skipped.
        (vit, 2, toys.second, {f"encoder.layers.encoder_layer_{i}.ln_{i % 2 + 1}": i // 3 for i in (0, 1, 3, 4)}),
    ],
)
def test_second_norms_of_transformers_act_where_theirs_do(
    make: Callable[[], nn.Module],
    groups: int,
    renamed: Callable[[toys.State], toys.State],
    where: dict[str, int],
    tmp_path: Path,
) -> None:
    method, x = AdaptiveDepth(groups=groups), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    net, theirs = filled(lambda: route(make(), method, example=x), renamed, tmp_path)
    depths = list(product((False, True), repeat=2))

    def answers() -> list[Tensor]:
        with torch.no_grad():
            return [net(x, method.path(net, skip))[0] for skip in depths]

    before = answers()
    for name, stage in where.items():
        for second in (False, True):
            load_weights(net, toys.saved(toys.scaled(theirs, f"{name}_skip" if second else name), tmp_path))
            changed = [not torch.allclose(a, b) for a, b in zip(before, answers(), strict=True)]
            assert changed == [skip[stage] is second for skip in depths], (name, second)
    load_weights(net, toys.saved(theirs, tmp_path))
    assert all(map(torch.equal, before, answers()))


def gated(make: Callable[[], nn.Module], size: int) -> Routed:
    return route(make(), GatedBlocks(), example=torch.randn(2, 3, size, size))


@pytest.mark.parametrize(
    ("make", "imagenet"),
    [
        (partial(cifar_resnet, 14, "B"), False),
        (partial(ResNet, Bottleneck, [1, 2, 1, 1], num_classes=5), True),
    ],
)
def test_gates_open_the_blocks_that_theirs_open(make: Callable[[], nn.Module], imagenet: bool, tmp_path: Path) -> None:
    net, theirs = filled(lambda: gated(make, 32), partial(toys.gates, imagenet=imagenet), tmp_path)
    x = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours, trace = net(x)
        answer, opened = toys.gated_resnet(theirs, x)
    near(ours, answer)
    assert all(torch.equal(trace[site].open[:, 0], gate) for site, gate in zip(net.sites, opened, strict=True))
    shares = [float(gate.float().mean()) for gate in opened]
    assert min(shares) < 0.9
    assert max(shares) > 0.1
    assert any(0 < share < 1 for share in shares)


STRIDES = (1, 1, 2, 1)


def test_a_coded_network_answers_as_theirs_and_class_by_class(tmp_path: Path) -> None:
    net, theirs = filled(toys.coded_toy, toys.coded_file, tmp_path)
    # CIFAR/NN_modules.py: N C outputs of d inputs each in a coded block; net_list.0 is the stem, 3 the first block.
    assert {
        "net_list.0.weight": (8, 3, 3, 3),
        "net_list.3.conv_expand.weight": (12, 8, 1, 1),
        "net_list.5.conv_expand.weight": (4 * 24, 4, 1, 1),
        "net_list.5.skip_connection.conv_skip.weight": (24, 12, 1, 1),
        "net_list.6.Mask_perClass": (6, 4),
        "net_list.9.weight": (6, 24),
    }.items() <= shapes(theirs).items()
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        near(net(x)[0], toys.coded_resnext(theirs, x, STRIDES))
        for label in range(6):
            path = CodedPaths().path(net, [label])
            near(net(x, path)[0], toys.coded_resnext(theirs, x, STRIDES, keep=label), 1e-4)


def test_the_codewords_of_a_file_are_read_as_schemes(tmp_path: Path) -> None:
    assert codewords(toys.saved(toys.coded_file(toys.own(toys.coded_toy())), tmp_path)) == ((), toys.WORDS)
    wrapped = {f"module.{name}": value for name, value in toys.coded_file(toys.own(toys.coded_toy())).items()}
    assert codewords(toys.saved({"state_dict": wrapped}, tmp_path)) == ((), toys.WORDS)
