"""The laws that a skipping network keeps, whatever method it is of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import torchpaths as tp
from laws import Undecided, close, random_path
from torchpaths.skips.network import Skipping
from torchpaths.skips.panel import Joined


def check_skipping_is_masking(net: tp.Routed, x: Tensor) -> None:
    """A skipping network gives the outputs and the trace of the masked one, whatever is chosen, at any batch size."""
    fast = always(tp.skipping(net))
    whole = [None, tp.Path.full(net), ~tp.Path.full(net), random_path(net), random_path(net, seed=1)]
    some = tp.Path(dict(list(random_path(net, seed=2).items())[::2]))
    for batch in (1, 2, len(x)):
        part = x[:batch]
        for path in (*whole, some, *(random_path(net, batch, seed) for seed in (3, 4))):
            with torch.no_grad():
                expected, trace = net(part, path)
                got, reported = fast(part, path)
            close(got, expected)
            assert [site for site in trace if site in reported] == list(reported)
            for site, decision in trace.items():
                if site not in reported:
                    assert decision.ran is not None, "only what no image came to is absent"
                    assert not decision.ran.any()
                    continue
                other = reported[site]
                assert torch.equal(other.open, decision.open)
                close(other.z, decision.z)
                ran = [torch.ones(batch, dtype=torch.bool) if d.ran is None else d.ran for d in (other, decision)]
                assert torch.equal(*ran)
                if decision.score is not None:
                    assert other.score is not None
                    close(other.score, decision.score)
            full = Undecided(net)
            assert torch.equal(tp.Path.of(reported).macs(full), tp.Path.of(trace).macs(full))


def check_macs_are_those_that_run(net: tp.Routed, x: Tensor) -> None:
    """What runs while skipping, deciders aside, is exactly what the paths that were taken cost.

    In a batch channels are not left out image by image: a site of channels counts as open for all that came to it, if
    these are several.
    """
    fast, cheap = always(tp.skipping(net)), Undecided(net)
    for path in (None, random_path(net), random_path(net, seed=1)):
        for image in torch.split(x, 1):
            _, trace = fast(image, path)
            assert macs_beside_deciders(fast, image, path) == tp.Path.of(trace)[0].cost(cheap).macs
    for path in (None, random_path(net), random_path(net, len(x))):
        _, trace = fast(x, path)
        ran = {}
        for site, decision in trace.items():
            several = decision.whole is None and (decision.ran is None or int(decision.ran.sum()) > 1)
            wide = several and net.sites[site].kind in ("filters", "branches")
            ran[site] = torch.ones_like(decision.open) if wide else decision.open
        assert macs_beside_deciders(fast, x, path) == tp.Path(ran).macs(cheap).sum()


def check_one_by_one_is_together(net: tp.Routed, x: Tensor) -> None:
    """Images that run by themselves answer as their batch does, and each runs what its own path costs."""
    together, alone, cheap = always(tp.skipping(net)), always(tp.skipping(net)), Undecided(net)
    alone.prices.pays = lambda kind, run, instead, same: True  # type: ignore[method-assign]
    for path in (None, random_path(net, len(x))):
        y, trace = alone(x, path)
        expected, reported = together(x, path)
        close(y, expected, 1e-4)
        assert list(trace) == list(reported)
        assert tp.Path.of(trace) == tp.Path.of(reported)
        for name, decision in trace.items():
            close(decision.z, reported[name].z)
            assert decision.whole == reported[name].whole
            assert (decision.ran is None) == (reported[name].ran is None)
            assert decision.ran is None or torch.equal(decision.ran, reported[name].ran)
        assert macs_beside_deciders(alone, x, path) == tp.Path.of(trace).macs(cheap).sum()


def always(fast: Skipping) -> Skipping:
    """Gathers whatever it costs, so that what runs does not depend on the machine."""
    fast.prices.exact = True
    fast.prices.pays = lambda kind, run, instead, same: False  # type: ignore[method-assign]
    fast.prices.limit = lambda kind, batch, for_all, gathering: batch  # type: ignore[method-assign]
    return fast


def macs_beside_deciders(net: tp.Routed, x: Tensor, path: tp.Path | None) -> int:
    """MACs of a call without what ran in deciders, alone or joined."""
    counter, aside = FlopCounterMode(display=False), 0

    def apart(run: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            nonlocal aside
            before = counter.get_total_flops()
            found = run(*args)
            aside += counter.get_total_flops() - before
            return found

        return counted

    with ExitStack() as stack:
        for decider in net.deciders.values():
            stack.enter_context(patch.object(decider, "forward", apart(decider.forward)))
        stack.enter_context(patch.object(Joined, "__call__", apart(Joined.__call__)))
        stack.enter_context(torch.no_grad())
        stack.enter_context(counter)
        net(x, path)
    return int(counter.get_total_flops() - aside) // 2
