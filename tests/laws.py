"""The laws every method keeps, as checks that a test calls with a network of that method."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.costs import count_macs, count_params, evaluating
from torchpaths.path import Bools
from torchpaths.trace import Decision


def random_path(net: tp.Routed, batch: int | None = None, seed: int = 0) -> tp.Path:
    """A path whose units are open or closed by chance, for the batch or per sample."""
    draw = torch.Generator().manual_seed(seed)
    shape = () if batch is None else (batch,)
    return tp.Path(
        {s: torch.rand(*shape, len(site.units), generator=draw) < 0.5 for s, site in net.sites.items()},
        net.layout.fingerprint,
    )


@torch.no_grad()
def halved(net: tp.Routed, x: Tensor) -> tp.Routed:
    """A network whose gates each open for about half of a batch, given what the gates before them do."""
    net.eval()
    for name, site in net.sites.items():
        if isinstance(site.decider, tp.Gate):
            score = net(x)[1][name].score
            assert score is not None
            middle = score.flatten().sort().values[len(x) // 2 - 1 : len(x) // 2 + 1]
            site.decider.fc2.bias.data[1] -= middle.mean()
    return net


class Undecided:
    """A network as paths see it that decide everything: no decider is asked, so none is paid for."""

    def __init__(self, net: tp.Routed) -> None:
        self.layout = net.layout.undecided()


def came(path: Mapping[str, Bools | Tensor], net: tp.Routed, site: str, batch: int) -> Tensor:
    """Which images come to a site: those for which all that is around it is open, bool ``[batch]``."""
    around = net.layout.inside.get(site, ())
    opened = [torch.as_tensor(path[s]).expand(batch, -1)[:, u]
              for s, u in around]  # fmt: skip
    return torch.stack([torch.ones(batch, dtype=torch.bool), *opened]).all(0)


def check_all(net: tp.Routed, original: nn.Module, x: Tensor, reference: nn.Module | None = None) -> None:
    """What holds for every routed network, those that draw while evaluating too.

    Args:
        net: the network.
        original: as it was before it was routed.
        x: a batch.
        reference: what it computes with everything open, where that is not what the original computes.
    """
    check_full_path_is_the_original(net, original, x, reference)
    check_forced_is_reported(net, x)
    check_leaving_out_is_masking(net, x)
    check_samples_do_not_touch_each_other(net, x)
    check_nothing_is_left_after_a_call(net, x)
    check_cost_is_what_runs(net, x)
    with torch.no_grad():
        _, trace = net(x)
    for name, decision in trace.items():
        check_decision_is_well_formed(decision, len(x), len(net.sites[name].units))


def check_all_that_repeats(net: tp.Routed, fresh: tp.Routed, x: Tensor) -> None:
    """What holds besides for those that decide the same twice; ``fresh`` is such a network with other weights."""
    check_replaying_a_trace_gives_the_same_output(net, x)
    check_copies_are_the_same(net, x)
    check_state_dict_round_trip(net, fresh, x)


def check_full_path_is_the_original(
    net: tp.Routed, original: nn.Module, x: Tensor, reference: nn.Module | None = None
) -> None:
    with torch.no_grad():
        expected = original(x) if reference is None else reference(x)
        full = net(x, tp.Path.full(net))[0]
        if reference is None:
            assert torch.equal(full, expected)
        else:
            close(full, expected)
            assert not torch.allclose(full, original(x), atol=1e-3), "the method changes what is computed"
        assert torch.equal(net.model(x), full), "outside any call a junction is open"
    own = [key for key in net.model.state_dict() if "skipped" not in key.split(".")]
    assert own == list(original.state_dict()), "what a method adds stands apart"


def check_forced_is_reported(net: tp.Routed, x: Tensor) -> None:
    for path in (random_path(net), random_path(net, len(x))):
        with torch.no_grad():
            _, trace = net(x, path)
        reported, costs = tp.Path.of(trace), path.macs(net).expand(len(x))
        for site in net.sites:
            ran = came(path, net, site, len(x))
            forced = torch.as_tensor(path[site]).expand(len(x), -1) & ran.unsqueeze(1)
            if site in reported:
                assert torch.equal(reported[site], forced)
            else:
                assert not ran.any(), "only what no image came to is absent"
        assert torch.equal(reported.macs(net), costs)
        assert [reported[i].cost(net).macs for i in range(len(x))] == costs.tolist()


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
        close(net(x, whole)[0], net(x, masked)[0])


def check_samples_do_not_touch_each_other(net: tp.Routed, x: Tensor) -> None:
    path = random_path(net, len(x))
    with torch.no_grad():
        together = net(x, path)[0]
        alone = torch.cat([net(x[i : i + 1], path[i])[0] for i in range(len(x))])
    close(together, alone, 1e-4)


def check_nothing_is_left_after_a_call(net: tp.Routed, x: Tensor) -> None:
    """Not after an error, not after Ctrl-C, not in a copy that was made during a call."""
    closed = ~tp.Path.full(net)
    with torch.no_grad():
        opened = net(x, tp.Path.full(net))[0]
        assert not torch.equal(net(x, closed)[0], opened)
        with pytest.raises(RuntimeError):
            net(x[:, :1], closed)
        copies: list[tp.Routed] = []

        def interrupt(*_: object) -> None:
            copies.append(copy.deepcopy(net))
            _last(copies[-1])._forward_pre_hooks.clear()
            assert torch.equal(copies[-1].model(x), opened), "a copy is in no call, even while its original is"
            raise KeyboardInterrupt

        handle = _last(net).register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            net(x, closed)
        handle.remove()
        for other in (net, *copies):
            assert other.slot.local.call is None
            assert all(junction._place.slot is other.slot for junction in other.junctions)
            assert torch.equal(other.model(x), opened), "outside any call a junction is open"


def _last(net: tp.Routed) -> nn.Module:
    """The layer that runs last: the head."""
    return [module for module in net.model.modules() if isinstance(module, nn.Linear)][-1]


def check_threads_do_not_meet(net: tp.Routed, x: Tensor, calls: int = 50) -> None:
    """Two threads share a network, each with a path of its own, and the network decides in between."""
    paths = tp.Path.full(net), random_path(net), random_path(net, len(x)), None
    with torch.no_grad():
        expected = [net(x, path) for path in paths]
    wrong: list[int] = []
    start = threading.Barrier(2)

    def serve(mine: tuple[int, int]) -> None:
        start.wait()
        for i in range(calls):
            number = mine[i % 2]
            with torch.no_grad():
                y, trace = net(x, paths[number])
            same = list(trace) == list(expected[number][1]) and torch.allclose(y, expected[number][0], atol=1e-6)
            if not same or tp.Path.of(trace) != tp.Path.of(expected[number][1]):
                wrong.append(number)

    threads = [threading.Thread(target=serve, args=(mine,)) for mine in ((0, 2), (1, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def check_a_call_within_a_call(net: tp.Routed, x: Tensor) -> None:
    """A hook that asks the same network something changes nothing, and is answered as ever."""
    shut = random_path(net)
    inner: list[Any] = []
    with torch.no_grad():
        expected, trace = net(x, shut)
        own = net(x[:2])[0]

        def ask(*_: object) -> None:
            if not inner:
                inner.append(net)  # not once more within the inner call
                inner.append(net(x[:2])[0])

        middle = net.model.get_submodule(next(iter(net.sites.values())).modules[0])
        handle = middle.register_forward_pre_hook(ask)
        try:
            y, reported = net(x, shut)
        finally:
            handle.remove()
    assert inner, "the hook fired"
    assert torch.equal(inner[1], own)
    assert torch.equal(y, expected)
    assert tp.Path.of(reported) == tp.Path.of(trace)


def close(a: Tensor, b: Tensor, rtol: float = 1e-5) -> None:
    """Equal up to rounding, relative to the largest value."""
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * float(b.abs().max().clamp(min=1)))


def check_compiled_is_eager(net: tp.Routed, x: Tensor, paths: Sequence[tp.Path | None] = ()) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for path in paths or (None, random_path(net), random_path(net, len(x))):
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
    for path in (tp.Path.full(net), random_path(net), random_path(net, seed=1), ~tp.Path.full(net)):
        # A forced path asks no decider, so what runs is the path's cost without theirs.
        assert tp.cost(net, x[:1], path).macs == path.cost(Undecided(net)).macs
    full = tp.Path.full(net).cost(net)
    assert full.params == sum(p.numel() for name, p in net.named_parameters() if "skipped" not in name.split("."))


def check_cut_is_forced(net: tp.Routed, x: Tensor) -> None:
    """A network cut along a path gives what the routed one gives along it, at the path's cost, on its own."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    original = dict(net.model.named_parameters())
    for path in (random_path(net), random_path(net, seed=1), ~tp.Path.full(net)):
        cut, shared = tp.extract(net, path), tp.plain(net, path)
        cost = path.cost(Undecided(net))
        with torch.no_grad(), evaluating(net), evaluating(cut), evaluating(shared):
            forced = net(x, path)[0]
            for module in (cut, shared):
                close(module(x), forced)
                assert count_macs(partial(module, x[:1])) == cost.macs
                assert count_params(module) == cost.params
                kinds = {f"{type(m).__module__}." for m in module.modules()}
                ours = {k for k in kinds if k.startswith("torchpaths.") and not k.startswith("torchpaths.models.")}
                assert not ours, "something of torchpaths is left in the cut network"
        known = {id(p) for p in net.parameters()}
        apart = {name: p for name, p in shared.named_parameters() if id(p) not in known}
        assert all(p.numel() < original[name].numel() for name, p in apart.items()), "only what is smaller is a copy"
        assert not set(map(id, _tensors(cut))) & set(map(id, _tensors(net)))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def check_decision_is_well_formed(decision: Decision, batch: int, units: int) -> None:
    assert decision.open.shape == decision.z.shape == (batch, units)
    assert decision.open.dtype == torch.bool
    assert decision.z.dtype == torch.float32
