"""GatedFilters: where filters can be closed, the gates, Improved SemHash, and the paper's losses written by hand."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations, prune
from torchvision.models import DenseNet

import laws
import torchpaths as tp
from channel_toys import stir
from torchpaths.costs import count_macs, count_params
from torchpaths.deciders import FilterGate
from torchpaths.deciders.filters import EDGE
from torchpaths.deciders.gradients import semhash
from torchpaths.errors import CallError, RouteError, RunError
from torchpaths.junction import junctions
from torchpaths.methods.base import Losses, losses
from torchpaths.models import cifar_googlenet, cifar_resnet, cifar_vgg19_bn
from torchpaths.models.googlenet import CifarGoogLeNet
from torchpaths.models.vgg import CifarVGG
from torchpaths.places.channels.layer import Layer
from toys import made, toy

LABELS = torch.tensor([0, 1, 2, 3])
NETWORK = "torchvision/narrow"


def routed(method: tp.GatedFilters | None = None, network: str = NETWORK) -> tuple[tp.Routed, Tensor]:
    model, x = toy(network)
    net = tp.route(model, method or tp.GatedFilters(), example=x)
    stir(net)
    return net, x


def quietly(model: nn.Module, method: tp.GatedFilters | None = None, side: int = 32) -> tp.Routed:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tp.route(model, method or tp.GatedFilters(), example=torch.randn(1, 3, side, side))


def a_vgg() -> nn.Module:
    return CifarVGG(((6, 6), (8,), (8, 10)), 5, 3)


def a_vgg16() -> nn.Module:
    """torchvision's, with one linear layer for three, of a hundred million weights."""
    model: nn.Module = torchvision.models.vgg16(init_weights=False)
    model.classifier = nn.Linear(512 * 7 * 7, 10)
    return model


def a_googlenet() -> nn.Module:
    return CifarGoogLeNet(6, (((4, 3, 4, 2, 3, 2),), ((4, 3, 4, 2, 3, 2),), ((4, 3, 4, 2, 3, 2),)), 5, 3)


# Where


@pytest.mark.parametrize(
    ("make", "layers", "filters", "parameters"),
    [
        (lambda: cifar_resnet(20), 18, 6 * (16 + 32 + 64), None),
        (lambda: cifar_resnet(56), 54, 18 * (16 + 32 + 64), 49_292),
        (cifar_vgg19_bn, 15, 64 + 2 * 128 + 4 * 256 + 8 * 512, 1_097_248),
        (cifar_googlenet, 63, 400 + 736 + 672 + 712 + 728 + 768 + 1152 + 1152 + 1392, 3_530_652),
        (torchvision.models.resnet18, 19, 64 * 4 + 128 * 5 + 256 * 5 + 512 * 5, 659_008),
        (lambda: a_vgg16(), 12, 64 + 2 * 128 + 3 * 256 + 6 * 512, None),
    ],
)
def test_every_convolution_but_the_first_has_the_authors_gate_in_the_papers_networks(
    make: Callable[[], nn.Module], layers: int, filters: int, parameters: int | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = tp.route(make(), tp.GatedFilters(), example=torch.randn(1, 3, 32, 32))  # where the last map is one pixel
    assert len(net.sites) == layers
    assert len(net.layout.units) == filters
    assert parameters in (None, sum(count_params(gate) for gate in net.deciders.values()))


@pytest.mark.parametrize("name", ["vgg", "googlenet", "mobilenetv3_small_050", "seresnet18", "densenet"])
def test_cutting_along_what_an_image_opens_is_exact_wherever_channels_go(name: str) -> None:
    own = {"vgg": a_vgg, "googlenet": a_googlenet, "densenet": lambda: DenseNet(4, (2, 2), 8, num_classes=5)}
    make = own.get(name, lambda: timm.create_model(name, num_classes=5))
    model, x = made(make, 32)
    x = x.double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = tp.route(model.double(), tp.GatedFilters(), example=x)
    stir(net)
    with torch.no_grad():
        y, trace = net(x)
        path = tp.Path.of(trace)[0]
        small = tp.extract(net, path, example=x)
        laws.close(small(x[:1]), y[:1])
        laws.close(tp.skipping(net)(x[:1])[0], y[:1])
    undecided = path.cost(laws.Undecided(net))
    assert not all(all(units) for units in path.values())
    assert (count_macs(lambda: small(x[:1])), count_params(small)) == (undecided.macs, undecided.params)


def test_filters_that_nothing_mixes_end_behind_the_norm_before_a_sum_or_a_concatenation() -> None:
    net, _ = routed()
    assert ends(net) == {f"layer{i}.{j}.bn2" for i in (1, 2) for j in (0, 1)} | {"layer2.0.downsample.1"}
    net = quietly(a_googlenet())
    assert {name for name in ends(net) if "inception4" in name} == {
        f"inception4.0.{layer}" for layer in ("branch1.1", "branch2.4", "branch3.7", "branch4.2")
    }


def ends(net: tp.Routed) -> set[str]:
    return {n for n, j in junctions(net.model) if isinstance(j._place, Layer) and j._place.role.ends}


def test_layers_of_squeeze_and_excitation_lose_rows_and_columns_and_have_no_gate() -> None:
    net = quietly(timm.create_model("mobilenetv3_small_050", num_classes=5))
    assert not any(".se." in name for name in net.sites)
    touched = {name for name, _ in junctions(net.model)}
    assert {"blocks.1.0.conv_pw", "blocks.3.0.se.conv_reduce", "blocks.3.0.se.conv_expand"} <= touched


def test_the_filters_of_the_last_convolution_end_in_the_columns_of_a_linear_layer_behind_flattening() -> None:
    net, x = quietly(a_vgg()), torch.randn(2, 3, 32, 32)
    last = list(net.sites)[-1]
    closed = tp.Path({**tp.Path.full(net), last: [True] + [False] * 9})
    assert tp.extract(net, closed, example=x).classifier.in_features == 1  # type: ignore[union-attr]

    class Wide(nn.Sequential):
        """Its last map is flattened pixel by pixel, as in torchvision's VGG."""

    model = Wide(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5))
    net, x = tp.route(model.eval(), tp.GatedFilters(), example=torch.randn(2, 3, 8, 8)), torch.randn(2, 3, 8, 8)
    path = tp.Path({"1": [True, False, True, True, False, False]})
    small = tp.extract(net, path, example=x)
    assert small[4].in_features == 3 * 16  # type: ignore[index]


def test_a_grouped_convolution_makes_units_of_what_goes_into_one_group() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 12, 1), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=4))
    model = nn.Sequential(*model, nn.ReLU(), nn.Conv2d(12, 5, 1))
    net = tp.route(model, tp.GatedFilters(sites=("1",)), example=torch.randn(2, 3, 8, 8))
    assert len(net.sites["1"].units) == 4
    laws.check_cut_is_forced(net.eval(), torch.randn(2, 3, 8, 8))


def test_layers_by_name_and_by_pattern() -> None:
    net, _ = routed(tp.GatedFilters(sites=("stem.0", r"layer1\..*conv1")))
    assert list(net.sites) == ["stem.0", "layer1.0.conv1", "layer1.1.conv1"]
    model, x = toy(NETWORK)
    with pytest.raises(RouteError, match=r"'layer9' matches no layer that ran"):
        tp.route(model, tp.GatedFilters(sites=("layer9",)), example=x)


def test_layers_that_cannot_be_gated_are_named_with_the_reason_also_where_others_were_found() -> None:
    model, x = toy("torchvision/mobilenet")
    with pytest.warns(UserWarning, match=r"'?features\.2\.conv\.1\.0'?: its 48 groups pass on the filters of"):
        tp.route(model, tp.GatedFilters(sites=(r"features\.2\.conv\.(0|1)\.0",)), example=x)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.GroupNorm(2, 6), nn.Conv2d(6, 5, 3))
    with pytest.warns(UserWarning, match="1: its channels are normalised together, by '2', a GroupNorm"):
        net = tp.route(model, tp.GatedFilters(sites=("0", "1")), example=torch.randn(1, 3, 9, 9))
    assert list(net.sites) == ["0"]
    with pytest.raises(RouteError, match=r"no layer of Sequential has filters.*\n.*its channels are used outside"):
        tp.route(
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)), tp.GatedFilters(), example=torch.randn(1, 3, 4, 4)
        )
    pruned = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    torch.nn.utils.parametrizations.weight_norm(pruned[1])
    with pytest.raises(RouteError, match="the weights of '1' are computed"):
        tp.route(pruned, tp.GatedFilters(), example=torch.randn(1, 3, 4, 4))
    with pytest.raises(RouteError, match="no convolution behind its first"):
        tp.route(nn.Sequential(nn.Conv2d(3, 4, 1)), tp.GatedFilters(), example=torch.randn(1, 3, 4, 4))


def test_filters_that_nobody_decides_about_are_the_original_network_until_a_path_closes_some() -> None:
    model = a_vgg().double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
    with pytest.raises(RouteError, match=r"no residual block found in CifarVGG.*\n?.*Filters\(\) for nobody"):
        tp.route(model, example=x)
    net = tp.route(model, tp.Filters(), example=x)
    assert not net.deciders
    assert list(net.sites) == list(quietly(a_vgg()).sites)
    with torch.no_grad():
        assert torch.equal(net(x)[0], expected)
        path = laws.random_path(net)
        laws.close(tp.extract(net, path, example=x)(x), net(x, path)[0])
    with pytest.raises(RouteError, match="give a list of names"):
        tp.Filters(sites="features")  # type: ignore[arg-type]


# Costs


def test_a_filter_costs_what_is_open_on_both_sides_and_gates_are_counted() -> None:
    net, _ = routed()
    path = tp.Path({**tp.Path.full(net), "layer1.0.conv1": [True] * 2 + [False] * 6})
    path = tp.Path({**path, "layer1.0.conv2": [True] * 3 + [False] * 5}, net.layout.fingerprint)
    full, some = (p.cost(laws.Undecided(net)).macs for p in (tp.Path.full(net), path))
    assert full - some == 144 * 9 * (8 * (8 - 2) + (8 * 8 - 2 * 3))
    gates = sum(c * max(1, c // 4) + max(1, c // 4) * n for c, n in _sizes(net))
    assert tp.Path.full(net).cost(net).macs - full == gates


def _sizes(net: tp.Routed) -> list[tuple[int, int]]:
    gates = [gate for gate in net.deciders.values() if isinstance(gate, FilterGate)]
    return [(gate.fc1.in_features, gate.fc2.out_features) for gate in gates]


# Who


def test_at_first_every_filter_of_every_image_is_open() -> None:
    model, x = toy(NETWORK)
    expected = model(x)
    net = tp.route(model, tp.GatedFilters(), example=x)
    y, trace = net(x)
    assert all(decision.open.all() for decision in trace.values())
    assert torch.equal(y, expected)


def test_in_training_z_is_soft_or_hard_by_image_element_or_filter_of_the_batch() -> None:
    torch.manual_seed(0)
    features = torch.randn(400, 8)
    for mixing, alike in (("image", "rows"), ("element", "none"), ("batch", "columns")):
        gate = FilterGate(8, 50, mixing=mixing).train()  # type: ignore[arg-type]
        gate.fc2.weight.data.normal_()
        z = gate(features).z
        hard = (z == 0) | (z == 1)  # soft values are 0 or 1 too, where the sigmoid saturates
        soft = ~hard
        share = 1 - float(soft.float().mean())
        assert share > 0.4
        rows, columns = soft.any(1), soft.any(0)
        if alike == "rows":
            assert 0.4 < float(rows.float().mean()) < 0.6
        elif alike == "columns":
            drawn = 1 - float(columns.float().mean())
            assert 0.2 < drawn < 0.55, "25 of 50 filters drawn with repetition: 39 % on average"
        else:
            assert bool(rows.all())
            assert bool(columns.all())


def test_semhash_is_the_saturating_sigmoid_and_so_is_its_gradient() -> None:
    noisy = torch.tensor([[-5.0, -2.4, -2.0, -0.1, 0.0, 0.1, 2.0, 2.4, 5.0]], requires_grad=True)
    sigmoid = 1 / (1 + np.exp(-noisy.detach().numpy().astype(np.float64)))
    soft = np.clip(1.2 * sigmoid - 0.1, 0, 1)
    slope = np.where((soft > 0) & (soft < 1), 1.2 * sigmoid * (1 - sigmoid), 0)
    for hard in (False, True):
        z = semhash(noisy, torch.tensor([[hard]]))
        expected = (noisy.detach().numpy() > 0) if hard else soft
        np.testing.assert_allclose(z.detach().numpy(), expected, atol=1e-6)
        [gradient] = torch.autograd.grad(z.sum(), noisy)
        np.testing.assert_allclose(gradient.numpy(), slope, atol=1e-6)


def test_in_evaluation_scores_above_zero_open_and_the_best_filter_always() -> None:
    gate = FilterGate(4, 6).eval()
    gate.fc2.weight.data.normal_()
    gate.fc2.bias.data.fill_(-50)
    features = torch.randn(5, 4)
    decision = gate(features)
    raw = gate.perceptron()(features)
    assert torch.equal(decision.open.sum(1), torch.ones(5, dtype=torch.long))
    assert torch.equal(decision.open.int().argmax(1), raw.argmax(1))
    assert decision.score is not None
    assert torch.equal(decision.open, decision.score > gate.threshold)
    assert decision.score.max().item() == pytest.approx(EDGE)
    gate.fc2.bias.data.zero_()
    decision, raw = gate(features), gate.perceptron()(features)
    some = (raw > 0).any(1)
    assert torch.equal(decision.open[some], raw[some] > 0)


def test_the_second_convolutions_gate_sees_what_the_first_ones_mask_left() -> None:
    net, x = routed()
    seen: list[Tensor] = []
    net.deciders["layer1/0/conv2"].register_forward_hook(lambda gate, inputs, made: seen.append(inputs[0]))
    first = [True, False] * 4
    with torch.no_grad():
        net(x, tp.Path({"layer1.0.conv1": torch.tensor([first]).expand(4, -1)}))
        net(x, tp.Path({"layer1.0.conv1": first}))
    masked, narrow = seen
    assert (masked[:, 1::2] == 0).all()
    assert (masked[:, ::2] != 0).any()
    laws.close(narrow, masked)


# Losses


def by_hand(net: tp.Routed, trace: tp.Trace, method: tp.GatedFilters, heads: nn.Module) -> dict[str, float]:
    """Eq. 12, 13 and 20 in NumPy."""
    mutual = kl = sparse = 0.0
    for name, decision in trace.items():
        z = decision.z.detach().numpy().astype(np.float64)
        y = decision.response["features"].detach().numpy().astype(np.float64)
        head = heads.get_parameter(name.replace(".", "/") + ".weight").detach().numpy()
        logits = z @ head.T.astype(np.float64)
        mutual += -np.mean([logits[i, k] - np.log(np.exp(logits[i]).sum()) for i, k in enumerate(LABELS.tolist())])
        p, q = (np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (z, y))
        if method.divergence == "features":
            p, q = q, p
        divided = z.shape[1] if method.reduction == "mean" else 1
        kl += np.mean((p * np.log(p / q)).sum(1)) / divided
        sparse += np.mean(np.abs(z).sum(1))
    return {"mutual": method.mutual * mutual, "kl": method.kl * kl, "sparse": method.sparse * sparse}


@pytest.mark.parametrize("divergence", ["encoding", "features"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_losses_are_the_papers_sums_over_layers(divergence: str, reduction: str) -> None:
    method = tp.GatedFilters(0.7, 0.3, 0.2, divergence=divergence, reduction=reduction)  # type: ignore[arg-type]
    net, x = routed(method)
    heads = method.heads(net.train(), 5)
    assert heads is not None
    _, trace = net(x)
    got = method.terms(net, trace, LABELS, lambda _, local: local, heads)
    expected = by_hand(net, trace, method, heads)
    assert list(got) == ["mutual", "kl", "sparse"]
    assert {name: loss.item() for name, loss in got.items()} == pytest.approx(expected, rel=1e-5)


def test_the_features_of_the_divergence_are_what_the_filters_gave_before_any_was_closed() -> None:
    net, x = routed()
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, inputs, y: seen.__setitem__(name, y.relu().mean((2, 3)))

    net.train()
    net.model.get_submodule("layer1.0.bn1").register_forward_hook(note("layer1.0.conv1"))
    with torch.no_grad():
        _, trace = net(x)
    laws.close(trace["layer1.0.conv1"].response["features"], seen["layer1.0.conv1"])


def features_by_hand(make: Callable[[], nn.Module], norm: str, site: str) -> tuple[Tensor, Tensor]:
    """The features of a site, and the mean of what a norm gives behind a ReLU, all filters open."""
    net, seen = quietly(make()).eval(), []
    net.model.get_submodule(norm).register_forward_hook(lambda module, inputs, y: seen.append(y))
    with torch.no_grad():
        _, trace = net(torch.randn(3, 3, 32, 32), tp.Path.full(net))
    return trace[site].response["features"], seen[0].relu().mean((2, 3))


def test_features_are_those_behind_the_relu_and_before_pooling_or_a_concatenation() -> None:
    laws.close(*features_by_hand(a_vgg, "features.4", "features.3"))
    laws.close(*features_by_hand(a_vgg, "features.8", "features.7"))
    laws.close(*features_by_hand(a_googlenet, "inception4.0.branch2.4", "inception4.0.branch2.3"))
    laws.close(*features_by_hand(a_googlenet, "inception4.0.branch2.1", "inception4.0.branch2.0"))


def test_without_a_divergence_training_measures_no_features_and_weights_of_zero_have_no_term() -> None:
    method = tp.GatedFilters(mutual=0, kl=0, sparse=0.1)
    net, x = routed(method)
    assert not method.headed
    assert method.heads(net, 5) is None
    _, trace = net.train()(x)
    assert all("features" not in decision.response for decision in trace.values())
    assert list(method.terms(net, trace, LABELS, lambda _, local: local, None)) == ["sparse"]
    _, trace = net.eval()(x)
    assert all("features" in decision.response for decision in trace.values()), "for analyses"


@pytest.mark.parametrize("term", ["task", "mutual", "kl", "sparse"])
def test_every_gate_gets_a_gradient_from_every_loss(term: str) -> None:
    method = tp.GatedFilters(1.0, 1.0, 1.0)
    net, x = routed(method)
    heads = method.heads(net.train(), 5)
    torch.manual_seed(0)
    terms: Losses = losses(method, net, x, LABELS, cross_entropy, lambda _, local: local, heads)
    laws.check_every_decider_gets_a_gradient(net, {term: terms[term]})


def test_an_image_that_did_not_come_to_a_layer_adds_nothing_to_its_losses() -> None:
    model, x = toy(NETWORK)
    method = tp.GatedFilters(1.0, 1.0, 1.0)
    net = tp.route(model, [tp.GatedBlocks(), method], example=x)
    heads = method.heads(net.train(), 5)
    inside = "layer1.1.conv1"
    _, trace = net(x, tp.Path({"layer1.1": torch.tensor([[True], [False], [True], [False]])}))
    one = {inside: trace[inside]}
    made, features = trace[inside], trace[inside].response["features"]
    rest = {inside: tp.Decision(made.open[::2], made.z[::2], response={"features": features[::2]})}
    got = method.terms(net, {**one, "layer1.1": trace["layer1.1"]}, LABELS, lambda _, local: local, heads)
    half = method.terms(net, rest, LABELS[::2], lambda _, local: local, heads)
    for name, loss in got.items():
        torch.testing.assert_close(loss, half[name] / 2)


def test_class_heads_train_with_the_network_and_are_no_part_of_it() -> None:
    net, x = routed()
    objective = tp.Objective(net, tp.GatedFilters())
    terms = objective(x, LABELS)
    sum(terms.values(), torch.zeros(())).backward()
    assert objective.heads is not None
    assert all(p.grad is not None and p.grad.any() for p in objective.heads.parameters())
    assert not any("heads" in key for key in net.state_dict())


def test_class_heads_take_labels_of_any_whole_type_and_at_least_two_classes() -> None:
    net, x = routed()
    method = tp.GatedFilters()
    found = []
    for dtype in (torch.int64, torch.int32, torch.uint8):
        torch.manual_seed(0)
        found.append(tp.Objective(net, method, classes=4)(x, LABELS.to(dtype))["mutual"].detach())
    assert len(set(map(float, found))) == 1
    for classes in (-1, 0, 1, 2.5, "5"):
        with pytest.raises(RunError, match=r"classes=.*: .* at least 2"):
            tp.Objective(net, method, classes=classes)  # type: ignore[arg-type]


def test_the_network_learns_which_filter_a_class_needs() -> None:
    """Two kinds of images, each of which lights one channel only: filters of the other are of no use."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(2, 2, 1, bias=False)
            self.conv = nn.Conv2d(2, 8, 1)
            self.head = nn.Conv2d(8, 2, 1)
            nn.init.eye_(self.stem.weight.data.view(2, 2))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(torch.relu(self.conv(self.stem(x)))).mean((2, 3))
            return y

    y = torch.arange(64) % 2
    x = torch.zeros(64, 2, 4, 4)
    x[torch.arange(64), y] = 1
    method = tp.GatedFilters(mutual=0.1, kl=0.0, sparse=0.02, sites=("conv",))
    net = tp.route(Net(), method, example=x)
    objective = tp.Objective(net, method, classes=2).train()
    optimizer = torch.optim.Adam(objective.parameters(), 0.04)
    for _ in range(100):
        optimizer.zero_grad()
        sum(objective(x, y).values(), torch.zeros(())).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        logits, trace = net(x)
    opened = trace["conv"].open
    assert bool((logits.argmax(1) == y).all())
    assert opened.float().mean() < 0.8
    assert not torch.equal(opened[0], opened[1]), "each class opens filters of its own"


def test_a_multiple_of_filters_opens_the_best_ones_and_the_score_says_so() -> None:
    torch.manual_seed(0)
    gate = FilterGate(4, 10, multiple=4).eval()
    gate.fc2.weight.data.normal_(0, 2)
    gate.fc2.bias.data.normal_(-0.5, 1)
    gate.fc2.bias.data[:2] = 50.0  # two open for every image
    features = 2 * torch.randn(400, 4)
    decision, raw = gate(features), gate.perceptron()(features)
    exact = (raw > 0).sum(1).clamp(min=1)
    assert {3, 4, 5} <= set(exact.tolist()), "below a multiple, on one, and above"
    opened = decision.open.sum(1)
    assert torch.equal(opened, (torch.ceil(exact / 4) * 4).clamp(max=10).long())
    for row, shut in zip(raw, ~decision.open, strict=True):
        assert not shut.any() or row[~shut].min() >= row[shut].max()
    assert decision.score is not None
    assert torch.equal(decision.open, decision.score > gate.threshold)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"mutual": -1.0}, "mutual=-1.0: the weight of a loss is a number of at least 0"),
        ({"kl": float("nan")}, "kl=nan"),
        ({"sparse": True}, "sparse=True"),
        ({"squeeze": 0}, "squeeze=0: a whole number of at least 1"),
        ({"multiple": 0}, "multiple=0: a whole number of at least 1"),
        ({"mixing": "channel"}, "mixing='channel'; choose one of image, element, batch"),
        ({"divergence": "both"}, "divergence='both'; choose one of encoding, features"),
        ({"reduction": "batch"}, "reduction='batch'; choose one of mean, sum"),
        ({"sites": "layer1"}, r"sites='layer1': give a list of names or patterns, sites=\('layer1',\)"),
    ],
)
def test_knobs_out_of_range_are_named(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(RouteError, match=message):
        tp.GatedFilters(**knobs)  # type: ignore[arg-type]


# What a fresh look broke


def skipped(net: tp.Routed, fast: tp.Skipping, x: Tensor) -> float:
    with torch.no_grad():
        expected = net(x)[0]
        return float((fast(x)[0] - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("change", ["norms see other images", "a fused step", "data", "eps"])
def test_weights_that_change_without_being_counted_are_noticed(change: str) -> None:
    net, x = routed()
    net, x = net.double().eval(), x.double()
    fast = tp.skipping(net)
    assert skipped(net, fast, x[:1]) < 1e-9
    if change == "norms see other images":
        with torch.no_grad():
            net.train()(3 * x + 1)
            net.eval()
    elif change == "a fused step":
        optimizer = torch.optim.SGD(net.parameters(), 0.05, fused=True)
        net(x)[0].square().sum().backward()
        optimizer.step()
    elif change == "data":
        net.model.get_parameter("layer1.0.conv2.weight").data.mul_(2)
    else:
        for other in (net, fast):
            norm: Any = other.model.get_submodule("layer1.0.bn1")
            norm.eps = 0.5
    assert skipped(net, fast, x[:1]) < 1e-9


def test_gates_that_a_fused_step_trained_are_joined_anew() -> None:
    model, x = toy(NETWORK)
    net = tp.route(model.double(), tp.GatedBlocks(norm=False), example=x.double()).eval()
    stir(net)
    x, fast = x.double(), tp.skipping(net)
    with torch.no_grad():
        fast(x)
    optimizer = torch.optim.SGD(net.deciders.parameters(), 5.0, fused=True)
    for gate in net.deciders.values():
        for parameter in gate.parameters():
            parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    with torch.no_grad():
        reported, expected = (tp.Path.of(each(x)[1]) for each in (fast, net))
    assert reported == expected


class Standardised(nn.Conv2d):
    """Its weights are normalised over what it reads, as timm's ``StdConv2d``."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight, self.bias)


def test_layers_that_compute_their_weights_in_their_forward_keep_their_filters() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.ReLU(), Standardised(6, 5, 3), nn.Conv2d(5, 4, 1))
    with pytest.warns(UserWarning, match=r"1: '3', a Standardised, computes its inputs from one another"):
        net = tp.route(model, tp.GatedFilters(sites=("1", "3")), example=torch.randn(1, 3, 8, 8))
    assert list(net.sites) == ["3"], "its outputs are apart"


def test_images_that_touch_each_other_do_not_run_one_by_one() -> None:
    class Touching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 5, 1))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.convs(x - x.mean(0, keepdim=True)).mean((2, 3))
            return y

    x = torch.randn(4, 3, 8, 8).double()
    net = tp.route(Touching().double().eval(), tp.GatedFilters(), example=x)
    stir(net)
    fast = tp.skipping(net)
    fast.prices.pays = lambda kind, run, instead, same: same()  # type: ignore[method-assign]
    assert skipped(net, fast, x) < 1e-9


def test_what_is_no_number_stays_none() -> None:
    net, x = quietly(a_vgg()).eval(), torch.randn(2, 3, 32, 32)
    stir(net)
    x[:, :, 3, 3] = float("nan")
    with torch.no_grad():
        assert net(x)[0].isnan().all()
        assert tp.skipping(net)(x[:1])[0].isnan().all()


def test_a_norm_wrapped_while_skipping_is_the_one_that_runs() -> None:
    class Tripled(nn.Module):
        def __init__(self, norm: Any) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = 3 * self.norm(x)
            return y

    net, x = routed()
    fast = tp.skipping(net)
    with torch.no_grad():
        before = fast(x[:1], tp.Path.full(net))[0]
        for block in (fast.model.get_submodule("layer1.0"), net.model.get_submodule("layer1.0")):
            block.bn1 = Tripled(block.bn1)
        after = fast(x[:1], tp.Path.full(net))[0]
        laws.close(after, net(x[:1], tp.Path.full(net))[0])
    assert not torch.allclose(before, after)


def test_copies_of_a_skipping_network_fold_norms_of_their_own() -> None:
    net, x = routed()
    fast = tp.skipping(net)
    with torch.no_grad():
        expected = fast(x[:1])[0]
        for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
            places: list[Any] = [j._place for j in other.junctions]
            folding = [place for place in places if getattr(place, "norm", None) is not None]
            assert folding
            assert all(place.folds() for place in folding)
            torch.testing.assert_close(other(x[:1])[0], expected)


def test_a_weight_pruned_after_routing_is_named() -> None:
    net, x = routed()
    place: Any = net.model.get_submodule("layer1.0.bn1")._place
    prune.random_unstructured(place.block, "weight", 0.5)  # type: ignore[no-untyped-call]
    path = tp.Path({"layer1.0.conv1": [True, False] * 4})
    with (
        torch.no_grad(),
        pytest.raises(tp.errors.CallError, match=r"Norm2d are computed of others .* prune\.remove"),
    ):
        net(x, path)


@pytest.mark.parametrize("layers", ["conv1", "conv2"])
@pytest.mark.parametrize("when", ["before", "after", "trained"])
def test_weights_that_are_computed_since_routing_are_the_ones_that_skip(layers: str, when: str) -> None:
    net, x = routed()
    net.eval()
    fast = tp.skipping(net)
    for name, layer in net.named_modules():
        if name.endswith(layers) and isinstance(layer, nn.Conv2d) and ".layer" in name:
            parametrizations.weight_norm(layer)
    if when == "trained":
        net.train()(x)[0].sum().backward()
        net.eval()
    if when != "after":
        fast = tp.skipping(net)
    with torch.no_grad():
        every = tp.Path.full(net)
        laws.close(fast(x[:1], every)[0], net(x[:1], every)[0], 1e-4)
        laws.close(fast(x)[0], net(x)[0], 1e-4)
        try:
            y = fast(x[:1])[0]
        except CallError as error:
            assert "are computed of others" in str(error)  # noqa: PT017, either is right
        else:
            laws.close(y, net(x)[0][:1], 1e-4)


def test_a_copy_of_a_block_that_copies_itself_has_its_junction() -> None:
    class Own(nn.Conv2d):
        def __deepcopy__(self, memo: dict[int, Any]) -> Own:
            made = Own(self.in_channels, self.out_channels, 3, padding=1)
            made.load_state_dict(self.state_dict())
            return made

    model, x = made(
        lambda: nn.Sequential(Own(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 2, 1)), 8
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = tp.route(model, tp.GatedFilters(), example=x)
    stir(net)
    twin = copy.deepcopy(net)
    assert len(list(junctions(twin.model))) == len(list(junctions(net.model)))
    with torch.no_grad():
        laws.close(twin(x)[0], net(x)[0])


def test_an_empty_batch_answers_as_the_plain_network_does() -> None:
    net, x = routed()
    assert net(x[:0])[0].shape == (0, 5)
