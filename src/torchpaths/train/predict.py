"""What a network says of images from anywhere, and what it runs to say it: ``predict``."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.chosen import OperatingPoint, set_up
from torchpaths.costs import evaluating
from torchpaths.data.decode import CorruptImageError, Form, load
from torchpaths.data.folder import SUFFIXES
from torchpaths.data.loader import normalised
from torchpaths.errors import DataError, RunError
from torchpaths.files.disk import read_bytes
from torchpaths.outputs import answer, as_scores
from torchpaths.path import Path
from torchpaths.surveys.checks import opened_units
from torchpaths.train.folder import Run

AT_ONCE = 32
"""Images that go through the network together."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one image.

    Attributes:
        file: the image.
        pixels: as the network sees it before normalisation, uint8 ``[H, W, C]``.
        scores: of each class, float32 ``[class]``.
        probabilities: their softmax, 0 to 1; the same where the network ends in one; of a network of one class the
            sigmoid of its score.
        opened: unit -> whether it ran.
        macs: of what ran.
    """

    file: pathlib.Path
    pixels: NDArray[np.uint8]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    opened: dict[str, bool]
    macs: int

    @property
    def label(self) -> int:
        """The likeliest class."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """Its probability, 0 to 1."""
        return float(self.probabilities[self.label])

    def to_json(self, classes: Sequence[str], plain: int, most: int = 5) -> dict[str, Any]:
        """As JSON data.

        Args:
            classes: names by label.
            plain: MACs of the plain network.
            most: how many of the likeliest classes are named.
        """
        order = np.argsort(-self.probabilities, kind="stable")[:most].tolist()
        return {
            "file": str(self.file),
            "class": classes[self.label],
            "label": self.label,
            "confidence": self.confidence,
            "top": [{"class": classes[k], "label": k, "confidence": float(self.probabilities[k])} for k in order],
            "macs": self.macs,
            "macs_share": self.macs / plain,
            "open_by_unit": self.opened,
        }


def images_in(named: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Files of images: those named, and for a folder those in it and below, by their endings, in order of their names.

    Raises:
        DataError: for a folder without any.
    """
    files: list[pathlib.Path] = []
    for one in named:
        if not one.is_dir():
            files.append(one)
            continue
        found = [file for file in _visible(one) if file.name.lower().endswith(SUFFIXES)]
        if not found:
            raise DataError(f"{one} is a folder without images; known file types: {', '.join(SUFFIXES)}.")
        files += found
    return files


def others_in(named: Iterable[pathlib.Path]) -> int:
    """How many files of the folders named, and below, `images_in` leaves out as no images; hidden ones do not count."""
    files = (file for one in named if one.is_dir() for file in _visible(one))
    return sum(not file.name.lower().endswith(SUFFIXES) for file in files)


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files in a folder and below that are not hidden, in order of their names."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def predict(
    run: Run,
    files: Sequence[pathlib.Path],
    choice: Path | OperatingPoint | None = None,
    *,
    skip_corrupt: bool = False,
) -> list[Prediction]:
    """What a run's network says of images.

    Images of another size are scaled and cropped at their centre as those of the run's evaluation are, turned upright
    as EXIF says, taken as `torchpaths.data.shown` tells, and in as many channels as the network does.

    Args:
        run: an opened run.
        files: images.
        choice: along which path, or at which point of its front; None: as the network decides.
        skip_corrupt: leave out files that are no image or damaged, instead of raising.

    Raises:
        DataError: for no files, one that cannot be read or is no image, or where none is left.
        RunError: for scores that are not finite.
    """
    if not files:
        raise DataError("no image was named; give files of images.")
    net, path = set_up(run.net, choice)
    layout = net.layout.undecided() if path is not None and set(net.sites) <= set(path) else net.layout
    parameter = next(net.parameters())
    names = [unit.name for unit in layout.units]
    found = []
    with torch.no_grad(), evaluating(net):
        for part, pixels, x in _batches(run, files, skip_corrupt):
            output, trace = net(x.to(parameter.device, parameter.dtype), path)
            scores = answer(output).float().cpu()
            if not bool(scores.isfinite().all()):
                raise RunError(f"{run.folder} gives scores that are not finite; its weights are damaged.")
            shares = as_scores(scores).softmax(1) if scores.shape[1] > 1 else scores.sigmoid()
            opened = opened_units(trace, layout, len(x))
            macs = layout.costs(opened)[:, 0].tolist()
            for i, file in enumerate(part):
                ran = dict(zip(names, opened[i].tolist(), strict=True))
                found.append(Prediction(file, pixels[i], scores[i].numpy(), shares[i].numpy(), ran, macs[i]))
    if not found:
        raise DataError(f"none of {len(files)} files is an image that can be decoded; give PNG, JPEG, WebP or BMP.")
    return found


def _batches(
    run: Run, files: Sequence[pathlib.Path], skip_corrupt: bool
) -> Iterator[tuple[Sequence[pathlib.Path], NDArray[np.uint8], Tensor]]:
    """Files, their pixels, and the same normalised as in training, ``[batch, C, H, W]``."""
    channels, height, width = run.net.example_shape
    form = Form(height, width, channels, scale=True, drop_colour=True, scaling=run.recipe.scaling)
    for start in range(0, len(files), AT_ONCE):
        read: dict[int, NDArray[np.uint8]] = {}
        for i, file in enumerate(files[start : start + AT_ONCE], start):
            try:
                read[i] = _read(file, form)
            except CorruptImageError as error:
                if skip_corrupt:
                    continue
                cause = str(error.__cause__ or "it is empty").partition(" <")[0]  # Pillow names the object in memory
                raise DataError(
                    f"{file} is no image that can be read ({cause}); give PNG, JPEG, WebP, BMP, GIF, TIFF or PPM."
                ) from error
        if not read:
            continue
        pixels = np.stack(list(read.values()))
        yield [files[i] for i in read], pixels, normalised(pixels, run.mean, run.std)


def _read(file: pathlib.Path, form: Form) -> NDArray[np.uint8]:
    """An image from a file, as a network takes it.

    Raises:
        DataError: for one that cannot be read.
        CorruptImageError: for one that is none.
    """
    try:
        data = read_bytes(file)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise DataError(f"{file} cannot be read ({getattr(error, 'strerror', error)}); give an image.") from error
    return form(load(data, str(file)), str(file))
