"""Tools of others meet a routed network or a cut: int8 weights, functional transforms, pruned and normalised layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torchvision.models.resnet import BasicBlock, ResNet

import torchpaths as tp

METHODS: dict[str, tp.Method | list[tp.Method]] = {
    "GatedBlocks": tp.GatedBlocks(),
    "GatedFilters": tp.GatedFilters(),
    "AdaptiveDepth": tp.AdaptiveDepth(),
    "together": [tp.GatedBlocks(), tp.GatedFilters()],
}


def routed(method: Any, prepare: Callable[[nn.Module], object] = lambda model: None) -> tuple[tp.Routed, torch.Tensor]:
    torch.manual_seed(0)
    model = ResNet(BasicBlock, [1, 2, 1, 1], num_classes=5)
    prepare(model)
    x = torch.randn(3, 3, 32, 32)
    net = tp.route(model, method, example=x).eval()
    for decider in net.deciders.values():  # so that images differ in what they open
        if isinstance(last := getattr(decider, "fc2", None), nn.Linear):
            nn.init.normal_(last.weight)
    return net, x


@pytest.mark.parametrize("name", METHODS)
def test_a_network_with_dynamically_quantized_linear_layers_runs_skips_and_is_cut(name: str) -> None:
    net, x = routed(METHODS[name])
    small = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})  # type: ignore[no-untyped-call]
    with torch.no_grad():
        y, _ = small(x)
        torch.testing.assert_close(y, net(x)[0], rtol=0.2, atol=0.2)
        torch.testing.assert_close(tp.skipping(small)(x)[0], y)
        path = tp.Path.full(net) & tp.Path({site: [False] for site in net.sites if len(net.sites[site].units) == 1})
        torch.testing.assert_close(tp.extract(small, path)(x), small(x, path)[0])
    # Its products are counted: nothing became cheaper by being kept in eight bits.
    full = tp.Path.full(net)
    assert tp.cost(small, x[:1], full).macs == tp.cost(net, x[:1], full).macs


@pytest.mark.parametrize("name", METHODS)
def test_gradients_of_each_sample_are_those_of_samples_one_by_one(name: str) -> None:
    net, x = routed(METHODS[name])

    def one(parameters: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = functional_call(net, parameters, (image[None],))[0].sum()
        return found

    each = vmap(grad(one), in_dims=(None, 0))(dict(net.named_parameters()), x)
    for i in range(len(x)):
        net.zero_grad()
        net(x[i : i + 1])[0].sum().backward()
        for key, parameter in net.named_parameters():
            want = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(each[key][i], want, rtol=1e-3, atol=1e-5 * float(want.abs().max()) + 1e-6)
    assert each["model.fc.bias"].shape == (3, 5)


def test_losses_of_each_sample_are_differentiated_too() -> None:
    method = tp.GatedBlocks(norm=False)
    torch.manual_seed(0)
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5, norm_layer=lambda c: nn.GroupNorm(2, c))
    x, y = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 4])
    objective = tp.Objective(tp.route(model, method, example=x).train(), method)

    def one(parameters: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        losses: dict[str, torch.Tensor] = functional_call(objective, parameters, (image[None], label[None]))
        return torch.stack(list(losses.values())).sum()

    each = vmap(grad(one), in_dims=(None, 0, 0), randomness="different")(dict(objective.named_parameters()), x, y)
    assert all(bool(g.flatten(1).norm(dim=1).gt(0).all()) for name, g in each.items() if name.endswith("fc.weight"))


TOOLS: dict[str, Callable[[nn.Module], object]] = {
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),  # type: ignore[no-untyped-call]
    "weight_norm, the older": weight_norm,
    "spectral_norm, the older": spectral_norm,
    "weight_norm": parametrizations.weight_norm,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", TOOLS)
def test_layers_whose_weights_are_made_anew_skip_and_are_cut_after_a_training_step(name: str) -> None:
    def prepare(model: nn.Module) -> None:
        for name_of, layer in list(model.named_modules()):
            if isinstance(layer, nn.Conv2d) and name_of.startswith("layer"):
                TOOLS[name](layer)

    net, x = routed(tp.GatedBlocks(), prepare)
    net.train()(x)[0].sum().backward()
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(tp.skipping(net)(x)[0], net(x)[0])
        path = tp.Path.full(net) & tp.Path({"layer2.1": [False]})
        torch.testing.assert_close(tp.extract(net, path)(x), net(x, path)[0])


class Told(nn.Module):
    """A block whose forward says the kinds of what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, size: tuple[int, int], scale: float = 1.0, flip: bool = False) -> torch.Tensor:
        x = x + self.a(x.reshape(-1, size[0] * size[1], 4)).reshape(x.shape) * scale
        if flip:
            x = x.flip(0)
        y: torch.Tensor = x + self.b(x)
        return y


class Teller(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Told(), Told()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(self.first(x, (2, 3)), (2, 3), 0.5)
        return y


@pytest.mark.parametrize(
    "make",
    [
        Teller,
        lambda: timm.create_model("test_vit", num_classes=3, img_size=64),
        lambda: timm.create_model(
            "pvt_v2_b0", num_classes=3, embed_dims=(8, 16, 16, 16), depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 2)
        ),
    ],
)
def test_a_cut_is_scripted_where_the_plain_network_is_and_says_the_same(
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    torch.jit.script(model)
    x = torch.randn(2, 6, 4) if isinstance(model, Teller) else torch.randn(2, 3, 64, 64)
    net = tp.route(model, example=x)
    names = list(net.sites)
    for closed in (names[::2], names[1::2]):
        path = tp.Path.full(net) & tp.Path({name: [False] for name in closed})
        small = tp.extract(net, path)
        assert torch.allclose(torch.jit.script(small)(x), small(x), atol=1e-5)
