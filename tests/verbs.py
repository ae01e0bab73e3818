"""Calling the command in tests: what it answers, what it complains of, and a run whose images are not here."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from torchpaths import cli
from torchpaths.meter import batches
from torchpaths.train import columns


def briefly(patch: pytest.MonkeyPatch) -> None:
    """``survey --times`` measures no longer than it must, for tests in which how sure a time is is no claim."""
    for timed in ("measure", "unit_times"):
        patch.setattr(columns, timed, functools.partial(getattr(columns, timed), seconds=0.01))
    patch.setattr(batches, "IMAGES", 2)


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The one JSON object that a verb prints."""
    capsys.readouterr()
    assert cli.main([str(a) for a in arguments]) == 0
    answered: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answered


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one error that a verb ends with."""
    capsys.readouterr()
    assert cli.main([str(a) for a in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("error:") == 1
    return " ".join(err.split())


def without_images(run: Path, folder: Path) -> Path:
    """A copy of a run in a new folder, whose recipe names images that are not there (``gone/cifar10``)."""
    folder.mkdir()
    for name in ("run.json", "weights.safetensors"):
        (folder / name).write_bytes((run / name).read_bytes())
    recipe = json.loads((run / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps({**recipe, "data": "gone/cifar10"}))
    return folder
