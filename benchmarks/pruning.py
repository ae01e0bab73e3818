"""Filters pruned once for all images, by torch-pruning, and trained on exactly as gated filters are: what these have to
beat. Not installed with the project: ``pip install torch-pruning``.

    python benchmarks/pruning.py --data DIR/cifar10 --weights DIR/cifar10_resnet56.safetensors --how l1 taylor slimming

*L1*: filters of the smallest norm, as many in each layer (Li et al., 2017). *Taylor*: those that the loss misses least
to first order, over all layers (Molchanov et al., 2017). *Slimming*: training with an L1 penalty on the norms' scales,
then the smallest over all layers (Liu et al., 2017). Pruned is the first convolution of each block, as Li et al. do:
the second one's filters stand in the sums, whose shortcuts (A) have no weights. Killed and started again, it goes on;
prints a table and JSON.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from torchpaths.costs import count_macs, count_params
from torchpaths.data import ImageSet, Loader, open_data
from torchpaths.extraction import plain
from torchpaths.files.write import write_json
from torchpaths.models import create_model, load_weights
from torchpaths.routing import route_plain
from torchpaths.train import checkpoint
from torchpaths.train.distributed import World, joined
from torchpaths.train.loop import Hooks, Loop
from torchpaths.train.recipe import Json, Recipe
from torchpaths.train.recipes import cifar10_gated_filters
from torchpaths.train.state import State

How = Literal["l1", "taylor", "slimming"]

EXAMPLE = torch.zeros(1, 3, 32, 32)


@dataclass(frozen=True)
class Options:
    """What is pruned, and how it learns afterwards."""

    data: pathlib.Path
    weights: pathlib.Path
    how: tuple[How, ...] = ("l1", "taylor", "slimming")
    macs: tuple[float, ...] = (0.69, 0.48)
    """Shares of the network's."""
    out: pathlib.Path = pathlib.Path("runs/pruning")
    epochs: int = 30
    batch: int = 128
    lr: float = 0.05
    warmup: float = 0.0
    penalty: float = 1e-4
    """Of slimming, on the scales."""
    penalised: int = 10
    """Epochs of slimming before it prunes."""
    threads: int = 1
    device: str | None = None


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    recipe = dataclasses.replace(
        cifar10_gated_filters(options.data, options.weights, epochs=options.epochs),
        method=None,
        batch=options.batch,
        lr=options.lr,
        warmup=options.warmup,
        eval_every=5,
        checkpoint_minutes=1.0,
    )
    rows = []
    with joined(options.device) as world:
        for how in options.how:
            rows += [pruned(how, share, recipe, options, world) for share in options.macs]
    made = Table()
    for column in ("filters", "asked", "MACs", "parameters", "before training", "after"):
        made.add_column(column)
    for row in rows:
        cells = f"{row['asked']:.0%}", f"{row['macs_share']:.1%}", f"{row['params']:,}"
        made.add_row(row["how"], *cells, f"{row['before']:.2%}", f"{row['accuracy']:.2%}")
    Console(stderr=True).print(made)
    json.dump({"rows": rows}, sys.stdout)
    print()


def pruned(how: How, share: float, recipe: Recipe, options: Options, world: World) -> Json:
    """A network of so many MACs, trained on; one that is finished is read."""
    out = options.out / f"{how}-{share:g}"
    if (out / "result.json").is_file():
        return json.loads((out / "result.json").read_text())  # type: ignore[no-any-return]
    whole = create_model(recipe.model, 10)
    load_weights(whole, options.weights)
    if how == "slimming":
        sparse = dataclasses.replace(recipe, epochs=options.penalised)
        whole = learn(whole, sparse, options.out / "slimming", world, options.penalty)
    model = narrowed(whole.cpu(), how, share, recipe)
    before = accuracy(model.to(world.device), recipe, world)
    model = learn(model.cpu(), recipe, out, world)
    count = [count_macs(lambda net=net: net(EXAMPLE)) for net in (whole, model.cpu())]  # type: ignore[misc]
    row = {
        "how": how,
        "asked": share,
        "macs": count[1],
        "macs_share": count[1] / count[0],
        "params": count_params(model),
        "before": before,
        "accuracy": accuracy(model.to(world.device), recipe, world),
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "lr": recipe.lr,
        "penalised": options.penalised if how == "slimming" else 0,
        "filters": [layer.out_channels for name, layer in model.named_modules() if prunable(name, layer)],
    }
    write_json(out / "result.json", row)
    return row


def prunable(name: str, layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and name.startswith("layer") and name.endswith("conv1")


def narrowed(whole: nn.Module, how: How, share: float, recipe: Recipe) -> nn.Module:
    """The network with the largest share of its filters that costs no more than asked."""
    whole = whole.eval()
    macs = count_macs(lambda: whole(EXAMPLE))
    if how == "taylor":
        loader = Loader(images(recipe.data, "train"), 256, shuffle=True, mean=recipe.mean, std=recipe.std)
        for number, (x, y) in enumerate(loader.epoch(0)):
            nn.functional.cross_entropy(whole(x), y).backward()
            if number == 7:
                break
    low, high = 0.0, 0.99
    for _ in range(12):
        ratio = (low + high) / 2
        model = without(whole, how, ratio)
        fits = count_macs(lambda model=model: model(EXAMPLE)) <= share * macs  # type: ignore[misc]
        low, high = (low, ratio) if fits else (ratio, high)
    return without(whole, how, high)


def without(whole: nn.Module, how: How, ratio: float) -> nn.Module:
    """A copy without a share of its filters."""
    model = copy.deepcopy(whole)
    for mine, own in zip(model.parameters(), whole.parameters(), strict=True):
        mine.grad = None if own.grad is None else own.grad.clone()
    kept = [m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and not prunable(n, m)]
    kinds: dict[How, Callable[[], Any]] = {
        "l1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
        "taylor": torch_pruning.importance.GroupTaylorImportance,
        "slimming": torch_pruning.importance.BNScaleImportance,
    }
    pruner = torch_pruning.pruner.MetaPruner(
        model,
        EXAMPLE,
        importance=kinds[how](),
        pruning_ratio=ratio,
        max_pruning_ratio=0.95,
        ignored_layers=kept,
        global_pruning=how != "l1",
    )
    pruner.step()
    model.zero_grad()
    return model


def learn(model: nn.Module, recipe: Recipe, out: pathlib.Path, world: World, penalty: float = 0.0) -> nn.Module:
    """Train a plain network by a recipe, with the library's loop; it goes on from a checkpoint in the folder.

    Args:
        model: the network.
        recipe: how.
        out: folder of the checkpoints.
        world: where.
        penalty: times the sum of the sizes of all scales that can be pruned with their filters.
    """
    net = route_plain(model.train(), EXAMPLE.expand(2, -1, -1, -1) + torch.randn(2, 3, 32, 32)).to(world.device)
    net = net.to(memory_format=torch.channels_last)
    if penalty:
        for name, scale in net.model.named_parameters():
            if name.endswith("bn1.weight") and name.startswith("layer"):

                def pull(found: Tensor) -> None:
                    assert found.grad is not None
                    found.grad.add_(found.detach().sign(), alpha=penalty)

                scale.register_post_accumulate_grad_hook(pull)
    state = State.fresh(net, recipe, 10)
    found = checkpoint.load(out / "checkpoints")
    if found is not None:
        state.restore(found, recipe)
    loader = Loader(
        images(recipe.data, "train"),
        recipe.batch,
        augment=recipe.augment,
        shuffle=True,
        seed=recipe.seed,
        drop_last=True,
        mean=recipe.mean,
        std=recipe.std,
    )

    def save(state: State, best: bool) -> None:
        checkpoint.save(out / "checkpoints", state.capture(recipe, metrics=0, world=1), best)

    def evaluate(state: State, epoch: int) -> Json:
        row = {"accuracy": accuracy(state.net.model, recipe, world)}
        print(f"{out.name}: epoch {epoch + 1} of {recipe.epochs}: {row['accuracy']:.2%}", file=sys.stderr, flush=True)
        state.objective.train()
        return row

    Loop(recipe, world, state, loader, Hooks(lambda _: None, lambda _: None, evaluate, lambda _: None, save)).run()
    return plain(net)


@functools.cache
def images(data: str, split: Literal["train", "test"]) -> ImageSet:
    """Decoded once: ten thousands of pictures take seconds."""
    return open_data(data, split)


@torch.no_grad()
def accuracy(model: nn.Module, recipe: Recipe, world: World) -> float:
    """On the test images."""
    data = images(recipe.data, "test")
    model.eval()
    hits = 0
    for x, y in Loader(data, 500, mean=recipe.mean, std=recipe.std):
        hits += int((model(x.to(world.device)).argmax(1).cpu() == y).sum())
    return hits / len(data)


if __name__ == "__main__":
    main(tyro.cli(Options))
