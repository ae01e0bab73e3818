"""Run folders, from the first step to the summary; and what stops a run without losing anything."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from torchpaths import Budget, GatedBlocks, Routed
from torchpaths.errors import DataError, RouteError, RunError
from torchpaths.files.write import write_file
from torchpaths.terminal import Console
from torchpaths.train import checkpoint, run
from torchpaths.train.distributed import joined
from torchpaths.train.ema import Ema
from torchpaths.train.evaluate import survey_run
from torchpaths.train.metrics import Metrics, read_metrics
from torchpaths.train.report import Report, clock
from torchpaths.train.run import load_run, train
from train_toys import Burst, Labelled, tiny, toy

GATED = GatedBlocks(budget=Budget(open=0.6), reduction="mean", weight=2.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated run of two epochs with an average and a plain twin."""
    out = tmp_path_factory.mktemp("runs") / "gated"
    train(tiny(method=GATED, epochs=2, ema=0.8, twin=True, log_every=2), out, quiet=True)
    return out


def test_a_run_folder_holds_recipe_surroundings_metrics_checkpoints_weights_and_summary(finished: Path) -> None:
    names = {p.name for p in finished.iterdir()}
    assert names == {
        "recipe.json",
        "run.json",
        "metrics.jsonl",
        ".lock",
        "checkpoints",
        "weights.safetensors",
        "ema.safetensors",
        "summary.json",
        "plain",
    }
    surroundings = json.loads((finished / "run.json").read_text())
    assert surroundings["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert surroundings["data"]["shape"] == [8, 8, 1]
    assert surroundings["seed"] == 0
    assert "commit" in surroundings


def test_metrics_have_every_step_once_and_the_rate_of_every_unit_at_each_epoch(finished: Path) -> None:
    rows = read_metrics(finished / "metrics.jsonl")
    windows = [r for r in rows if r["kind"] == "steps"]
    assert [(r["first"], r["step"]) for r in windows] == [(0, 2), (2, 4), (4, 5), (5, 7), (7, 9), (9, 10)]
    epochs = [r for r in rows if r["kind"] == "epoch"]
    assert [r["epoch"] for r in epochs] == [0, 1]
    assert all(len(r["rates"]) == 9 and len(r["gates"]) == 9 for r in epochs)
    assert {"task", "rate"} == set(epochs[0]["losses"])
    assert {"rate", "entropy", "dependence"} == set(epochs[0]["gates"]["layer1.0"])
    first = [r["losses"]["task"] * r["steps"] for r in windows[:3]]
    assert sum(first) / 5 == pytest.approx(epochs[0]["losses"]["task"], rel=1e-5)


def test_the_summary_is_what_evaluating_the_saved_weights_gives(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert survey_run(finished).survey.accuracy == summary["accuracy"]
    averaged = survey_run(finished, weights="ema").survey
    assert averaged.accuracy == summary["ema_accuracy"]
    assert averaged.macs == summary["macs"]
    assert summary["macs_share"] == pytest.approx(averaged.macs / load_run(finished).net.layout.plain.macs)
    assert summary["plain"]["open"] == 1.0
    assert summary["plain"]["macs_share"] == 1.0
    assert summary["plain"]["accuracy"] == survey_run(finished / "plain").survey.accuracy


def test_the_last_checkpoint_holds_the_final_weights(finished: Path) -> None:
    final, last = load_run(finished).net.state_dict(), load_run(finished, "last").net.state_dict()
    assert all(torch.equal(final[k], last[k]) for k in final)
    assert not load_run(finished, "best").net.training
    assert load_run(finished, "ema").net.state_dict().keys() == final.keys()


def test_a_finished_run_is_not_trained_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(run, "Loop", never)
    again = train(tiny(method=GATED, epochs=2, ema=0.8, twin=True, log_every=2), finished, quiet=True)
    assert again == json.loads((finished / "summary.json").read_text())


def test_a_run_of_another_recipe_is_refused_with_the_fields_that_differ(finished: Path) -> None:
    other = tiny(method=dataclasses.replace(GATED, weight=1.0), epochs=3, ema=0.8, log_every=2)
    with pytest.raises(
        RunError, match=r"method.weight: 2.0 -> 1.0; epochs: 2 -> 3. Repeat its recipe.*or choose a new folder"
    ):
        train(other, finished, quiet=True)


def test_without_resume_a_folder_that_holds_a_run_is_refused(finished: Path) -> None:
    with pytest.raises(RunError, match="already holds a run; resume it, or choose a new folder"):
        train(tiny(), finished, resume=False, quiet=True)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="is no run folder; choose a new folder"):
        train(tiny(), tmp_path, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match="is no run folder"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"model": "cifar_resnet21"}, RunError, "no model 'cifar_resnet21'. Did you mean"),
        ({"data": "digit"}, DataError, "no image set 'digit'"),
        ({"weights": Path("absent.safetensors")}, RunError, "no weights file .*absent.safetensors"),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, RunError, "have 3 channels, the images 1"),
        ({"batch": 5000}, RunError, "batch 5000 is more than the 1442 training images"),
        ({"method": GatedBlocks(targets=(0.5, 0.5))}, RouteError, "2 blocks"),
        ({"method": GatedBlocks(sites=("layer9.*",))}, RouteError, "layer9"),
    ],
)
def test_bad_input_is_an_error_that_says_what_to_change(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        train(tiny(**changes), tmp_path / "run", quiet=True)


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_term_and_keeps_the_good_checkpoint(
    tmp_path: Path,
) -> None:
    recipe = tiny(method=Burst(after=7), epochs=3, checkpoint_steps=3, log_every=50)
    with pytest.raises(
        RunError, match=r"the loss 'burst' became nan at step 8 \(epoch 2, step 3 of 5\).*lower lr \(now 0.05\)"
    ):
        train(recipe, tmp_path / "run", quiet=True)
    # Checkpoints were due at steps 3, 5 (end of the epoch), 6 and 9: the last good one is 6.
    found = checkpoint.load(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.step == 6
    assert all(t.isfinite().all() for n, t in found.tensors.items() if n.startswith("net."))
    with pytest.raises(RunError, match=r"at step 8 \(epoch 2, step 3 of 5\)"):
        train(recipe, tmp_path / "run", quiet=True)
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_heads_that_overflow_reach_no_checkpoint_and_weights_files_are_those_of_the_network_alone(
    tmp_path: Path,
) -> None:
    recipe = tiny(method=Labelled(), ema=0.5)
    train(recipe, tmp_path / "run", quiet=True)
    for name in ("weights", "ema"):
        assert (
            load_file(tmp_path / "run" / f"{name}.safetensors").keys()
            == load_run(tmp_path / "run").net.state_dict().keys()
        )
    with pytest.raises(RunError, match=r"the weight 'heads\..*' is not finite after step 1\. .*lower lr"):
        train(tiny(method=Exploding(), checkpoint_steps=1), tmp_path / "exploding", quiet=True)
    assert checkpoint.load(tmp_path / "exploding" / "checkpoints") is None


def test_weights_that_overflow_after_a_finite_loss_reach_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the weight 'model\..*' is not finite after step 1\. .*lower lr"):
        train(tiny(lr=1e38, weight_decay=1e5, checkpoint_steps=1), tmp_path / "run", quiet=True)
    assert checkpoint.load(tmp_path / "run" / "checkpoints") is None


def test_a_full_disk_in_the_middle_of_a_run_loses_nothing_that_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = tiny(epochs=2, checkpoint_steps=2), tmp_path / "run"
    write, calls = write_file, 0

    def full(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += int(path.name == checkpoint.TENSORS)
        if calls == 3:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_file", full)
    with pytest.raises(RunError, match=r"the disk is full.*Free some space and run again to resume"):
        train(recipe, out, quiet=True)
    monkeypatch.undo()
    found = checkpoint.load(out / "checkpoints")
    assert found is not None
    assert found.step == 4
    train(recipe, out, quiet=True)
    train(recipe, tmp_path / "straight", quiet=True)
    ours, straight = (load_file(folder / "weights.safetensors") for folder in (out, tmp_path / "straight"))
    assert all(torch.equal(ours[k], v) for k, v in straight.items())


def test_damaged_weights_are_written_again_as_the_error_says(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    file = copy / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(RunError, match="remove it and resume the run to have it written again"):
        load_run(copy)
    file.unlink()
    train(tiny(method=GATED, epochs=2, ema=0.8, twin=True, log_every=2), copy, quiet=True)
    assert file.read_bytes() == (finished / "weights.safetensors").read_bytes()
    load_run(copy)


def test_weights_that_a_run_does_not_have_are_errors(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    with pytest.raises(RunError, match=r"has no ema.safetensors"):
        load_run(_without(copy, "ema.safetensors"), "ema")
    with pytest.raises(RunError, match=r"has no weights.safetensors: resume it, or load its 'last' checkpoint"):
        load_run(_without(copy, "weights.safetensors"))
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(RunError, match="has no best checkpoint yet"):
        load_run(copy, "best")
    with pytest.raises(RunError, match="choose 'final', 'ema', 'best' or 'last'"):
        load_run(copy, "newest")  # type: ignore[arg-type]
    for damaged in ((finished / "weights.safetensors").read_bytes()[:100], b"", b"\0" * 64):
        (copy / "weights.safetensors").write_bytes(damaged)
        with pytest.raises(RunError, match=r"weights.safetensors: truncated or corrupt"):
            load_run(copy)
    shutil.copy(copy / "plain" / "weights.safetensors", copy / "weights.safetensors")
    with pytest.raises(RunError, match="do not fit the network of its recipe"):
        load_run(copy)
    (copy / "recipe.json").write_text("{")
    with pytest.raises(RunError, match=r"recipe.json: not JSON"):
        load_run(copy)


@dataclasses.dataclass(frozen=True)
class Exploding(Labelled):
    """Heads whose weights become infinite in the first step, with finite losses and a network that stays finite."""

    def heads(self, net: Routed, classes: int) -> nn.Module:
        made = super().heads(net, classes)
        for parameter in made.parameters():
            parameter.data.zero_()
            parameter.register_hook(lambda gradient: gradient * torch.inf)  # type: ignore[no-untyped-call]
        return made


def _without(folder: Path, name: str) -> Path:
    (folder / name).unlink()
    return folder


def test_an_average_follows_its_formula_and_leaves_the_network_as_it_was() -> None:
    net = toy()
    ema = Ema(net, 0.75)
    name, weight = next(iter(net.named_parameters()))
    start = weight.detach().clone()
    expected = start + 1  # the first update copies
    for step in range(3):
        with torch.no_grad():
            weight.add_(1)
        ema.update(net, step)
        if step:
            expected.mul_(0.75).add_(weight.detach(), alpha=0.25)
    torch.testing.assert_close(ema.average[name], expected)
    with ema.in_place(net):
        torch.testing.assert_close(weight.detach(), expected)
    assert torch.equal(weight.detach(), start + 3)


def test_a_run_takes_the_threads_its_recipe_asks_for_and_gives_them_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    train(tiny(threads=before + 1, steps=1), tmp_path / "run", quiet=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["threads"] == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("changes", [{"precision": "bf16", "channels_last": True}, {"optimizer": "adamw", "lr": 0.003}])
def test_every_way_of_training_learns(tmp_path: Path, changes: dict[str, object]) -> None:
    recipe = tiny(model="cifar_resnet14", method=GATED, epochs=3, batch=64, accumulate=2, smoothing=0.1, **changes)
    train(recipe, tmp_path / "run", quiet=True)
    epochs = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "epoch"]
    assert epochs[-1]["losses"]["task"] < 0.8 * epochs[0]["losses"]["task"]
    assert epochs[-1]["accuracy"] > 0.5


def test_a_metrics_file_is_cut_back_to_what_the_checkpoint_knew(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a"')
    metrics = Metrics(path, 9)
    metrics.write({"a": float("nan")})
    assert metrics.sync() == len(path.read_bytes())
    metrics.close()
    assert read_metrics(path) == [{"a": 1}, {"a": None}]
    path.write_bytes(b'{"a": 1}\n{"a"')
    with pytest.raises(RunError, match="line 2: not JSON"):
        read_metrics(path)
    Metrics(path, 500).close()
    assert read_metrics(path) == [{"a": 1}]
    with pytest.raises(RunError, match="cannot be read"):
        read_metrics(tmp_path / "absent")


def test_off_a_terminal_a_run_is_told_in_plain_lines_with_warnings() -> None:
    text = io.StringIO()
    report = Report("demo", 10, quiet=False, console=Console(file=text, width=200))
    row = {
        "epoch": 1,
        "losses": {"task": 0.5},
        "accuracy": 0.9,
        "open": 0.6,
        "macs_share": 0.62,
        "warnings": ["a: [never] open"],
    }
    with report:
        report.epoch(row, 5)
    assert text.getvalue().splitlines() == [
        "demo: epoch 2 of 5: accuracy 90.00%, 60.0% of units open, 62.0% of the MACs, task 0.5000",
        "demo: warning: a: [never] open",
    ]


def test_on_a_terminal_a_bar_shows_rate_and_time_left() -> None:
    text = io.StringIO()
    report = Report("demo", 10, quiet=False, console=Console(file=text, force_terminal=True, width=120))
    with report:
        report.at(4)
        report.window({"losses": {"task": 1.25}, "images_per_second": 1234.0, "step": 5, "seconds": 1.0, "steps": 5})
    shown = text.getvalue()
    assert "1,234 images/s" in shown
    assert "5/10" in shown
    assert "left" in shown
    assert "task 1.2500" in shown


def test_time_left_reads_as_a_clock() -> None:
    assert clock(3723.4) == "1:02:03"


@pytest.mark.parametrize(
    ("variables", "device", "said"),
    [
        ({"WORLD_SIZE": "2"}, "cpu", "RANK, MASTER_ADDR, MASTER_PORT not set; start the processes with torchrun"),
        ({"RANK": "first"}, "cpu", "RANK is 'first', not a number"),
        ({}, "tpu", "device 'tpu' is unknown"),
    ],
)
def test_a_world_that_cannot_be_joined_is_an_error(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], device: str, said: str
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=said), joined(device):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RunError, match="torch sees no GPU; leave device out"), joined("cuda"):
        pass
