"""Networks that are changed after `route`, called in unusual ways, or given what is wrong: right, or an error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import torchpaths as tp
from block_toys import Bare, Basic, Chain, chain
from torchpaths.errors import CallError, PathError, RouteError
from torchpaths.methods.blocks import plan_blocks
from torchpaths.models import cifar_resnet
from torchpaths.places.plan import Plan
from torchpaths.skips.network import skipping


def network(method: tp.Method | None = None, **blocks: nn.Module) -> tuple[tp.Routed, Tensor]:
    model, x = chain(0, **(blocks or {"block1": Basic(), "block2": Basic(), "block3": Basic()}))
    return tp.route(model, method, example=x).eval(), x


# A ReLU that is one no more.


@pytest.mark.parametrize("activation", [nn.GELU(), nn.Tanh(), nn.Hardtanh()])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_activation_that_was_replaced_is_what_runs(activation: nn.Module, when: str) -> None:
    net, x = network()
    early = skipping(net)
    early(x)
    for other in (net.model, early.model) if when == "after" else (net.model,):
        for name in ("block1", "block2"):
            other.get_submodule(name).relu = copy.deepcopy(activation)
    fast = early if when == "after" else skipping(net)
    with torch.no_grad():
        for path in (tp.Path.full(net), tp.Path({"block1": True, "block2": False, "block3": True})):
            want = net(x, path)[0]
            torch.testing.assert_close(fast(x, path)[0], want)
            torch.testing.assert_close(tp.extract(net, path)(x), want)


def test_a_hook_of_a_relu_fires_as_often_as_in_the_dense_network() -> None:
    net, x = network()
    fast = skipping(net)
    path = tp.Path({"block1": True, "block2": False, "block3": True})
    counts = []
    for other in (net, fast):
        seen: list[int] = []
        for module in other.model.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(lambda _, x, y, seen=seen: seen.append(1))
        other(x, path)
        counts.append(len(seen))
    assert counts[0] == counts[1] > 0


# A block that is another one.


def test_another_forward_or_class_of_a_routed_block_is_told() -> None:
    class Halved(Basic):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / 2

    for change in ("forward", "__class__"):
        for make in (lambda net: net, skipping):
            net, x = network()
            net = make(net)
            net(x)
            block: Any = dict(net.model.named_modules())["block2"]
            setattr(block, change, Halved if change == "__class__" else lambda x: x)
            with pytest.raises(CallError, match="block 'block2' got another class or forward after it was routed"):
                net(x)
    model, x = chain(0)
    setattr(model.block2, "__class__", Halved)  # noqa: B010, a class is no attribute to a checker
    assert tp.route(model, example=x)(x)[1], "the remedy: change first, then route"


def test_a_path_that_names_a_site_which_does_not_run_any_more_is_told() -> None:
    net, x = network()
    net.model.block2 = Basic().eval()
    with pytest.raises(CallError, match=r"names site 'block2', which did not run: its block 'block2' was replaced"):
        net(x, tp.Path({"block2": False}))
    assert len(net(x, tp.Path({"block1": False}))[1]) == 2, "the remedy: leave it out"


class Pooled(Chain):
    """Runs its blocks in a thread of its own, where that is asked for."""

    threads = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.threads:
            with ThreadPoolExecutor(1) as pool:
                x = pool.submit(self.block1, x).result()
        else:
            x = self.block1(x)
        y: Tensor = self.head(self.block2(x).mean((2, 3)))
        return y


@pytest.mark.parametrize("make", [lambda net: net, skipping])
def test_a_path_that_cannot_reach_a_thread_of_the_models_own_is_told(make: Callable[[tp.Routed], tp.Routed]) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    net = make(tp.route(Pooled(block1=Basic(), block2=Basic()).eval(), example=x))
    net.model.threads = True  # type: ignore[assignment]
    with torch.no_grad(), pytest.raises(CallError, match=r"runs in a thread that the model's own forward started"):
        net(x, ~tp.Path.full(net))


# Doors.


class Doubling(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return 2 * w


def test_a_parametrised_norm_keeps_all_its_weights_in_the_state_and_a_junction_cannot_be_parametrised() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    net = tp.route(cifar_resnet(20, classes=4), tp.AdaptiveDepth(), example=x).eval()
    name = next(n.removesuffix(".skipped") for n, _ in net.model.named_modules() if n.endswith(".skipped"))
    want = net(x)[0]
    with pytest.raises(CallError, match=r"cannot be taken from a junction.*dict\(net.named_modules\(\)\)\[name\]"):
        parametrize.register_parametrization(net.model.get_submodule(name), "weight", Doubling())
    assert torch.equal(net(x)[0], want)
    parametrize.register_parametrization(dict(net.model.named_modules())[name], "weight", Doubling())
    state = net.state_dict()
    assert f"model.{name}.parametrizations.weight.original" in state
    assert set(state) >= {n for n, _ in net.named_parameters()}
    net.load_state_dict({key: value.clone() for key, value in state.items()})
    assert not torch.equal(net(x)[0], want)


class Noted(Basic):
    """Has its own way to say what its state is."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        found = super().state_dict(*args, **kwargs)
        found[kwargs.get("prefix", "") + "note"] = torch.ones(1)
        return found


def test_a_blocks_own_state_dict_is_asked() -> None:
    model, x = chain(0, block1=Noted(), block2=Basic())
    keys = list(model.state_dict())
    assert "block1.note" in keys
    assert list(tp.route(model, example=x).model.state_dict()) == keys


class Stack(nn.Sequential):
    """A residual block that is a container."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + super().forward(x)  # type: ignore[no-untyped-call]
        return y


class Named(Chain):
    """Calls its blocks by name of their argument."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(x=self.block1(input=self.stem(x)))
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def test_a_block_that_is_a_container_stays_one_and_blocks_are_called_by_the_name_of_their_input() -> None:
    class Input(Bare):
        def forward(self, input: Tensor) -> Tensor:
            y: Tensor = input + self.conv(input)
            return y

    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    stack = Stack(nn.Conv2d(4, 4, 1), nn.ReLU())
    model = Named(block1=Input(), block2=stack).eval()
    want = model(x)
    net = tp.route(model, example=x)
    assert torch.equal(net(x, tp.Path.full(net))[0], want)
    there: Any = net.model.block1
    assert bool(there)
    routed: Any = net.model.block2
    if "block2" in net.sites:
        assert len(routed) == 2
        assert list(routed) == [stack[0], stack[1]]


class Underscored(nn.Module):
    """Children whose names differ by what generated code may put before them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self._conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self._conv(self.conv(x))
        return y


def test_names_that_begin_alike_are_told_apart() -> None:
    net, x = network(None, block1=Underscored(), block2=Underscored())
    with torch.no_grad():
        torch.testing.assert_close(skipping(net)(x)[0], net(x)[0])


# Numbers.


def test_what_is_not_a_number_closes_a_gate_for_one_image_as_for_a_batch() -> None:
    net, x = network(tp.GatedBlocks())
    x[0, 0, 0, 0] = torch.nan
    found = [n(images)[1]["block1"].open[0].item() for n in (net, skipping(net)) for images in (x, x[:1])]
    assert found == [False] * 4


def test_gates_compute_in_float32_also_in_a_call_under_autocast() -> None:
    net, x = network(tp.GatedBlocks())
    fast = skipping(net)
    with torch.autocast("cpu", torch.bfloat16):
        scores = [n(x[:count])[1]["block1"].score for n in (net, fast) for count in (1, 4)]
    assert all(score is not None and score.dtype == torch.float32 for score in scores)
    with torch.no_grad():
        for images in (x, x[:1]):
            mine, theirs = fast(images)[1]["block1"].score, net(images)[1]["block1"].score
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


class Scaled(nn.Module):
    """Takes a factor for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        y: Tensor = x + self.conv(x) * factor
        return y


class Conditioned(Chain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        factor = x.mean((1, 2, 3), keepdim=True)
        for name in self.order:
            x = getattr(self, name)(x, factor)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def test_further_arguments_with_a_row_for_each_image_are_gathered_with_the_images() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    by_hand = tp.Residual(
        branch=lambda b, x, factor: b.conv(x) * factor,
        shortcut=lambda b, x, factor: x,
        post=lambda b, x, factor: x,
    )
    blocks = {f"block{i}": Scaled() for i in (1, 2)}
    net = tp.route(Conditioned(**blocks).eval(), example=x, residuals={r"block\d": by_hand})
    path = tp.Path({"block1": torch.tensor([[True], [False], [True], [False]])})
    with torch.no_grad():
        torch.testing.assert_close(skipping(net)(x, path)[0], net(x, path)[0])


# What is no decision, no example, no cover.


class Odd(tp.Decider):
    """Gives whatever it is told to."""

    def __init__(self, give: Callable[[int], Any]) -> None:
        super().__init__()
        self.give = give

    def forward(self, features: Tensor) -> Any:
        return self.give(len(features))


@pytest.mark.parametrize(
    "give",
    [
        lambda n: tp.Decision(torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1)),
        lambda n: tp.Decision(torch.ones(n, 2, dtype=torch.bool), torch.ones(n, 2)),
        lambda n: tp.Decision(torch.ones(n, dtype=torch.bool), torch.ones(n)),
        lambda n: tp.Decision(torch.ones(n, 1), torch.ones(n, 1)),
        lambda n: tp.Decision(torch.ones(n, 1, dtype=torch.bool), torch.ones(n, 3)),
        lambda n: tp.Decision(torch.ones(n, 1, dtype=torch.bool), torch.ones(n, 1), whole=(True, True)),
        lambda n: None,
    ],
)
def test_a_decision_of_another_form_is_refused_with_its_sites_name(give: Callable[[int], Any]) -> None:
    net, x = network()
    net.sites["block2"].decider = Odd(give)
    for other in (net, skipping(net)):
        with pytest.raises(CallError, match=r"the decider of site 'block2', Odd, gave"):
            other(x)


@pytest.mark.parametrize(("example", "said"), [(torch.zeros(0, 3, 8, 8), "no image"), ("x", "str"), ({"x": 1}, "dict")])
def test_what_is_no_example_is_refused(example: Any, said: str) -> None:
    with pytest.raises(RouteError, match=said):
        tp.route(chain(0)[0], example=example)


def test_a_lazy_model_is_refused_until_it_has_run_once() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3, padding=1), Basic(), Basic()).eval()
    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(RouteError, match=r"'0.weight' has no shape yet; run the model once"):
        tp.route(model, example=x)
    model(x)
    assert tp.route(model, example=x).sites


class Wrong(tp.Method):
    """Claims other covers than its blocks have."""

    def __init__(self, covers: Callable[[Any], Any]) -> None:
        self.covers = covers

    def find(self, model: nn.Module, example: Any, residuals: Any = None) -> list[Plan]:
        return [replace(p, covers=self.covers(p.covers)) for p in plan_blocks(model, example, residuals)]


@pytest.mark.parametrize(
    ("covers", "said"),
    [
        (lambda own: (), "covers nothing of the network"),
        (lambda own: (replace(own[0], cost=tp.Cost(-5, 0)),), "cannot be right"),
        (lambda own: (replace(own[0], cost=tp.Cost(10**15, 0)),), "cannot be right"),
    ],
)
def test_covers_that_cannot_be_right_are_refused(covers: Callable[[Any], Any], said: str) -> None:
    model, x = chain(0)
    with pytest.raises(RouteError, match=said):
        tp.route(model, Wrong(covers), example=x)
    assert tp.route(model, example=x).sites, "the model is as it was"


@pytest.mark.parametrize("depth", ["TTF", [True, False], (False,)])
def test_a_depth_in_the_place_of_a_path_is_told_how_to_become_one(depth: Any) -> None:
    net, x = network()
    with pytest.raises(PathError, match=r"is no path; a depth is made by its method, method.path\(net, "):
        net(x, depth)


def test_a_batch_norm_left_in_training_mode_cannot_be_skipped_beside() -> None:
    net, _ = network()
    norm = net.model.get_submodule("block1.bn").train()
    with pytest.raises(CallError, match=r"'block1.bn' is in training mode.*call net.eval\(\)"):
        skipping(net)
    assert norm.training
    net.eval()
    assert not skipping(net).training


def test_what_is_handed_on_by_a_block_left_out_is_nobody_elses() -> None:
    class Keeping(Chain):
        def forward(self, x: Tensor) -> Tensor:
            self.__dict__["kept"] = x = self.block1(self.stem(x))
            x = self.block2(x)
            x.mul_(2)
            y: Tensor = self.head(x.mean((2, 3)))
            return y

    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    model = Keeping(block1=Bare(), block2=Bare()).eval()
    net = tp.route(model, tp.AdaptiveDepth(skippable=("block2",)), example=x)
    shut = ~tp.Path.full(net)
    with torch.no_grad():
        want = model.block1(model.stem(x))
        for other in (net, skipping(net)):
            by_image = tp.Path({site: torch.zeros(4, 1, dtype=torch.bool) for site in net.sites})
            for path in (shut, by_image):
                other(x, path)
                torch.testing.assert_close(other.model.__dict__["kept"], want)
