"""A detector's run folder before training begins: made, or recognised as the one it was."""

from __future__ import annotations

import pathlib

from torchpaths.detection.coco import CocoSet
from torchpaths.detection.recipe import Recipe
from torchpaths.errors import RunError
from torchpaths.files.write import disk, write_json
from torchpaths.routed import Routed
from torchpaths.train.distributed import World
from torchpaths.train.environment import describe
from torchpaths.train.folder import read_json
from torchpaths.train.recipe import Json, differences

SCHEMA = "torchpaths.detection/1"


def check(recipe: Recipe, data: CocoSet, test: CocoSet, world: World) -> None:
    """Raises:
    RunError: for what cannot be trained: sets of different categories, a batch beyond the images, many processes."""
    if world.size > 1:
        raise RunError(f"detectors are trained by one process, not {world.size}; start it without torchrun.")
    if len(data) < recipe.batch:
        raise RunError(f"batch {recipe.batch} is more than the {len(data)} training images; choose a smaller one.")
    if data.classes != test.classes:
        raise RunError(
            f"the training images are of {', '.join(data.classes[1:])}, the test images of "
            f"{', '.join(test.classes[1:])}; both sets need the same categories."
        )


def _network(net: Routed) -> Json:
    parameters = sum(p.numel() for p in net.parameters())
    return {"class": net.layout.network, "parameters": parameters, "sites": list(net.sites)}


def prepare(out: pathlib.Path, net: Routed, recipe: Recipe, data: CocoSet, test: CocoSet, world: World) -> None:
    """Makes the run folder, or checks that what is there is this run.

    Raises:
        RunError: for a folder that holds something else, or a run of another recipe, network or data.
    """
    made: Json = {"network": _network(net), "train": data.json, "test": test.json}
    if (out / "recipe.json").is_file() and (out / "run.json").is_file():
        kept = {**read_json(out / "run.json"), "recipe": read_json(out / "recipe.json")}
        free = ("recipe.checkpoint_steps", "recipe.checkpoint_minutes")
        now = {**made, "recipe": recipe.to_json()}
        changed = differences({name: kept.get(name) for name in now}, now)
        changed = [d for d in changed if d.partition(":")[0] not in free]
        if changed:
            raise RunError(
                f"the run {out} was made otherwise: {'; '.join(changed)}. Repeat what it was made with to resume it, "
                "or choose a new folder."
            )
        return
    if out.exists() and (not out.is_dir() or {p.name for p in out.iterdir()} - {"recipe.json", "run.json"}):
        raise RunError(f"{out} exists and is no run folder; choose a new folder, nothing in this one was touched.")
    with disk(out, "nothing was trained yet"):
        out.mkdir(parents=True, exist_ok=True)
    write_json(out / "recipe.json", recipe.to_json())
    write_json(out / "run.json", {"schema": SCHEMA, "seed": recipe.seed, **made, **describe(world)})
