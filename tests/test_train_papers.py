"""The recipes of the papers' rows: what each asks for, as the papers and their authors' code have it, and that each
runs: two steps on made-up images, a small network of its family in its network's place."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from timm.models import resnet
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from paper_facts import FACTS
from shared import encode, pictures
from torchpaths import cli
from torchpaths.data import Augment
from torchpaths.methods.adaptive_depth import AdaptiveDepth
from torchpaths.models import MODELS, create_model
from torchpaths.routing import route
from torchpaths.train.groups import make_optimizer
from torchpaths.train.metrics import read_metrics
from torchpaths.train.objective import Objective
from torchpaths.train.papers import PAPERS
from torchpaths.train.recipes import RECIPES
from torchpaths.train.run import load_run, train
from torchpaths.train.schedule import learning_rate


def test_every_recipe_of_the_papers_is_here_and_on_the_command_line() -> None:
    assert FACTS.keys() == PAPERS.keys()
    assert PAPERS.items() <= RECIPES.items()


@pytest.mark.parametrize("name", FACTS)
def test_a_recipe_asks_for_what_paper_and_code_have(name: str) -> None:
    recipe = PAPERS[name]()
    fields, augment = FACTS[name]
    assert {f: getattr(recipe, f) for f in fields} == fields
    assert {f: getattr(recipe.augment, f) for f in augment} == augment
    said = PAPERS[name].__doc__ or ""
    assert "Follows" in said or "Otherwise" in said, "which of text and code it follows"
    assert "%" in said, "what the paper has"


@pytest.mark.parametrize(
    ("name", "epochs", "rates"),
    [
        ("imagenet_gated_resnet50", (0, 29, 30, 60, 90), (0.1, 0.1, 0.01, 0.001, 0.0001)),
        ("imagenet_depth_resnet50", (59, 60, 100, 140), (0.1, 0.01, 0.001, 0.0001)),
        ("imagenet_depth_resnet50_v2", (0, 5), (0.005, 0.5)),
        ("imagenet_depth_vit_b_16", (0, 30), (7.5e-4 * 0.033, 7.5e-4)),
        ("imagenet_coded_resnext50", (0, 240, 249), (1e-5, 1e-5, 1e-5)),
        ("cifar10_coded_resnext29", (0, 150), (0.1, 0.050005)),
    ],
)
def test_the_learning_rate_of_an_epoch_is_theirs(name: str, epochs: tuple[int, ...], rates: tuple[float, ...]) -> None:
    recipe = PAPERS[name]()
    for epoch, rate in zip(epochs, rates, strict=True):
        assert learning_rate(recipe, epoch * 7, 7) == pytest.approx(rate, rel=1e-6), epoch


def test_the_learning_rate_of_every_epoch_of_the_coded_resnext_is_timms() -> None:
    recipe = PAPERS["imagenet_coded_resnext50"]()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    theirs, epochs = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=240, warmup_epochs=5, cooldown_epochs=10, min_lr=1e-5, warmup_lr=1e-5
    )
    assert epochs == recipe.epochs
    for epoch in range(epochs):
        theirs.step(epoch)
        assert learning_rate(recipe, epoch * 7, 7) == pytest.approx(optimizer.param_groups[0]["lr"]), epoch


def test_rows_with_the_readmes_numbers_compare_the_features_that_its_commands_compare() -> None:
    for name in ("imagenet_depth_resnet50_v2", "imagenet_depth_vit_b_16", "imagenet_depth_swin_t"):
        method = PAPERS[name]().method
        assert isinstance(method, AdaptiveDepth)
        assert method.features == "none"


def test_torchvisions_average_has_its_decay_for_this_batch_and_length() -> None:
    recipe = PAPERS["imagenet_depth_resnet50_v2"]()
    assert recipe.ema == pytest.approx(1 - 2e-5 * 1024 * 32 / 600)
    assert recipe.ema_hold == 5


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet50_base", 17112360),
        ("mobilenet_v2_base", 2934376),
        ("vit_b_16_base", 58216168),
        ("vit_b_32_base", 59872744),
        ("swin_t_base", 15308725),
    ],
)
def test_the_networks_of_base_nets_have_their_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name, 1000).parameters()) == count


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("imagenet_depth_swin_t", "small_swin"),
        ("imagenet_depth_vit_b_16", "small_vit"),
        ("imagenet_depth_mobilenet_v2", "small_mobilenet"),
        ("imagenet_coded_resnext50", "small_resnext"),
    ],
)
def test_what_decays_is_what_decays_there(name: str, model: str) -> None:
    recipe = replace(PAPERS[name](), model=model)
    made = create_model(model, 5)
    method = AdaptiveDepth(ends="mobilenet" in model) if "depth" in name else None
    net = route(made, method, example=torch.randn(2, 3, 32, 32))
    objective = Objective(net, method)
    groups = make_optimizer(objective, replace(recipe, method=method)).param_groups
    bare = {id(p) for g in groups if not g["weight_decay"] for p in g["params"]}
    if not recipe.no_decay:
        assert not bare
        return
    expected = {
        id(p)
        for n, p in net.named_parameters()
        if p.dim() == 1 or "relative_position_bias_table" in n or n.endswith("bias")
    }
    assert bare == expected


def small_vit(classes: int, channels: int) -> nn.Module:
    made: nn.Module = torchvision.models.VisionTransformer(32, 8, 12, 2, 16, 32, num_classes=classes)
    return made


def small_swin(classes: int, channels: int) -> nn.Module:
    made: nn.Module = torchvision.models.SwinTransformer(
        [4, 4], 8, [2, 2, 2], [1, 2, 4], [2, 2], stochastic_depth_prob=0.1, num_classes=classes
    )
    return made


def small_resnext(classes: int, channels: int) -> nn.Module:
    return create_model("resnext20_10x4d", classes, channels=channels)


def small_vgg(classes: int, channels: int) -> nn.Module:
    layers = [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def small_resnet(classes: int, channels: int, layers: tuple[int, ...]) -> nn.Module:
    block: Any = resnet.Bottleneck
    widths = (4, 8, 8, 8)
    made: nn.Module = resnet.ResNet(block, layers, classes, stem_width=4, channels=widths, zero_init_last=False)
    return made


def small_mobilenet(classes: int, channels: int) -> nn.Module:
    made: nn.Module = torchvision.models.MobileNetV2(classes, width_mult=0.1)
    return made


SMALL: dict[str, Any] = {
    "small_vit": small_vit,
    "small_swin": small_swin,
    "small_resnext": small_resnext,
    "small_vgg": small_vgg,
    "small_mobilenet": small_mobilenet,
    "small_resnet50": functools.partial(small_resnet, layers=(3, 4, 6, 3)),
    "small_resnet101": functools.partial(small_resnet, layers=(3, 4, 23, 3)),
}

IN_PLACE: dict[str, dict[str, Any]] = {
    # of the recipe's network
    "cifar10_resnet110": {"model": "cifar_resnet14b", "twin": False},
    "imagenet_gated_resnet50": {"model": "small_resnet50"},
    "imagenet_gated_resnet101": {"model": "small_resnet101"},
    "imagenet_depth_resnet50": {"model": "small_resnet50"},
    "imagenet_depth_resnet50_v2": {"model": "small_resnet50"},
    "imagenet_depth_mobilenet_v2": {"model": "small_mobilenet"},
    "imagenet_depth_vit_b_16": {"model": "small_vit"},
    "imagenet_depth_vit_b_32": {"model": "small_vit"},
    "imagenet_depth_swin_t": {"model": "small_swin"},
    "cifar10_coded_resnext29": {"model": "small_resnext", "accumulate": 2},
    "cifar100_coded_resnext29": {"model": "small_resnext", "accumulate": 2},
    "imagenet_coded_resnext50": {"model": "small_resnext"},
    "cifar10_filters": {"model": "cifar_resnet14"},
    "cifar100_filters": {"model": "cifar_resnet14"},
    "imagenet_filters_resnet18": {"model": "cifar_resnet14"},
    "imagenet_filters_vgg16": {"model": "small_vgg"},
}


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in SMALL.items():
        monkeypatch.setitem(MODELS, name, make)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made-up")
    for split in ("train", "val"):
        for label in ("bird", "boat", "bus", "cat", "cow", "dog", "fox"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(4):
                (folder / f"{i}.png").write_bytes(encode(pictures(1, 40 + i, 48)[0]))
    return root


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_runs_two_steps_and_its_folder_opens(name: str, images: Path, tmp_path: Path) -> None:
    recipe = PAPERS[name](data=images)
    train_size = None if recipe.train_size is None else 28
    tiny = {"size": 32, "resize": None if recipe.resize is None else 36, "train_size": train_size}
    here = {"batch": 8, "steps": 2, "workers": 1, "device": "cpu", "precision": "fp32", "channels": 3}
    recipe = recipe.override({**tiny, **here, **IN_PLACE.get(name, {})})
    found = train(recipe, tmp_path / "run", quiet=True)
    assert found["steps"] == 2
    assert "accuracy_top5" in found
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["kind"] == "epoch"
    assert all(loss == loss for loss in rows[-1]["losses"].values())
    assert load_run(tmp_path / "run").recipe == recipe.override({"data": str(images.resolve())})


def test_a_recipe_is_tried_out_from_the_command_line(images: Path, tmp_path: Path) -> None:
    size = ["--size", "32", "--resize", "36", "--batch", "4", "--workers", "1"]
    options = ["--data", str(images), "--out", str(tmp_path / "run"), "--steps", "1", "--model", "cifar_resnet14"]
    changed = ["--method.targets", "uniform", "--device", "cpu"]
    assert cli.main(["train", "imagenet_gated_resnet50", *options, *size, *changed, "--json"]) == 0
    assert load_run(tmp_path / "run").recipe.augment == Augment(crop=(0.08, 1.0), whole=True, flip=0.5)


def cells() -> list[str]:
    """The commands in the tables of docs/reproduce.md."""
    page = Path(__file__).resolve().parents[1] / "docs" / "reproduce.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    return [
        cell for row in rows for cell in re.findall(r"`([a-z0-9_]+(?: --[^`]*)?)`", row) if cell.split()[0] in PAPERS
    ]


def test_every_command_of_the_tables_is_understood_and_every_recipe_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []

    class ReachedError(Exception):
        """The command would begin to train."""

    def reached(recipe: Any, *_: object, **__: object) -> None:
        trained.append(recipe)
        raise ReachedError

    monkeypatch.setattr("torchpaths.cli.train.train", reached)
    commands = cells()
    assert {command.split()[0] for command in commands} == set(PAPERS)
    for command in commands:
        with pytest.raises(ReachedError):
            cli.main(["train", *command.split()])
    assert len({str(recipe.to_json()) for recipe in trained}) == len(set(commands)), "each trains something else"
