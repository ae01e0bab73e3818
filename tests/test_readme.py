"""README and docs: their code runs, their commands parse, their links lead somewhere."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path

import pytest
import torch
from torchvision.models import detection

from torchpaths import cli
from torchpaths.cli import codes as codes_verb
from torchpaths.cli import explore as explore_verb
from torchpaths.cli import options, train
from torchpaths.cli import shrink as shrink_verb
from torchpaths.meter import batches

ROOT = Path(__file__).resolve().parents[1]
TABLES = {"codes.md"}  # of bits, made before there is a network
GENERATED = {"models.md"}  # by a script, tables only
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in GENERATED),
]


FASTER_RCNN = detection.fasterrcnn_resnet50_fpn
FEW_BOXES = {"rpn_post_nms_top_n_train": 50, "rpn_post_nms_top_n_test": 20, "box_batch_size_per_image": 16}
"""A page's detector looks at fewer regions of an image than it would: they take the time and show nothing else."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every line of every bash block, without its comment."""
    return [
        shlex.join(shlex.split(line, comments=True))
        for page in PAGES
        for block in blocks(page, "bash")
        for line in block.splitlines()
    ]


def named(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=named)
def test_the_python_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batches, "IMAGES", 2)  # whose times a page prints is no claim
    monkeypatch.setattr(detection, "fasterrcnn_resnet50_fpn", functools.partial(FASTER_RCNN, **FEW_BOXES))
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        # Not with this file's own way of reading annotations.
        exec(compile(block, str(page), "exec", dont_inherit=True), names)
    assert "net" in names or page.name in TABLES, "a page's code routes or loads a network"


def test_every_page_of_a_verb_shows_python_and_command() -> None:
    for verb in cli.VERBS:
        page = ROOT / "docs" / f"{verb}.md"
        assert blocks(page, "python"), page
        assert any(f"torchpaths {verb}" in block for block in blocks(page, "bash")), page


class ReachedError(Exception):
    """A verb has understood its arguments and would begin to work."""


def reached(*_: object, **__: object) -> None:
    raise ReachedError


@pytest.mark.parametrize(
    "command", sorted({c for c in commands() if "torchpaths" in c.replace(".venv/bin/", "").split()})
)
def test_a_command_of_the_pages_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", reached)
    monkeypatch.setattr(options, "survey_run", reached)
    monkeypatch.setattr(options, "merged_run", reached)
    monkeypatch.setattr(options, "open_run", reached)
    monkeypatch.setattr(codes_verb, "codes", reached)
    monkeypatch.setattr(explore_verb, "read_survey", reached)
    monkeypatch.setattr(shrink_verb, "recipe_of", reached)
    words = shlex.split(command.replace(".venv/bin/", ""))
    with pytest.raises(ReachedError):
        cli.main(words[words.index("torchpaths") + 1 :])


def test_every_make_target_of_the_pages_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {t for c in commands() if c.startswith("make ") for t in c.split()[1:]}
    asked |= {t for page in PAGES for t in re.findall(r"`make (\w+)`", page.read_text())}
    assert {"demo", "test", "lint"} <= asked
    assert asked <= targets


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).is_file()]
    assert missing == []
