"""What speaks against a time is said beside it: in print, in tables and in JSON."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import torchpaths as tp
from block_toys import Basic, chain
from test_front_files import made_up, net
from torchpaths.cli.front import menu
from torchpaths.fronts import Front, Time
from torchpaths.fronts.swaps import swaps
from torchpaths.meter import table
from torchpaths.meter.doubts import doubts, noted
from torchpaths.meter.timing import Median
from torchpaths.terminal import Console


@pytest.mark.parametrize(
    ("low", "high", "macs", "spread", "waited", "words"),
    [
        (0.50, 0.60, 0.5, 1.1, 0.01, []),
        (0.98, 1.02, 1.0, None, None, []),
        (0.40, 0.80, 0.5, 1.1, 0.01, ["40% to 80% of the plain network's, says little"]),
        (0.70, 1.01, 0.8, 1.1, 0.01, ["neither that time is saved nor that none is"]),
        (0.50, 0.60, 0.5, 1.1, 0.30, ["other programs had the processor for 30% of the time"]),
        (0.50, 0.60, 0.5, 2.0, None, ["slow rounds took 2.0 times its quick ones"]),
    ],
)
def test_an_interval_that_says_nothing_and_a_busy_machine_are_doubted(
    low: float, high: float, macs: float, spread: float | None, waited: float | None, words: list[str]
) -> None:
    found = doubts(Median((low + high) / 2, low, high), macs, spread, waited)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


def test_a_doubt_about_all_stands_once() -> None:
    assert noted([("a", ["busy", "wide"]), ("b", ["busy"])]) == ["! busy", "! a: wide"]


def test_a_row_measured_on_an_unsteady_machine_says_so_everywhere() -> None:
    model, x = chain(block1=Basic(), block2=Basic())
    routed = tp.route(model, tp.GatedBlocks(), example=x)
    clock = iter([1.0, 3.0] * 10_000)

    def unsteady(call: Callable[[], object]) -> float:
        call()
        return next(clock)

    row = tp.measure(routed, x, threads=1, seconds=1e-6, timer=unsteady)
    assert any("not steady" in warning for warning in row.warnings)
    assert "warning: the machine was not steady" in str(row)
    assert row.to_json()["warnings"] == list(row.warnings)
    out = io.StringIO()
    Console(file=out, width=200).print(table([row]))
    assert " !" in out.getvalue()
    assert "the machine was not steady" in out.getvalue()
    quiet = dataclasses.replace(row, time_ratio=Median(0.5, 0.49, 0.51), spread=1.0, waited=0.0)
    out = io.StringIO()
    Console(file=out, width=200).print(table([quiet]))
    assert "!" not in out.getvalue() + str(quiet)


def test_time_off_the_processor_is_counted_where_one_thread_works() -> None:
    model, x = chain(block1=Basic())
    routed = tp.route(model, example=x)

    def taken(call: Callable[[], object]) -> float:
        time.sleep(0.01)  # as another program would take it
        call()
        return 1.0

    row = tp.measure(routed, x, threads=1, seconds=1e-6, timer=taken)
    assert row.waited is not None
    assert row.waited > 0.3
    assert any("the machine was busy" in warning for warning in row.warnings)
    assert tp.measure(routed, x, threads=2, seconds=1e-6, timer=taken).waited is None


def test_points_that_swap_order_between_profiles_are_named() -> None:
    routed = net()
    front = made_up(routed)
    assert swaps(front) == ()
    one, eight = front.profiles
    sure = tuple(Time(t.ms, Median(t.ms / 5, t.ms / 5.01, t.ms / 4.99), t.macs_ratio) for t in one.times)
    turned = list(sure)
    turned[2], turned[4] = sure[4], sure[2]
    front = dataclasses.replace(
        front, profiles=(dataclasses.replace(one, times=sure), dataclasses.replace(eight, times=tuple(turned)))
    )
    [line] = swaps(front)
    assert "the path with 0 of 2 units open is faster than gates at threshold 1.25 with batch 1, and slower" in line
    assert front.to_json()["warnings"] == [line]
    out = io.StringIO()
    Console(file=out, width=400).print(menu(front, front.profiles[0]))
    assert line in " ".join(out.getvalue().split())


def test_what_speaks_against_a_front_is_kept_with_it(tmp_path: Path) -> None:
    routed = net()
    front = made_up(routed)
    busy = tuple(dataclasses.replace(p, waited=0.5, spread=3.0) for p in front.profiles)
    front = dataclasses.replace(front, profiles=busy)
    again = Front.load(front.save(tmp_path), routed)
    assert len(again.profiles[0].warnings) == 2
