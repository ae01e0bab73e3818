"""The laws every method keeps, as checks that a test calls with a network of that method."""

from __future__ import annotations

import copy
import pickle
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.costs import count_macs, count_params, evaluating
from torchpaths.junction import Junction, Place
from torchpaths.methods.base import Method
from torchpaths.methods.blocks import plan_blocks
from torchpaths.places.plan import Plan
from torchpaths.trace import Decision


def random_path(net: tp.Routed, batch: int | None = None, seed: int = 0) -> tp.Path:
    """A path whose units are open or closed by chance, for the batch or per sample."""
    draw = torch.Generator().manual_seed(seed)
    shape = () if batch is None else (batch,)
    return tp.Path(
        {s: torch.rand(*shape, len(site.units), generator=draw) < 0.5 for s, site in net.sites.items()},
        net.layout.fingerprint,
    )


def attributes(model: nn.Module) -> list[Any]:
    """Everything that a model's modules have on them, in depth, in a form that can be compared; junctions unseen."""
    return [(name, type(module), _seen(vars(module), set())) for name, module in model.named_modules()]


def _seen(value: Any, known: set[int]) -> Any:
    while isinstance(value, Junction):
        value = value._place.block
    if isinstance(value, Tensor):
        bits = value.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
        return id(value), type(value), value.shape, value.dtype, value.requires_grad, id(value.grad), bits
    if isinstance(value, nn.Module) or id(value) in known:
        return id(value)
    if isinstance(value, (dict, list, tuple, set, deque)):
        pairs = list(value.items()) if isinstance(value, dict) else [(None, inner) for inner in value]
        own = {*known, id(value)}
        kept = None if isinstance(value, tuple) else id(value)
        return kept, type(value), [(k, _seen(inner, own)) for k, inner in pairs]
    if hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        return id(value), _seen(vars(value), {*known, id(value)})
    return repr(value) if isinstance(value, (int, float, str, bool)) else id(value)


def check_a_refused_model_is_untouched(model: nn.Module, x: Tensor) -> None:
    """After a refusal at the last moment, and after an interruption, a model is what it was in every attribute."""
    before = attributes(model)
    with pytest.raises(ValueError, match="no such site"):
        tp.route(model, tp.GatedBlocks(sites=("no such site",)), example=x)
    assert attributes(model) == before
    with pytest.raises(KeyboardInterrupt):
        tp.route(model, Interrupted(), example=x)
    assert attributes(model) == before


def check_a_routed_model_keeps_its_attributes(model: nn.Module, x: Tensor) -> None:
    """Routed, every module under its name is what it was, but for the doors in the place of some."""
    before = attributes(model)
    net = tp.route(model, example=x)
    assert net.sites
    assert attributes(net.model) == before


class Interrupted(Method):
    """A method whose user loses patience when everything is found and swapped."""

    def find(self, model: nn.Module, example: Any, residuals: Any = None) -> list[Plan]:
        return [replace(plan, build=self._build) for plan in plan_blocks(model, example, residuals)]

    def _build(self, block: nn.Module) -> Place:
        block.extra_state = {"half": "done"}  # type: ignore[assignment]
        raise KeyboardInterrupt


def check_full_path_is_the_original(net: tp.Routed, original: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        expected = original(x)
        assert torch.equal(net(x, tp.Path.full(net))[0], expected)
        assert torch.equal(net.model(x), expected), "outside any call a junction is open"
    own = [key for key in net.model.state_dict() if "skipped" not in key.split(".")]
    assert own == list(original.state_dict()), "what a method adds stands apart"


def check_forced_is_reported(net: tp.Routed, x: Tensor) -> None:
    for path in (random_path(net), random_path(net, len(x))):
        with torch.no_grad():
            _, trace = net(x, path)
        reported = tp.Path.of(trace)
        assert set(reported) == set(net.sites)
        for site in net.sites:
            forced = torch.as_tensor(path[site]).expand(len(x), -1)
            assert torch.equal(reported[site], forced)


def check_replaying_a_trace_gives_the_same_output(net: tp.Routed, x: Tensor) -> None:
    net.eval()
    with torch.no_grad():
        y, trace = net(x)
        again, _ = net(x, tp.Path.of(trace))
    torch.testing.assert_close(again, y, rtol=0, atol=0)


def check_leaving_out_is_masking(net: tp.Routed, x: Tensor) -> None:
    """A path of plain bools leaves work out, the same path per sample multiplies by 0: the output is the same."""
    whole = random_path(net)
    masked = tp.Path({s: torch.tensor([v]).expand(len(x), -1) for s, v in whole.items()})
    with torch.no_grad():
        torch.testing.assert_close(net(x, whole)[0], net(x, masked)[0], rtol=1e-5, atol=1e-5)


def check_samples_do_not_touch_each_other(net: tp.Routed, x: Tensor) -> None:
    path = random_path(net, len(x))
    with torch.no_grad():
        together = net(x, path)[0]
        alone = torch.cat([net(x[i : i + 1], path[i])[0] for i in range(len(x))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def check_nothing_is_left_after_a_call(net: tp.Routed, x: Tensor) -> None:
    net(x)
    assert all(j.call is None for j in net.modules() if isinstance(j, Junction))
    with pytest.raises(Exception, match=r"."):
        net(x[:, :1])  # a wrong number of channels fails in the middle of the call
    assert all(j.call is None for j in net.modules() if isinstance(j, Junction))


def check_compiled_is_eager(net: tp.Routed, x: Tensor) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for path in (None, tp.Path.full(net), random_path(net), random_path(net, len(x))):
        with torch.no_grad():
            expected, trace = net(x, path)
            got, reported = compiled(x, path)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        assert list(reported) == list(trace)
        assert all(torch.equal(reported[s].open, trace[s].open) for s in trace)


def check_copies_are_the_same(net: tp.Routed, x: Tensor) -> None:
    path = random_path(net, len(x))
    with torch.no_grad():
        expected = net(x, path)[0]
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert torch.equal(other(x, path)[0], expected)
            assert torch.equal(other(x)[0], net(x)[0])
            assert not {id(p) for p in other.parameters()} & {id(p) for p in net.parameters()}
            for parameter in other.parameters():
                parameter.zero_()
        assert torch.equal(net(x, path)[0], expected), "a copy shares weights with the original"


def check_state_dict_round_trip(net: tp.Routed, fresh: tp.Routed, x: Tensor) -> None:
    assert list(fresh.state_dict()) == list(net.state_dict())
    fresh.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(x)[0], net(x)[0])


def check_every_decider_gets_a_gradient(net: tp.Routed, losses: dict[str, Tensor]) -> None:
    net.zero_grad()
    sum(losses.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    missing = [n for n, p in net.deciders.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
    flat = [n for n, d in net.deciders.items() if all(bool((p.grad == 0).all()) for p in d.parameters())]  # type: ignore[union-attr]
    assert not flat, "deciders whose gradient is exactly zero"


def check_cost_is_what_runs(net: tp.Routed, x: Tensor) -> None:
    deciders = sum(
        m.in_features * m.out_features for d in net.deciders.values() for m in d.modules() if isinstance(m, nn.Linear)
    )
    for path in (tp.Path.full(net), random_path(net), random_path(net, seed=1), ~tp.Path.full(net)):
        # A forced path asks no decider, so what runs is the path's cost without theirs.
        assert tp.cost(net, x[:1], path).macs == path.cost(net).macs - deciders
    full = tp.Path.full(net).cost(net)
    assert full.params == sum(p.numel() for name, p in net.named_parameters() if "skipped" not in name.split("."))


def check_cut_is_forced(net: tp.Routed, x: Tensor) -> None:
    """A network cut along a path gives what the routed one gives along it, at the path's cost, on its own."""
    deciders = sum(
        m.in_features * m.out_features for d in net.deciders.values() for m in d.modules() if isinstance(m, nn.Linear)
    )
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for path in (random_path(net), random_path(net, seed=1), ~tp.Path.full(net)):
        cut, shared = tp.extract(net, path), tp.plain(net, path)
        cost = path.cost(net)
        with torch.no_grad(), evaluating(net), evaluating(cut), evaluating(shared):
            forced = net(x, path)[0]
            for module in (cut, shared):
                torch.testing.assert_close(module(x), forced, rtol=1e-5, atol=1e-5)
                assert count_macs(partial(module, x[:1])) == cost.macs - deciders
                assert count_params(module) == cost.params - count_params(net.deciders)
                kinds = {f"{type(m).__module__}." for m in module.modules()}
                ours = {k for k in kinds if k.startswith("torchpaths.") and not k.startswith("torchpaths.models.")}
                assert not ours, "something of torchpaths is left in the cut network"
        assert {id(p) for p in shared.parameters()} <= {id(p) for p in net.parameters()}
        assert not set(map(id, _tensors(cut))) & set(map(id, _tensors(net)))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def check_decision_is_well_formed(decision: Decision, batch: int, units: int) -> None:
    assert decision.open.shape == decision.z.shape == (batch, units)
    assert decision.open.dtype == torch.bool
    assert decision.z.dtype == torch.float32
