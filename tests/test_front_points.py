"""Claims about choices, and about which points are worth having."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchpaths as tp
from block_toys import chain
from torchpaths.fronts.points import Choice, Kind, Point, Time, names_of, undominated, undominated_by_kind
from torchpaths.meter.timing import Median

PATH = tp.Path({"a": [True]})


def point(accuracy: float, macs: float, ms: float | None = None, kind: Kind = "rate") -> Point:
    time = None if ms is None else Time(ms, Median(1, 1, 1), 1)
    return Point(kind, PATH, None, accuracy, macs, 0.5, time)


def beats(a: Point, b: Point) -> bool:
    """The definition, written out."""
    mine, other = ((p.accuracy, -p.macs, -(p.ms or 0)) for p in (a, b))
    return all(x >= y for x, y in zip(mine, other, strict=True)) and mine != other


@pytest.mark.parametrize("timed", [True, False])
def test_what_stays_is_exactly_what_no_other_beats(timed: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = rng.integers(1, 6, (12, 3)).tolist()  # few values, so that there are ties
        points = [point(a / 10, m, t if timed else None) for a, m, t in drawn]
        kept = undominated(points)
        assert all((p in kept) == (not any(beats(q, p) for q in points)) for p in points)
        assert [p.macs for p in kept] == sorted(p.macs for p in kept)


def test_of_equal_points_the_first_stays() -> None:
    a, b = point(0.5, 10, kind="rate"), point(0.5, 10, kind="greedy")
    assert undominated([a, b]) == [a]
    assert undominated([b, a]) == [b]


def test_what_is_slower_and_dearer_but_more_accurate_stays() -> None:
    points = [point(0.5, 10, 1), point(0.6, 20, 2), point(0.55, 30, 3)]
    assert undominated(points) == points[:2]


def test_a_kind_is_compared_with_itself_alone() -> None:
    gates = [point(0.9, 10, kind="threshold"), point(0.8, 20, kind="threshold")]
    paths = [point(0.7, 30, kind="rate")]
    assert undominated_by_kind([*gates, *paths]) == [gates[0], *paths]


def test_a_path_without_deciding_can_be_cut_out_and_gates_cannot() -> None:
    assert Choice("rate", PATH).fixed
    assert not Choice("threshold", threshold=0.0).fixed
    assert not Choice("greedy", PATH, 0.0).fixed, "the other sites go on deciding"


def test_a_choice_sets_a_network_up_and_the_next_one_undoes_it() -> None:
    model, x = chain()
    net = tp.route(model, tp.GatedBlocks(), example=x).eval()
    with torch.no_grad():
        as_trained = net(x)[0]
        for threshold, share in ((torch.inf, 0.0), (-torch.inf, 1.0)):
            _, trace = net(x, Choice("threshold", threshold=threshold).apply(net))
            assert torch.cat([d.open for d in trace.values()]).float().mean() == share
        path = tp.Path({"block1": [False]})
        assert Choice("greedy", path, 0.0).apply(net) is path
        assert torch.equal(net(x)[0], as_trained)
        score = net(x)[1]["block1"].score
        assert score is not None
        middle = float(score.median())
        _, trace = net(x, Choice("threshold", threshold=middle).apply(net))
        assert trace["block1"].open.sum() == (score > middle).sum()
        assert Choice("rate", path).apply(net) is path
        assert torch.equal(net(x)[0], as_trained)


def test_no_two_points_of_a_front_are_called_alike() -> None:
    two = [tp.Path({"a": [True], "b": [False]}), tp.Path({"a": [False], "b": [True]})]
    points = [
        *(Choice("every", path) for path in two),
        Choice("threshold", threshold=2.5201),
        Choice("threshold", threshold=2.5202),
        Choice("threshold", threshold=0.0),
        *(Choice("every", path, 0.0) for path in two),
    ]
    assert names_of(points, 2) == [
        "path, 1 of 2 open (1)",
        "path, 1 of 2 open (2)",
        "gates at 2.52 (1)",
        "gates at 2.52 (2)",
        "gates as trained",
        "gates as trained, path (1)",
        "gates as trained, path (2)",
    ]
