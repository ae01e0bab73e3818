"""What a recipe leaves open and its model and images decide: ``completed`` fills it in, and says so in words.

A trained network is worth its weights only on images as it saw them. So where ``finetune`` asks for it, size,
normalisation and the crop of evaluation are those that the weights were published with, and a last layer of other
classes starts anew. Nobody can teach such a layer: the network that training starts from says nothing of these classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn

from torchpaths.data.sources import class_names
from torchpaths.errors import RunError, reason
from torchpaths.models import create_model
from torchpaths.models.authors.layout import Translated
from torchpaths.models.checkpoints import Weights, open_weights
from torchpaths.models.create import tagged
from torchpaths.models.hub import PREFIX, hosted
from torchpaths.models.image_size import made_for
from torchpaths.models.published import Published, fetched, of_config, published
from torchpaths.models.weights import Loaded, fill, of_authors
from torchpaths.routed import Routed
from torchpaths.train.distil import START
from torchpaths.train.recipe import Recipe

Tell: TypeAlias = Callable[[str], object] | None
"""Takes what a reader should know of the weights that a run starts from, a line each; None tells nobody."""


def completed(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """A recipe with nothing left open, and what a reader should know of the weights it starts from, a line each.

    What is complete stays as it is, so a recipe from a run folder does. Weights that the model's name stands for are
    fetched, where they are not on this machine.

    Raises:
        RunError: for names without such a model, weights that are of another network or cannot be fetched.
        DataError: for images that cannot be read.
    """
    known: Published | None = None
    if recipe.model.startswith(PREFIX):
        found = hosted(recipe.model)
        known = of_config(recipe.model, found.config)
        theirs = found.weights if recipe.start is None else None
        recipe = dataclasses.replace(recipe, model=found.model, weights=recipe.weights or theirs)
    if recipe.finetune:
        return _finetuned(recipe, known or published(recipe.model))
    if recipe.weights is None and recipe.start is None:
        if tagged(recipe.model):
            return recipe, [f"starts from the weights {recipe.model}"]
        trained = published(recipe.model)
        if trained is not None:
            return recipe, [f"starts from random weights; --model {trained.name} stands for trained ones"]
    return recipe, []


def begin(recipe: Recipe, model: nn.Module, channels: int, tell: Tell = None) -> Weights | None:
    """Fill a recipe's plain network with the trained weights that it starts from, if there are any.

    Returns:
        Weights of a paper's authors, with which the network is to be filled once it is routed; None for none.

    Raises:
        RunError: for weights of another network; for those of authors where a plain network is to start from them.
    """
    found = _weights(recipe, channels)
    if found is None:
        return None
    theirs = of_authors(found, model)
    if theirs is not None and recipe.method is not None:
        _check_no_plain(recipe, found, theirs)
        return found
    _tell(fill(model, found, recipe.finetune), tell)
    return None


def finished(net: Routed, weights: Weights, recipe: Recipe, tell: Tell = None) -> Routed:
    """A recipe's network, filled with what `begin` left. Errors as `torchpaths.models.load_weights`."""
    _tell(fill(net, weights, recipe.finetune), tell)
    return net


def _tell(loaded: Loaded, tell: Tell) -> None:
    if tell is not None:
        for remark in loaded.remarks:
            tell(f"{loaded.where}: {remark}")


def _check_no_plain(recipe: Recipe, found: Weights, theirs: Translated) -> None:
    """Raise where a recipe wants a plain network to start from weights that belong to a routed one."""
    given = f"{found.where} holds {theirs.remark}, which no plain network can start from"
    if recipe.twin:
        raise RunError(f"{given}, so there is no twin; leave it out (--no-twin), and train it by itself.")
    if _taught(recipe):
        raise RunError(f"{given} to teach; leave the teacher out (--distil None), or give a run, --distil.teacher RUN.")


def _weights(recipe: Recipe, channels: int) -> Weights | None:
    """The tensors that a recipe starts from; None for none."""
    if recipe.weights is not None:
        return open_weights(recipe.weights)
    return Weights(fetched(recipe.model, channels), recipe.model) if tagged(recipe.model) else None


def _finetuned(recipe: Recipe, known: Published | None) -> tuple[Recipe, list[str]]:
    """See `completed`; ``known`` is what is published for the model."""
    changes: dict[str, Any] = {}
    if known is not None:
        own = {name: getattr(known, name) for name in ("size", "mean", "std", "crop", "bicubic")}
        if recipe.channels == 1:
            del own["mean"], own["std"]
        if recipe.mean is not None:
            own.pop("mean", None), own.pop("std", None)
        if recipe.resize is not None:
            own.pop("crop")
        changes = {name: value for name, value in own.items() if getattr(recipe, name) is None}
        if recipe.weights is None:
            changes["model"] = known.name
    recipe = dataclasses.replace(recipe, **changes)
    classes = class_names(recipe.data, recipe.held)
    channels = recipe.channels or 3
    model = create_model(recipe.model, len(classes), channels=channels, **dict(recipe.model_args))
    _check_size(recipe, model, channels, known)
    begun = _weights(recipe, channels)
    if begun is None:
        return _without_teacher(recipe), [_random(recipe)]
    name = begun.where
    theirs = of_authors(begun, model)
    if theirs is not None and recipe.method is not None:
        begun, recipe = Weights(theirs.plain, name), _without_teacher(recipe)
    head = fill(model, begun, new_head=True).head
    if head is None:
        taught = "; so begun, the plain network is its teacher as well" if _taught(recipe) else ""
        return recipe, [f"starts from the weights {name}, its last layer for {len(classes)} classes with them{taught}"]
    was = "no last layer" if head.was is None else f"a last layer {head.name} for {head.was} classes"
    new = f"starts from the weights {name}; they have {was}, so one for {head.now} classes starts anew"
    if _taught(recipe):
        new += (
            ". Nobody teaches it, as the network it starts from knows other classes; for a teacher train the plain "
            "network first, --method none, and give its run, --distil.teacher RUN"
        )
    return _without_teacher(recipe), [new]


def _check_size(recipe: Recipe, model: nn.Module, channels: int, known: Published | None) -> None:
    """Raise unless a network takes images of a size other than it was made for."""
    if known is None or recipe.size is None or recipe.size == known.size:
        return
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, channels, recipe.size, recipe.size))
    except Exception as error:  # whatever its layers say
        raise RunError(
            f"{recipe.model} takes no images of {recipe.size} x {recipe.size} pixels ({reason(error, 120)}); its own "
            f"size is {known.size}, as without --size{made_for(recipe.model, recipe.size)}."
        ) from error


def _taught(recipe: Recipe) -> bool:
    return recipe.distil is not None and recipe.distil.teacher == START


def _without_teacher(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, distil=None) if _taught(recipe) else recipe


def _random(recipe: Recipe) -> str:
    """What is said where there is nothing to fine-tune."""
    if ":" in recipe.model and "/" not in recipe.model:
        return f"RANDOM WEIGHTS, unless {recipe.model} loads some itself; trained ones are --weights FILE"
    return (
        f"RANDOM WEIGHTS: none are published for {recipe.model} and none were given, so there is nothing to fine-tune. "
        "Give --weights FILE, or another --model; from scratch, --lr 0.1 and more --epochs"
    )
