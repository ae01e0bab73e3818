"""``torchpaths depths RUN``: every depth of an adaptive-depth run; its norms; where its blocks look; what they add."""

from __future__ import annotations

import json
import pathlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from torchpaths.cli import OK
from torchpaths.cli.options import Draws, emit, parse, speaking
from torchpaths.cli.residuals import Added, added, added_json, added_table
from torchpaths.data import ImageSet, Loader
from torchpaths.data.loader import normalised
from torchpaths.depth import Depth, NormDistance, activation_maps, depths, norm_distances
from torchpaths.depth.draw_residuals import PLAIN, draw_gradient_cosines, draw_residual_sizes
from torchpaths.depth.figures import draw_depths, draw_maps, draw_norms
from torchpaths.errors import DataError, RouteError, RunError
from torchpaths.files.write import write_json
from torchpaths.inputs import device_of
from torchpaths.junction import junctions
from torchpaths.path import Path
from torchpaths.places.stages.switch import Skippable
from torchpaths.routed import Routed
from torchpaths.surveys.figures import save
from torchpaths.surveys.figures.style import drawn_as
from torchpaths.train.belongs import check_belongs
from torchpaths.train.evaluate import open_run
from torchpaths.train.folder import Run, read_accuracy

ENDS = {"super-net": "F", "base-net": "T"}
"""The two depths that are trained: everything open, everything closed."""


@dataclass(frozen=True)
class Options(Draws):
    """What the verb takes."""

    plain: pathlib.Path | None = None
    """Run folder of the plain network, for comparison."""
    plain_base: pathlib.Path | None = None
    """Run folder of the plain network that is as deep as the base-net, for comparison."""
    image: int = 0
    """Number of the image on which activation maps are shown."""
    residual_images: int = 1000
    """Over so many images of the set, drawn by the run's seed, it is measured what blocks add and whether that goes
    down the loss."""


def run(arguments: list[str]) -> int:
    """Measure, save, draw and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = (
        "Every depth of an adaptive-depth run: accuracy and MACs, distances of its norms, activation maps; how much "
        "its blocks add and whether that goes down the loss."
    )
    options = parse(Options, arguments, "depths", about)
    with speaking(options.json) as console, drawn_as(options.style):
        opened = options.open()
        if options.residual_images < 1:
            raise DataError(f"--residual-images {options.residual_images}: a mean is over one image at least.")
        if not blocks_of(opened.net):
            raise RunError(f"the run {options.run} has no blocks that can be left out; train with AdaptiveDepth.")
        images = options.images(opened)
        found, answer, drawn, adds = report(options, opened, images, options.run / "figures")
        write_json(options.run / "depths.json", answer)
        files = [options.run / "depths.json", *drawn]
        console.print(_table(opened.net, found, answer["references"]))
        console.print(added_table(adds))
        console.print("\n".join(f"wrote {file}" for file in files), soft_wrap=True)
    if options.json:
        emit({"folder": str(options.run), "files": [str(file) for file in files], **answer})
    return OK


def report(
    options: Options, opened: Run, images: ImageSet, figures: pathlib.Path
) -> tuple[tuple[Depth, ...], dict[str, Any], list[pathlib.Path], Added]:
    """What each depth is worth, all that ``depths.json`` says, the figures written into a folder, and what blocks add.

    Raises:
        DataError: for an image that there is not, or a plain network of other images.
    """
    blocks = blocks_of(opened.net)
    pixels = images.read([options.image])[0]  # says so if there is no such image, before anything is measured
    plain = None if options.plain is None else open_run(options.plain)
    if plain is not None:
        check_belongs(images, plain)
    found = depths(opened.net, Loader(images, 256, mean=opened.mean, std=opened.std), progress=True)
    norms = _norms(opened.net)
    twins = {"plain": options.plain, "plain, base": options.plain_base}
    references = {n: read_accuracy(f) for n, f in twins.items() if f is not None}
    title = f"{opened.recipe.model} on {images.name}"
    files = list(save(draw_depths(found, opened.net.layout.plain.macs, title, references), figures / "depths"))
    if norms:
        files += save(draw_norms(norms, title), figures / "norms")
    ends = {name: next(d.path for d in found if set(d.skip) == {f}) for name, f in ENDS.items()}
    networks: dict[str, tuple[Run, Path | None]] = {} if plain is None else {PLAIN: (plain, None)}
    networks |= {name: (opened, path) for name, path in ends.items()}
    rows = _rows(networks, images, options.image, blocks)
    name = images.classes[int(images.labels[options.image])]
    files += save(draw_maps(pixels, rows, blocks, f"{title}, a {name}"), figures / "activation-maps")
    adds = added(networks, images, options.residual_images, opened.recipe.seed)
    files += save(draw_residual_sizes(adds.sizes, title), figures / "residuals")
    files += save(draw_gradient_cosines(adds.cosines, title), figures / "gradient-cosines")
    return found, {**_answer(opened.net, found, norms, references), **added_json(adds)}, files, adds


def blocks_of(net: Routed) -> list[str]:
    """The blocks of the stage with the most blocks to leave out; of equals, the last."""
    skipped = [name for name, junction in junctions(net.model) if isinstance(junction._place, Skippable)]
    if not skipped:
        return []
    counts = Counter(name.rpartition(".")[0] for name in skipped)
    parent = max(counts, key=lambda name: (counts[name], skipped.index(next(s for s in skipped if s.startswith(name)))))
    return [f"{parent}.{name}" for name, _ in net.model.get_submodule(parent).named_children()]


def _norms(net: Routed) -> tuple[NormDistance, ...]:
    try:
        return norm_distances(net)
    except RouteError:
        return ()  # layer norms


def _rows(
    networks: Mapping[str, tuple[Run, Path | None]], images: ImageSet, number: int, blocks: list[str]
) -> dict[str, dict[str, Tensor]]:
    """Activation maps of networks, each along a path."""
    label = torch.tensor([int(images.labels[number])])
    rows = {}
    for name, (run, path) in networks.items():
        x = normalised(images.read([number]), run.mean, run.std).to(device_of(run.net))
        found = activation_maps(run.net, x, label, blocks, path)
        rows[name] = {block: values[0] for block, values in found.items()}
    return rows


def _answer(
    net: Routed, found: tuple[Depth, ...], norms: tuple[NormDistance, ...], references: dict[str, float]
) -> dict[str, Any]:
    return {
        "schema": "torchpaths.depths/1",
        "sites": list(found[0].path),
        "plain_macs": net.layout.plain.macs,
        "depths": [
            {"skip": d.skip, "accuracy": d.accuracy, "macs": d.macs, "path": json.loads(d.path.to_json())}
            for d in found
        ],
        "norms": [{"site": n.site, "norm": n.norm, "distance": n.distance} for n in norms],
        "references": references,
    }


def _table(net: Routed, found: tuple[Depth, ...], references: dict[str, float]) -> Table:
    table = Table(
        title=f"left out (T): {', '.join(found[0].path)}", title_justify="left", title_style="", box=box.SIMPLE_HEAD
    )
    for name in ("depth", "MACs", "of plain", "accuracy"):
        table.add_column(name, justify="left" if name == "depth" else "right")
    plain = net.layout.plain.macs
    for depth in found:
        table.add_row(depth.skip, f"{depth.macs:,.0f}", f"{depth.macs / plain:.1%}", f"{depth.accuracy:.2%}")
    for name, accuracy in references.items():
        table.add_row(name, "", "", f"{accuracy:.2%}")
    return table
