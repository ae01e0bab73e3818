"""The one door to every figure of a run: those of all four papers, each where the network has what it shows.

Nothing is drawn here: the figures of ConvNet-AIG come from the survey, the others from what ``torchpaths depths``,
``filters``, ``decode`` and ``front`` measure and draw, with at most `IMAGES` images where those take passes of their
own for each class.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

from torchpaths.cli import decode, depths, filters
from torchpaths.cli.options import Draws
from torchpaths.coding.decode import coded_sites
from torchpaths.errors import DataError, RouteError
from torchpaths.filtering import filter_sites
from torchpaths.fronts import Front
from torchpaths.fronts.figure import draw_front
from torchpaths.routed import Routed
from torchpaths.surveys.figures import save
from torchpaths.train.evaluate import Surveyed

IMAGES = 5000

Files = list[pathlib.Path]


def draw(found: Surveyed, options: Draws, folder: pathlib.Path) -> tuple[Files, list[str]]:
    """Write all figures there are of a run as PNG and SVG.

    Args:
        found: the run's survey.
        options: how it was asked for.
        folder: where to; made if needed.

    Returns:
        The files, and a line for each kind of figures that was left out though the network has what it shows.
    """
    shared = {field.name: getattr(options, field.name) for field in dataclasses.fields(Draws)}
    opened, images = found.run, found.images
    net = opened.net

    def of_depths() -> Files:
        return depths.report(depths.Options(**shared), opened, images, folder)[2]

    def of_filters() -> Files:
        asked = filters.Options(**shared, train_images=IMAGES)
        return [pathlib.Path(file) for file in filters.report(asked, opened, images, folder)["files"]]

    def of_codes() -> Files:
        asked = decode.Options(**shared, train_images=IMAGES, test_images=IMAGES)
        return [pathlib.Path(file) for file in decode.report(asked, opened, images, folder)["files"]]

    def of_front() -> Files:
        return _front(opened.folder, net, folder)

    parts: dict[str, tuple[bool, Callable[[], Files]]] = {
        "depths": (bool(depths.blocks_of(net)), of_depths),
        "filters": (_has_filters(net), of_filters),
        "coded paths": (bool(coded_sites(net)), of_codes),
        "the front": ((opened.folder / "front.json").is_file(), of_front),
    }
    files, told = found.draw(folder), []
    for name, (there, drawn) in parts.items():
        try:
            files += drawn() if there else []
        except DataError as error:
            told.append(f"figures of {name} left out: {error}")
    return files, told


def _has_filters(net: Routed) -> bool:
    try:
        filter_sites(net)
    except RouteError:
        return False
    return True


def _front(run: pathlib.Path, net: Routed, folder: pathlib.Path) -> Files:
    """A figure for each profile of the run's front, or of one without times.

    Raises:
        DataError: for one of another network.
    """
    front = Front.load(run, net)
    files: Files = []
    for i, profile in enumerate(front.profiles or (None,)):
        stem = "front" if i == 0 or profile is None else f"front-batch-{profile.setting.batch}"
        files += save(draw_front(front, profile), folder / stem)
    return files
