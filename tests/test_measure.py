"""Claims about one row of a measurement. Time is made up: MACs that ran times a nanosecond, or what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import torchpaths as tp
from block_toys import Basic, chain
from torchpaths.costs import count_macs
from torchpaths.errors import MeasureError, PathError, RunError
from torchpaths.meter import table
from torchpaths.meter.compare import _check_same as check_same
from torchpaths.meter.memory import peak_memory
from torchpaths.meter.setting import Setting, using_threads
from torchpaths.methods.base import Method
from torchpaths.skips.network import skipping


def by_macs(call: Callable[[], object]) -> float:
    """A clock on which every MAC that runs takes a nanosecond."""
    return count_macs(call) * 1e-9


def routed(method: Method | None = None) -> tuple[tp.Routed, Tensor]:
    model, x = chain()
    return tp.route(model, method, example=x), x


def closing(net: tp.Routed, *sites: str) -> tp.Path:
    return tp.Path({site: [site not in sites] for site in net.sites}, net.layout.fingerprint)


def measured(net: nn.Module, x: Tensor, path: tp.Path | None = None, **options: Any) -> tp.Measurement:
    return tp.measure(net, x, path, **{"seconds": 1e-6, "pairs": 6, "timer": by_macs, **options})


def test_where_time_is_proportional_to_macs_the_gap_is_one() -> None:
    net, x = routed()
    row = measured(net, x, closing(net, "block1"))
    assert row.macs == 4 * closing(net, "block1").cost(net).macs
    assert row.plain_macs == 4 * net.layout.plain.macs
    assert row.macs_ratio < 0.8
    assert row.time_ratio.value == pytest.approx(row.macs_ratio)
    assert (row.gap.value, row.gap.low, row.gap.high) == pytest.approx((1, 1, 1))
    assert (row.ms, row.plain_ms) == pytest.approx((row.macs * 1e-6, row.plain_macs * 1e-6))
    assert row.pairs == 6


def test_time_that_is_not_saved_shows_as_a_gap() -> None:
    net, x = routed()
    row = measured(net, x, closing(net, "block1", "block2"), timer=lambda call: float(call() is not None))
    assert row.time_ratio.value == 1
    assert row.gap.value == pytest.approx(1 / row.macs_ratio)


def test_masks_save_no_macs_and_skipping_does() -> None:
    net, x = routed(tp.GatedBlocks())
    for site in net.sites.values():
        assert site.decider is not None
        site.decider.threshold = torch.inf
    masked, skipped = tp.measure_all(
        {"masked": net, "skipping": skipping(net)}, x, seconds=1e-6, pairs=6, timer=by_macs
    )
    assert masked.macs > masked.plain_macs, "everything runs, and the gates"
    assert skipped.macs < 0.8 * masked.macs
    assert (masked.label, skipped.label) == ("masked", "skipping")
    assert masked.network == skipped.network == "Chain"


def test_a_path_for_each_sample_is_a_mask_and_saves_nothing() -> None:
    net, x = routed()
    each = tp.Path({site: torch.zeros(4, 1, dtype=torch.bool) for site in net.sites})
    assert measured(net, x, each).macs_ratio == 1


def test_an_extracted_network_is_measured_against_the_one_given() -> None:
    net, x = routed()
    path = closing(net, "block2")
    cut = tp.extract(net, path)
    row = measured(cut, x, against=tp.plain(net), label="cut")
    assert (row.macs, row.plain_macs) == (4 * path.cost(net).macs, 4 * net.layout.plain.macs)
    assert (row.label, row.network, row.path) == ("cut", "Chain", None)


def test_of_several_batches_figures_are_means() -> None:
    net, _ = routed()
    torch.manual_seed(1)
    batches = [torch.randn(2, 3, 8, 8) for _ in range(3)]
    seen: list[int] = []

    class Half(nn.Module):
        """Runs the network once for one batch and twice for the others."""

        def forward(self, x: Tensor) -> Tensor:
            seen.append(id(x))
            y: Tensor = net.model(x)
            return y if x is batches[0] else net.model(x)

    row = measured(Half(), batches, against=net.model)  # type: ignore[arg-type]
    assert row.macs_ratio == pytest.approx(5 / 3, rel=1e-4)
    assert row.gap.value == pytest.approx(1, rel=1e-4)
    assert {seen.count(id(x)) for x in batches} == {len(seen) // 3}


def test_what_is_drawn_by_chance_is_drawn_alike_in_every_run() -> None:
    net, x = routed(tp.RandomDrop(0.5))
    drawn: list[tuple[bool, ...]] = []
    forward = net.forward

    def watched(x: Tensor, path: tp.Path | None = None) -> tuple[Tensor, Any]:
        y, trace = forward(x, path)
        drawn.append(tuple(torch.cat([d.open for d in trace.values()]).flatten().tolist()))
        return y, trace

    net.forward = watched  # type: ignore[method-assign, assignment]
    torch.manual_seed(7)
    before = torch.get_rng_state()
    measured(net, x, seed=3)
    assert len(drawn) > 8
    assert len(set(drawn)) == 1
    assert torch.equal(torch.get_rng_state(), before), "the caller's noise goes on as if nothing had been measured"
    drawn.clear()
    measured(net, x, seed=4)
    first = drawn[0]
    drawn.clear()
    measured(net, x, seed=3)
    assert drawn[0] != first


def test_measuring_is_in_evaluation_mode_and_leaves_modes_and_threads_as_they_were() -> None:
    net, x = routed(tp.GatedBlocks())
    net.train()
    net.model.get_submodule("block2").bn.eval()  # type: ignore[union-attr]
    modes = [m.training for m in net.modules()]
    threads = torch.get_num_threads()
    seen: set[tuple[bool, int]] = set()

    def timer(call: Callable[[], object]) -> float:
        call()
        seen.add((any(m.training for m in net.modules()), torch.get_num_threads()))
        return 1.0

    row = measured(net, x, threads=3, timer=timer)
    assert seen == {(False, 3)}
    assert row.setting.threads == 3
    with pytest.raises(ZeroDivisionError):
        measured(net, x, threads=3, timer=lambda _: 1 / 0)
    assert [m.training for m in net.modules()] == modes
    assert torch.get_num_threads() == threads


def test_a_row_says_where_and_how_it_was_measured() -> None:
    net, x = routed()
    setting = measured(net, x).setting
    assert setting.device.startswith("cpu (")
    assert (setting.batch, setting.input, setting.dtype, setting.compile) == (4, (3, 8, 8), "float32", None)
    assert (setting.memory_format, setting.torch) == ("contiguous", str(torch.__version__))
    assert Setting.from_json(json.loads(json.dumps(setting.to_json()))) == setting
    last = x.contiguous(memory_format=torch.channels_last)
    assert measured(net, last).setting.memory_format == "channels_last"
    assert measured(net, x[..., ::2]).setting.memory_format == "strided"
    net.model.to(memory_format=torch.channels_last)
    assert measured(net, x).setting.memory_format == "channels_last", "such weights make convolutions run so"


def test_precision_is_what_is_given_or_what_autocast_chooses() -> None:
    net, x = routed()
    with torch.autocast("cpu", torch.bfloat16):
        assert measured(net, x).setting.dtype == "bfloat16 (autocast)"
    net.to(torch.bfloat16)
    assert measured(net, x.to(torch.bfloat16)).setting.dtype == "bfloat16"


def test_peak_memory_is_the_most_held_at_one_time() -> None:
    def call() -> Tensor:
        a = torch.empty(1_000_000)
        b = torch.empty(500_000)
        del a
        return b + 1

    assert peak_memory(call, torch.device("cpu")) == 6_000_000


def test_a_network_that_keeps_more_needs_more_memory() -> None:
    class Keeping(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            held = torch.zeros(1_000_000)
            y: Tensor = self.net(x) + held[0]
            return y

    net, x = routed()
    row = measured(Keeping(net.model), x, against=net.model)
    assert row.memory is not None
    assert row.plain_memory is not None
    assert 3_990_000 < row.memory - row.plain_memory < 4_010_000
    assert row.plain_memory >= 4 * 4 * 8 * 8 * 4, "one feature map at least"


def test_both_networks_are_compiled_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[nn.Module, dict[str, Any]]] = []
    compile = torch.compile

    def watched(module: nn.Module, **options: Any) -> Any:
        asked.append((module, options))
        return compile(module, backend="eager")

    monkeypatch.setattr(torch, "compile", watched)
    net, x = routed(tp.GatedBlocks())
    plain = tp.plain(net)
    row = measured(net, x, against=plain, compile="default", timer=lambda call: float(call() is not None))
    assert [module for module, _ in asked] == [net, plain]
    assert [options for _, options in asked] == [{"mode": "default", "dynamic": False}] * 2
    assert row.setting.compile == "default"
    assert row.macs > row.plain_macs, "counted, although the compiled call hides them"


def test_a_compiled_network_that_decides_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = routed()
    shut = ~tp.Path.full(net)
    monkeypatch.setattr(torch, "compile", lambda module, **_: lambda x, path=None: net(x, shut))
    with pytest.raises(MeasureError, match=r"compiled, it decides otherwise.*8 of 8 decisions.*compile=None"):
        measured(net, x, compile="default")


def test_a_site_that_was_not_reached_in_one_of_two_runs_was_decided_otherwise() -> None:
    stage, block = torch.ones(8, 1, dtype=torch.bool), torch.ones(8, 1, dtype=torch.bool)
    check_same("same", {"stage": stage, "block": block}, {"stage": stage.clone(), "block": block.clone()})
    for first, second in (({"stage": stage, "block": block}, {"stage": ~stage}), ({"stage": ~stage}, {"block": block})):
        with pytest.raises(MeasureError, match=r"16 of (16|8) decisions"):
            check_same("other", first, second)


def test_a_network_that_cannot_be_compiled_is_an_error_and_not_timed_in_eager_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def compile(module: nn.Module, **_: object) -> Callable[..., Any]:
        def call(*_: object) -> None:
            asked.append(torch._dynamo.config.fail_on_recompile_limit_hit)
            raise torch._dynamo.exc.FailOnRecompileLimitHit("Hard failure")

        return call

    monkeypatch.setattr(torch, "compile", compile)
    net, x = routed()
    with pytest.raises(MeasureError, match=r"Routed cannot be compiled with mode 'default'.*compile=None"):
        measured(net, x, compile="default")
    assert asked == [True]
    assert not torch._dynamo.config.fail_on_recompile_limit_hit, "the setting is put back"


def test_a_row_is_json_and_repeats_what_it_measured() -> None:
    net, x = routed()
    row = measured(net, x, closing(net, "block1"))
    data = json.loads(json.dumps(row.to_json(), allow_nan=False))
    assert data["schema"] == "torchpaths.measure/2"
    assert data["path"]["sites"] == {"block1": [0], "block2": [1]}
    assert data["gap"] == pytest.approx(data["time_ratio"] / data["macs_ratio"])
    assert data["gap_interval"] == [row.gap.low, row.gap.high]
    assert (data["device"], data["threads"], data["batch"]) == (row.setting.device, row.setting.threads, 4)


def test_the_table_says_once_what_holds_for_all_rows() -> None:
    net, x = routed()
    rows = [measured(net, x[:n], closing(net, "block1"), label="half") for n in (1, 4)]
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(rows))
    text = console.export_text()
    title, body = text.split("network  ")
    assert text.count(rows[0].setting.device) == 1
    assert "float32, contiguous, eager" in " ".join(title.split()), "lines break where the device's name has them"
    assert "batch" not in title.splitlines()[1], "it differs"
    lines = [line.split() for line in body.splitlines() if line.strip().startswith("half")]
    plain = [line.split() for line in body.splitlines() if line.strip().startswith("plain")]
    assert "the path: 1 of 2 open" in title
    assert [line[:3] for line in plain] == [["plain", batch, "100.0%"] for batch in ("1", "4")]
    assert [line[1] for line in lines] == ["1", "4"]
    assert all(line[2:6] == [f"{rows[0].macs_ratio:.1%}"] * 2 + ["1.00", "1.00–1.00"] for line in lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:0], r"shape \(0, 3, 8, 8\) is a batch of 0"),
        (lambda x: torch.tensor(1.0), "is a batch of 0"),
        (lambda x: [], "no batch to measure on"),
        (lambda x: [x, x[:2]], "the batches differ in shape"),
        (lambda x: x.double(), r"x is torch.float64, Routed torch.float32; convert one"),
        (lambda x: x.to("meta"), r"x is on meta, Routed on cpu; move one"),
        (lambda x: x * torch.nan, "x holds NaN or infinity"),
        (lambda x: x[:, :2], r"does not take a batch of shape \(4, 2, 8, 8\) \(RuntimeError: .*2 channels"),
    ],
)
def test_a_batch_that_cannot_be_measured_is_explained(change: Callable[[Tensor], Any], message: str) -> None:
    net, x = routed()
    with pytest.raises(MeasureError, match=message):
        measured(net, change(x))


def test_numbers_that_are_not_finite_mean_nothing() -> None:
    net, x = routed()
    net.model.head.weight.data[0] = torch.nan  # type: ignore[union-attr, operator]
    with pytest.raises(RunError, match="Routed gives values that are not finite"):
        measured(net, x)


def test_a_path_must_be_this_networks() -> None:
    net, x = routed()
    with pytest.raises(PathError, match="made for network 0123"):
        measured(net, x, tp.Path({"block1": [True]}, "0123"))
    with pytest.raises(PathError, match="no"):
        measured(net, x, tp.Path({"block9": [True]}))
    own = measured(tp.plain(net), x, closing(net, "block1"), against=tp.plain(net))
    assert own.macs == measured(net, x, closing(net, "block1")).macs, "a plain one is routed as it stands"


def test_what_to_measure_against_must_be_known() -> None:
    net, x = routed()
    with pytest.raises(MeasureError, match=r"Chain is not routed.*against=plain"):
        measured(tp.plain(net), x)
    other = tp.route(chain(block1=Basic())[0], example=x)
    with pytest.raises(MeasureError, match="routed from different ones"):
        tp.measure_all({"a": net, "b": other}, x)
    with pytest.raises(MeasureError, match="no network to measure"):
        tp.measure_all({}, x)


def test_without_macs_there_is_no_ratio() -> None:
    with pytest.raises(MeasureError, match="Flatten: no MACs were counted"):
        measured(nn.Flatten(), torch.randn(2, 3), against=nn.Linear(3, 1))


def test_options_out_of_range_are_refused() -> None:
    net, x = routed()
    with pytest.raises(MeasureError, match=r"compile='fast'; choose one of default, reduce-overhead"):
        measured(net, x, compile="fast")
    with pytest.raises(MeasureError, match="threads=0: torch needs at least one"), using_threads(0):
        pass
