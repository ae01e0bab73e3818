"""The search for residual blocks: what it finds, why it refuses, and that it leaves the model alone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from block_toys import WIDTH, Bare, Basic, Chain, Plain, PreActivation, chain
from torchpaths.errors import CallError, RouteError
from torchpaths.junction import Junction
from torchpaths.places.names import match
from torchpaths.places.residual.find import find_residuals


def test_blocks_are_found_in_order_of_execution_with_their_costs() -> None:
    model, x = chain(zeta=Basic(), alpha=PreActivation(), plain=Plain(), beta=Bare())
    search = find_residuals(model, x)
    assert [p.sites for p in search.places] == [("zeta",), ("alpha",), ("beta",)]
    conv = WIDTH * WIDTH * 9
    assert [p.costs[0].macs for p in search.places] == [conv * 64] * 3
    assert [p.costs[0].params for p in search.places] == [conv + WIDTH + 2 * WIDTH, conv + WIDTH, conv + WIDTH]
    assert [p.channels for p in search.places] == [(WIDTH,)] * 3
    assert set(search.refused) == {"plain"}
    assert "no sum" in search.refused["plain"]


class Twice(Chain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y: Tensor = self.head(self.block2(self.block1(self.block1(x))).mean((2, 3)))
        return y


def test_a_block_that_runs_twice_in_one_forward_is_refused() -> None:
    model = Twice(block1=Basic(), block2=Basic()).eval()
    search = find_residuals(model, torch.randn(2, 3, 8, 8))
    assert [p.module for p in search.places] == ["block2"]
    assert "several times" in search.refused["block1"]


class Stage(nn.Module):
    """A residual block of residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(Basic(), Basic())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.inner(x)
        return y


def test_blocks_inside_a_branch_are_left_to_the_outer_block() -> None:
    model, x = chain(stage=Stage(), last=Bare())
    search = find_residuals(model, x)
    assert [p.module for p in search.places] == ["stage", "last"]
    assert not search.refused


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv(x + torch.randn_like(x))
        return y


def test_a_block_whose_parts_do_not_give_its_output_is_refused() -> None:
    model, x = chain(noisy=Noisy(), block=Basic())
    search = find_residuals(model, x)
    assert [p.module for p in search.places] == ["block"]
    assert "do not give its output" in search.refused["noisy"]


class Optional(nn.Module):
    """Further arguments of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None, **more: Any) -> Tensor:
        y: Tensor = x + self.conv(x if mask is None else x * mask)
        return y


class Masked(Chain):
    given: dict[str, Any]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.block(self.stem(x), **self.given).mean((2, 3)))
        return y


class Reading(Optional):
    """A forward that looks into its further arguments itself."""

    def forward(self, x: Tensor, mask: Tensor | None = None, **more: Any) -> Tensor:
        y: Tensor = x + more.get("scale", 1.0) * self.conv(x)
        return y


class SecondTensor(Optional):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        y: Tensor = x + self.conv(x) * mask
        return y


@pytest.mark.parametrize("block", [Optional, Reading, SecondTensor])
@pytest.mark.parametrize("given", [{"mask": torch.full((8,), 0.5)}, {"more": 1}, {"scale": 2.0}, {}])
def test_further_arguments_are_passed_on_and_others_refused(block: type[Optional], given: dict[str, Any]) -> None:
    if block is SecondTensor and "mask" not in given:
        return
    x = torch.randn(2, 3, 8, 8)
    model = Masked(block=block()).eval()
    model.given = given
    net = tp.route(copy.deepcopy(model), example=x)
    inner: Any = net.model
    inner.given = given
    with torch.no_grad():
        assert torch.equal(net(x)[0], model(x))
        assert torch.equal(tp.extract(net, tp.Path({"block": [False]}))(x), net(x, tp.Path({"block": [False]}))[0])
        if block is Reading and not given:
            inner.given = {"scale": 2.0}
            with pytest.raises(CallError, match=r"'block' was called with scale=2\.0"):
                net(x)


class Anything(Optional):
    def forward(self, x: Tensor, *more: Any) -> Tensor:  # type: ignore[override]
        y: Tensor = x + self.conv(x) * more[0]
        return y


def test_values_without_a_name_are_a_reason() -> None:
    class Positional(Chain):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.block(self.stem(x), 2.0).mean((2, 3)))
            return y

    search = find_residuals(Positional(block=Anything()).eval(), torch.randn(2, 3, 8, 8))
    assert "let it name them" in search.refused["block"]


class Folding(Chain):
    """A block that gets patches in place of samples."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        patches = x.reshape(len(x), WIDTH, 2, 4, 8).transpose(1, 2).flatten(0, 1)
        pooled = self.block(patches).mean((2, 3))
        y: Tensor = self.head(pooled.view(len(x), 2, WIDTH).mean(1))
        return y


def test_a_block_whose_first_axis_is_not_the_batch_is_refused() -> None:
    search = find_residuals(Folding(block=Basic()).eval(), torch.randn(2, 3, 8, 8))
    assert "first axis" in search.refused["block"]


def test_a_module_that_does_not_run_is_neither_found_nor_refused() -> None:
    model, x = chain()
    model.order = ("block1",)
    search = find_residuals(model, x)
    assert [p.module for p in search.places] == ["block1"]
    assert not search.refused


def state(model: nn.Module) -> list[Any]:
    """Everything a failed route might have left behind."""
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    flags = [(n, type(m), m.training) for n, m in model.named_modules()]
    return [list(model.state_dict()), hooks, flags, [p.requires_grad for p in model.parameters()]]


def wrong_branch(block: nn.Module, x: Tensor) -> Tensor:
    return x * 2


def identity(block: nn.Module, x: Tensor) -> Tensor:
    return x


def raising(block: nn.Module, x: Tensor) -> Tensor:
    raise AttributeError("no body here")


def branch(block: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(block.bn, nn.Module)
    assert isinstance(block.conv, nn.Module)
    y: Tensor = block.bn(block.conv(x))
    return y


def post(block: nn.Module, y: Tensor) -> Tensor:
    return y.relu()


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "wrong channels": ({"example": torch.zeros(2, 1, 8, 8)}, r"\(2, 1, 8, 8\)"),
    "wrong block by hand": ({"residuals": {"block1": tp.Residual(wrong_branch, identity, post)}}, "block1.*output"),
    "raising block by hand": ({"residuals": {"block1": tp.Residual(raising, identity, post)}}, "block1.*no body here"),
    "unknown block by hand": (
        {"residuals": {"blokc1": tp.Residual(branch, identity, post)}},
        "matches no module.*'block1'",
    ),
    "no regular expression": ({"residuals": {"block(": tp.Residual(branch, identity, post)}}, "regular expression"),
    "targets of another length": ({"method": tp.GatedBlocks(targets=(0.5,) * 7)}, "7 blocks"),
    "no site": ({"method": tp.GatedBlocks(sites=("block9",))}, "block9"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_route_leaves_the_model_as_it_was(name: str) -> None:
    given, said = FAILURES[name]
    model, x = chain()
    model.train()
    model.get_submodule("block1").eval()  # a frozen part
    before, weights = state(model), copy.deepcopy(model.state_dict())
    with pytest.raises(RouteError, match=said):
        tp.route(model, **{"example": x, **given})
    assert state(model) == before
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert not any(isinstance(m, Junction) for m in model.modules())
    tp.route(model, example=x)  # and can be routed with the error mended


def test_searching_changes_nothing() -> None:
    model, x = chain()
    before, kept = state(model), copy.deepcopy(model.state_dict())
    given = x.clone()
    find_residuals(model, x)
    assert state(model) == before
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    assert torch.equal(x, given)


@pytest.mark.parametrize("pattern", ["block1", "block[12]", "block."])
def test_a_block_given_by_hand_is_the_block_found_by_itself(pattern: str) -> None:
    model, x = chain()
    found = tp.route(copy.deepcopy(model), example=x)
    given = tp.route(copy.deepcopy(model), example=x, residuals={pattern: tp.Residual(branch, identity, post)})
    assert list(given.sites) == ["block1", "block2"]
    for path in (tp.Path.full(found), tp.Path({"block1": False, "block2": True}), ~tp.Path.full(found)):
        with torch.no_grad():
            torch.testing.assert_close(given(x, tp.Path(dict(path)))[0], found(x, path)[0])
    assert [u.cost for u in given.layout.units] == [u.cost for u in found.layout.units]


def test_a_block_by_hand_with_two_sums_has_two_numbered_sites() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(WIDTH, WIDTH, 1)
            self.b = nn.Conv2d(WIDTH, WIDTH, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.a(x)
            y: Tensor = x + self.b(x)
            return y

    model, x = chain(block=Two())
    first = tp.Residual(lambda block, v: block.a(v), identity, identity)
    second = tp.Residual(lambda block, v: block.b(v), identity, identity)
    net = tp.route(copy.deepcopy(model), example=x, residuals={"block": (first, second)})
    assert list(net.sites) == ["block.0", "block.1"]
    automatic = tp.route(model, example=x)
    assert list(automatic.sites) == ["block.a", "block.b"]
    for closed in (0, 1):
        with torch.no_grad():
            by_hand = net(x, tp.Path({f"block.{closed}": False}))[0]
            expected = automatic(x, tp.Path({f"block.{'ab'[closed]}": False}))[0]
        assert torch.equal(by_hand, expected)


def test_a_pattern_means_one_name_or_all_it_matches_whole() -> None:
    names = ["layer1.0", "layer1.1", "layer1.10"]
    assert match("layer1.1", names, "site") == ["layer1.1"]  # the dot is no wildcard for a name that exists
    assert match(r"layer1\.1\d", names, "site") == ["layer1.10"]
    assert match(r".*\.[01]", names, "site") == ["layer1.0", "layer1.1"]
    with pytest.raises(RouteError, match=r"no site.*layer1"):
        match("layer1", names, "site")


def _inputs(model: nn.Module) -> list[Any]:
    """Hooks of every kind that change what blocks and their children get and give."""
    return [
        model.get_submodule("block1").register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
        model.get_submodule("block1").register_forward_hook(lambda module, args, output: output - 1),
        model.get_submodule("block2").register_forward_pre_hook(
            lambda module, args, kwargs: ((args[0] + 1,), kwargs), with_kwargs=True
        ),
        model.get_submodule("block2.conv").register_forward_pre_hook(lambda module, args: (args[0] * 3,)),
        model.get_submodule("block2.bn").register_forward_hook(lambda module, args, output: output * 0.5),
    ]


@pytest.mark.parametrize("method", [None, tp.GatedBlocks(), tp.AdaptiveDepth(skippable=("block3",))], ids=str)
def test_hooks_that_change_what_blocks_get_and_give_go_on_doing_so(method: Any) -> None:
    model, x = chain(block1=Basic(), block2=Basic(), block3=Basic())
    bare = copy.deepcopy(model)
    handles = _inputs(model)
    plain = copy.deepcopy(model)
    net = tp.route(model, method, example=x)
    with torch.no_grad():
        assert torch.equal(net(x, tp.Path.full(net))[0], plain(x))
        for handle in handles:
            handle.remove()
        assert torch.equal(net(x, tp.Path.full(net))[0], bare(x)), "and can be taken away afterwards"


NAMES = ("extra", "steps", "conditions", "rectifies", "call", "calls", "block", "sites", "slot", "cut", "run", "more",
         "put", "parts", "decide", "_forward", "forward_", "place", "prepare", "training_")  # fmt: skip


class Called(nn.Module):
    """A block whose one child bears some name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name_of_it = name
        self.add_module(name, nn.Conv2d(WIDTH, WIDTH, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + getattr(self, self.name_of_it)(x)
        return y


@pytest.mark.parametrize("name", NAMES)
def test_a_blocks_child_may_bear_any_name(name: str) -> None:
    model, x = chain(block1=Called(name), block2=Called(name))
    want = model(x).detach()
    net = tp.route(model, tp.GatedBlocks(), example=x).eval()
    shut = tp.Path({"block1": False, "block2": True})
    with torch.no_grad():
        closed = net(x, shut)[0]
        for other in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net)), tp.skipping(net)):
            torch.testing.assert_close(other(x, tp.Path.full(net))[0], want)
            torch.testing.assert_close(other(x, shut)[0], closed)
        torch.testing.assert_close(tp.extract(net, shut)(x), closed)
    layer = nn.Conv2d(WIDTH, WIDTH, 1)
    setattr(net.model.get_submodule("block1"), name, layer)
    assert net.model.get_submodule(f"block1.{name}") is layer
