"""Channels are followed on the axis they stand on, to whoever sees them, by whatever name: what a path closes is the
same however it is run, and what cannot be closed is named."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

import laws
import torchpaths as tp
from torchpaths.errors import CallError, RouteError


def conv(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2)


class Own(nn.Module):
    """Layers by name, and what is done with them."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def anew(module: Any) -> None:
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()


class Block(nn.Module):
    """``x + conv(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv(x)
        return y


def own(run: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for layer in layers.values():
        layer.apply(anew)
    return Own(run, **{"stem": conv(3, 8), **layers, "fc": nn.Linear(8, 5)}).double().eval()


def images(height: int = 16, width: int = 16) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1)).double()


def told(model: nn.Module, x: Tensor, sites: tuple[str, ...] | None = None) -> tuple[tp.Routed, str]:
    """A routed network whose gates differ from image to image, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = tp.route(model, tp.GatedFilters(sites=sites), example=x).eval()
    torch.manual_seed(2)
    for gate in net.deciders.values():
        nn.init.normal_(gate.fc2.weight)  # type: ignore[arg-type, union-attr]
        nn.init.zeros_(gate.fc2.bias)  # type: ignore[arg-type, union-attr]
    return net, " ".join(str(one.message) for one in caught)


def check_alike(net: tp.Routed, x: Tensor) -> None:
    """What gates decide is what the same path gives by image, for the batch, skipped and cut out."""
    with torch.no_grad():
        y, trace = net(x)
        path = tp.Path.of(trace)
        laws.close(net(x, path)[0], y)
        assert not all(all(units) for units in path[0].values())
        laws.close(net(x, path[0])[0][:1], y[:1])
        laws.close(tp.skipping(net)(x[:1])[0], y[:1])
        laws.close(tp.extract(net, path[0], example=x)(x)[:1], y[:1])
    full = tp.Path.full(net).cost(laws.Undecided(net))
    assert full == net.layout.plain


# Axes


def over_width(s: Any, x: Tensor) -> Tensor:
    y: Tensor = s.fc(s.c2(s.w(relu(s.c1(relu(s.stem(x)))))).mean((2, 3)))
    return y


@pytest.mark.parametrize(("width", "channels"), [(16, 16), (16, 8), (8, 16), (16, 12)])
@pytest.mark.parametrize("sites", [("c1",), None])
def test_a_linear_layer_over_the_width_mixes_no_channels(width: int, channels: int, sites: Any) -> None:
    model = own(over_width, c1=conv(8, channels), w=nn.Linear(width, width), c2=conv(channels, 8))
    x = images(8, width)
    keep = torch.arange(channels) % 2 == 0
    with torch.no_grad():
        y = relu(model.c1(relu(model.stem(x)))) if sites is None else model.c1(relu(model.stem(x)))  # type: ignore[operator]
        closed = relu(y * keep.view(-1, 1, 1))
        expected = model.fc(model.c2(model.w(closed)).mean((2, 3)))  # type: ignore[operator]
    net, _ = told(model, x, sites)
    assert "c1" in net.sites
    open_elsewhere = {name: [True] * len(site.units) for name, site in net.sites.items()}
    path = tp.Path({**open_elsewhere, "c1": keep.tolist()})
    with torch.no_grad():
        laws.close(net(x, path)[0], expected)
        laws.close(net(x, tp.Path({**open_elsewhere, "c1": keep.expand(2, -1)}))[0], expected)
        laws.close(tp.extract(net, path, example=x)(x), expected)
    check_alike(net, x)


@pytest.mark.parametrize(
    ("run", "layers"),
    [
        (lambda s, x: s.fc(s.w(relu(s.c1(relu(s.stem(x)))).mean(-1)).mean(-1)), {"w": nn.Linear(16, 16)}),
        (
            lambda s, x: s.fc(s.w(relu(s.c1(relu(s.stem(x)))).mean((2, 3)).mean(-1, keepdim=True))),
            {"w": nn.Linear(1, 8)},
        ),
        (lambda s, x: s.fc(s.w(s.n(s.c1(relu(s.stem(x))).mean(-1)).transpose(1, 2)).mean(1)), {"w": nn.Linear(16, 8)}),
    ],
)
def test_a_mean_over_one_axis_leaves_channels_where_they_stand(run: Any, layers: dict[str, nn.Module]) -> None:
    model = own(run, c1=conv(8, 16), n=nn.BatchNorm1d(16), **copy.deepcopy(layers))
    if layers["w"].out_features == 16:
        model.fc = nn.Linear(16, 5).double()
    net, _ = told(model, images(), ("c1",))
    check_alike(net, images())


# Factors


def excited(s: Any, x: Tensor) -> Tensor:
    """The factor is computed before what it multiplies, from the block's input."""
    z = relu(s.stem(x))
    factor = s.e(relu(s.q(z.mean((2, 3), keepdim=True)))).sigmoid()
    y: Tensor = s.fc(s.c2(factor * s.c1(z)).mean((2, 3)))
    return y


@pytest.mark.parametrize("squeezed", [4, 8])
@pytest.mark.parametrize("sites", [("c1",), None])
def test_a_gate_looks_at_what_its_own_layer_reads_where_the_factor_ran_before(squeezed: int, sites: Any) -> None:
    model = own(excited, q=conv(8, squeezed, 1), e=conv(squeezed, 16, 1), c1=conv(8, 16), c2=conv(16, 8, 1))
    x = images()
    with torch.no_grad():
        expected = relu(model.stem(x)).mean((2, 3))  # type: ignore[operator]
    net, _ = told(model, x, sites)
    seen: list[Tensor] = []
    net.deciders["c1"].register_forward_pre_hook(lambda gate, inputs: seen.append(inputs[0]))
    net(x)
    laws.close(seen[0], expected.float())
    check_alike(net, x)


def test_layers_multiplied_with_each_other_are_the_site_of_the_first_and_the_other_is_named() -> None:
    model = own(
        lambda s, x: s.fc(s.c2(s.g(relu(s.stem(x))).sigmoid() * s.c1(relu(s.stem2(x)))).mean((2, 3))),
        stem2=conv(3, 8), g=conv(8, 16), c1=conv(8, 16), c2=conv(16, 8),
    )  # fmt: skip
    net, said = told(model, images(), ("g", "c1"))
    assert list(net.sites) == ["g"]
    assert "c1: its filters close together with those of 'g'" in said
    check_alike(net, images())


def attention(s: Any, x: Tensor) -> Tensor:
    z = relu(s.c1(relu(s.stem(x))))
    y: Tensor = s.fc(s.c2(z * s.last(s.a(z)).sigmoid()).mean((2, 3)))
    return y


@pytest.mark.parametrize(
    ("a", "last"),
    [
        (conv(16, 16, 1), nn.Identity()),
        (conv(16, 4, 1), conv(4, 1, 1)),
        (conv(16, 4, 1), conv(4, 16, 1)),
        (
            nn.Sequential(conv(16, 4, 1), nn.BatchNorm2d(4), nn.ReLU()),
            nn.Sequential(conv(4, 16, 1), nn.BatchNorm2d(16)),
        ),
    ],
)
@pytest.mark.parametrize("sites", [("c1",), ("c1", r"a(\.0)?", "c2")])
def test_attention_by_pixel_and_channel_closes_with_the_channels(a: nn.Module, last: nn.Module, sites: Any) -> None:
    model = own(attention, c1=conv(8, 16), **copy.deepcopy({"a": a, "last": last}), c2=conv(16, 8))
    net, _ = told(model, images(), sites)
    assert "c1" in net.sites
    check_alike(net, images())


# Hooks


def ablated(module: nn.Module, inputs: Any, y: Tensor) -> Tensor:
    y = y.clone()
    y[:, 1] = 0
    return y.flip(1)


def turned(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].flip(1),)


class Act(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


@pytest.mark.parametrize("name", ["2", "2.0", "2.1", "2.2", "2.3", "3"])
@pytest.mark.parametrize("pre", [True, False])
@pytest.mark.parametrize("sites", [("2.0",), None])
def test_channels_end_before_a_hook_that_was_there(name: str, pre: bool, sites: Any) -> None:
    torch.manual_seed(0)
    span = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), Act(), nn.ReLU())
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), span, nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1))
    model = nn.Sequential(*model, nn.Flatten(), nn.Linear(8, 5)).double().eval()
    hooked = model.get_submodule(name)
    hooked.register_forward_pre_hook(turned) if pre else hooked.register_forward_hook(ablated)
    net, _ = told(model, images(), sites)
    assert "2.0" in net.sites
    check_alike(net, images())


def test_a_hook_is_named_where_channels_cannot_end_before_it() -> None:
    mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
    model = own(lambda s, x: s.fc(s.mlp(s.c1(s.stem(x)).flatten(2).transpose(1, 2)).mean(1)), c1=conv(8, 8), mlp=mlp)
    mlp[1].register_forward_hook(ablated)
    _, said = told(model, images())
    assert "mlp.0: its channels are seen by a forward hook of '1'" in said


# Names


@pytest.mark.parametrize("sites", [("c1",), None])
def test_a_layer_under_two_names_is_closed_whichever_is_called(sites: Any) -> None:
    maker, mixer = conv(8, 16), conv(16, 8)
    model = own(
        lambda s, x: s.fc(s.second(relu(s.first(relu(s.stem(x))))).mean((2, 3))),
        c1=maker, c2=mixer, first=maker, second=mixer,
    )  # fmt: skip
    x = images()
    net, _ = told(model, x, sites)
    assert model.first is model.c1
    assert model.second is model.c2
    check_alike(net, x)
    few = tp.Path({**tp.Path.full(net), "c1": [True] + [False] * 15})
    small = tp.extract(net, few, example=x)
    assert small.second.in_channels == 1  # type: ignore[union-attr]
    assert sum(p.numel() for p in small.parameters()) == few.cost(laws.Undecided(net)).params


def test_blocks_under_two_names_are_closed_and_counted_once() -> None:
    block = Block()
    body = nn.Sequential(block, Block())
    model = own(lambda s, x: s.fc(s.body(s.stem(x)).mean((2, 3))), block=block, body=body)
    net = tp.route(model, example=images())
    closed = tp.Path({name: [name != "block"] for name in net.sites})
    assert list(net.sites) == ["block", "body.1"]
    with torch.no_grad():
        laws.close(net(images(), closed)[0], model.fc(body[1](model.stem(images())).mean((2, 3))))  # type: ignore[operator]
        laws.close(tp.plain(net, closed)(images()), net(images(), closed)[0])
    assert closed.cost(net).params == sum(p.numel() for p in tp.plain(net, closed).parameters())


def test_a_layer_called_past_its_name_is_refused_and_the_model_as_it_was() -> None:
    hidden = conv(16, 8)
    model = own(lambda s, x: s.fc(s.kept[0](relu(s.c1(relu(s.stem(x))))).mean((2, 3))), c1=conv(8, 16), c2=hidden)
    model.__dict__["kept"] = [hidden]
    with pytest.raises(RouteError, match="'c2' is called by something that the model does not hold it by"):
        tp.route(model, tp.GatedFilters(), example=images())
    assert model.c2 is hidden
    assert not hidden._forward_pre_hooks


# What is given


@pytest.mark.parametrize(
    ("sites", "message"),
    [((), r"sites=\(\) names no layer"), ((2,), "names or patterns as texts"), ((None,), "names or patterns as texts")],
)
@pytest.mark.parametrize("method", [tp.GatedFilters, tp.Filters])
def test_sites_that_are_none_are_named(method: Any, sites: Any, message: str) -> None:
    with pytest.raises(RouteError, match=message):
        method(sites=sites)


def test_a_pattern_that_is_no_text_is_named_by_every_method() -> None:
    model = own(lambda s, x: s.fc(s.stem(x).mean((2, 3))))
    with pytest.raises(RouteError, match="3 is no text"):
        tp.route(model, example=images(), residuals={3: tp.Residual(abs, abs, abs)})  # type: ignore[dict-item]


@pytest.mark.parametrize(("kind", "shape"), [(nn.Conv1d, (16,)), (nn.Conv3d, (8, 8, 8))])
def test_networks_of_one_and_three_axes_are_told_that_they_are(kind: Any, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(kind(3, 4, 3), kind(4, 6, 3), kind(6, 5, 3))
    with pytest.raises(RouteError, match=rf"1: it is a {kind.__name__}; only filters of Conv2d and Linear"):
        tp.route(model, tp.GatedFilters(), example=torch.randn(2, 3, *shape))


def test_a_transposed_convolution_is_named_where_others_were_found() -> None:
    model = nn.Sequential(conv(3, 8), conv(8, 8), nn.ConvTranspose2d(8, 8, 2, 2), conv(8, 5)).double()
    net, said = told(model, images())
    assert list(net.sites) == ["1"]
    assert "2: it is a ConvTranspose2d" in said


def test_all_that_keep_their_filters_are_named() -> None:
    norms = [layer for _ in range(5) for layer in (conv(8, 8), nn.GroupNorm(2, 8))]
    _, said = told(nn.Sequential(conv(3, 8), *norms, conv(8, 8), conv(8, 5)).double(), images())
    assert "6 layers keep all their filters" in said
    assert "and for such reasons 7, 9, 12" in said


def test_an_image_without_a_batch_is_named_before_a_gate_sees_it() -> None:
    filters = own(lambda s, x: s.fc(s.c2(s.c1(s.stem(x))).mean((-2, -1))), c1=conv(8, 8), c2=conv(8, 8))
    net, _ = told(filters, images())
    with pytest.raises(CallError, match=r"site 'c1'.*one image x as x\[None\]"):
        net(images()[0])
    with pytest.raises(CallError, match="no tensor for a batch"):
        net(torch.tensor(1.0))
    with pytest.raises(RouteError, match=r"does not take one image of the example of shape \(3, 16, 16\)"):
        tp.route(
            own(lambda s, x: s.fc(s.c1(s.stem(x)).mean((2, 3))), c1=conv(8, 8)), tp.GatedFilters(), example=images()[0]
        )

    model = own(lambda s, x: s.fc(s.b(s.stem(x)).mean((-2, -1))), b=Block()).float()
    with pytest.raises(CallError, match="saw 8 images of a batch of 3"):
        tp.route(model, tp.GatedBlocks(), example=images().float())(images().float()[0])
