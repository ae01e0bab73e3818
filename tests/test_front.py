"""Claims about the menu: what stands on it, what it says of each point, and which it chooses in a budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import torchpaths as tp
from block_toys import Basic, chain
from torchpaths.costs import count_macs
from torchpaths.errors import BudgetError, CallError, DataError, MeasureError, RunError
from torchpaths.fronts import Point
from torchpaths.fronts.points import undominated
from torchpaths.methods.base import Method

Images = list[tuple[Tensor, Tensor]]


def by_macs(call: Callable[[], object]) -> float:
    """A clock on which every MAC that runs takes a nanosecond."""
    return count_macs(call) * 1e-9


def steady(call: Callable[[], object]) -> float:
    """A clock on which every call takes a second."""
    call()
    return 1.0


def toy(method: Method | None = None) -> tuple[tp.Routed, Images]:
    """Three blocks, gates (if any) that decide by the image, and 60 images with labels that the full network is right
    about half of the time."""
    model, _ = chain(block1=Basic(), block2=Basic(), block3=Basic())
    torch.manual_seed(0)
    x = torch.randn(60, 3, 8, 8)
    with torch.no_grad():
        model.head.bias.sub_(model(x).mean(0))  # else one class is the answer to every image
        labels = torch.where(torch.rand(60) < 0.5, model(x).argmax(1), torch.randint(5, (60,)))
    net = tp.route(model, method, example=x)
    for site in net.sites.values():
        if site.decider is not None and not isinstance(site.decider, tp.Chance):
            torch.nn.init.normal_(site.decider.fc2.weight, std=3.0)  # type: ignore[union-attr, arg-type]
    return net, list(zip(x.split(25), labels.split(25), strict=True))  # type: ignore[no-untyped-call]


def made(net: tp.Routed, images: Any, **options: Any) -> tp.Front:
    return tp.front(net, images, **{"batch": (), "seconds": 1e-6, "timer": steady, **options})


@pytest.fixture(scope="module")
def gated() -> tuple[tp.Routed, Images, tp.Front]:
    net, images = toy(tp.GatedBlocks())
    return net, images, made(net, images, batch=16, timer=by_macs)


def right(net: tp.Routed, images: Images, point: Point) -> float:
    """The point's accuracy, by running the masked network."""
    net.eval()
    with torch.no_grad():
        hits = [(net(x, point.apply(net))[0].argmax(1) == y).float() for x, y in images]
    return float(torch.cat(hits).mean())


def test_of_a_network_without_deciders_every_subnetwork_is_measured() -> None:
    net, images = toy()
    front = made(net, images)
    assert len(front.cloud) == 8
    assert front.images == front.searched == 60
    assert all(point.fixed for point in front.points)
    for point in front.candidates:
        assert point.path is not None
        assert point.accuracy == pytest.approx(right(net, images, point))
        assert point.macs == point.path.cost(net).macs
        assert point.open == pytest.approx(sum(map(sum, point.path.values())) / 3)
    assert min(point.open for point in front.candidates) == 0


def test_the_plain_networks_accuracy_is_that_of_everything_open() -> None:
    net, images = toy()
    hits = torch.cat([tp.plain(net)(x).argmax(1) == y for x, y in images])
    assert made(net, images).accuracy == pytest.approx(float(hits.float().mean()))


def test_the_operating_points_of_gates_are_what_the_gated_network_does(
    gated: tuple[tp.Routed, Images, tp.Front],
) -> None:
    net, images, front = gated
    points = [p for p in front.candidates if p.kind == "threshold"]
    assert len(points) >= 3
    for point in points:
        assert point.accuracy == pytest.approx(right(net, images, point))
        found = tp.survey(net, images)
        assert (point.macs, point.open) == pytest.approx((found.macs, found.rates.mean()))
        assert point.accuracy == pytest.approx(found.accuracy)


def test_fixed_paths_of_a_gated_network_cost_what_runs_and_that_is_no_gates(
    gated: tuple[tp.Routed, Images, tp.Front],
) -> None:
    net, images, front = gated
    points = [p for p in front.candidates if p.kind == "rate"]
    assert points
    for point in points:
        assert point.path is not None
        x = images[0][0][:1]
        assert point.macs == tp.cost(net, x, point.path).macs < point.path.cost(net).macs
        cut = tp.extract(net, point.path)
        assert point.macs == count_macs(lambda cut=cut, x=x: cut(x))  # type: ignore[misc]


def test_no_point_of_the_menu_beats_another(gated: tuple[tp.Routed, Images, tp.Front]) -> None:
    _, _, front = gated
    assert list(front.points) == undominated(front.points)
    assert {p.timed(None) for p in front.points} <= set(front.candidates)
    assert all(p.ms is not None for p in front.points)


def test_where_time_is_proportional_to_macs_every_gap_is_one(gated: tuple[tp.Routed, Images, tp.Front]) -> None:
    net, _, front = gated
    [profile] = front.profiles
    assert profile.plain_ms == pytest.approx(16 * net.layout.plain.macs * 1e-6)
    for time in profile.times:
        assert time.gap.value == pytest.approx(1, rel=1e-6)
        assert time.ms == pytest.approx(time.macs_ratio * profile.plain_ms)


def test_gates_beside_units_that_nothing_decides_are_both_on_the_menu() -> None:
    net, images = toy(tp.GatedBlocks(sites=("block2",)))
    front = made(net, images)
    partial = [p for p in front.candidates if p.kind == "every"]
    assert partial
    for point in partial:
        assert point.path is not None
        assert set(point.path) == {"block1", "block3"}
        assert point.accuracy == pytest.approx(right(net, images, point))
        found = tp.survey(net, images, path=point.path)
        assert (point.macs, point.accuracy) == pytest.approx((found.macs, found.accuracy))


def test_the_network_is_as_it_was_afterwards_also_after_an_error() -> None:
    net, images = toy(tp.GatedBlocks())
    net.train()
    net.model.block2.eval()  # type: ignore[union-attr]
    for site in net.sites.values():
        assert site.decider is not None
        site.decider.threshold = 0.25
    modes = [m.training for m in net.modules()]

    def unchanged() -> bool:
        same = [m.training for m in net.modules()] == modes
        return same and all(s.decider is not None and s.decider.threshold == 0.25 for s in net.sites.values())

    made(net, images, batch=16)
    assert unchanged()
    with pytest.raises(DataError):
        made(net, [*images, (images[0][0], images[0][1] + 100)])
    assert unchanged()


def test_the_search_sees_a_subset_drawn_by_the_seed_and_accuracy_all_images() -> None:
    net, images = toy()
    first, again, other = (made(net, images, subset=20, seed=seed) for seed in (0, 0, 1))
    assert (first.searched, first.images) == (20, 60)
    assert first.cloud == again.cloud != other.cloud
    assert first.candidates == again.candidates
    assert first.accuracy == other.accuracy


def test_without_a_batch_nothing_is_timed_and_points_compare_in_accuracy_and_macs() -> None:
    net, images = toy()
    front = made(net, images)
    assert front.profiles == ()
    assert all(point.ms is None for point in front.points)
    assert front.best(tp.Budget(macs=1.0)).accuracy == max(p.accuracy for p in front.candidates)
    with pytest.raises(BudgetError, match="Profiled: nothing"):
        front.best(tp.Budget(ms=1e9))


@pytest.mark.parametrize("kind", ["macs", "share", "open", "ms"])
def test_the_best_is_the_most_accurate_within_the_budget(kind: str, gated: tuple[tp.Routed, Images, tp.Front]) -> None:
    net, _, front = gated
    cost: dict[str, Callable[[Point], float]] = {
        "macs": lambda p: p.macs,
        "share": lambda p: p.macs / net.layout.plain.macs,
        "open": lambda p: p.open,
        "ms": lambda p: p.ms or 0.0,
    }
    for limit in {cost[kind](p) for p in front.points if cost[kind](p) > 0}:
        if kind == "share" and limit > 1:
            continue
        budget = tp.Budget(**{"macs" if kind == "share" else kind: limit})
        chosen = front.best(budget)
        assert cost[kind](chosen) <= limit * (1 + 1e-9)
        assert chosen.accuracy == max(p.accuracy for p in front.points if cost[kind](p) <= limit * (1 + 1e-9))


def test_with_fixed_the_best_can_be_cut_out(gated: tuple[tp.Routed, Images, tp.Front]) -> None:
    net, _, front = gated
    chosen = front.best(tp.Budget(macs=0.9), fixed=True)
    assert chosen.fixed
    assert chosen.path is not None
    tp.extract(net, chosen.path)
    only_gates = dataclasses.replace(front, candidates=(front.candidates[1],), profiles=())
    assert only_gates.candidates[0].kind == "threshold"
    with pytest.raises(BudgetError, match="no path for all images"):
        only_gates.best(tp.Budget(macs=0.9), fixed=True)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"macs": 1e-6}, r"Budget\(macs=1e-06\): nothing fits. The cheapest is the path with 0 of 3 units open"),
        ({"macs": 2}, r"nothing fits.*which takes 6,932 MACs: Budget\(macs=6932\)"),
        ({"ms": 1e-9}, r"nothing fits.*0 of 3 units open, which takes [\d.]+ ms: Budget\(ms=[\d.]+\)"),
    ],
)
def test_a_budget_that_nothing_fits_names_the_cheapest_path_and_what_it_costs(
    budget: dict[str, float], message: str, gated: tuple[tp.Routed, Images, tp.Front]
) -> None:
    _, _, front = gated
    with pytest.raises(BudgetError, match=message) as raised:
        front.best(tp.Budget(**budget))
    field, value = str(raised.value).rpartition("Budget(")[2].rstrip(").").split("=")
    assert front.best(tp.Budget(**{field: float(value)})).open == 0, "the remedy works"


def test_where_the_cheapest_opens_something_the_error_says_how_much(
    gated: tuple[tp.Routed, Images, tp.Front],
) -> None:
    _, _, front = gated
    gates = tuple(p for p in front.candidates if p.kind == "threshold" and p.open > 0.2)
    with pytest.raises(
        BudgetError, match=r"Budget\(open=0.1\).*is gates .*, which opens [\d.]+% of the units: Budget\(open=0"
    ):
        dataclasses.replace(front, candidates=gates, profiles=()).best(tp.Budget(open=0.1))


def test_milliseconds_hold_for_the_device_threads_and_batch_that_were_profiled(
    gated: tuple[tp.Routed, Images, tp.Front],
) -> None:
    net, images, front = gated
    budget = tp.Budget(ms=1e9)
    setting = front.profiles[0].setting
    assert front.best(budget, batch=16).ms is not None
    with pytest.raises(BudgetError, match=r"batch 4\. Profiled: .*batch 16.*front.profile\(net, images, batch=4"):
        front.best(budget, batch=4)
    with pytest.raises(BudgetError, match=rf"threads {setting.threads + 1}, .*threads={setting.threads + 1}\)"):
        front.best(budget, threads=setting.threads + 1)
    elsewhere = dataclasses.replace(front.profiles[0], setting=dataclasses.replace(setting, device="cpu (Other)"))
    with pytest.raises(BudgetError, match=r"no times were measured for .*Profiled: cpu \(Other\)"):
        dataclasses.replace(front, profiles=(elsewhere,)).best(budget)
    tuned = dataclasses.replace(front.profiles[0], setting=dataclasses.replace(setting, allocator="elsewhere"))
    with pytest.raises(BudgetError, match=rf"memory from {setting.allocator}\. Profiled: .*eager, elsewhere"):
        dataclasses.replace(front, profiles=(tuned,)).best(budget)
    more = front.profile(net, images[0][0], batch=4, seconds=1e-6, timer=steady)
    assert [p.setting.batch for p in more.profiles] == [16, 4]
    assert more.best(budget, batch=4).ms == 1000 != more.best(budget, batch=16).ms
    assert more.points == front.points, "those of the first profile"


def test_profiling_again_replaces_what_was_measured_before(gated: tuple[tp.Routed, Images, tp.Front]) -> None:
    net, images, front = gated
    again = front.profile(net, images[0][0], batch=16, seconds=1e-6, timer=steady)
    assert len(again.profiles) == 1
    assert again.profiles[0].plain_ms == 1000
    with pytest.raises(MeasureError, match="batches of 0 from 25 images"):
        front.profile(net, images[0][0], batch=0)
    with pytest.raises(MeasureError, match="batches of 4 from 0 images"):
        front.profile(net, images[0][0][:0], batch=4)


def stream(images: Images) -> Iterator[tuple[Tensor, Tensor]]:
    yield from images


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (stream, DataError, "an iterator, gone after one pass"),
        (lambda _: [], DataError, "gave no images"),
        (lambda i: [(x, y[:-1]) for x, y in i], DataError, "for 25 images"),
        (lambda i: [(x, y + 9) for x, y in i], DataError, "out of range for 5 classes"),
        (lambda i: [(x[..., :4], y) for x, y in i], DataError, r"batch 0: images of shape \(3, 8, 4\).*\(3, 8, 8\)"),
        (lambda i: [(x * torch.nan, y) for x, y in i], RunError, "not finite"),
        (lambda i: [x for x, _ in i], DataError, "no pair"),
    ],
)
def test_images_that_cannot_be_used_are_explained(
    change: Callable[[Images], Any], error: type[Exception], message: str
) -> None:
    net, images = toy()
    with pytest.raises(error, match=message):
        made(net, change(images))


def test_options_out_of_range_are_refused() -> None:
    net, images = toy()
    with pytest.raises(DataError, match="subset=0"):
        made(net, images, subset=0)
    with pytest.raises(MeasureError, match="batch=0: times need"):
        made(net, images, batch=0)
    drawing, images = toy(tp.GatedBlocks(inference="sample"))
    with pytest.raises(CallError, match="inference='argmax'"):
        made(drawing, images)


def test_numbers_rise_along_a_menu_and_every_number_and_name_that_is_printed_is_a_point(
    gated: tuple[tp.Routed, Images, tp.Front],
) -> None:
    _, _, front = gated
    # In another setting what costs most MACs takes least time, so that other points are worth having.
    [profile] = front.profiles
    slowest = max(time.ms for time in profile.times)
    turned = tuple(dataclasses.replace(time, ms=2 * slowest - time.ms) for time in profile.times)
    other = dataclasses.replace(profile, times=turned, setting=dataclasses.replace(profile.setting, batch=1))
    both = dataclasses.replace(front, profiles=(profile, other))
    menus = [both.menu(each) for each in both.profiles]
    assert {p.timed(None) for p in menus[0]} != {p.timed(None) for p in menus[1]}
    for menu in menus:
        numbers = [both.number(point) for point in menu]
        assert numbers == sorted(set(numbers))
        assert len({both.title(point) for point in menu}) == len(menu)
        for number, point in zip(numbers, menu, strict=True):
            for asked in (number, str(number), both.title(point)):
                assert both.point(asked).timed(None) == point.timed(None)
    assert [both.number(p.timed(None)) for p in front.candidates] == list(range(1, len(front.candidates) + 1))
    assert [p.macs for p in front.candidates] == sorted(p.macs for p in front.candidates)
