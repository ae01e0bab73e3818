"""Folders from strangers: nothing they name is imported, read or fetched, and every advice in an error is good."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchpaths as tp
from torchpaths.cli import main
from torchpaths.cuts.read import load_cut
from torchpaths.errors import DataError, DigestWarning, RunError
from torchpaths.files.disk import inside, read_bytes
from torchpaths.files.tensors import digest, read_tensors, to_bytes
from torchpaths.models import MODELS, Source, create_model, source
from torchpaths.models.known import known, untrained
from torchpaths.schema import MalformedError
from torchpaths.train import checkpoint
from torchpaths.train.folder import load_run
from torchpaths.train.recipe import Recipe


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and a cut of a small network, as they are written today."""
    root = tmp_path_factory.mktemp("folders")
    torch.manual_seed(0)
    recipe = Recipe("timm/resnet10t", "digits", tp.GatedBlocks())
    net = tp.route(create_model(recipe.model, 3), recipe.method, example=torch.randn(2, 3, 32, 32))
    (root / "run").mkdir()
    seen = {"classes": ["a", "b", "c"], "shape": [32, 32, 3], "mean": [0.5] * 3, "std": [0.2] * 3}
    (root / "run/recipe.json").write_text(json.dumps(recipe.to_json()))
    (root / "run/run.json").write_text(json.dumps({"schema": "torchpaths.run/1", "data": seen}))
    (root / "run/weights.safetensors").write_bytes(to_bytes(net.state_dict()))
    path = tp.Path.full(net) & tp.Path({next(iter(net.sites)): [False]})
    tp.save_cut(net, path, root / "cut", source(recipe.model, 3), method=recipe.method)
    return root


@pytest.fixture
def cut(folders: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folders / "cut", tmp_path / "cut")


@pytest.fixture
def run(folders: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folders / "run", tmp_path / "run")


def edit(file: Path, change: Callable[[Any], object]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"checkpoint_path": "bomb.pth"},
        {"pretrained_cfg": {"file": "bomb.pth"}},
        {"pretrained_cfg": "bomb.pth"},
        {"pretrained_cfg_overlay": {"file": "bomb.pth"}},
        {"cache_dir": "."},
        {"features_only": True},
        {"no_such": 1},
    ],
    ids=lambda kwargs: "-".join(kwargs),
)
def test_a_cut_may_give_its_model_only_what_the_model_itself_takes(kwargs: dict[str, Any], cut: Path) -> None:
    [key] = kwargs
    torch.save(Bomb(cut / "ran"), cut / "bomb.pth")
    text = json.dumps(kwargs).replace("bomb.pth", str(cut / "bomb.pth"))
    edit(cut / "spec.json", lambda s: s["source"]["kwargs"].update(json.loads(text)))
    with pytest.raises(RunError, match=rf"'{key}' is .* from a folder. If you trust it, its load.py") as caught:
        load_cut(cut)
    assert len(str(caught.value)) < 500
    assert not (cut / "ran").exists()


def test_the_model_s_own_arguments_are_taken(cut: Path) -> None:
    edit(cut / "spec.json", lambda s: s["source"]["kwargs"].update(drop_rate=0.5, stem_width=32))
    assert load_cut(cut).drop_rate == 0.5
    with pytest.raises(RunError, match=r"'layers' is .*1073741824.*only numbers to"):
        known(Source("timm", "resnet10t", {"layers": [1, 1, 2**30, 1]}))


def test_weights_are_neither_fetched_for_a_folder_nor_asked_for_by_one(
    cut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetched)
    monkeypatch.setattr("timm.models._builder.load_pretrained", fetched)
    edit(cut / "spec.json", lambda s: s["source"]["kwargs"].update(pretrained=True))
    assert isinstance(load_cut(cut), nn.Module)
    asked = Source("torchvision", "resnet18", {"weights": "DEFAULT", "num_classes": 3})
    assert untrained(asked).kwargs == {"num_classes": 3}
    known(asked).make()


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "hf_hub:someone/model", "local-dir:/tmp", "../resnet10t"])
def test_a_model_is_one_of_its_library_by_its_name(name: str, cut: Path) -> None:
    edit(cut / "spec.json", lambda s: s["source"].update(name=name))
    with pytest.raises(RunError, match="there is no model"):
        load_cut(cut)


@pytest.mark.parametrize("name", ["../run", "/etc", "step-1/../../run", "", ".", "..", "a\\b", "C:x", "a\0b"])
def test_names_in_a_folder_are_those_of_files_beside_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="is no name of a file beside it"):
        inside(tmp_path, name)
    (tmp_path / "index.json").write_text(json.dumps({"last": name}))
    with pytest.raises(RunError, match=r"index.json: .*is no name of a file beside it.*write the name of a checkpoint"):
        checkpoint.load(tmp_path)


def test_links_out_of_a_folder_are_not_followed_and_copied_as_told_they_open(run: Path, tmp_path: Path) -> None:
    shutil.move(run / "weights.safetensors", tmp_path / "elsewhere.safetensors")
    (run / "weights.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(RunError, match=r"is a link out of the folder, which is not followed; copy with cp -rL"):
        load_run(run)
    shutil.copytree(run, tmp_path / "copy", symlinks=False)  # what cp -rL does
    load_run(tmp_path / "copy")
    os.replace(tmp_path / "elsewhere.safetensors", run / "own")
    (run / "weights.safetensors").unlink()
    (run / "weights.safetensors").symlink_to("own")
    load_run(run)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["recipe.json", "run.json", "weights.safetensors"])
def test_a_pipe_in_a_run_folder_is_refused_and_not_waited_for(name: str, run: Path) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(RunError, match=r"no regular file|has no recipe.json"):
        load_run(run)


def test_a_folder_in_a_file_s_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        read_bytes(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(shape=[10**9, 10**9, 3]),
        lambda d: d.update(shape=[4096, 4096, 3]),
        lambda d: d.update(shape=[32, 32]),
        lambda d: d.update(mean=[0.5]),
        lambda d: d.update(std=[0.0] * 3),
        lambda d: d.update(classes=[]),
        lambda d: d.update(classes="abc"),
    ],
)
def test_a_run_cannot_ask_for_what_fits_no_memory_or_no_image(change: Callable[[Any], object], run: Path) -> None:
    edit(run / "run.json", lambda d: change(d["data"]))
    with pytest.raises(RunError, match=r"run.json: .*; train again in a new folder\.$"):
        load_run(run)


@pytest.mark.parametrize("bit", [3, 100, 200, 1000, 40_000, 800_000])
def test_a_flipped_bit_in_the_weights_of_a_run_is_found(bit: int, run: Path) -> None:
    file = run / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[bit] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match=r"weights.safetensors: truncated or corrupt.*; remove it and resume the run"):
        load_run(run)


def test_older_weights_without_a_digest_open_with_the_word(run: Path) -> None:
    import safetensors.torch

    file = run / "weights.safetensors"
    tensors = safetensors.torch.load(file.read_bytes())
    assert digest(file.read_bytes()) is True
    file.write_bytes(safetensors.torch.save(tensors))
    assert digest(file.read_bytes()) is None
    with pytest.warns(DigestWarning, match="weights.safetensors has no digest"):
        load_run(run)


def test_tensors_come_back_bit_for_bit_with_their_digest(tmp_path: Path) -> None:
    wanted = {"a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.tensor(1.0), "d": torch.zeros(0, 2).half()}
    (tmp_path / "x").write_bytes(to_bytes(wanted))
    found = read_tensors(tmp_path / "x", RunError, "copy it again")
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in wanted.items())


OWN = """
import pathlib
pathlib.Path(__file__).with_name("ran").write_text("")
from torchpaths.models import cifar_resnet
def make(classes, channels):
    return cifar_resnet(14, "A", classes, channels)
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that leaves a mark where it is imported."""
    (tmp_path / "their_model.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ran"
    sys.modules.pop("their_model", None)
    MODELS.pop("their_model:make", None)


def test_a_model_of_somebody_s_own_is_text_until_the_caller_names_it(
    run: Path, stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = create_model("cifar_resnet14", 3)
    routed = tp.route(net, tp.GatedBlocks(), example=torch.randn(2, 3, 32, 32))
    (run / "weights.safetensors").write_bytes(to_bytes(routed.state_dict()))
    edit(run / "recipe.json", lambda r: r.update(model="their_model:make"))
    with pytest.raises(RunError, match="Nothing is imported because a file names it: give --model their_model:make"):
        load_run(run)
    assert not stranger.exists()
    assert main(["evaluate", str(run), "--model", "their_model:make", "--data", "digits"]) == 1
    assert stranger.exists()
    assert "10 classes" in capsys.readouterr().err, "the network was made, and meets other images than its own"
    MODELS.pop("their_model:make")
    MODELS["their_model:make"] = sys.modules["their_model"].make  # the other advice
    assert load_run(run).net.layout.network == "CifarResNet"
    assert main(["evaluate", str(run), "--model", "their_model"]) == 2
    assert "package.module:function" in capsys.readouterr().err


def test_a_cut_that_was_changed_says_so_and_copied_again_it_opens(cut: Path, folders: Path) -> None:
    file = cut / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(DataError, match=r"weights.safetensors: truncated or corrupt.*copy the folder again"):
        load_cut(cut)
    shutil.rmtree(cut)
    shutil.copytree(folders / "cut", cut)
    load_cut(cut)
