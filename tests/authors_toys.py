"""The authors' networks by their equations and under their names, on a state dictionary alone.

Written from the papers' equations and from the names in the authors' repositories: ``models/*.py`` of wchkang/depth,
``convnet_aig.py`` of andreasveit/convnet-aig, ``NN_modules.py`` and ``NN_ResNeXt.py`` of avranasa/Coded-ResNeXt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import SwinTransformer

from torchpaths import CodedPaths, Routed, route
from torchpaths.models.resnext import ResNeXt

State = dict[str, Tensor]


def disturbed(net: nn.Module, seed: int = 0) -> nn.Module:
    """A network whose norms are no identity and differ from each other, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point() and (value.dim() < 2 or "fc2" in name or not value.any()):
                drawn = torch.rand(value.shape, generator=generator)
                value.copy_(drawn + 0.5 if name.endswith(("weight", "var")) and "fc2" not in name else drawn - 0.5)
    return net.eval()


def own(net: Routed) -> State:
    """What a routed network holds, by a plain network's names."""
    return {name.removeprefix("model."): value.clone() for name, value in net.state_dict().items()}


def second(state: Mapping[str, Tensor]) -> State:
    """Adaptive depth's names of norms' second versions: ResNet and ViT."""
    return {re.sub(r"\.skipped\.(\w+)$", r"_skip.\1", name): value for name, value in state.items()}


def swin(state: Mapping[str, Tensor]) -> State:
    """Adaptive depth's Swin: ``pre`` is the patch embedding, ``features`` begins behind it."""

    def shifted(name: str) -> str:
        if name.startswith("features.0."):
            return name.replace("features.0.", "pre.", 1)
        return re.sub(r"^features\.(\d+)", lambda match: f"features.{int(match[1]) - 1}", name)

    return {shifted(name): value for name, value in second(state).items()}


def mobilenet(state: Mapping[str, Tensor], blocks: Sequence[int]) -> State:
    """Adaptive depth's MobileNetV2 of so many blocks in its stages; those of several are modules of their own."""
    where: dict[int, str] = {0: "features.0"}
    for stage, count in enumerate(blocks, 1):
        for i in range(count):
            where[len(where)] = f"features.{stage}.{i}" if count > 1 else f"features.{stage}"
    where[len(where)] = f"features.{len(blocks) + 1}"
    found = {}
    for name, value in second(state).items():
        # In torchvision a block's last convolution and its norm are entries of conv, all others pairs within one.
        match = re.fullmatch(r"features\.(\d+)\.(?:conv\.(\d+))?\.?(\d*)(_skip)?\.(\w+)", name)
        if match is None:
            found[name] = value
            continue
        flat, layer, part, skip, leaf = match.groups()
        is_norm = part == "1" if part else value.dim() != 4
        if layer is not None and not part:
            layer = str(int(layer) - is_norm)
        kind = f"norm{skip or ''}" if is_norm else "conv_layer"
        found[".".join([where[int(flat)], *([] if layer is None else ["conv", layer]), kind, leaf])] = value
    return found


def gates(state: Mapping[str, Tensor], imagenet: bool) -> State:
    """ConvNet-AIG's: gates in their blocks, of 1x1 convolutions."""
    found = {}
    for name, value in state.items():
        match = re.fullmatch(r"deciders\.(layer\d)/(\d+)\.(fc1|norm|fc2)\.(\w+)", name)
        if match is not None:
            gate = {"norm": "fc1bn"}.get(match[3], match[3])
            found[f"{match[1]}.{match[2]}.{gate}.{match[4]}"] = value[..., None, None] if value.dim() == 2 else value
        elif imagenet:
            found[name.replace(".downsample.", ".shortcut.").replace("fc.", "linear.")] = value
        else:
            found[name] = value
    return found


def coded(state: Mapping[str, Tensor], words: Mapping[str, Tensor], blocks: Sequence[str], pools: int) -> State:
    """Coded ResNeXt's: a list of modules, the last convolution of a coded block grouped.

    Args:
        state: by a plain network's names.
        words: block -> its codewords, all of them, also where every branch works for every class.
        blocks: their names, in order.
        pools: how many modules of the stem have no weights.
    """
    first = 2 + pools
    parts = {"conv1": "conv_reduce", "bn1": "bn_reduce", "conv2": "conv_internal", "bn2": "bn_internal"}
    parts |= {"conv3": "conv_expand", "bn3": "bn_expand"}
    parts |= {"downsample.0": "skip_connection.conv_skip", "downsample.1": "skip_connection.bn_skip"}
    lists = {"conv1": 0, "bn1": 1, "fc": first + len(blocks) + 2}
    found = {}
    for name, value in state.items():
        block = next((each for each in blocks if name.startswith(f"{each}.")), None)
        part, _, leaf = name.rpartition(".")
        if block is None:
            found[f"net_list.{lists[part]}.{leaf}"] = value
            continue
        mask = words[block]
        if part.endswith(".conv3") and not mask.all():
            branches = value.unflatten(1, (mask.shape[1], -1))  # type: ignore[no-untyped-call]
            value = torch.cat([branches[:, n] for n in range(mask.shape[1])])
        found[f"net_list.{first + blocks.index(block)}.{parts[part.removeprefix(f'{block}.')]}.{leaf}"] = value
    for i, block in enumerate(blocks):
        found[f"net_list.{first + i}.Mask_perClass"] = words[block]
    return found


def conv(state: State, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return functional.conv2d(x, weight, state.get(f"{name}.bias"), stride, weight.shape[-1] // 2, groups=groups)


def norm(state: State, name: str, x: Tensor) -> Tensor:
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return functional.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])


def branch(state: State, name: str, x: Tensor, stride: int, skip: str = "") -> Tensor:
    """The residual of a ResNet's block; a bottleneck has its stride in the middle."""
    count = 3 if f"{name}.conv3.weight" in state else 2
    for i in range(1, count + 1):
        x = conv(state, f"{name}.conv{i}", x, stride if i == count - 1 else 1)
        x = norm(state, f"{name}.bn{i}{skip}", x)
        x = x.relu() if i < count else x
    return x


def shortcut(state: State, name: str, x: Tensor, stride: int) -> Tensor:
    if f"{name}.0.weight" not in state:
        return x
    return norm(state, f"{name}.1", conv(state, f"{name}.0", x, stride))


def stages(state: State) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in state:
        match = re.match(r"(layer\d+)\.\d+(?=\.)", name)
        if match and match[0] not in found.setdefault(match[1], []):
            found[match[1]].append(match[0])
    return found


def stem(state: State, x: Tensor) -> Tensor:
    """Of ImageNet's ResNet, or CIFAR's."""
    large = state["conv1.weight"].shape[-1] == 7
    x = norm(state, "bn1", conv(state, "conv1", x, 2 if large else 1)).relu()
    return functional.max_pool2d(x, 3, 2, 1) if large else x


def head(state: State, name: str, x: Tensor) -> Tensor:
    return functional.linear(x.mean((2, 3)), state[f"{name}.weight"], state.get(f"{name}.bias"))


def depth_resnet(state: State, x: Tensor, skip: Sequence[bool]) -> Tensor:
    """Adaptive depth, section 3: skipped stages run the blocks that have second norms, with these."""
    x = stem(state, x)
    for number, (flag, names) in enumerate(zip(skip, stages(state).values(), strict=True)):
        for i, name in enumerate(names):
            if flag and f"{name}.bn1_skip.weight" not in state:
                continue
            stride = 2 if number and not i else 1
            short = shortcut(state, f"{name}.downsample", x, stride)
            x = (branch(state, name, x, stride, "_skip" if flag else "") + short).relu()
    return head(state, "fc", x)


def depth_mobilenet(
    state: State, x: Tensor, skip: Sequence[bool], settings: Sequence[tuple[int, int, int, int]]
) -> Tensor:
    """MobileNetV2: the first two entries take the first stage's flag, the last two the last one's."""

    def layer(name: str, x: Tensor, stride: int, flag: bool, active: bool) -> Tensor:
        groups = len(state[f"{name}.conv_layer.weight"]) if state[f"{name}.conv_layer.weight"].shape[1] == 1 else 1
        x = norm(state, f"{name}.norm{'_skip' if flag else ''}", conv(state, f"{name}.conv_layer", x, stride, groups))
        return functional.relu6(x) if active else x

    def block(name: str, x: Tensor, stride: int, flag: bool) -> Tensor:
        y, count = x, sum(re.fullmatch(rf"{name}\.conv\.\d\.conv_layer\.weight", key) is not None for key in state)
        for i in range(count):
            y = layer(f"{name}.conv.{i}", y, stride if i == count - 2 else 1, flag, i < count - 1)
        return x + y if x.shape == y.shape and stride == 1 else y

    flags = [skip[0], skip[0], *skip, skip[-1], skip[-1]]
    x = layer("features.0", x, 2, flags[0], active=True)
    for number, (_, _, count, stride) in enumerate(settings, 1):
        for i in range(count):
            name = f"features.{number}.{i}" if count > 1 else f"features.{number}"
            if flags[number] and i >= (count + 1) // 2:
                continue
            x = block(name, x, 1 if i else stride, flags[number])
    x = layer(f"features.{len(settings) + 1}", x, 1, flags[-1], active=True)
    return head(state, "classifier.1", x)


def gated_resnet(state: State, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """ConvNet-AIG, eq. 5 to 8 without noise: of a gate's two scores the second opens. Which blocks were open, too."""
    x, opened = stem(state, x), []
    for number, names in enumerate(stages(state).values()):
        for i, name in enumerate(names):
            pooled = conv(state, f"{name}.fc1", x.mean((2, 3), keepdim=True)).flatten(1)
            scores = conv(state, f"{name}.fc2", norm(state, f"{name}.fc1bn", pooled).relu()[..., None, None]).flatten(1)
            gate = scores[:, 1] > scores[:, 0]
            opened.append(gate)
            stride = 2 if number and not i else 1
            out = branch(state, name, x, stride) * gate.view(-1, 1, 1, 1)
            x = (shortcut(state, f"{name}.shortcut", x, stride) + out).relu()
    return head(state, "linear", x), opened


def coded_resnext(state: State, x: Tensor, strides: Sequence[int], keep: int | None = None) -> Tensor:
    """Coded ResNeXt, eq. 1 to 3, branch by branch; ``keep`` leaves those that work for a class."""
    x = norm(state, "net_list.1", conv(state, "net_list.0", x)).relu()
    for i, stride in enumerate(strides, 3):
        name = f"net_list.{i}"
        words = state[f"{name}.Mask_perClass"]
        count = words.shape[1]
        y = norm(state, f"{name}.bn_reduce", conv(state, f"{name}.conv_reduce", x)).relu()
        y = norm(state, f"{name}.bn_internal", conv(state, f"{name}.conv_internal", y, stride, count)).relu()
        if words.all():
            y = conv(state, f"{name}.conv_expand", y)
        else:
            weights = state[f"{name}.conv_expand.weight"].chunk(count)
            each = torch.stack(
                [functional.conv2d(u, w) for u, w in zip(y.chunk(count, 1), weights, strict=True)], dim=1
            )
            if keep is not None:
                each = each * words[keep].view(1, -1, 1, 1, 1)
            y = each.sum(1) / each.square().mean((2, 3, 4)).mean(1).sqrt().view(-1, 1, 1, 1)
        y = norm(state, f"{name}.bn_expand", y)
        short = f"{name}.skip_connection"
        if f"{short}.conv_skip.weight" in state:
            x = norm(state, f"{short}.bn_skip", conv(state, f"{short}.conv_skip", x, stride))
        x = (y + x).relu()
    return head(state, f"net_list.{len(strides) + 5}", x)


def scaled(state: State, module: str) -> State:
    """A file in which one norm is another."""
    return {name: value + 0.7 if name == f"{module}.weight" else value for name, value in state.items()}


def saved(state: Any, folder: Path) -> Path:
    torch.save(state, folder / "theirs.pth.tar")
    return folder / "theirs.pth.tar"


def resnet(layers: tuple[int, ...], classes: int = 5) -> nn.Module:
    """timm's, whose names are torchvision's, narrow."""
    made: nn.Module = ResNet(Bottleneck, layers, num_classes=classes, channels=(8, 16, 24, 32))  # type: ignore[arg-type]
    return made


def swin_net() -> nn.Module:
    made: nn.Module = SwinTransformer([4, 4], 16, [2, 2], [2, 2], [2, 2], stochastic_depth_prob=0.1, num_classes=5)
    return made


WORDS = ("1100", "1010", "1001", "0110", "0101", "0011")
BLOCKS = ("layer1.0", "layer1.1", "layer2.0", "layer2.1")


def coded_toy(words: Sequence[str] = WORDS) -> Routed:
    torch.manual_seed(0)
    model = ResNeXt((2, 2), groups=4, width=2, stem=8, outputs=12, large=False, classes=6, channels=3)
    return route(model, CodedPaths(schemes=((), tuple(words))), example=torch.randn(2, 3, 16, 16))


def coded_file(state: State) -> State:
    masks = torch.tensor([[bit == "1" for bit in word] for word in WORDS])
    words = {block: masks if block.startswith("layer2") else torch.ones_like(masks) for block in BLOCKS}
    return coded(state, words, BLOCKS, pools=1)
