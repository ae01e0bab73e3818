"""Claims about the one door to all figures: each is drawn where the network has what it shows and says something,
and by those who measure it, once. What the reports draw is tested where they are."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import pytest
import torch

import torchpaths as tp
from survey_toy import Toy, image, loader
from test_cli_artefacts import made
from test_survey_figures import NAMED, Pixels
from torchpaths.cli import decode, depths, filters
from torchpaths.data import open_data
from torchpaths.errors import DataError
from torchpaths.fronts import Front, Point
from torchpaths.methods.together import Together
from torchpaths.surveys import Survey, survey
from torchpaths.surveys.figures import save_all
from torchpaths.train.evaluate import open_run
from torchpaths.train.folder import build
from train_toys import tiny
from verbs import answer

METHODS: dict[str, tuple[Any, str, set[str]]] = {
    "plain": (None, "cifar_resnet14", set()),
    "gated blocks": (tp.GatedBlocks(), "cifar_resnet14", set()),
    "adaptive depth": (tp.AdaptiveDepth(), "cifar_resnet14", {"depths"}),
    "gated filters": (tp.GatedFilters(), "cifar_resnet14", {"filters"}),
    "coded paths": (tp.CodedPaths(classes=10), "resnext20_10x4d", {"decode"}),
    "depth and filters": (Together((tp.AdaptiveDepth(), tp.GatedFilters())), "cifar_resnet14", {"depths", "filters"}),
}


class Door:
    """Records which reports were asked for, and for which images; each writes one file."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: dict[str, Any] = {}
        self.fails = ""
        patch.setattr(depths, "report", lambda *given: ((), {}, self._drawn("depths", *given)))
        patch.setattr(filters, "report", lambda *given: {"files": map(str, self._drawn("filters", *given))})
        patch.setattr(decode, "report", lambda *given: {"files": map(str, self._drawn("decode", *given))})

    def _drawn(self, name: str, options: Any, opened: Any, images: Any, folder: pathlib.Path) -> list[pathlib.Path]:
        if self.fails == name:
            raise DataError("class 'nine' has no images; give more.")
        self.asked[name] = options
        return [folder / f"{name}.png"]


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    return Door(monkeypatch)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of depth and filters, with a front."""
    folder = made(tmp_path_factory.mktemp("door") / "run", METHODS["depth and filters"][0])
    net = open_run(folder).net
    full = tp.Path.full(net)
    Front(net.layout, (Point("full", full, None, 0.5, 1e6, 1.0),), (), 0.5, 10).save(folder)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_each_papers_figures_are_asked_for_where_the_network_has_what_they_show(
    door: Door, tmp_path: pathlib.Path, method: str
) -> None:
    from torchpaths.cli.figures import draw
    from torchpaths.cli.survey import Options
    from torchpaths.train.evaluate import Surveyed
    from torchpaths.train.folder import Run

    given, model, wanted = METHODS[method]
    images = open_data("digits", "test")
    recipe = tiny(model=model, method=given)
    net = build(recipe, images.classes, images.shape)
    run = Run(tmp_path, recipe, net, images.classes, images.mean, images.std)
    x = torch.randn(2, *net.example_shape)
    found = Surveyed(survey(net, [(x, torch.tensor([0, 1]))], keep_paths=True), images, run)
    files, told = draw(found, Options(run=tmp_path, split="test", skip_corrupt=True), tmp_path)
    assert set(door.asked) == wanted
    assert {file.stem for file in files} >= wanted
    assert told == []
    assert all((o.run, o.skip_corrupt) == (tmp_path, True) for o in door.asked.values()), "asked as the survey was"


def test_the_verb_opens_the_door_and_draws_the_front(
    mixed: pathlib.Path, door: Door, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answered = answer(capsys, "survey", mixed, "--out", tmp_path, "--figures", tmp_path / "figures", "--json")
    names = {pathlib.Path(file).stem for file in answered["figures"]}
    assert names >= {"depths", "filters", "front"}
    assert set(door.asked) == {"depths", "filters"}
    assert (tmp_path / "figures" / "front.svg").is_file()


def test_figures_that_these_images_cannot_give_are_left_out_and_the_reason_told(
    mixed: pathlib.Path, door: Door, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchpaths import cli

    door.fails = "filters"
    assert cli.main(["survey", str(mixed), "--out", str(tmp_path), "--figures", str(tmp_path / "figures")]) == 0
    out = capsys.readouterr().out
    assert "figures of filters left out: class 'nine' has no images" in out
    assert set(door.asked) == {"depths"}


def names(found: Survey, folder: pathlib.Path, **more: Any) -> set[str]:
    return {file.stem for file in save_all(found, folder, **more)}


def test_a_network_of_one_path_has_no_figures_of_paths(tmp_path: pathlib.Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "rates": NAMED}))
    x = torch.stack([image("1111", 0)] * 10)
    same = survey(Toy(), [(x, torch.arange(10) % 3)], keep_paths=True)  # gates that are open for every image
    assert same.decided
    assert names(same, tmp_path, images=Pixels(10), metrics=tmp_path / "metrics.jsonl") == set()


def test_where_all_images_execute_as_many_units_nothing_is_easy_or_hard(tmp_path: pathlib.Path) -> None:
    x = torch.stack([image("1110", 0), image("1101", 0), image("1110", 1)])
    found = survey(Toy(), [(x, torch.tensor([0, 0, 1]))], keep_paths=True)
    assert names(found, tmp_path, images=Pixels(3)) == {"class-rates", "open-together"}


def test_classes_that_differ_though_their_images_do_not_have_no_easy_and_hard_ones(tmp_path: pathlib.Path) -> None:
    x = torch.stack([image("1110", 0), image("1110", 0), image("1111", 1)])
    found = survey(Toy(), [(x, torch.tensor([0, 0, 1]))], keep_paths=True)
    assert names(found, tmp_path, images=Pixels(3)) == {"class-rates", "executed-layers"}


@pytest.mark.parametrize(("rates", "drawn"), [([[1, 1, 0, 1]] * 2, False), ([[1, 1, 0, 1], [1, 1, 1, 1]], True)])
def test_rates_over_training_are_drawn_where_any_ever_differed(
    tmp_path: pathlib.Path, rates: list[list[int]], drawn: bool
) -> None:
    lines = [json.dumps({"epoch": i, "rates": row}) for i, row in enumerate(rates)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    found = survey(Toy(), loader())
    assert ("training-rates" in names(found, tmp_path, metrics=tmp_path / "metrics.jsonl")) == drawn


def test_easy_and_hard_images_of_a_sample_are_those_of_the_data(tmp_path: pathlib.Path) -> None:
    found = survey(Toy(), loader(), keep_paths=5)
    assert "easy-and-hard" in names(found, tmp_path, images=Pixels(10))
    assert found.samples is not None
    only = dataclasses.replace(found, samples=dataclasses.replace(found.samples, labels=found.samples.labels * 0))
    assert "easy-and-hard" in names(only, tmp_path / "only", images=Pixels(10)), "a class of no kept image is left out"
