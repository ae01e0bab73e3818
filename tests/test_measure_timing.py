"""Claims about how times are taken and how sure their median is; no clock, but for one."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from torchpaths.errors import MeasureError
from torchpaths.meter.timing import LEAST, WARM_UP, Run, interleave, median_interval, stopwatch


class Bench:
    """Runs that write down what happened, and a clock that reads made-up times."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.log: list[str] = []
        self.timed: list[str] = []

    def networks(self, batches: int = 1) -> list[list[Run]]:
        def run(name: str) -> Run:
            return Run(lambda: self.log.append(name), lambda: self.log.append(f"before {name}"))

        return [[run(f"{network}{batch}") for batch in range(batches)] for network in self.seconds]

    def timer(self, call: Callable[[], object]) -> float:
        call()
        self.timed.append(self.log[-1])
        return self.seconds[self.log[-1][0]]


def test_each_round_runs_every_network_on_every_batch_once() -> None:
    bench = Bench({"a": 1.0, "b": 2.0, "c": 3.0})
    times = interleave(bench.networks(batches=2), seconds=1e-9, timer=bench.timer)
    assert times.shape == (LEAST, 3)
    assert np.array_equal(times, np.tile([1.0, 2.0, 3.0], (LEAST, 1)))
    rounds = np.array(bench.timed).reshape(LEAST, 6)
    assert all(sorted(names) == ["a0", "a1", "b0", "b1", "c0", "c1"] for names in rounds)
    assert all({n[1] for n in names[:3]} in ({"0"}, {"1"}) for names in rounds), "networks alternate on each batch"


def test_the_order_within_rounds_is_random_and_repeats_with_the_seed() -> None:
    orders = []
    for seed in (0, 0, 1):
        bench = Bench({"a": 1.0, "b": 1.0})
        interleave(bench.networks(), seconds=40.0, seed=seed, timer=bench.timer)
        orders.append(bench.timed)
    assert orders[0] == orders[1] != orders[2]
    first = orders[0][::2]
    assert 0.2 < first.count("a0") / len(first) < 0.8


def test_what_prepares_a_call_comes_before_each_and_is_not_timed() -> None:
    bench = Bench({"a": 1.0, "b": 1.0})
    interleave(bench.networks(), seconds=1e-9, timer=bench.timer)
    assert bench.log[::2] == [f"before {name}" for name in bench.log[1::2]]
    assert not any("before" in name for name in bench.timed)


def test_the_first_calls_of_every_run_are_not_timed() -> None:
    bench = Bench({"a": 1.0, "b": 1.0})
    interleave(bench.networks(batches=2), seconds=1e-9, timer=bench.timer)
    called = [name for name in bench.log if "before" not in name]
    assert called[: 4 * WARM_UP] == [name for name in ("a0", "a1", "b0", "b1") for _ in range(WARM_UP)]
    assert called[4 * WARM_UP :] == bench.timed


def test_rounds_go_on_until_the_time_is_spent_but_never_too_few() -> None:
    bench = Bench({"a": 0.5, "b": 1.5})
    assert len(interleave(bench.networks(), seconds=50.0, timer=bench.timer)) == 25
    assert len(interleave(bench.networks(), seconds=1.0, least=8, timer=bench.timer)) == 8


def test_a_machine_that_slows_down_does_not_make_equal_networks_differ() -> None:
    bench = Bench({"a": 1.0, "b": 1.0})

    def slowing(call: Callable[[], object]) -> float:
        return bench.timer(call) * (1 + 0.05 * len(bench.timed))

    times = interleave(bench.networks(), seconds=1e-9, least=200, timer=slowing)
    ratio = median_interval(times[:, 0] / times[:, 1])
    assert ratio.low < 1 < ratio.high
    assert ratio.high - ratio.low < 0.02
    assert times[-1, 0] > 10 * times[0, 1]


def test_of_15_values_the_4th_smallest_and_largest_enclose_the_median() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, 16.0))
    found = median_interval(values)
    assert (found.value, found.low, found.high) == (8, 4, 12)
    assert (found / 2).high == 6


def test_the_interval_of_few_values_is_all_of_them_and_of_fewer_there_is_none() -> None:
    six = median_interval(np.arange(6.0))
    assert (six.low, six.high) == (0, 5)
    for count in (0, 1, 5):
        with pytest.raises(MeasureError, match=f"{count} values are too few for a 95% interval"):
            median_interval(np.arange(float(count)))


@pytest.mark.parametrize("count", [15, 40, 101])
def test_the_interval_holds_the_true_median_as_often_as_it_says(count: int) -> None:
    draws = np.random.default_rng(count).lognormal(size=(3000, count))  # skewed, as times are; its median is 1
    found = [median_interval(row) for row in draws]
    covered = np.mean([f.low <= 1 <= f.high for f in found])
    assert 0.94 < covered < 0.985


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_the_time_to_spend_must_be_a_positive_number(seconds: float) -> None:
    bench = Bench({"a": 1.0, "b": 1.0})
    with pytest.raises(MeasureError, match="seconds="):
        interleave(bench.networks(), seconds=seconds, timer=bench.timer)


def test_too_few_rounds_for_an_interval_are_refused() -> None:
    bench = Bench({"a": 1.0, "b": 1.0})
    with pytest.raises(MeasureError, match=r"5 rounds: .* at least 6"):
        interleave(bench.networks(), seconds=1.0, least=5, timer=bench.timer)
    assert bench.log == []


def test_the_clock_waits_for_the_call() -> None:
    assert stopwatch(torch.device("cpu"))(lambda: time.sleep(0.02)) >= 0.02
