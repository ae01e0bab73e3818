"""A disk that is full, at any write: the library's own error, and what was there before is there still."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from survey_toy import Toy, loader
from test_front_files import made_up, net
from torchpaths.errors import RunError
from torchpaths.files.write import write_json
from torchpaths.fronts.figure import draw_front
from torchpaths.surveys import survey
from torchpaths.surveys.figures import save
from torchpaths.train import checkpoint
from torchpaths.train.metrics import Metrics

Write = Callable[[pathlib.Path], object]


def _survey(folder: pathlib.Path) -> object:
    return survey(Toy(), loader(), classes=["a", "b", "c"]).save(folder)


def _checkpoint(folder: pathlib.Path) -> object:
    return checkpoint.save(folder, checkpoint.Checkpoint(1, {"w": torch.zeros(3)}, {}), best=False)


WRITERS: dict[str, Write] = {
    "survey": _survey,
    "front": lambda folder: made_up(net()).save(folder),
    "figure": lambda folder: save(draw_front(made_up(net())), folder / "front"),
    "json": lambda folder: write_json(folder / "decode.json", {"a": 1}),
    "checkpoint": _checkpoint,
}


def _held(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_fails_is_our_error_and_keeps_what_was_there(
    name: str, code: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    folder = tmp_path / "run"
    for before in (False, True):
        if before:
            WRITERS[name](folder)
        held = _held(tmp_path)
        if name == "checkpoint" and before:  # one that is there is not written again
            folder = tmp_path / "other"
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(RunError, match=r"(the disk is full|could not be written).*run again to resume"):
                WRITERS[name](folder)
        assert _held(tmp_path) == held


@contextmanager
def _largest(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_metrics_of_which_a_row_finds_no_room_close_without_another_error(tmp_path: pathlib.Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl", 0)
    metrics.write({"step": 1})
    kept = metrics.sync()
    with _largest(kept + 10):
        with pytest.raises(RunError, match=r"metrics\.jsonl could not be written: files may not grow so large"):
            metrics.write({"step": 2, "losses": [0.0] * 100})
        metrics.close()
    again = Metrics(tmp_path / "metrics.jsonl", kept)
    again.write({"step": 2})
    again.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"step": 1}, {"step": 2}]
