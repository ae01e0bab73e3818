"""A call of a routed network: what it reports, what it leaves behind, and when it refuses to run."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import torchpaths as tp
from block_toys import WIDTH, Basic, Chain, PreActivation, chain
from torchpaths.errors import CallError, PathError
from torchpaths.junction import junctions
from torchpaths.trace import Decider, Decision


def routed(method: tp.GatedBlocks | None = None, **blocks: nn.Module) -> tuple[tp.Routed, Tensor]:
    model, x = chain(0, **blocks)
    return tp.route(model, method, example=x), x


def calls(net: nn.Module) -> list[Any]:
    return [j._place.call for _, j in junctions(net)]


# What a call reports.


@pytest.mark.parametrize("method", [None, tp.GatedBlocks()])
def test_a_decision_has_a_row_for_each_sample_and_a_column_for_each_unit(method: tp.GatedBlocks | None) -> None:
    net, x = routed(method)
    _, trace = net(x)
    assert list(trace) == list(net.sites) == ["block1", "block2"]
    for decision in trace.values():
        assert decision.open.shape == decision.z.shape == (4, 1)
        assert decision.open.dtype == torch.bool
        assert decision.z.dtype == torch.float32
        assert (decision.score is None) == (method is None)
        assert (decision.whole is None) == (method is not None)
        assert decision.score is None or decision.score.shape == (4, 1)


def test_whole_is_known_exactly_where_the_choice_is_one_for_the_batch() -> None:
    net, x = routed()
    _, trace = net(x, tp.Path({"block1": False, "block2": torch.ones(4, 1, dtype=torch.bool)}))
    assert trace["block1"].whole == (False,)
    assert trace["block2"].whole is None
    assert trace["block1"].open.tolist() == [[False]] * 4
    assert trace["block2"].z.tolist() == [[1.0]] * 4


def test_a_path_decides_the_sites_it_names_and_gates_decide_the_others() -> None:
    net, x = routed(tp.GatedBlocks())
    gate = net.deciders["block1"]
    assert isinstance(gate, tp.Gate)
    gate.fc2.bias.data.copy_(torch.tensor([9.0, 0.0]))  # a gate that shuts
    assert not net(x)[1]["block1"].open.any()
    _, trace = net(x, tp.Path({"block2": False}))
    assert not trace["block1"].open.any()
    assert trace["block1"].score is not None
    assert trace["block2"].score is None
    assert net(x, tp.Path({"block1": True}))[1]["block1"].open.all()


def test_a_decider_that_a_path_overrides_is_not_asked() -> None:
    class Never(Decider):
        def forward(self, features: Tensor) -> Decision:
            raise AssertionError("asked")

    net, x = routed()
    net.sites["block1"].decider = Never()
    net(x, tp.Path({"block1": False}))
    with pytest.raises(AssertionError, match="asked"):
        net(x)


class Asked(Decider):
    """Keeps what it was shown."""

    def forward(self, features: Tensor) -> Decision:
        self.features = features
        opened = features.new_zeros(len(features), 1, dtype=torch.bool)
        return Decision(opened, opened.float())


def test_a_decider_sees_the_mean_of_its_own_blocks_input() -> None:
    net, x = routed(None, block1=Basic(), block2=PreActivation())
    seen = [Asked(), Asked()]
    for site, decider in zip(net.sites.values(), seen, strict=True):
        site.decider = decider
    with torch.no_grad():
        net(x)
        stem = net.model.stem(x)  # type: ignore[operator]
        first = stem.relu()  # block1 is closed by its decider
        block2 = net.model.block2
        assert isinstance(block2, nn.Module)
        second = torch.relu(block2.bn(first))  # type: ignore[operator]
    torch.testing.assert_close(seen[0].features, stem.mean((2, 3)))
    torch.testing.assert_close(seen[1].features, second.mean((2, 3)))


def test_outside_any_call_the_model_is_the_original() -> None:
    model, x = chain()
    net = tp.route(copy.deepcopy(model), tp.GatedBlocks(), example=x)
    with torch.no_grad():
        assert torch.equal(net.model(x), model(x))


# What a call leaves behind.


def test_a_call_leaves_nothing_in_the_junctions() -> None:
    net, x = routed()
    net(x)
    assert calls(net) == [None, None]


def test_a_call_that_fails_in_the_middle_leaves_nothing_and_the_next_is_unharmed() -> None:
    net, x = routed()
    closed = ~tp.Path.full(net)
    with torch.no_grad():
        expected = net(x)[0]
        with pytest.raises(RuntimeError):
            net(x[:, :1], closed)
        assert calls(net) == [None, None]
        assert torch.equal(net(x)[0], expected)
        assert torch.equal(net.model(x), expected)


def test_an_interrupted_call_leaves_nothing() -> None:
    net, x = routed()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = net.get_submodule("model.head").register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        net(x)
    handle.remove()
    assert calls(net) == [None, None]


def test_an_exception_in_a_decider_leaves_nothing() -> None:
    net, x = routed(tp.GatedBlocks())
    net.train()
    with pytest.raises(ValueError, match="more than 1 value"):  # BatchNorm's own error for a batch of one
        net(x[:1])
    assert calls(net) == [None, None]


# Paths that do not fit.


def test_a_path_for_another_batch_or_network_is_refused_before_anything_runs() -> None:
    net, x = routed()
    other, _ = routed(None, block=Basic())
    ran: list[int] = []
    net.model.register_forward_pre_hook(lambda *_: ran.append(1))
    with pytest.raises(PathError, match="3 samples met a batch of 4"):
        net(x, tp.Path({"block1": torch.ones(3, 1, dtype=torch.bool)}))
    with pytest.raises(PathError, match="'block'"):
        net(x, tp.Path.full(other))
    with pytest.raises(PathError, match="Did you mean 'block"):
        net(x, tp.Path({"blok1": True}))
    assert not ran


def test_a_path_on_another_device_is_brought_to_the_images() -> None:
    net, x = routed()
    path = tp.Path({"block1": torch.tensor([[True], [False], [True], [False]]), "block2": False})
    _, trace = net.to("meta")(x.to("meta"), path)
    assert {d.open.device.type for d in trace.values()} == {"meta"}
    assert path["block1"].device.type == "cpu"


# Activation checkpointing.


class Checkpointing(Chain):
    """A chain that saves memory in its own way: each block runs again in the backward pass."""

    reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.order:
            x = checkpoint(getattr(self, name), x, use_reentrant=self.reentrant)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def checkpointing(reentrant: bool) -> tuple[tp.Routed, Tensor]:
    torch.manual_seed(0)
    model = Checkpointing(block1=Basic(), block2=Basic())
    model.reentrant = reentrant
    x = torch.randn(4, 3, 8, 8)
    return tp.route(model.eval(), example=x), x


def test_checkpointing_an_inner_part_raises_where_it_would_give_wrong_gradients() -> None:
    net, x = checkpointing(reentrant=False)
    y, _ = net(x, tp.Path({"block1": False}))
    with pytest.raises(CallError, match=r"'block[12]' ran again inside a backward pass"):
        y.sum().backward()
    net(x)  # and the network goes on working
    assert calls(net) == [None, None]


@pytest.mark.parametrize("training", [True, False])
def test_reentrant_checkpointing_of_an_inner_part_raises(training: bool) -> None:
    net, x = checkpointing(reentrant=True)
    net.train(training)
    with pytest.raises(CallError, match="checkpoint"):
        net(x, tp.Path({"block1": False}))[0].sum().backward()


def test_without_gradients_a_checkpointing_model_runs_along_any_path() -> None:
    net, x = checkpointing(reentrant=False)
    with torch.no_grad():
        assert not net(x, ~tp.Path.full(net))[1]["block1"].open.any()


@pytest.mark.parametrize("forced", [True, False])
def test_checkpointing_the_whole_call_gives_the_same_gradients(forced: bool) -> None:
    net, x = routed(tp.GatedBlocks(norm=False, hidden=4))
    net.deciders.train()  # noise in the gates, no batch statistics in the trunk
    path = tp.Path({"block1": torch.tensor([[True], [False], [True], [False]])}) if forced else None

    def gradients(through_checkpoint: bool) -> tuple[Tensor, dict[str, Tensor]]:
        net.zero_grad()
        torch.manual_seed(3)
        y, trace = checkpoint(net, x, path, use_reentrant=False) if through_checkpoint else net(x, path)
        (y.square().mean() + sum(d.z.mean() for d in trace.values())).backward()
        return y.detach(), {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}

    (y, plain), (again, checked) = gradients(False), gradients(True)
    assert torch.equal(y, again)
    assert plain.keys() == checked.keys()
    assert any(n.startswith("deciders.block2") and bool((g != 0).any()) for n, g in plain.items())
    for name, gradient in plain.items():
        torch.testing.assert_close(checked[name], gradient, msg=name)


# The table.


@pytest.mark.parametrize("method", [None, tp.GatedBlocks(), tp.RandomDrop(0.7)])
def test_the_repr_is_a_table_with_a_row_for_every_site(method: Any) -> None:
    net, _ = routed(method)
    lines = repr(net).splitlines()
    layout = net.layout
    assert lines[0].startswith("Routed Chain: 2 units at 2 sites")
    assert f"{layout.plain.macs:,} MACs" in lines[0]
    decider = {type(None): "always open", tp.GatedBlocks: "Gate(4 -> 16 -> 2", tp.RandomDrop: "Chance(0.70)"}
    rows = {line.split()[0]: line for line in lines[3:-1]}
    assert list(rows) == ["block1", "block2"]
    for unit in layout.units:
        row = rows[unit.site]
        assert f"{unit.cost.macs:,}" in row
        assert f"{unit.cost.macs / layout.plain.macs:.1%}" in row
        assert f"{unit.cost.params:,}" in row
        assert decider[type(method)] in row
    assert lines[-1].startswith("always runs")
    assert f"{layout.fixed.macs:,}" in lines[-1]


def test_state_dict_keys_are_the_models_and_the_deciders() -> None:
    model, x = chain()
    keys = list(model.state_dict())
    net = tp.route(model, tp.GatedBlocks(norm=False), example=x)
    gates = [f"deciders.block{i}.{p}" for i in (1, 2) for p in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")]
    assert list(net.state_dict()) == [f"model.{k}" for k in keys] + gates
    assert sum(p.numel() for p in net.deciders["block1"].parameters()) == WIDTH * 16 + 16 + 16 * 2 + 2
