"""Claims about where choices come from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

import torchpaths as tp
from block_toys import Basic, chain
from torchpaths.deciders.gate import Inference
from torchpaths.errors import CallError
from torchpaths.fronts import candidates
from torchpaths.fronts.candidates import SHORTLIST, STEPS, Observed, every, greedy, observe, rates, search, thresholds
from torchpaths.fronts.evaluate import Worth, undisturbed
from torchpaths.fronts.points import Choice, Point
from torchpaths.layout import Cost, Layout, Unit


def layout(*macs: int) -> Layout:
    """A network of sites of one unit each, ``s0`` and so on."""
    units = tuple(Unit(f"s{i}", 0, Cost(m, 1)) for i, m in enumerate(macs))
    return Layout(units, Cost(1, 1), Cost(1 + sum(macs), 1), "Made")


def closed(choice: Choice) -> set[str]:
    assert choice.path is not None
    return {site for site, opened in choice.path.items() if not all(opened)}


class Made:
    """Accuracy as a sum of what each closed unit costs, and the loss likewise; counts what is tried."""

    def __init__(self, lost: dict[str, float], loss: dict[str, float] | None = None) -> None:
        self.lost, self.loss = lost, loss or {}
        self.tried: list[int] = []

    def __call__(self, choices: Sequence[Choice]) -> list[Worth]:
        self.tried.append(len(choices))
        return [
            Worth(
                Point(c.kind, c.path, c.threshold, 1 - sum(self.lost[s] for s in closed(c)), 1, 1),
                images=8,
                loss=sum(self.loss.get(s, 0) for s in closed(c)),
            )
            for c in choices
        ]


def order(choices: Sequence[Choice]) -> list[str]:
    """The units in the order they were closed in."""
    sets = [closed(c) for c in choices]
    assert sets[0] == set()
    return [name for a, b in itertools.pairwise(sets) for name in b - a]


def test_every_subnetwork_is_tried_once() -> None:
    made = layout(5, 5, 5)
    found = every(made, made.units, None)
    assert len({c.path for c in found}) == 8
    assert all(c.path is not None and set(c.path) == {"s0", "s1", "s2"} and c.fixed for c in found)


def test_where_gates_go_on_deciding_a_path_names_only_the_sites_chosen_from_outside() -> None:
    made = layout(5, 5, 5)
    found = every(made, made.units[1:2], 0.0)
    assert [dict(c.path or {}) for c in found] == [{"s1": (True,)}, {"s1": (False,)}]
    assert [c.threshold for c in found] == [0, 0]


def test_the_greedy_search_closes_what_costs_least_accuracy_per_mac() -> None:
    made = layout(10, 100, 10, 1000)
    attempt = Made({"s0": 0.02, "s1": 0.1, "s2": 0.03, "s3": 0.5})  # per MAC: 2, 1, 3 and 0.5 thousandths
    assert order(greedy(made, made.units, None, attempt)) == ["s3", "s1", "s0", "s2"]


def test_a_unit_whose_closing_gains_accuracy_goes_first() -> None:
    made = layout(10, 10, 10)
    assert order(greedy(made, made.units, None, Made({"s0": 0.0, "s1": 0.1, "s2": -0.1}))) == ["s2", "s0", "s1"]


def test_of_units_that_cost_equally_the_one_with_less_loss_goes_first_then_the_earlier() -> None:
    made = layout(10, 10, 10, 10)
    attempt = Made(dict.fromkeys(["s0", "s1", "s2", "s3"], 0.1), {"s0": 3, "s1": 2, "s2": 1, "s3": 2})
    assert order(greedy(made, made.units, None, attempt)) == ["s2", "s1", "s3", "s0"]


def test_after_the_first_step_only_a_shortlist_is_tried_again() -> None:
    made = layout(*[10] * 12)
    attempt = Made({f"s{i}": i / 100 for i in range(12)})
    steps = greedy(made, made.units, None, attempt)
    assert len(steps) == 13
    assert order(steps) == [f"s{i}" for i in range(12)]
    assert attempt.tried == [1, 12, *[min(SHORTLIST, left) for left in range(11, 0, -1)]]


def test_between_neighbouring_thresholds_lie_equally_many_decisions() -> None:
    torch.manual_seed(0)
    scores = {"a": torch.randn(300, 1), "b": torch.randn(300, 2) - 1}
    found = [c.threshold for c in thresholds(scores)]
    assert found == sorted(found)  # type: ignore[type-var]
    assert 0.0 in found
    assert len(found) == STEPS + 1
    every_score = torch.cat([s.flatten() for s in scores.values()])
    opened = [float((every_score > t).float().mean()) for t in found if t]
    assert np.allclose(opened, np.linspace(1, 0, STEPS), atol=0.01)


def test_paths_in_order_of_rates_open_the_most_open_first_and_leave_undecided_units_open() -> None:
    made = layout(5, 5, 5, 5)
    decided = {site: torch.zeros(2, 1) for site in ("s0", "s2", "s3")}
    found = rates(made, Observed(decided, np.array([0.2, 0.0, 0.9, 0.5])))
    assert [closed(c) for c in found] == [{"s0", "s2", "s3"}, {"s0", "s3"}, {"s0"}, set()]
    assert all(c.fixed for c in found)


def test_of_many_units_not_every_number_open_is_a_candidate() -> None:
    units = tuple(Unit("wide", i, Cost(5, 1)) for i in range(1000))
    made = Layout(units, Cost(1, 1), Cost(5001, 1), "Wide")
    found = rates(made, Observed({"wide": torch.zeros(2, 1000)}, np.linspace(0, 1, 1000)))
    assert len(found) == STEPS + 1
    counts = [sum(c.path["wide"]) for c in found if c.path is not None]
    assert (counts[0], counts[-1]) == (0, 1000)
    assert found[1].path is not None
    assert list(found[1].path["wide"]) == [i >= 1000 - counts[1] for i in range(1000)], "the most open ones"


def gated(**knobs: object) -> tuple[tp.Routed, list[tuple[Tensor, Tensor]]]:
    model, _ = chain(block1=Basic(), block2=Basic(), block3=Basic())
    torch.manual_seed(0)
    x = torch.randn(40, 3, 8, 8)
    net = tp.route(model, tp.GatedBlocks(**knobs), example=x)  # type: ignore[arg-type]
    for site in net.sites.values():
        if site.decider is not None:
            torch.nn.init.normal_(site.decider.fc2.weight, std=3.0)  # type: ignore[union-attr, arg-type]
    return net, [(x[:30], torch.arange(30) % 5), (x[30:], torch.arange(10) % 5)]


def test_scores_and_rates_are_those_of_the_networks_own_decisions() -> None:
    net, images = gated()
    x = torch.cat([x for x, _ in images])
    with undisturbed(net):
        observed = observe(net, images)
        _, trace = net(x)
    for i, (site, decision) in enumerate(trace.items()):
        torch.testing.assert_close(observed.scores[site], decision.score)
        assert observed.rates[i] == pytest.approx(float(decision.open.float().mean()))
    assert 0 < observed.rates.mean() < 1


@pytest.mark.parametrize("inference", ["sample", "expected"])
def test_gates_that_do_not_follow_their_score_have_no_operating_points(inference: Inference) -> None:
    net, images = gated(inference=inference)
    with undisturbed(net), pytest.raises(CallError, match=r"does not open where its score is above 0.*argmax"):
        observe(net, images)


def test_the_search_gives_each_choice_once_and_begins_with_everything_open() -> None:
    net, images = gated()
    with undisturbed(net):
        found = search(net, images, lambda _: None)
    assert (found[0].kind, found[0].path) == ("full", tp.Path.full(net))
    assert {c.kind for c in found} == {"full", "threshold", "rate"}
    assert len({(c.path, c.threshold) for c in found}) == len(found)


def test_units_that_nothing_decides_are_searched_beside_the_gates() -> None:
    net, images = gated(sites=("block2",))
    with undisturbed(net):
        found = search(net, images, lambda _: None)
    outside = [c for c in found if c.kind == "every"]
    assert {frozenset(c.path or ()) for c in outside} == {frozenset({"block1", "block3"})}
    assert len(outside) == 4
    assert all(c.path is not None and c.path["block1"] == (True,) for c in found if c.kind == "rate")


def test_units_opened_by_chance_are_chosen_from_outside_for_nothing_looks_at_the_image() -> None:
    model, x = chain()
    net = tp.route(model, tp.RandomDrop(0.5), example=x)
    with undisturbed(net):
        found = search(net, [(x, torch.arange(4))], lambda _: None)
    assert [c.kind for c in found] == ["full", "every", "every", "every"]


def test_of_many_units_not_every_subnetwork_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "EVERY", 7)
    model, x = chain(block1=Basic(), block2=Basic(), block3=Basic())
    net = tp.route(model, example=x)
    told: list[str] = []
    with undisturbed(net):
        found = search(net, [(x, torch.arange(4))], told.append)
    assert [c.kind for c in found] == ["full", "greedy", "greedy", "greedy"]
    assert len(order(found)) == 3
    assert told[1] == "closing units one at a time, 3 tried"
