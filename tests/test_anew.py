"""``--force`` replaces what this library wrote and nothing else; without it nothing that is there is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from torchpaths.errors import RunError
from torchpaths.files.fresh import check_new
from torchpaths.train.anew import replaced
from torchpaths.train.lock import held
from torchpaths.train.run import train
from train_toys import tiny
from verbs import answer, complaint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anew") / "run"
    train(tiny(epochs=1, steps=2), folder, quiet=True)
    return folder


def test_a_run_is_begun_anew_in_the_place_of_another(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(tiny(epochs=1, steps=2), out, quiet=True)
    (out / "survey.json").write_text("of the old run")
    other = tiny(epochs=1, steps=3)
    with pytest.raises(RunError, match=r"made by another recipe: steps: 2 -> 3.*--force begins anew"):
        train(other, out, quiet=True)
    assert train(other, out, quiet=True, force=True)["steps"] == 3
    assert not (out / "survey.json").exists(), "what was said of the old run says nothing of the new one"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_recipe_that_cannot_be_trained_costs_no_run(run: Path) -> None:
    before = sorted(p.name for p in run.iterdir())
    with pytest.raises(RunError, match="no weights file"):
        train(tiny(weights=Path("absent.safetensors")), run, quiet=True, force=True)
    assert sorted(p.name for p in run.iterdir()) == before


def test_a_run_that_cannot_be_put_back_is_kept_and_said_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    train(tiny(epochs=1, steps=1), out, quiet=True)
    weights = (out / "weights.safetensors").read_bytes()
    real = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path, **how: None if path == out else real(path, **how))
    said = r"could not be put back .*it is whole in .*\.old, move it"

    def interrupted() -> None:
        with replaced(out, tiny()):
            out.mkdir()
            (out / "open-elsewhere").write_text("cannot be removed")
            raise KeyboardInterrupt

    with pytest.raises(RunError, match=said) as error:
        interrupted()
    kept = Path(str(error.value).partition("whole in ")[2].partition(", move")[0])
    assert (kept / "weights.safetensors").read_bytes() == weights


def test_what_the_new_run_needs_is_not_removed(run: Path) -> None:
    recipe = tiny(weights=run / "weights.safetensors")
    with pytest.raises(RunError, match=r"holds what the new run needs, its weights, .*weights\.safeten"):
        train(recipe, run, quiet=True, force=True)
    assert (run / "weights.safetensors").is_file()


def test_a_folder_of_somebody_elses_or_one_in_use_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="holds no network that torchpaths wrote"):
        train(tiny(), mine, quiet=True, force=True)
    (mine / "recipe.json").write_text("{}")
    with held(mine), pytest.raises(RunError, match="is being trained into by process"), replaced(mine, tiny()):
        raise AssertionError("begun")
    assert (mine / "thesis.tex").is_file()
    for _ in range(2):  # where nothing is there is room as well
        with replaced(mine, tiny()):
            assert not mine.exists()
        assert not any(tmp_path.iterdir())


def test_the_verb_takes_force(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    asked = ["train", "digits", "--out", out, "--method", "none", "--epochs", 1, "--warmup", 0, "--json"]
    answer(capsys, *asked, "--steps", 1)
    assert "--force begins anew" in complaint(capsys, *asked, "--steps", 2)
    answer(capsys, *asked, "--steps", 2, "--force")
    assert json.loads((out / "summary.json").read_text())["steps"] == 2


def test_export_replaces_no_file_unasked(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.pt2"
    file.write_text("another network")
    asked = ["export", run, "--out", file]
    assert "net.pt2 is there already; name another file, or say --force" in complaint(capsys, *asked)
    assert file.read_text() == "another network"
    answer(capsys, *asked, "--force", "--json")
    assert file.stat().st_size > 1000
    (tmp_path / "net.bin").write_text("weights of another")
    assert "net.bin is there already" in complaint(capsys, "export", run, "--out", tmp_path / "net.xml")
    (tmp_path / "folder.onnx").mkdir()
    assert "is a folder" in complaint(capsys, "export", run, "--out", tmp_path / "folder.onnx", "--force")


def test_a_link_to_nowhere_is_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is there already"):
        check_new(tmp_path / "net.onnx", False)
    check_new(tmp_path / "net.onnx", True)
    check_new(tmp_path / "new.onnx", False)


def test_shrink_begins_anew_and_replaces_no_file_unasked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "small", tmp_path / "net.pt2"
    asked = ["shrink", run, "--out", out, "--images", 16, "--epochs", 1, "--batch", 1, "--seconds", 0.01, "--json"]
    file.write_text("another network")
    assert "net.pt2 is there already" in complaint(capsys, *asked, "--budget-macs", 0.8, "--export", file)
    assert not out.exists()
    first = answer(capsys, *asked, "--budget-macs", 0.8)
    assert "--force begins anew" in complaint(capsys, *asked, "--budget-macs", 0.5)
    second = answer(capsys, *asked, "--budget-macs", 0.5, "--force", "--export", file)
    assert len(second["closed"]) > len(first["closed"])
    assert file.stat().st_size > 1000
    inside = ["shrink", out / "run", "--out", out, "--budget-macs", 0.9, "--force"]
    assert "shrink a plain one" in complaint(capsys, *inside)
