"""A cut for the live page: some classes' network as a zip of weights and spec, with its numbers."""

from __future__ import annotations

import io
import pathlib
import tempfile
import zipfile
from collections.abc import Sequence
from typing import Any

import torch

from torchpaths.cuts import save_cut
from torchpaths.errors import DataError
from torchpaths.explorer.answers import BATCH, Answers
from torchpaths.extraction import extract
from torchpaths.meter.compare import Subject
from torchpaths.outputs import answer
from torchpaths.train.cut_folder import original


def cut(answers: Answers, classes: Sequence[int], budget: float | None) -> tuple[dict[str, Any], bytes]:
    """Cut out what these classes keep within a budget.

    Args:
        answers: the model.
        classes: their numbers, at least one.
        budget: MACs, up to 1 a share of the plain network's; None for what half of their images open.

    Returns:
        Units, parameters, MACs, milliseconds of one image and accuracy on those classes, the last two also of the plain
        network; and the folder that `torchpaths.save_cut` writes, zipped.

    Raises:
        DataError: for no classes, or one that there is not.
        BudgetError, RouteError: as for the command.
    """
    names = answers.survey.classes
    if not classes or any(not 0 <= c < len(names) for c in classes):
        raise DataError(f"classes {list(classes)}: give numbers of classes, 0 to {len(names) - 1}.")
    path = answers.chosen(classes, budget)
    with tempfile.TemporaryDirectory() as folder:
        spec = save_cut(**original(answers.run, path, None), folder=pathlib.Path(folder) / "cut")
        data = zipped(pathlib.Path(folder) / "cut")
    right, plainly, n = 0, 0, 0
    with torch.inference_mode():
        rows = [i for i, label in enumerate(answers.images.labels.tolist()) if label in set(classes)]
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            x = answers.normalised(answers.images.read(part))
            scores, _ = answers.net(x, path)
            plain_scores = answer(answers.plain(x))
            plainly += int((plain_scores.argmax(1).cpu().numpy() == answers.images.labels[part]).sum())
            right += int((scores.argmax(1).cpu().numpy() == answers.images.labels[part]).sum())
            n += len(part)
    units = sum(sum(opened) for opened in path.values())
    numbers: dict[str, Any] = {"units": units, "params": spec.cut.params, "macs": spec.cut.macs, "n": n}
    time = answers.timed(Subject("cut", extract(answers.net, path).eval(), None, routed=False))
    numbers |= {"ms": time["value"], "plain_ms": time["plain"], "bytes": len(data)}
    return {**numbers, "accuracy": right / n if n else None, "plain_accuracy": plainly / n if n else None}, data


def zipped(folder: pathlib.Path) -> bytes:
    """A folder's files as a zip; weights do not compress."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, pathlib.Path(folder.name) / file.relative_to(folder))
    return buffer.getvalue()
