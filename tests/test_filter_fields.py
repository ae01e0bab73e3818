"""Receptive fields by arithmetic, and the images of the largest responses by search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from filter_toys import blocks, chain, cut, images, noise
from torchpaths.errors import DataError, PathError, RouteError
from torchpaths.filtering import peaks, receptive_fields
from torchpaths.filtering.maps import watched


class Stack(nn.Module):
    """Strides, dilation, padding and pooling one after another, and a linear layer behind what is flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 5, stride=2, padding=2)
        self.b = nn.Conv2d(4, 6, 3, dilation=2, padding=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.c = nn.Conv2d(6, 5, 3, padding=1)
        self.d = nn.Conv2d(5, 4, 1)
        self.fc = nn.Linear(4 * 6 * 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.d(torch.relu(self.c(self.pool(torch.relu(self.b(self.a(x))))))))
        y: Tensor = self.fc(x.flatten(1))
        return y


def reach(place: int, steps: list[tuple[int, int, int, int]], side: int) -> list[int]:
    """Positions of the input that reach a place, through (kernel, stride, padding, dilation), the first layer first."""
    sides = [side]
    for kernel, stride, padding, dilation in steps:
        sides.append((sides[-1] + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
    found = {place}
    for (kernel, stride, padding, dilation), size in zip(reversed(steps), reversed(sides[:-1]), strict=True):
        found = {p * stride - padding + k * dilation for p in found for k in range(kernel)}
        found = {p for p in found if 0 <= p < size}
    return sorted(found)


A, B, POOL, C, D = (5, 2, 2, 1), (3, 1, 2, 2), (3, 2, 1, 1), (3, 1, 1, 1), (1, 1, 0, 1)


def test_fields_follow_from_kernel_stride_padding_and_dilation() -> None:
    torch.manual_seed(0)
    net = tp.route(Stack(), tp.GatedFilters(), example=torch.randn(2, 3, 24, 20))
    fields = receptive_fields(net)
    assert list(fields) == ["b", "c", "d"]
    # Responses are looked at where they are mixed next: b's behind the pooling, c's before the last convolution.
    for site, steps in (("b", [A, B, POOL]), ("c", [A, B, POOL, C]), ("d", [A, B, POOL, C, D])):
        found = fields[site]
        assert found.rows.shape == (30, 24)
        assert found.columns.shape == (30, 20)
        for place in range(30):
            row, column = divmod(place, 5)
            assert np.flatnonzero(found.rows[place]).tolist() == reach(row, steps, 24)
            assert np.flatnonzero(found.columns[place]).tolist() == reach(column, steps, 20)
            mask = found.mask(place)
            assert mask.shape == (24, 20)
            assert mask.sum() == len(reach(row, steps, 24)) * len(reach(column, steps, 20))


def test_pixels_outside_of_a_field_change_no_response_and_each_of_its_rows_can() -> None:
    net = blocks()
    site = "block2.conv1"
    field = receptive_fields(net, [site])[site]
    place = 7
    mask = torch.from_numpy(field.mask(place))
    assert 0 < mask.sum() < mask.numel()
    x = noise(1)[0]
    maps: dict[str, Tensor] = {}
    path = tp.Path.full(net)

    def response(x: Tensor) -> Tensor:
        with torch.no_grad(), watched(net, {site: 16}, maps):
            net(x, path)
        return maps[site][0, :, place]

    before = response(x)
    assert torch.allclose(response(torch.where(mask, x, x + 3)), before, atol=1e-6)
    for row in np.flatnonzero(field.rows[place]):
        changed = x.clone()
        changed[:, :, row] += torch.where(mask[row], 3.0, 0.0)
        assert not torch.allclose(response(changed), before, atol=1e-6)


class Tokens(nn.Module):
    """Patches of an image as tokens, an MLP on each, and attention between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.fc1 = nn.Linear(8, 12)
        self.fc2 = nn.Linear(12, 8)
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc3 = nn.Linear(8, 10)
        self.fc4 = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        t = self.patch(x).flatten(2).transpose(1, 2)
        t = t + self.fc2(torch.relu(self.fc1(t)))
        t = t + self.mix(t, t, t, need_weights=False)[0]
        y: Tensor = self.fc4(torch.relu(self.fc3(t))).mean(1)
        return y


def test_a_token_sees_its_patch_and_behind_attention_the_whole_image() -> None:
    torch.manual_seed(0)
    net = tp.route(Tokens(), tp.GatedFilters(sites=("fc1", "fc3")), example=torch.randn(2, 3, 12, 8))
    fields = receptive_fields(net)
    for place in range(6):
        row, column = divmod(place, 2)
        expected = np.zeros((12, 8), bool)
        expected[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = True
        assert np.array_equal(fields["fc1"].mask(place), expected)
        assert fields["fc3"].mask(place).all()
    x = torch.randn(9, 3, 12, 8, generator=torch.Generator().manual_seed(0))
    inputs: list[Tensor] = []
    handle = net.model.get_submodule("fc2").register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    found = peaks(net, [(x, torch.zeros(9).long())], "fc1", top=9)
    handle.remove()
    assert found.values[4, 0] == pytest.approx(float(inputs[0][..., 4].max()), abs=1e-6)


def test_before_a_linear_layer_behind_flattening_places_are_still_known() -> None:
    torch.manual_seed(0)

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 4, 3, padding=1)
            self.b = nn.Conv2d(4, 6, 3, padding=1)
            self.norm = nn.BatchNorm2d(6)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(self.pool(torch.relu(self.norm(self.b(self.a(x))))).flatten(1))
            return y

    net = tp.route(Flat(), tp.GatedFilters(), example=torch.randn(2, 3, 8, 8))
    fields = receptive_fields(net)["b"]
    assert fields.size == (5, 5)
    assert len(fields.rows) == 64


def test_nothing_is_left_in_the_network() -> None:
    net = blocks().train()
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    receptive_fields(net)
    peaks(net, [noise(6)], "block1.conv1")
    with pytest.raises(DataError, match="out of range"):
        peaks(net, [(noise(1)[0], torch.tensor([7]))], "block1.conv1")
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()] == hooks
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert net.training


def test_the_largest_responses_are_those_a_search_finds() -> None:
    net = blocks([tp.GatedFilters(), tp.GatedBlocks()])
    x, y = noise(50)
    for site, layer in (("block1.conv1", "conv2"), ("block1.conv2", "bn2")):
        found = peaks(net, cut(x, y, 9, 1, 40), site, top=5)
        inputs: list[Tensor] = []
        module = net.model.get_submodule(f"block1.{layer}")
        handle = module.register_forward_hook(lambda m, args, y, at=inputs: at.extend((args[0], y)))
        _, trace = net(x)
        handle.remove()
        responses = inputs[0] if layer == "conv2" else inputs[1]
        opened = trace[site].open
        assert found.opened.tolist() == opened.sum(0).tolist()
        for unit in range(8):
            values = responses[:, unit].flatten(1).max(1).values
            order = [i for i in values.sort(descending=True, stable=True).indices.tolist() if opened[i, unit]][:5]
            there = found.images[unit][found.images[unit] >= 0]
            assert there.tolist() == order
            assert np.allclose(found.values[unit][: len(order)], values[order].detach(), atol=1e-5)
            assert found.labels[unit][: len(order)].tolist() == y[order].tolist()
            places = responses[order, unit].flatten(1).argmax(1)
            assert found.places[unit][: len(order)].tolist() == places.tolist()
            assert np.isnan(found.values[unit][len(order) :]).all()


def test_batches_of_any_size_find_the_same_images_and_ties_go_to_the_first() -> None:
    x, y = images()
    net = chain()
    whole = peaks(net, [(x, y)], "second", top=4)
    parts = peaks(net, cut(x, y, 1, 2, 4), "second", top=4)
    for name, value in vars(whole).items():
        assert np.array_equal(value, vars(parts)[name], equal_nan=name == "values")
    assert whole.images[2].tolist()[:2] in ([0, 1], [3, 0]), "images 0 and 1 are alike"
    assert (whole.images[1] == -1).all(), "nobody opens filter 1"
    some = peaks(net, [(x, y)], "second", [5, 2], top=4)
    assert np.array_equal(some.images, whole.images[[5, 2]])


def test_what_is_not_there_is_refused() -> None:
    net = chain()
    with pytest.raises(PathError, match="'third' is no site of filters"):
        peaks(net, [images()], "third")
    with pytest.raises(PathError, match="'second' has filters 0 to 5"):
        peaks(net, [images()], "second", [6])
    with pytest.raises(PathError, match="name some of them"):
        peaks(net, [images()], "second", [])
    with pytest.raises(DataError, match="top=0"):
        peaks(net, [images()], "second", top=0)
    net.example_shape = ()
    with pytest.raises(RouteError, match="give shape="):
        receptive_fields(net)
    assert receptive_fields(net, shape=(4, 5, 5))["second"].size == (3, 3)
