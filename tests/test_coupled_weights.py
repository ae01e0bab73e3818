"""Layers with a forward of their own: what their weights or inputs have to do with one another is seen at route."""

from __future__ import annotations

import re
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers.std_conv import ScaledStdConv2d, StdConv2d
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

import torchpaths as tp
from torchpaths.errors import RouteError
from torchpaths.places.channels.dividing import why_whole


class Quantised(nn.Conv2d):
    """By the largest of all its weights."""

    def forward(self, x: Tensor) -> Tensor:
        step = self.weight.abs().max() / 7
        y: Tensor = self._conv_forward(x, (self.weight / step).round() * step, self.bias)
        return y


class QuantisedByRow(nn.Conv2d):
    """By the largest weight of each output."""

    def forward(self, x: Tensor) -> Tensor:
        step = self.weight.abs().amax((1, 2, 3), keepdim=True) / 7
        y: Tensor = self._conv_forward(x, (self.weight / step).round() * step, self.bias)
        return y


class QuantisedByStep(nn.Conv2d):
    """By a step of its own, one for all (LSQ)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step = nn.Parameter(torch.tensor([0.05]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, (self.weight / self.step).round().clamp(-8, 7) * self.step, self.bias)
        return y


class Normalised(nn.Conv2d):
    """By the norm of all its weights."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.weight / self.weight.norm(), self.bias)
        return y


class NormalisedInside(nn.Conv2d):
    """The same where torch's own forward calls it."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = super()._conv_forward(x, weight / weight.norm(), bias)
        return y


class Pruned(nn.Conv2d):
    """Keeps the larger half of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        large = self.weight.abs() >= self.weight.abs().median()
        y: Tensor = self._conv_forward(x, self.weight * large, self.bias)
        return y


class Least(nn.Conv2d):
    """Scaled by the smallest of all its weights."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.weight / (0.1 + self.weight.abs().min()), self.bias)
        return y


class Standardised(nn.Conv2d):
    """Without the mean of each output's weights."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)
        return y


class Centred(nn.Conv2d):
    """Without the mean over outputs."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.weight - self.weight.mean(0), self.bias)
        return y


class Placed(nn.Conv2d):
    """Scales its outputs by their numbers."""

    def forward(self, x: Tensor) -> Tensor:
        numbers = torch.arange(1, len(self.weight) + 1, device=x.device).view(1, -1, 1, 1)
        y: Tensor = self._conv_forward(x, self.weight, self.bias) * numbers
        return y


class Ranged(nn.Conv2d):
    """Quantises its input by each image's largest value."""

    def forward(self, x: Tensor) -> Tensor:
        step = x.abs().amax((1, 2, 3), keepdim=True) / 7 + 1e-9
        y: Tensor = super().forward((x / step).round() * step)
        return y


class Shifted(nn.Conv2d):
    """Quantises its input between each image's smallest and largest value."""

    def forward(self, x: Tensor) -> Tensor:
        low = x.amin((1, 2, 3), keepdim=True)
        step = (x.amax((1, 2, 3), keepdim=True) - low) / 7 + 1e-9
        y: Tensor = super().forward(((x - low) / step).round() * step + low)
        return y


class Scaled(nn.Conv2d):
    """Scales its outputs, the bias with them, by one parameter for all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.tensor([1.7]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x) * self.gain
        return y


class Adapted(nn.Conv2d):
    """With a product of low rank beside it (LoRA)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.down = nn.Parameter(torch.randn(2, self.weight[0].numel()))
        self.up = nn.Parameter(torch.randn(len(self.weight), 2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.weight + (self.up @ self.down).view_as(self.weight), self.bias)
        return y


class Smoothed(nn.Conv2d):
    """Divides each input by a parameter of its own (SmoothQuant)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.smooth = nn.Parameter(torch.rand(self.in_channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x / self.smooth.view(1, -1, 1, 1))
        return y


class Kept(nn.Conv2d):
    """Normalises its weights once and keeps them."""

    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.weight / self.weight.norm()
        y: Tensor = self._conv_forward(x, self.kept, self.bias)
        return y


class Same(nn.Conv2d):
    """Computes as torch does."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)
        return y


class Deviating(nn.BatchNorm2d):
    """Divides by the largest variance of all channels."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_var is not None
        y: Tensor = super().forward(x) * self.running_var.sqrt().view(1, -1, 1, 1) / self.running_var.max().sqrt()
        return y


class Renamed(nn.BatchNorm2d):
    """Computes as torch does, without anything of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)
        return y


class Dense(nn.Linear):
    """Quantised by the largest of all its weights."""

    def forward(self, x: Tensor) -> Tensor:
        step = self.weight.abs().max() / 7
        y: Tensor = functional.linear(x, (self.weight / step).round() * step, self.bias)
        return y


class Tokens(nn.Module):
    """An MLP of tokens."""

    def __init__(self, first: type[nn.Linear] = nn.Linear, second: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = first(6, 12), second(12, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head((x + self.fc2(self.fc1(x).relu())).mean(1))
        return y


def chain(kind: Callable[..., nn.Module], groups: int = 1, wide: int = 8) -> nn.Sequential:
    """Convolutions, ``4`` of such a kind: it reads what ``2`` makes, and mixes it unless it has groups."""
    torch.manual_seed(0)
    middle = [kind(8, 8 if groups > 1 else wide, 3, padding=1, groups=groups)]
    if groups > 1:
        middle += [nn.ReLU(), nn.Conv2d(8, wide, 1)]
    first = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU()
    return nn.Sequential(*first, *middle, nn.ReLU(), nn.Conv2d(wide, 3, 1)).eval()


def routed(model: nn.Module, shape: tuple[int, ...] = (2, 3, 6, 6)) -> tuple[tp.Routed | None, str]:
    """The network with filters that nobody decides about, if there are any, and what is said of the others."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            net = tp.route(model.eval(), tp.Filters(), example=torch.randn(shape))
        except RouteError as error:
            return None, str(error)
    return net.eval(), " ".join(str(w.message) for w in caught)


def sites(net: tp.Routed | None) -> set[str]:
    return set() if net is None else set(net.sites)


def check_leaving_out_is_masking(net: tp.Routed, shape: tuple[int, ...] = (2, 3, 6, 6)) -> None:
    """Along paths at random and where all of a site is closed: by path, skipping and cut."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    some = torch.Generator().manual_seed(2)
    chosen = [{n: (torch.rand(len(s.units), generator=some) < 0.6).tolist() for n, s in net.sites.items()}]
    chosen += [{name: [False] * len(site.units)} for name, site in net.sites.items()]
    fast = tp.skipping(net)
    for opened in chosen:
        path = tp.Path.full(net) & tp.Path(opened)
        each = tp.Path({name: torch.tensor(list(units)).expand(len(x), -1) for name, units in path.items()})
        with torch.no_grad():
            masked = net(x, each)[0]
            scale = float(masked.abs().max())
            assert 0 < scale < float("inf")
            alone = torch.cat([fast(image, path)[0] for image in x[:, None]])
            for y in (net(x, path)[0], alone, tp.extract(net, path)(x)):
                torch.testing.assert_close(y, masked, rtol=0, atol=1e-5 * scale)


ROWS: dict[Callable[..., nn.Module], bool] = {
    QuantisedByStep: True,
    QuantisedByRow: False,
    Standardised: False,
    Ranged: True,
    Shifted: False,
    Scaled: True,
    Adapted: False,
    Smoothed: False,
    Same: True,
    StdConv2d: False,
    ScaledStdConv2d: False,
}
"""Kinds of which each output is computed from a row of its own; whether their columns are apart too."""


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_rows_that_are_apart_are_left_out_and_columns_that_are_not_stay(kind: type[nn.Conv2d]) -> None:
    net, said = routed(chain(kind, wide=16))
    assert sites(net) == ({"2", "4"} if ROWS[kind] else {"4"})
    named = re.search(rf"2: '4', a {kind.__name__}, (computes its|does not run with only some of its) inputs", said)
    assert (named is None) == ROWS[kind]
    assert net is not None
    check_leaving_out_is_masking(net)


@pytest.mark.parametrize("groups", [2, 8])
@pytest.mark.parametrize("kind", [Standardised, Scaled, ScaledStdConv2d], ids=lambda kind: kind.__name__)
def test_groups_that_are_apart_are_left_out(kind: type[nn.Conv2d], groups: int) -> None:
    net, _ = routed(chain(kind, groups))
    assert net is not None
    assert sites(net) == {"2", "6"}
    check_leaving_out_is_masking(net)


TOGETHER = (Quantised, Normalised, NormalisedInside, Pruned, Least, Kept)


@pytest.mark.parametrize("row", [6, 7])
@pytest.mark.parametrize("kind", TOGETHER, ids=lambda kind: kind.__name__)
def test_weights_that_depend_on_one_another_all_stay_wherever_the_largest_lies(kind: type[nn.Conv2d], row: int) -> None:
    for groups, wide in ((1, 8), (1, 16), (2, 8), (8, 8)):
        model = chain(kind, groups, wide)
        with torch.no_grad():
            model.get_submodule("4").weight[row, 0] = 3.0  # type: ignore[operator]
        net, said = routed(model)
        assert sites(net) == ({"6"} if groups > 1 else set())
        assert f"2: '4', a {kind.__name__}, " in said
        assert "so none can be left out" in said


@pytest.mark.parametrize("kind", [Ranged, Shifted], ids=lambda kind: kind.__name__)
def test_groups_that_are_scaled_by_the_range_of_all_inputs_stay(kind: type[nn.Conv2d]) -> None:
    for groups in (2, 8):
        net, said = routed(chain(kind, groups))
        assert sites(net) == {"6"}
        assert f"2: '4', a {kind.__name__}, computes its outputs from one another" in said


@pytest.mark.parametrize("kind", [Placed, Centred], ids=lambda kind: kind.__name__)
def test_columns_are_left_out_where_only_rows_are_not_apart(kind: type[nn.Conv2d]) -> None:
    net, said = routed(chain(kind))
    assert sites(net) == {"2"}
    assert f"4: '4', a {kind.__name__}, computes its outputs from one another" in said
    assert net is not None
    check_leaving_out_is_masking(net)


COMPUTED: dict[str, Callable[[nn.Module], object]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "spectral_norm, the older": nn.utils.spectral_norm,
    "a bias": lambda layer: parametrize.register_parametrization(layer, "bias", nn.Tanh()),
    "a pruned bias": lambda layer: prune.random_unstructured(layer, "bias", 0.5),  # type: ignore[no-untyped-call]
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_layer_with_computed_parameters_keeps_all(name: str) -> None:
    model = chain(nn.Conv2d)
    COMPUTED[name](model[4])
    net, said = routed(model)
    assert net is None
    assert "the weights of '4' are computed (pruned, normalised or parametrised); make them plain first" in said


def test_a_forward_put_on_a_layer_itself_keeps_all() -> None:
    model = chain(nn.Conv2d)
    model[4].forward = types.MethodType(Normalised.forward, model[4])
    net, said = routed(model)
    assert net is None
    assert "'4', a Conv2d, has a forward that was put on it, not on its class" in said


def test_norms_with_a_forward_of_their_own_are_tried_too() -> None:
    def between(norm: nn.Module) -> nn.Module:
        model = chain(nn.Conv2d)
        model[3] = norm
        return model

    net, said = routed(between(Deviating(8)))
    assert sites(net) == {"4"}
    assert "2: '3', a Deviating, computes its outputs from one another" in said
    net, _ = routed(between(Renamed(8)))
    assert sites(net) == {"2", "4"}


def test_the_first_layer_of_an_mlp_whose_weights_depend_on_one_another_is_named() -> None:
    shape = (2, 5, 6)
    for model, which in ((Tokens(first=Dense), "fc1"), (Tokens(second=Dense), "fc2")):
        net, said = routed(model, shape)
        assert net is None
        assert f"fc1: '{which}', a Dense, computes its {'outputs' if which == 'fc1' else 'inputs'} from" in said
    net, _ = routed(Tokens(), shape)
    assert net is not None
    check_leaving_out_is_masking(net, shape)


def test_what_is_tried_out_changes_neither_the_layer_nor_chance() -> None:
    class Noisy(nn.Conv2d):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            y: Tensor = super().forward(x + torch.rand_like(x))
            return y

    model = chain(Noisy)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    layer: Any = model[4]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    why = why_whole(layer, 1)
    assert torch.equal(torch.rand(2), expected)
    assert "computes its inputs from one another" in why
    assert layer.calls == 0
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_weights_that_are_all_zero_or_equal_hide_nothing() -> None:
    for value in (0.0, 0.3):
        for kind, whole in ((Normalised, True), (Quantised, True), (Same, False), (QuantisedByStep, False)):
            layer = kind(8, 8, 1)
            nn.init.constant_(layer.weight, value)
            assert [bool(why_whole(layer, axis)) for axis in (0, 1)] == [whole, whole]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_judged_alike(dtype: torch.dtype) -> None:
    assert why_whole(Standardised(8, 16, 3).to(dtype), 0) == ""
    assert why_whole(Scaled(8, 16, 3).to(dtype), 1) == ""
    assert why_whole(Standardised(8, 16, 3).to(dtype), 1)
    assert why_whole(Quantised(8, 16, 3).to(dtype), 0)
