"""Run folders, read: ``load_run`` opens one; and the network of a recipe."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from torchpaths.costs import evaluating
from torchpaths.cuts.spec import SPEC, Spec
from torchpaths.data import ImageSet, Loader, open_data
from torchpaths.data.crops import room
from torchpaths.errors import ExampleError, RouteError, RunError, _ToldError, reason
from torchpaths.files.disk import inside
from torchpaths.files.document import read_json as read_typed
from torchpaths.files.tensors import read_tensors
from torchpaths.models import create_model
from torchpaths.models.image_size import made_for
from torchpaths.models.published import published
from torchpaths.narrowing.left import Left
from torchpaths.narrowing.rebuild import rebuild
from torchpaths.narrowing.widen import widen
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.routing import route, route_plain
from torchpaths.schema import MOST, Positive, Share, Side, reading
from torchpaths.train import checkpoint
from torchpaths.train.classes import check_classes
from torchpaths.train.finetune import Tell, begin, finished
from torchpaths.train.narrowed import NARROWED, read_left
from torchpaths.train.recipe import Json, Recipe
from torchpaths.train.thresholds import read_thresholds, set_thresholds, thresholds_of

Weights: TypeAlias = Literal["final", "ema", "best", "last"]
"""Which weights of a run: the final ones, their average, or those of its best or last checkpoint."""


@dataclass(frozen=True)
class Seen:
    """What a run folder says of the images it was trained on.

    Attributes:
        classes: names by label.
        shape: (H, W, C) of an image.
        mean: per channel, scale 0 to 1.
        std: per channel.
    """

    classes: tuple[str, ...]
    shape: tuple[Side, Side, Side]
    mean: tuple[float, ...]
    std: tuple[Positive, ...]

    def __post_init__(self) -> None:
        if math.prod(self.shape) > MOST:
            raise ValueError(f"images {self.shape} hold more than {MOST:,} numbers")
        if not self.classes or {len(self.mean), len(self.std)} != {self.shape[2]}:
            raise ValueError(f"no classes, or not a mean and std for each of {self.shape[2]} channels")


@dataclass(frozen=True)
class _Made:
    data: Seen


@dataclass(frozen=True)
class Run:
    """A run folder, opened.

    Attributes:
        folder: where it is.
        recipe: how it was made.
        net: the network with the weights asked for, in evaluation mode.
        classes: class names, by label.
        mean: per-channel mean for normalisation, scale 0 to 1.
        std: per-channel standard deviation.
        left: what is left of the filters of the recipe's network; None for all of them.
        spec: of what it was cut, where the folder holds a cut network, see `torchpaths.train.cut_folder`.
    """

    folder: pathlib.Path
    recipe: Recipe
    net: Routed
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    left: Mapping[str, Left] | None = None
    spec: Spec | None = None

    @property
    def plain_macs(self) -> int:
        """MACs of the plain network: of a cut network, of the one that it was cut out of."""
        return (self.net.layout if self.spec is None else self.spec).plain.macs

    def images(self, split: str = "test") -> ImageSet:
        """The run's data set."""
        return open_images(self.recipe, split)

    def loader(self, split: str = "test", batch: int = 256) -> Loader:
        """Its images in order, normalised as in training, without augmentation."""
        return Loader(self.images(split), batch, mean=self.mean, std=self.std)

    def whole(self, path: Path) -> tuple[Routed, Path]:
        """The network that the recipe makes, and along which path it gives what this one does along ``path``: itself,
        or one with the filters that were removed, closed."""
        if self.left is None:
            return self.net, path
        channels, height, width = self.net.example_shape
        recipe = dataclasses.replace(self.recipe, start=None)
        net = build(recipe, self.classes, (height, width, channels), pretrained=False).eval()
        return net, widen(self.net, path, self.left, net)


def load_run(folder: pathlib.Path | str, weights: Weights = "final") -> Run:
    """Opens a run folder.

    Args:
        folder: a run folder.
        weights: "final", their average "ema", or those of the "best" or "last" checkpoint of a run that goes on.

    Raises:
        RunError: if the folder is no run, the run has no such weights (yet), or they are damaged.
    """
    folder = pathlib.Path(folder)
    recipe = read_recipe(folder)
    seen = read_seen(folder)
    left = read_left(folder)
    with reading(folder, RunError, "it was edited, or written by another version; train again in a new folder"):
        net = build(recipe, seen.classes, seen.shape, pretrained=False)
        if left is not None:
            net = narrowed(net, left, recipe, folder)
        tensors = _weights(folder, weights)
        try:
            net.load_state_dict(tensors)
        except RuntimeError as error:
            raise RunError(f"the weights in {folder} do not fit the network of its recipe: {error}") from error
        set_thresholds(net, read_thresholds(folder))
    return Run(folder, recipe, net.eval(), seen.classes, seen.mean, seen.std, left)


def _weights(folder: pathlib.Path, weights: Weights) -> Mapping[str, Tensor]:
    """Those asked for of a run folder; errors as `load_run`."""
    if weights in ("best", "last"):
        found = checkpoint.load(inside(folder, "checkpoints"), weights)
        if found is None:
            raise RunError(f"the run {folder} has no {weights} checkpoint yet; train it further.")
        return {n.removeprefix("net."): t for n, t in found.tensors.items() if n.startswith("net.")}
    if weights not in ("final", "ema"):
        raise RunError(f"weights={weights!r}; choose 'final', 'ema', 'best' or 'last'.")
    file = folder / ("weights.safetensors" if weights == "final" else "ema.safetensors")
    if not file.exists():
        hint = (
            "resume it, or load its 'last' checkpoint"
            if weights == "final"
            else "its recipe has no ema, or it is not finished"
        )
        raise RunError(f"the run {folder} has no {file.name}: {hint}.")
    return read_tensors(file, RunError, "remove it and resume the run to have it written again, or copy it again")


def read_seen(folder: pathlib.Path) -> Seen:
    """What a run folder says of the images it was trained on.

    Raises:
        RunError: for a file that is missing, damaged or malformed.
    """
    made: _Made = read_typed(folder / "run.json", RunError, "train again in a new folder", _Made)
    return made.data


def read_recipe(folder: pathlib.Path) -> Recipe:
    """A run's recipe.

    Raises:
        RunError: if the folder is no run folder, or its recipe names what is not here, as `Recipe.from_json`.
    """
    if not (folder / "recipe.json").is_file():
        if (folder / SPEC).is_file():
            raise RunError(
                f"{folder} is a cut network, and a run is wanted here: give the one it was cut out of. To train it "
                "further, take torchpaths.load_cut(folder) into a loop of your own."
            )
        raise RunError(
            f"{folder} is no run folder: it has no recipe.json, and no spec.json of a cut network. Give the "
            "folder that torchpaths train or torchpaths cut wrote to."
        )
    data = read_json(folder / "recipe.json")
    with reading(folder / "recipe.json", RunError, "it was edited, or written by another version"):
        return Recipe.from_json(data)


@dataclass(frozen=True)
class _Summary:
    accuracy: Share


def read_accuracy(folder: pathlib.Path) -> float:
    """The accuracy of a finished run, 0 to 1.

    Raises:
        RunError: for a run without a summary, or a damaged one.
    """
    summary: _Summary = read_typed(folder / "summary.json", RunError, "resume the run to its end", _Summary)
    return summary.accuracy


def open_images(recipe: Recipe, split: str, spare: bool = False) -> ImageSet:
    """A split of the recipe's data set.

    Args:
        recipe: which, and what its images are brought to.
        split: "train", "test" or "validation".
        spare: where training takes resized crops, images of more pixels, of which crops are taken.
    """
    size, crop, resize, limit = recipe.size, recipe.crop or 1.0, recipe.resize, None
    if spare and recipe.augment.whole:
        limit = 0  # read anew every time, each image in its own size
    elif spare and size is not None and recipe.augment.crop is not None:
        size, crop, resize = room(recipe.train_size or size), 1.0, None
    return open_data(
        recipe.data,
        split,
        recipe.skip_corrupt,
        size,
        channels=recipe.channels,
        crop=crop,
        resize=resize,
        limit=limit,
        bicubic=bool(recipe.bicubic),
        holdout=recipe.held,
    )


def build(
    recipe: Recipe, classes: tuple[str, ...], shape: tuple[int, int, int], pretrained: bool = True, tell: Tell = None
) -> Routed:
    """The recipe's network, routed, with the weights it starts from.

    Args:
        recipe: model, weights, method, start and seed.
        classes: class names.
        shape: (H, W, C) of an image.
        pretrained: load the recipe's weights, if it has any or its model's name stands for some, or the network of the
            run that it starts from.
        tell: see `torchpaths.train.finetune.Tell`.

    Raises:
        RunError: if that run's network is another one, or weights are or cannot be fetched.
        DataError: if that run was trained on other classes.
    """
    torch.manual_seed(recipe.seed)
    height, width, channels = shape
    if pretrained and recipe.start is not None:
        return _started(recipe, classes, (channels, height, width))
    model = create_model(recipe.model, len(classes), channels=channels, **dict(recipe.model_args))
    theirs = begin(recipe, model, channels, tell) if pretrained else None
    # Noise and not zeros, so that comparing outputs while routing would show a difference.
    example = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    with _of_size(recipe, height, width):
        net = route_plain(model, example) if recipe.method is None else route(model, recipe.method, example=example)
    return net if theirs is None else finished(net, theirs, recipe, tell)


@contextmanager
def _of_size(recipe: Recipe, height: int, width: int) -> Iterator[None]:
    """What a model says to images of a size that it does not take, as an error that names the size."""
    try:
        yield
    except Exception as told:  # whatever its layers say
        error = told.__cause__ if isinstance(told, ExampleError) and isinstance(told.__cause__, Exception) else told
        if isinstance(error, _ToldError):
            raise
        known = published(recipe.model)
        own = f"its own size is {known.size}" if known is not None else "other networks take any"
        raise RunError(
            f"{recipe.model} takes no images of {height} x {width} pixels ({reason(error, 120)}); choose another size, "
            f"{own}{made_for(recipe.model, height) if height == width else ''}."
        ) from error


def check_train_size(net: Routed, recipe: Recipe) -> None:
    """Raises `RunError` unless the network takes images of the size of training crops, where that is its own."""
    if recipe.train_size is None:
        return
    device = next(net.parameters()).device
    crops = torch.zeros(1, net.example_shape[0], recipe.train_size, recipe.train_size, device=device)
    of_size = _of_size(recipe, recipe.train_size, recipe.train_size)
    with of_size, torch.random.fork_rng(devices=[]), evaluating(net), torch.no_grad():
        net(crops)


def _started(recipe: Recipe, classes: tuple[str, ...], shape: tuple[int, int, int]) -> Routed:
    """The network of the run that a recipe starts from, in training mode. ``shape``: (C, H, W) of an image."""
    assert recipe.start is not None
    run = load_run(recipe.start)
    asked = _described(recipe, classes, shape)
    found = _described(run.recipe, run.classes, run.net.example_shape)
    if asked != found:
        raise RunError(f"start={recipe.start} holds a {found}, this run is to be a {asked}; take the same network.")
    check_classes(recipe.data, classes, run.folder, run.classes)
    set_thresholds(run.net, dict.fromkeys(thresholds_of(run.net), 0.0))  # they are of the weights as they were
    return run.net.train()


def _described(recipe: Recipe, classes: tuple[str, ...], shape: tuple[int, ...]) -> str:
    method = "no method" if recipe.method is None else " and ".join(recipe.method.names)
    return f"{recipe.model} with {method} for {len(classes)} classes of images {'x'.join(map(str, shape))}"


def narrowed(net: Routed, left: Mapping[str, Left], recipe: Recipe, folder: pathlib.Path) -> Routed:
    """A recipe's network with what is left of its filters.

    Raises:
        RunError: if that does not fit the network.
    """
    try:
        return rebuild(net, left, recipe.method)
    except RouteError as error:
        raise RunError(
            f"{folder / NARROWED} does not fit the network of its recipe ({error}); narrow it again."
        ) from error


def read_json(path: pathlib.Path) -> Json:
    value: Json = read_typed(path, RunError, "copy it again, or train again in a new folder")
    return value
