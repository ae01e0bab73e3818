"""Folders of cut networks, opened as runs: what a verb does with a run it does with what was cut out of one.

spec.json says how the original is made, which images it knows and how they are normalised: that is what a `Run` needs.
"""

from __future__ import annotations

import pathlib
from typing import Any

import torch

from torchpaths.cuts import load_cut
from torchpaths.cuts.read import uncut
from torchpaths.cuts.spec import SPEC, Spec
from torchpaths.errors import DataError
from torchpaths.models import source
from torchpaths.path import Path
from torchpaths.routing import route_plain
from torchpaths.train.folder import Run
from torchpaths.train.recipe import Recipe


def is_cut(folder: pathlib.Path) -> bool:
    """Whether a folder is one that `torchpaths.save_cut` wrote."""
    return (folder / SPEC).is_file()


def load_cut_run(folder: pathlib.Path) -> Run:
    """A cut network as a run without a method: its blocks, all open.

    Raises:
        DataError: as `torchpaths.load_cut`; and for a folder that does not say how images are normalised.
    """
    spec = Spec.read(folder)
    channels, *sides = spec.shape
    if {len(spec.mean), len(spec.std)} != {channels}:
        raise DataError(
            f"{folder / SPEC}: how images are to be normalised was not written, so none can be given to this network; "
            "cut it again with save_cut(..., mean=..., std=...)."
        )
    model = load_cut(folder)
    example = torch.randn(2, *spec.shape, generator=torch.Generator().manual_seed(0))
    net = route_plain(model, example.to(getattr(torch, spec.dtype)))
    library = "" if spec.source.library == "torchpaths" else f"{spec.source.library}/"
    size = sides[0] if len(set(sides)) == 1 else None
    recipe = Recipe(
        model=f"{library}{spec.source.name}",
        data=spec.data or "",
        size=size,
        crop=spec.crop if spec.resize is None else None,
        resize=spec.resize,
        bicubic=spec.bicubic,
    )
    return Run(folder, recipe, net.eval(), spec.classes, spec.mean, spec.std, spec=spec)


def original(opened: Run, path: Path, keep: tuple[int, ...] | None) -> dict[str, Any]:
    """What `save_cut` takes for a run's network along a path: of a network that was cut or narrowed before, what the
    original is, and along which path that gives the same.

    Raises:
        PathError: for a cut network whose layers were cut too.
    """
    spec = opened.spec
    recipe = opened.recipe
    known = {
        "classes": opened.classes,
        "mean": opened.mean,
        "std": opened.std,
        "images": recipe.data or None,
        "crop": recipe.crop or 1.0,
        "bicubic": bool(recipe.bicubic),
        "resize": recipe.resize,
    }
    if spec is None:
        channels = opened.net.example_shape[0]
        net, path = opened.whole(path)
        made = source(recipe.model, len(opened.classes), channels=channels, **dict(recipe.model_args))
        return {"net": net, "path": path, "source": made, "method": recipe.method, "keep": keep, **known}
    path.check(opened.net.layout)
    before = uncut(opened.folder)
    return {
        "net": before.net,
        "path": before.further(path),
        "source": spec.source,
        "method": spec.method,
        "keep": keep,
        **known,
    }
