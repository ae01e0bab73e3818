"""Residual blocks that are not taken apart automatically, given by hand: architecture -> pattern -> its sums.

A part is a function of (block, value, further arguments of the block's forward). Named functions, not lambdas, so that
the routed network can be pickled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, relu

from torchpaths import Residual
from torchpaths.places.residual.find import ByHand


def same(block: Any, y: Tensor, *others: Tensor) -> Tensor:
    return y


# CaiT's last blocks, forward(x, x_cls): patches stay as they are, two sums are on the class token, the second argument.
def cait_attn(block: Any, x: Tensor, x_cls: Tensor) -> Any:
    return block.gamma_1 * block.attn(block.norm1(torch.cat((x_cls, x), 1)))


def cait_token(block: Any, x: Tensor, x_cls: Tensor) -> Tensor:
    return x_cls


def cait_mlp(block: Any, token: Tensor, x_cls: Tensor) -> Any:
    return block.gamma_2 * block.mlp(block.norm2(token))


# VOLO's last blocks change the class token only, x[:, :1], and put it back: the branch is 0 for the patches.
def volo_attn(block: Any, x: Tensor) -> Tensor:
    return pad(block.attn(block.norm1(x)), (0, 0, 0, x.shape[1] - 1))


def volo_mlp(block: Any, x: Tensor) -> Tensor:
    return pad(block.mlp(block.norm2(x[:, :1])), (0, 0, 0, x.shape[1] - 1))


# GC ViT's blocks get the stage's global query as a second argument.
def gcvit_attn(block: Any, x: Tensor, q_global: Tensor) -> Any:
    return block.ls1(block._window_attn(block.norm1(x), q_global))


def gcvit_mlp(block: Any, x: Tensor, q_global: Tensor) -> Any:
    return block.ls2(block.mlp(block.norm2(x)))


# DLA hands the shortcut to a tree's first block. It lives on elsewhere, so the ReLU after the sum must not be in place.
def dla_branch(block: Any, x: Tensor, shortcut: Tensor) -> Any:
    return block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))


def dla_shortcut(block: Any, x: Tensor, shortcut: Tensor) -> Tensor:
    return shortcut


def dla_post(block: Any, y: Tensor, shortcut: Tensor) -> Tensor:
    return relu(y)


# ReXNet adds its input to the first channels only: the shortcut is 0 for the new ones.
def rexnet_branch(block: Any, x: Tensor) -> Any:
    y = x if block.conv_exp is None else block.conv_exp(x)
    y = block.conv_dw(y)
    y = block.act_dw(y if block.se is None else block.se(y))
    return block.conv_pwl(y)


def rexnet_shortcut(block: Any, x: Tensor) -> Tensor:
    return pad(x, (0, 0, 0, 0, 0, block.out_channels - x.shape[1]))


# VoVNet collects every layer's output in a list, which does not trace.
def vovnet_branch(block: Any, x: Tensor) -> Any:
    y = x if block.conv_reduction is None else block.conv_reduction(x)
    y = block.conv_concat(block.conv_mid(y, [x]))
    return y if block.attn is None else block.attn(y)


BY_HAND: dict[str, ByHand] = {
    "timm/cait_xxs24_224": {
        r"blocks_token_only\.\d+": [
            Residual(cait_attn, cait_token, same, name="attn", axis=2),
            Residual(cait_mlp, same, same, name="mlp", axis=2),
        ]
    },
    "timm/volo_d1_224": {
        r"post_network\.\d+": [
            Residual(volo_attn, same, same, name="attn", axis=2),
            Residual(volo_mlp, same, same, name="mlp", axis=2),
        ]
    },
    "timm/gcvit_xxtiny": {
        r"stages\.\d+\.blocks\.\d+": [
            Residual(gcvit_attn, same, same, name="attn", axis=3),
            Residual(gcvit_mlp, same, same, name="mlp", axis=3),
        ]
    },
    "timm/dla34": {r"level[25]\.tree1|level[34]\.tree[12]\.tree1": Residual(dla_branch, dla_shortcut, dla_post)},
    "timm/rexnet_100": {r"features\.(2|4|6|7|8|9|10|12|13|14|15)": Residual(rexnet_branch, rexnet_shortcut, same)},
    "timm/ese_vovnet39b": {r"stages\.[23]\.blocks\.1": Residual(vovnet_branch, same, same)},
}
