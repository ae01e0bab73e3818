"""What a run looks at after an epoch, and what it sets right after the last one."""

from __future__ import annotations

import itertools

from torchpaths.data import Loader
from torchpaths.fronts.evaluate import evaluate, undisturbed
from torchpaths.fronts.points import Choice
from torchpaths.routed import Routed
from torchpaths.statistics import update_bn
from torchpaths.surveys import Survey, gate_health, survey
from torchpaths.train.recipe import Json, Recipe
from torchpaths.train.sampled import Watched
from torchpaths.train.seed import seed_evaluation
from torchpaths.train.state import State


def settle(recipe: Recipe, state: State, loader: Loader) -> None:
    """After the last epoch: the norms' statistics, if the recipe asks for it, on images as no epoch saw them."""
    if recipe.update_bn:
        seed_evaluation(recipe.seed, state.step)
        update_bn(state.net, itertools.islice(loader.epoch(recipe.epochs), recipe.update_bn))


def evaluation(recipe: Recipe, state: State, loader: Loader) -> Json:
    """A row of metrics: accuracy, MACs, each unit's rate, the health of its gates; of the average if there is one."""

    def once() -> tuple[Survey, Json]:
        seed_evaluation(recipe.seed, state.step)
        watched = Watched(state.net)
        found = survey(watched, loader)
        return found, {**_along_paths(recipe, state.net, loader), **watched.told(recipe.method)}

    (found, along) = once()
    row: Json = {"accuracy": found.accuracy, **_top5(found)}
    if state.ema is not None:
        with state.ema.in_place(state.net):
            (found, along) = once()
        row |= {"ema_accuracy": found.accuracy, **_top5(found, "ema_")}
    health, units = gate_health(found), found.layout.units
    return {
        **row,
        **along,
        "macs": found.macs,
        "macs_share": found.macs / found.layout.plain.macs,
        "open": max(found.shares.values(), default=0.0),
        **({"open_by_kind": found.shares} if len(found.shares) > 1 else {}),
        "rates": {unit.name: float(rate) for unit, rate in zip(units, found.rates, strict=True)},
        "gates": {g.unit: {"rate": g.rate, "entropy": g.entropy, "dependence": g.dependence} for g in health.gates},
        "warnings": health.told,
    }


def _top5(found: Survey, of: str = "") -> Json:
    """Top-5 accuracy, where there are more classes than five."""
    return {} if found.accuracy_top5 is None else {f"{of}accuracy_top5": found.accuracy_top5}


def _along_paths(recipe: Recipe, net: Routed, loader: Loader) -> Json:
    """Accuracy and MACs along the paths that say how the recipe's method goes; empty where it has none."""
    paths = {} if recipe.method is None else recipe.method.paths(net)
    if not paths:
        return {}
    with undisturbed(net):
        worths = evaluate(net, [Choice("every", path) for path in paths.values()], loader)
    plain = net.layout.plain.macs
    return {
        "paths": {
            name: {"accuracy": worth.point.accuracy, "macs_share": worth.point.macs / plain}
            for name, worth in zip(paths, worths, strict=True)
        }
    }
