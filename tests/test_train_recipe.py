"""Recipes: bad values are named with their remedy, JSON gives back the same recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from torchpaths import AdaptiveDepth, Budget, GatedBlocks, RandomDrop
from torchpaths.data import Augment
from torchpaths.errors import RunError
from torchpaths.methods.together import Together
from torchpaths.train.recipe import Recipe, differences
from torchpaths.train.recipes import RECIPES, cifar10_resnet56, resolve
from torchpaths.train.state import check_same_recipe
from train_toys import tiny


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs=0: a whole number of at least 1"),
        ({"batch": True}, "batch=True: a whole number"),
        ({"batch": 12.0}, "batch=12.0: a whole number"),
        ({"seed": -1}, "seed=-1: a whole number of at least 0"),
        ({"threads": 0}, "threads=0: a whole number of at least 1"),
        ({"size": 0}, "size=0: a whole number of at least 1"),
        ({"checkpoint_steps": 0}, "checkpoint_steps=0"),
        ({"checkpoint_minutes": 0}, "checkpoint_minutes=0: a number above 0"),
        ({"lr": 0}, "lr=0: a number above 0"),
        ({"lr": float("nan")}, "lr=nan: a number above 0"),
        ({"weight_decay": -1e-4}, "weight_decay=-0.0001: a number at least 0"),
        ({"momentum": 1.0}, "momentum=1.0: a number at least 0 and below 1"),
        ({"smoothing": 1.5}, "smoothing=1.5: a number at least 0 and below 1"),
        ({"ema": 1.0}, "ema=1.0: a number above 0 and below 1"),
        ({"optimizer": "sdg"}, "optimizer='sdg' is unknown. Did you mean 'sgd'"),
        ({"precision": "fp8"}, "precision='fp8' is unknown. Did you mean"),
        ({"device": "gpu"}, "device='gpu' is unknown"),
        ({"schedule": "linear"}, "schedule='linear' is unknown"),
        ({"method": "gated"}, "method 'gated' is no Method; give an instance"),
        ({"batch": 10, "accumulate": 3}, "batch 10 does not split into accumulate=3"),
        ({"milestones": (20, 10)}, "must ascend"),
        ({"milestones": (1,), "schedule": "cosine"}, "belong to schedule 'step', not 'cosine'"),
        ({"final_lr": 0.01}, "belongs to schedule 'cosine'"),
        ({"final_lr": 1.0, "schedule": "cosine"}, "final_lr=1 is above lr=0.05"),
        ({"warmup": 1.0}, "warmup of 1 epochs fills all 1"),
        ({"nesterov": True, "optimizer": "adamw"}, "nesterov needs optimizer 'sgd'"),
        ({"mean": (0.5,)}, "give both or neither"),
        ({"mean": (0.5,), "std": (0.0,)}, "std above 0"),
        ({"mean": (0.5,), "std": (0.1, 0.2)}, "one number per channel"),
        ({"twin": True}, "this is the plain one"),
    ],
)
def test_a_bad_value_is_an_error_that_names_field_and_remedy(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError) as error:
        tiny(**changes)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "recipe",
    [
        *(make() for make in RECIPES.values()),
        tiny(method=Together((GatedBlocks(), AdaptiveDepth(alpha=0.3)))),
        tiny(method=RandomDrop((0.5, 0.7)), augment=Augment(randaugment=(2, 9)), mean=(0.1,), std=(0.2,), ema=0.99),
    ],
)
def test_a_recipe_comes_back_from_json_equal(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_differences_name_nested_fields_with_old_and_new_value() -> None:
    a = tiny(method=GatedBlocks(budget=Budget(open=0.6)))
    b = tiny(method=GatedBlocks(budget=Budget(open=0.7)), lr=0.2)
    assert differences(a.to_json(), b.to_json()) == ["method.budget.open: 0.6 -> 0.7", "lr: 0.05 -> 0.2"]
    assert differences(a.to_json(), tiny().to_json()) == ["method: GatedBlocks -> None"]
    c, d = (tiny(method=Together((AdaptiveDepth(alpha=alpha), GatedBlocks()))) for alpha in (0.5, 0.4))
    assert differences(c.to_json(), d.to_json()) == ["method.methods.0.alpha: 0.5 -> 0.4"]


def test_unknown_recipes_and_fields_are_errors_with_near_names() -> None:
    with pytest.raises(RunError, match=r"there is no recipe 'digit'. Did you mean 'digits'"):
        resolve("digit")
    with pytest.raises(RunError, match=r"no field 'epoch'. Did you mean 'epochs'"):
        resolve("digits", {"epoch": 3})
    with pytest.raises(RunError, match=r"no field 'learning'"):
        Recipe.from_json({"model": "m", "data": "d", "learning": 1})
    with pytest.raises(RunError, match=r"not a whole recipe: .*data"):
        Recipe.from_json({"model": "m"})


def test_resolve_takes_arguments_of_the_recipe_and_fields_alike() -> None:
    recipe = resolve("cifar10_resnet56", {"target": 0.5, "epochs": 4, "lr": 0.2, "data": Path("here")})
    expected = cifar10_resnet56(data=Path("here"), target=0.5, epochs=4)
    assert recipe == expected.override({"lr": 0.2})
    assert recipe.method == GatedBlocks(budget=Budget(open=0.5))


def test_a_run_of_an_older_version_goes_on_though_it_names_fewer_fields() -> None:
    recipe = tiny()
    kept = {k: v for k, v in recipe.to_json().items() if k not in ("finetune", "holdout_seed", "workers", "crop")}
    check_same_recipe(kept, recipe, "the run")
    with pytest.raises(RunError, match="finetune: False -> True"):
        check_same_recipe(kept, tiny(finetune=True), "the run")
