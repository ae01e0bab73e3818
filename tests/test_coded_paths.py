"""CodedPaths: the paper's losses and networks by hand, what is dropped, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

import torchpaths as tp
from coded_toys import CODED, GROUPED, PAIRS, WITH_BRANCHES
from test_laws import with_branches
from torchpaths.coding.decode import decoders
from torchpaths.costs import count_params
from torchpaths.errors import CodeError, PathError, RouteError
from torchpaths.methods.base import losses
from torchpaths.methods.coded_paths import coding_loss
from torchpaths.models import ResNeXt, create_model
from torchpaths.trace import Decision
from toys import toy

TABLE_1 = {"resnext29_10x11d": (10, 4_638_926, 2_149_034), "resnext29_20x6d": (100, 4_749_136, 1_777_744)}


def coded(**more: Any) -> tuple[tp.Routed, torch.Tensor, tp.CodedPaths]:
    model, x, _ = with_branches("own/resnext")
    method = tp.CodedPaths(classes=5, schemes=((), PAIRS), **more)
    return tp.route(model, method, example=x), x, method


@pytest.mark.parametrize(("name", "numbers"), TABLE_1.items())
def test_networks_and_their_binary_classifiers_have_the_numbers_of_parameters(
    name: str, numbers: tuple[int, int, int]
) -> None:
    classes, whole, binary = numbers
    model = create_model(name, classes)
    method = tp.CodedPaths(classes=classes)
    net = tp.route(model, method, example=torch.randn(2, 3, 32, 32)).eval()
    assert count_params(net) == whole
    cut = tp.extract(net, method.path(net, classes=[7]), classes=[7])
    assert count_params(cut) == binary


@pytest.mark.slow
def test_the_imagenet_network_and_its_binary_classifier_have_their_numbers_of_parameters() -> None:
    net = tp.route(create_model("resnext50_32x4d", 1000), method := tp.CodedPaths(), example=torch.randn(1, 3, 64, 64))
    assert count_params(net) == 25_027_904
    cut = tp.extract(net.eval(), method.path(net, classes=[7]), classes=[7])
    assert count_params(cut) == 10_416_448


@pytest.mark.parametrize(
    ("units", "active", "loss"),
    [(10, 3, 0.0777), (10, 5, 0.0625), (20, 8, 0.0672), (20, 4, 0.0832), (32, 16, 0.0625), (32, 8, 0.082031)],
)
def test_energies_that_are_all_alike_cost_what_the_formula_says(units: int, active: int, loss: float) -> None:
    words = (torch.arange(units) < active).unsqueeze(0)
    assert float(coding_loss(torch.ones(1, units), words)) == pytest.approx(loss, abs=5e-5)
    assert float(coding_loss(words * units / active, words)) == pytest.approx(0, abs=1e-9)


def test_all_energy_in_one_branch_costs_more_where_that_branch_is_not_the_classs() -> None:
    words = (torch.arange(10) < 3).unsqueeze(0)
    one = torch.eye(10)[[0, 9]] * 10
    assert coding_loss(one, words.expand(2, -1)).tolist() == pytest.approx([1.8, 8.4])


@pytest.mark.parametrize("exponent", [4.0, 2.0, 1.0])
def test_the_loss_is_mu_times_the_sum_over_coded_blocks(exponent: float) -> None:
    net, x, method = coded(weight=3.0, exponent=exponent, drop=0.0)
    net.train()
    y = torch.tensor([0, 4, 2, 2])
    found = losses(method, net, x, y, cross_entropy, lambda _, local: local)
    assert set(found) == {"task", "code"}
    _, trace = net(x)
    by_hand = 0.0
    words = np.array([[bit == "1" for bit in word] for word in PAIRS], float)[y.numpy()]
    for decision in trace.values():
        energies = decision.response["energies"].detach().numpy()
        by_hand += 3.0 * np.mean(np.abs(0.5 * energies - words) ** exponent)
    assert len(trace) == 2
    assert found["code"].item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(("classes", "units", "mu"), [(10, 6, 6.0), (100, 10, 6.0), (101, 10, 2.0)])
def test_mu_is_the_papers_unless_it_is_given(classes: int, units: int, mu: float) -> None:
    words = tp.codes(classes, units, 4)
    method = tp.CodedPaths(classes=classes, schemes=(words,), branches=units, drop=0.0)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = ResNeXt((1,), units, 1, 4, 8, False, classes, 3)
    net = tp.route(model, method, example=torch.randn(2, 3, 8, 8)).train()
    x, y = torch.randn(2, 3, 8, 8), torch.tensor([1, 0])
    got = losses(method, net, x, y, cross_entropy, lambda _, local: local)["code"]
    [decision] = net(x)[1].values()
    off = coding_loss(decision.response["energies"], torch.from_numpy(words)[y]).mean()
    assert float(got) == pytest.approx(mu * float(off))


def test_consecutive_blocks_of_one_scheme_drop_the_same_branches_image_by_image() -> None:
    net, x, _ = coded(drop=0.4)
    net.train()
    torch.manual_seed(3)
    _, trace = net(x.repeat(64, 1, 1, 1))
    first, second = trace.values()
    assert torch.equal(first.z, second.z)
    assert first.open.all(), "dropped is not closed"
    assert first.z.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert (first.z == 0).float().mean() == pytest.approx(0.4, abs=0.05)
    assert len(first.z.unique(dim=0)) > 8
    net.eval()
    assert all(decision.z.eq(1).all() for decision in net(x)[1].values()), "nothing is dropped in evaluation"


def test_blocks_of_another_scheme_draw_for_themselves() -> None:
    other = tuple(word[::-1] for word in PAIRS)
    model = ResNeXt((1, 2, 1), 4, 2, 8, 16, False, 5, 3)
    x = torch.randn(32, 3, 12, 12)
    net = tp.route(model, tp.CodedPaths(classes=5, schemes=(PAIRS, other, PAIRS), drop=0.5), example=x[:2]).train()
    a, b, c, d = (decision.z for decision in net(x)[1].values())
    assert torch.equal(b, c)
    assert not torch.equal(a, b)
    assert not torch.equal(a, d), "a run of blocks ends where another scheme lies between"


def test_what_a_path_closes_where_branches_are_drawn_is_not_dropped_further_on() -> None:
    net, x, _ = coded(drop=0.5)
    net.train()
    first, second = net.sites
    _, trace = net(x, tp.Path({first: [True, False, True, True]}))
    assert (trace[second].z[:, 1] == 1).all()
    assert trace[second].open.all()


def test_dropping_leaves_energies_as_they_are() -> None:
    net, x, _ = coded(drop=0.5)
    net.train()
    first = next(iter(net.sites))
    seen = [net(x)[1][first] for _ in range(2)]
    assert not torch.equal(seen[0].z, seen[1].z)
    torch.testing.assert_close(seen[0].response["energies"], seen[1].response["energies"])


def test_a_skipped_block_adds_nothing_to_the_coding_loss() -> None:
    model, x, method = with_branches("own/resnext")
    net = tp.route(model, [method, tp.GatedBlocks()], example=x).train()
    site = "layer2.1"
    y = torch.tensor([0, 1, 2, 3])
    opened = torch.tensor([[True], [False], [True], [False]])
    method = tp.CodedPaths(classes=5, schemes=((), PAIRS), drop=0.0, weight=1.0)
    _, trace = net(x, tp.Path({s: opened if s == site else [True] * len(u) for s, u in net.layout.sites.items()}))
    got = method.terms(net, trace, y, lambda _, local: local, None)["code"]
    words = torch.tensor([[bit == "1" for bit in word] for word in PAIRS])[y]
    each = {name: coding_loss(d.response["energies"], words) for name, d in trace.items() if d.response}
    expected = each["layer2.0.branches"].mean() + (each["layer2.1.branches"] * opened[:, 0]).mean()
    torch.testing.assert_close(got, expected)


def test_the_path_of_classes_is_the_union_of_their_codewords() -> None:
    net, _, method = coded()
    for site in net.sites:
        assert method.path(net, [0])[site] == (True, True, False, False)
        assert method.path(net, [0, 4])[site] == (True, True, False, True)


def test_training_draws_the_energies_to_the_codewords() -> None:
    torch.manual_seed(0)
    method = tp.CodedPaths(classes=5, schemes=((), PAIRS), weight=6.0)
    net = tp.route(ResNeXt((1, 1), 4, 2, 8, 16, False, 5, 3), method, example=torch.randn(2, 3, 8, 8)).train()
    colours = torch.randn(5, 3, 1, 1) * 2
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(100):
        y = torch.randint(0, 5, (32,))
        found = losses(method, net, colours[y] + torch.randn(32, 3, 8, 8), y, cross_entropy, lambda _, local: local)
        optimizer.zero_grad()
        sum(found.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    y = torch.arange(5).repeat(20)
    x = colours[y] + torch.randn(100, 3, 8, 8)
    with torch.no_grad():
        logits, trace = net.eval()(x)
        [distance] = decoders(net, trace).values()
        scores = torch.stack([tp.extract(net, method.path(net, [k]), classes=[k])(x)[:, 0] for k in range(5)], 1)
    assert (logits.argmax(1) == y).float().mean() > 0.9
    assert (distance.argmin(1) == y).float().mean() > 0.9, "a block decodes the class early"
    own = torch.stack([scores[y == k, k].mean() - scores[y != k, k].mean() for k in range(5)])
    assert (own > 0).all(), "each class's own branches tell it from the others"


@pytest.mark.parametrize(
    "make",
    [
        lambda: timm.create_model("resnext50_32x4d", num_classes=5),
        lambda: timm.create_model("seresnext50_32x4d", num_classes=5),
        lambda: torchvision.models.resnext50_32x4d(num_classes=5),
    ],
    ids=["timm", "timm se", "torchvision"],
)
def test_models_of_the_libraries_are_coded_with_their_weights(make: Any) -> None:
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    net = tp.route(model, tp.CodedPaths(classes=5, ratios=(1, 1, 0.5, 0.25)), example=torch.randn(1, 3, 32, 32))
    assert [repr(site.decider).split(",")[0] for site in net.sites.values()] == ["Code(16 of 32"] * 6 + [
        "Code(8 of 32"
    ] * 3
    after = net.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


WRONG: list[tuple[Any, type[Exception], str]] = [
    (lambda: tp.CodedPaths(classes=1), RouteError, "classes=1: a whole number of at least 2"),
    (lambda: tp.CodedPaths(classes=5, drop=1.0), RouteError, "drop=1.0"),
    (lambda: tp.CodedPaths(classes=5, weight=-1), RouteError, "weight=-1"),
    (lambda: tp.CodedPaths(classes=5, exponent=0.5), RouteError, "exponent=0.5"),
    (lambda: tp.CodedPaths(classes=5, ratios=(1, 0)), RouteError, "each above 0 and at most 1"),
    (lambda: tp.CodedPaths(classes=5, ratios=(1, 1)), RouteError, "every stage would stay as it is"),
    (lambda: tp.CodedPaths(classes=5, schemes=((), ())), RouteError, "every stage would stay as it is"),
    (lambda: tp.CodedPaths(classes=5, ratios=(1, 0.5), schemes=((), PAIRS)), RouteError, "give one of them"),
    (lambda: tp.CodedPaths(classes=6, schemes=((), PAIRS)), CodeError, "5 codewords for 6 classes"),
    (lambda: tp.CodedPaths(classes=2, schemes=(("10", "1x"),)), CodeError, "'1x'"),
    (lambda: tp.CodedPaths(classes=2, schemes=(("100", "110"),)), CodeError, "has 2 ones of 3, the first 1"),
    (lambda: tp.CodedPaths(schemes=(("10", "01", "10"),)), CodeError, "classes 0 and 2 have one codeword"),
    (lambda: tp.CodedPaths(schemes=(PAIRS, PAIRS[:3])), CodeError, "of 3 and of 5 codewords"),
    (lambda: tp.CodedPaths(schemes=((11, 22),)), CodeError, "a text of 0 and 1 for each class"),  # type: ignore[arg-type]
    (lambda: tp.CodedPaths(schemes=5), RouteError, "schemes=5: give one for each stage"),  # type: ignore[arg-type]
    (lambda: tp.CodedPaths(ratios=0.5), RouteError, "ratios=0.5: give one for each stage"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "kind", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_impossible_methods_are_refused(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def refused(method: tp.CodedPaths, network: str = "own/resnext") -> str:
    model, x = with_branches(network)[:2] if network in WITH_BRANCHES else toy(network)
    before = list(model.state_dict())
    with pytest.raises((RouteError, CodeError)) as caught:
        tp.route(model, method, example=x)
    assert list(model.state_dict()) == before, "the model is as it was"
    return str(caught.value)


def test_networks_and_schemes_that_do_not_fit_are_refused_with_a_remedy() -> None:
    assert "no grouped convolution" in refused(tp.CodedPaths(classes=5), "own/cifar_resnet20")
    said = refused(tp.CodedPaths(classes=5), "torchvision/mobilenet")
    assert "depthwise" in said
    assert "branches=16" in said
    tp.route(*_model("torchvision/mobilenet", GROUPED))
    assert "tells 5 classes apart" in refused(tp.CodedPaths(classes=6, ratios=(1, 0.5)))
    assert "3 ratios for 2 stages" in refused(tp.CodedPaths(classes=5, ratios=(1, 0.5, 0.5)))
    assert "is 1.2; 1 branches are nearest, a ratio of 0.25" in refused(tp.CodedPaths(classes=5, ratios=(1, 0.3)))
    five = tuple(word + "0" for word in PAIRS)
    assert "codewords of 5 branches for 'layer2.0.branches', which has 4" in refused(
        tp.CodedPaths(classes=5, schemes=((), five))
    )
    assert "groups are not 3 equal branches" in refused(tp.CodedPaths(classes=5, schemes=((), PAIRS), branches=3))


def _model(network: str, method: tp.CodedPaths) -> tuple[nn.Module, tp.CodedPaths]:
    return with_branches(network)[0], method


def test_classes_that_there_are_not_are_named() -> None:
    net, _, method = coded()
    path = method.path(net, [0])
    wrong: list[tuple[Any, str]] = [
        ([], "at least one"),
        ([5], "no class 5; .* from 0 to 4"),
        ([-1], "no class -1"),
        *((given, "a list of numbers of classes") for given in ([0, 0], [True], [1.0], "1", ["1"], 3, None, [[1]])),
    ]
    for classes, message in wrong:
        with pytest.raises(PathError, match=message):
            method.path(net, classes)
        if classes is not None:
            with pytest.raises(PathError, match=message):
                tp.extract(net, path, classes=classes)
    for same in (np.array([1, 2]), torch.tensor([1, 2]), (1, np.int64(2)), range(1, 3)):
        assert method.path(net, same) == method.path(net, [1, 2])  # type: ignore[arg-type]
        assert tp.extract(net, path, classes=same)(torch.zeros(1, 3, 12, 12)).shape == (1, 2)  # type: ignore[arg-type]
    with pytest.raises(RouteError, match="gives classes no paths"):
        tp.GatedBlocks().path_of(net, [0])


@torch.no_grad()
def test_several_classes_keep_their_rows_in_the_order_given() -> None:
    net, x, method = coded()
    path = method.path(net.eval(), [3, 1])
    cut = tp.extract(net, path, classes=[3, 1])
    torch.testing.assert_close(cut(x), net(x, path)[0][:, [3, 1]])
    removed = tp.extract(net, method.path(net, [0, 1, 3, 4]), classes=[0, 1, 3, 4])
    assert removed(x).shape == (len(x), 4)


def test_a_network_whose_scores_are_of_no_single_layer_keeps_all_of_them() -> None:
    class Doubled(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.model(x) * 2
            return y

    model, x, method = with_branches("own/resnext")
    net = tp.route(Doubled(model).eval(), method, example=x)
    path = method.path(net, [0])
    with pytest.raises(RouteError, match="not the output of one linear layer"):
        tp.extract(net, path, classes=[0])
    tp.extract(net, path)


def test_all_branches_closed_is_a_block_without_any() -> None:
    net, x, _ = coded()
    net.eval()
    with torch.no_grad():
        y, trace = net(x, ~tp.Path.full(net))
    assert y.isfinite().all()
    assert all((decision.response["energies"] == 0).all() for decision in trace.values())


def test_energies_are_noted_for_the_images_that_ran_and_are_of_no_label() -> None:
    net, x, _ = coded()
    with torch.no_grad():
        _, trace = net.eval()(x)
    for decision in trace.values():
        assert isinstance(decision, Decision)
        assert decision.response["energies"].shape == (len(x), 4)
        torch.testing.assert_close(decision.response["energies"].mean(1), torch.ones(len(x)), rtol=1e-4, atol=1e-4)


def test_what_evaluation_keeps_of_the_weights_follows_a_training_step() -> None:
    net, x, _ = coded(drop=0.0)
    with torch.no_grad():
        net.eval()(x)
    with torch.no_grad():
        for parameter in net.model.get_submodule("layer2.0.conv3").parameters():
            parameter.mul_(torch.linspace(0.2, 3, parameter.shape[1]).view(1, -1, 1, 1))
        got = net(x)[0]
        fresh = copy.deepcopy(net)(x)[0]
    assert torch.equal(got, fresh)


class Between(nn.Module):
    """A block whose channels pass something between their convolutions."""

    def __init__(self, between: nn.Module | None = None, mean: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.between = nn.Identity() if between is None else between
        self.conv3 = nn.Conv2d(16, 8, 1)
        self.mean = mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = self.between(self.conv2(self.conv1(x)))
        if self.mean:
            u = u * u.mean(self.mean, keepdim=True).sigmoid()
        y: torch.Tensor = x + self.conv3(u)
        return y


def within(block: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return nn.Sequential(nn.Conv2d(3, 8, 1), block, head).eval()


MIXING = {
    "two groups": (lambda: Between(nn.Conv2d(16, 16, 3, padding=1, groups=2)), "its 2 groups are not 4"),
    "mean of channels": (lambda: Between(mean=(1,)), "read by"),
    "mean of everything": (lambda: Between(mean=(1, 2, 3)), "read by"),
    "pooled channels": (lambda: Between(nn.AdaptiveAvgPool3d((16, 6, 6))), "read by"),
    "softmax": (lambda: Between(nn.Softmax(1)), "read by"),
}


@pytest.mark.parametrize(("block", "why"), MIXING.values(), ids=MIXING)
def test_what_mixes_branches_on_the_way_is_no_place_for_them(block: Any, why: str) -> None:
    method = tp.CodedPaths(classes=5, schemes=(PAIRS,), branches=4)
    with pytest.raises(RouteError, match=why):
        tp.route(within(block()), method, example=torch.randn(2, 3, 6, 6))
    tp.route(within(Between(nn.Conv2d(16, 16, 3, padding=1, groups=8))), method, example=torch.randn(2, 3, 6, 6))
    tp.route(within(Between(mean=(2, 3))), method, example=torch.randn(2, 3, 6, 6))


def test_weights_that_are_computed_are_refused_with_a_remedy_that_works() -> None:
    method, x = tp.CodedPaths(classes=5, schemes=(PAIRS,)), torch.randn(2, 3, 6, 6)
    for name in ("conv1", "conv2", "conv3"):
        block = Between()
        prune.l1_unstructured(block.get_submodule(name), "weight", amount=0.5)  # type: ignore[no-untyped-call]
        with pytest.raises(RouteError, match=rf"{name}' are computed .*prune.remove"):
            tp.route(within(block), method, example=x)
        prune.remove(block.get_submodule(name), "weight")  # type: ignore[no-untyped-call]
        tp.route(within(block), method, example=x)


def test_grouped_convolutions_that_stay_as_they_are_are_told() -> None:
    model = within(nn.Sequential(Between(), Between(nn.Softmax(1))))
    with pytest.warns(UserWarning, match=r"1 grouped convolutions .*1\.1\.conv2.*read by"):
        net = tp.route(model, tp.CodedPaths(classes=5, schemes=(PAIRS,)), example=torch.randn(2, 3, 6, 6))
    assert list(net.sites) == ["1.0.branches"]


def test_labels_of_other_kinds_count_as_cross_entropy_takes_them() -> None:
    net, x, method = coded(drop=0.0)
    net.train()
    y = torch.tensor([1, 2, 3, 4])
    _, trace = net(x)

    def code(y: torch.Tensor) -> float:
        return float(method.terms(net, trace, y, lambda _, local: local, None)["code"])

    assert code(y.to(torch.uint8)) == pytest.approx(code(y))
    ignored = torch.tensor([1, -100, 3, -100])
    kept = {n: Decision(d.open[::2], d.z[::2], response={"energies": d.response["energies"][::2]})
            for n, d in trace.items()}  # fmt: skip
    expected = method.terms(net, kept, y[::2], lambda _, local: local, None)["code"]
    assert code(ignored) == pytest.approx(float(expected))


def test_the_network_says_how_many_classes_there_are() -> None:
    model, x, _ = with_branches("own/resnext")
    net = tp.route(model, method := tp.CodedPaths(ratios=(1, 0.5)), example=x)
    assert {len(words) for words in method.words(net).values()} == {5}


def test_coded_is_written_and_read_with_its_schemes() -> None:
    from torchpaths.files.encode import decode, encode

    array = np.array([[bit == "1" for bit in word] for word in PAIRS])
    method = tp.CodedPaths(classes=5, schemes=((), array))  # type: ignore[arg-type]
    assert method == CODED
    assert decode(encode(method), "method") == method
