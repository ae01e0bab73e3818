"""The command: quick to answer, exact in JSON, plain about mistakes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import torchpaths as tp
from torchpaths import Method, cli
from torchpaths.cli import options, tables, train
from torchpaths.models import create_model
from torchpaths.train.evaluate import summary
from torchpaths.train.run import load_run
from train_toys import Level

COMMAND = Path(sys.executable).parent / "torchpaths"
SHORT = ["--epochs", "1", "--warmup", "0", "--batch", "256", "--log-every", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run folder of the demo, one short epoch, and what the command answered with --json."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    overrides = ["--method.budget.open", "0.5", "--augment.pad", "0", "--seed", "3"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(["train", "--out", str(folder), "--json", *SHORT, *overrides]) == 0
    [line] = out.getvalue().splitlines()
    return folder, json.loads(line)


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What a command that succeeds prints on standard output, which must be one JSON object."""
    capsys.readouterr()
    assert cli.main([str(a) for a in arguments]) == 0
    answered: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answered


def complaint(capsys: pytest.CaptureFixture[str], status: int, *arguments: object) -> str:
    """What a command that fails with ``status`` prints on standard error, as one line of words."""
    capsys.readouterr()
    assert cli.main([str(a) for a in arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("error:") == 1
    assert "Traceback" not in err
    return " ".join(err.split())


def test_help_answers_in_half_a_second_and_imports_no_torch() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([COMMAND, "--help"], check=True, capture_output=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5
    code = "import sys, torchpaths.cli as c; c.main(['--help']); print('torch' in sys.modules, 'tyro' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split()[-2:] == ["False", "False"]


def test_help_names_every_verb_and_no_verb_is_a_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb} " in shown for verb in cli.VERBS)
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith("usage: torchpaths")) == ("", True)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_is_shown_with_status_0(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    assert f"usage: torchpaths {verb}" in capsys.readouterr().out


def test_the_package_runs_as_the_command_does() -> None:
    ran = subprocess.run([sys.executable, "-m", "torchpaths", "--version"], check=True, capture_output=True, text=True)
    assert ran.stdout == f"torchpaths {tp.__version__}\n"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"torchpaths {tp.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trian"], "no verb 'trian'. Did you mean 'train'"),
        (["train", "digit"], "no recipe 'digit'. Did you mean 'digits'"),
        (["train", "--method", "GatedBlock"], "no method 'GatedBlock'. Did you mean 'GatedBlocks'"),
        (["train", "--method"], "no method ''."),
        (["train", "--method", "GatedBlocks,none"], "'none' stands for no method at all, so it goes with no other"),
        (["train", "--method", "nowhere:Thing"], "nowhere:Thing: there is no module 'nowhere' in "),
        (["train", "--method", "train_toys:Levle"], "module 'train_toys' has no 'Levle'. Did you mean 'Level'"),
        (["train", "--method", "train_toys:toy"], "train_toys:toy is no method: derive a class from torchpaths.Method"),
        (["train", "--method", "test_cli:Bare"], "test_cli:Bare is no dataclass, so a recipe could not keep it"),
        (["train", "--method", "test_cli:Needy"], "Needy needs depth, width: give its fields defaults"),
        (["train", "--method", "test_cli:Unfinished"], "Unfinished cannot be made: Can't instantiate abstract class"),
        (["evaluate", "run", "--method", "train_toys:Levle"], "module 'train_toys' has no 'Levle'"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hint in complaint(capsys, 2, *arguments)


class Bare(Level):
    """Not a dataclass of its own."""


@dataclasses.dataclass(frozen=True)
class Needy(Method):
    """Cannot be made without arguments."""

    depth: int
    width: int
    name: str = "needy"


@dataclasses.dataclass(frozen=True)
class Unfinished(Method):
    """Finds nothing."""


def test_methods_that_do_not_go_together_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert "GatedBlocks is given twice" in complaint(capsys, 1, "train", "--method", "GatedBlocks,GatedBlocks")


OWN = """
from __future__ import annotations
from dataclasses import dataclass
from torchpaths import RandomDrop
{more}
@dataclass(frozen=True)
class Rarely(RandomDrop):
    rates: float | tuple[float, ...] = 0.5
"""


def test_a_method_of_ones_own_in_the_working_directory_is_trained_resumed_evaluated_surveyed_and_cut(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "rarely.py").write_text(OWN.format(more=""))
    (tmp_path / "own" / "broken.py").write_text(OWN.format(more="import not_there_either"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    own = ["--method", "own.rarely:Rarely"]
    command = ["train", *own, "--method.rates", "0.7", "--no-twin", *SHORT, "--out", tmp_path / "run", "--json"]
    trained = answer(capsys, *command)
    assert trained["method"] == "Rarely"
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["method"]["class"] == "own.rarely:Rarely"
    for name in [name for name in sys.modules if name.partition(".")[0] == "own"]:
        del sys.modules[name]
    said = complaint(capsys, 1, "evaluate", tmp_path / "run")
    assert "own.rarely is not imported" in said
    assert "give --method own.rarely:Rarely on the command line" in said
    assert "own.rarely" not in sys.modules
    evaluated = answer(capsys, "evaluate", tmp_path / "run", *own, "--json")
    assert evaluated["accuracy"] == trained["accuracy"]
    assert answer(capsys, "survey", tmp_path / "run", *own, "--json")["accuracy"] == trained["accuracy"]
    cut = answer(capsys, "cut", tmp_path / "run", *own, "--budget-macs", 0.7, "--out", tmp_path / "cut", "--json")
    assert cut["method"]["class"] == "own.rarely:Rarely"
    assert answer(capsys, *command) == trained
    assert "own.broken cannot be imported: ModuleNotFoundError: No module named 'not_there_either'" in complaint(
        capsys, 2, "train", "--method", "own.broken:Rarely"
    )
    assert "there is no module 'own.absent'" in complaint(capsys, 2, "train", "--method", "own.absent:Rarely")


def test_an_unknown_field_is_a_misuse_that_names_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--epocks", "3"])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert (out, "--epochs" in err) == ("", True)


def test_a_value_out_of_range_is_explained_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "epochs=0: a whole number of at least 1" in complaint(
        capsys, 1, "train", "--epochs", 0, "--out", tmp_path / "run"
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--method.budget.open", "7", "--out", str(tmp_path / "run")])
    assert stopped.value.code == 2
    assert "Budget(open=7.0)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_training_answers_with_the_gated_and_the_plain_network(run: tuple[Path, dict[str, Any]]) -> None:
    folder, answered = run
    assert answered["folder"] == str(folder)
    assert (answered["method"], answered["plain"]["method"]) == ("GatedBlocks", None)
    plain = answered["plain"]
    assert plain["macs"] == plain["plain_macs"] == answered["plain_macs"]
    assert plain["units_open"] == plain["units"] == 9
    assert answered["images"] == sum(c["images"] for c in answered["by_class"].values())
    right = sum(c["images"] * c["accuracy"] for c in answered["by_class"].values())
    assert answered["accuracy"] == pytest.approx(right / answered["images"])
    assert answered["units_open"] == pytest.approx(sum(answered["open_by_unit"].values()))


def test_training_leaves_the_survey_and_the_class_by_block_figure_in_the_run_folder(
    run: tuple[Path, dict[str, Any]],
) -> None:
    folder, answered = run
    assert tp.Survey.load(folder).accuracy == answered["accuracy"]
    with Image.open(folder / "figures" / "class-rates.png") as picture:
        assert picture.width > 300
    assert {Path(f).name for f in answered["figures"]} >= {"class-rates.png", "class-rates.svg", "training-rates.png"}
    assert all(Path(f).is_file() for f in answered["figures"])


def test_overrides_reach_the_recipe_in_the_run_folder(run: tuple[Path, dict[str, Any]]) -> None:
    recipe = load_run(run[0]).recipe
    assert isinstance(recipe.method, tp.GatedBlocks)
    assert (recipe.method.budget.open, recipe.augment.pad, recipe.seed, recipe.epochs) == (0.5, 0, 3, 1)


def test_repeating_the_command_finds_the_run_done_and_gives_the_same_numbers(
    run: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, answered = run
    overrides = ["--method.budget.open=0.5", "--augment.pad=0", "--seed=3"]
    assert answer(capsys, "train", "digits", "--out", folder, "--json", *SHORT, *overrides) == answered
    assert "seed: 3 -> 4" in complaint(capsys, 1, "train", "--out", folder, *SHORT, *overrides[:2], "--seed=4")


def test_evaluating_gives_the_accuracy_of_the_networks_own_answers(
    run: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trained = run
    answered = answer(capsys, "evaluate", folder, "--json")
    opened = load_run(folder)
    right = count = 0
    with torch.inference_mode():
        for x, y in opened.loader():
            right += int((opened.net(x)[0].argmax(1) == y).sum())
            count += len(y)
    assert answered["accuracy"] == right / count
    assert {k: answered[k] for k in summary(tp.Survey.load(folder))} == {
        k: trained[k] for k in summary(tp.Survey.load(folder))
    }


def test_the_split_and_the_inference_can_be_chosen(
    run: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trained = run
    assert answer(capsys, "evaluate", folder, "--split", "train", "--json")["images"] > trained["images"]
    everything = answer(capsys, "evaluate", folder, "--inference", "expected", "--json")
    assert everything["units_open"] == 9, "the paper's * runs all blocks"


def test_inference_means_nothing_for_a_plain_network(
    run: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no gates" in complaint(capsys, 1, "evaluate", run[0] / "plain", "--inference", "sample")


def test_a_survey_writes_file_figures_and_health(
    run: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, _ = run
    answered = answer(capsys, "survey", folder, "--figures", tmp_path / "figures", "--out", tmp_path, "--json")
    assert {p.name for p in (tmp_path / "figures").glob("*.png")} == {
        Path(f).name for f in answered["figures"] if f.endswith("png")
    }
    assert len(answered["figures"]) == 10
    found = tp.Survey.load(answered["survey"])
    assert found.samples is not None
    assert set(answered["gates"]) == {unit.name for unit in found.layout.units}
    assert answered["gates"]["layer1.0"]["rate"] == answered["open_by_unit"]["layer1.0"]


def test_without_json_people_get_a_table_of_all_classes(
    run: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", str(run[0])]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
    assert {str(digit) for digit in range(10)} <= rows.keys()
    assert rows["all"][0] == f"{run[1]['accuracy']:.2%}"
    assert rows["of"][2] == f"{run[1]['macs_share']:.1%}"


@pytest.mark.parametrize("method", ["none", "RandomDrop"])
def test_another_method_is_chosen_by_name(method: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    knobs = ["--no-twin", "--method.rates", "0.5"] if method == "RandomDrop" else []
    answered = answer(capsys, "train", "--method", method, *knobs, *SHORT, "--out", tmp_path / "run", "--json")
    assert "plain" not in answered
    if method == "none":
        assert (answered["method"], answered["macs"]) == (None, answered["plain_macs"])
    else:
        assert answered["method"] == "RandomDrop"
        assert 3.5 < answered["units_open"] < 5.5, "half of 9 blocks, by chance"


def image_folder(root: Path, names: list[str], side: int) -> Path:
    """A test split of one grey image for each class."""
    for name in names:
        (root / "test" / name).mkdir(parents=True)
        Image.fromarray(np.full((side, side), 99, np.uint8)).save(root / "test" / name / "one.png")
    return root


def test_other_images_must_have_the_runs_classes_and_size(
    run: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    digits = [str(i) for i in range(10)]
    fitting = image_folder(tmp_path / "fitting", digits, 8)
    assert answer(capsys, "evaluate", run[0], "--data", fitting, "--json")["images"] == 10
    larger = image_folder(tmp_path / "larger", digits, 12)
    assert "(12, 12, 1)" in complaint(capsys, 1, "evaluate", run[0], "--data", larger)
    other = image_folder(tmp_path / "other", ["cat", *digits[1:]], 8)
    assert "class 0 of other is '1', the run" in complaint(capsys, 1, "evaluate", run[0], "--data", other)
    fewer = image_folder(tmp_path / "fewer", digits[:4], 8)
    assert "fewer has 4 classes, the run" in complaint(capsys, 1, "evaluate", run[0], "--data", fewer)


def test_a_folder_that_is_no_run_is_explained_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no run folder" in complaint(capsys, 1, "evaluate", tmp_path)
    assert "no run folder" in complaint(capsys, 1, "survey", tmp_path, "--figures", tmp_path / "figures")


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(options, "survey_run", interrupted)
    assert "repeat the command" in complaint(capsys, 130, "evaluate", "run")


def test_under_torchrun_only_the_first_process_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "train", lambda *_, **__: None)
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["train", "--json", "--out", "never-made"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away_is_no_error_message() -> None:
    piped = f"'{COMMAND}' train --help | true"
    ended = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=False)
    assert ended.stderr == ""


def toy_survey(classes: int, images: int) -> tp.Survey:
    """A survey of a small network over noise, with labels 0, 1, ... as far as the images go."""
    torch.manual_seed(0)
    x, y = torch.randn(images, 1, 8, 8), torch.arange(images) % classes
    net = tp.route(create_model("cifar_resnet20", classes=classes, channels=1), tp.RandomDrop(0.5), example=x)
    return tp.survey(net, [(x, y)])


def test_a_class_without_images_is_null_in_json_and_a_dash_in_the_table() -> None:
    found = toy_survey(classes=4, images=3)
    numbers = summary(found)
    assert numbers["by_class"]["3"] == {"images": 0, "accuracy": None, "macs": None, "units_open": None}
    json.dumps(numbers, allow_nan=False)
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tables.side_by_side([found]))
    [row] = [line for line in console.export_text().splitlines() if line.strip().startswith("3 ")]
    assert row.split()[1:] == ["–"] * 3


def test_of_many_classes_the_table_shows_those_that_open_fewest_and_most() -> None:
    found = toy_survey(classes=25, images=50)
    table = tables.side_by_side([found])
    shown = [str(cell) for cell in table.columns[0].cells]
    order = np.argsort(found.executed_by_class[:, 0], kind="stable")
    assert shown[: shown.index("all")] == [found.classes[i] for i in [*order[:5], *order[-5:]]]
    assert str(table.caption).startswith("15 classes")


@pytest.mark.parametrize(("macs", "text"), [(2_516_608, "2.52 M"), (41e8, "4.10 G"), (131_000, "131 k"), (12, "12")])
def test_macs_are_shown_in_three_digits(macs: float, text: str) -> None:
    assert tables.count(macs) == text


def test_json_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        options.emit({"accuracy": float("nan")})
