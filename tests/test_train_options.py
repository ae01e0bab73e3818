"""Claims about what a recipe may ask of the loop beside the papers' first wishes: groups, clipping, mixing, averages,
schedules, fp16. Each resumes bitwise, and each word that means nothing for a network is an error with a way out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from timm.data import mixup as timms
from timm.utils.model_ema import ModelEmaV3
from torch import nn

import torchpaths as tp
from torchpaths import AdaptiveDepth, CodedPaths, GatedBlocks, GatedFilters, cli
from torchpaths.data import Augment
from torchpaths.data.drawn import seed_all, undisturbed
from torchpaths.errors import BudgetError, RouteError, RunError
from torchpaths.methods.base import Method
from torchpaths.routing import route_plain
from torchpaths.train.ema import Ema
from torchpaths.train.groups import FACTOR, make_optimizer
from torchpaths.train.mix import Mix, mix_of
from torchpaths.train.objective import Objective
from torchpaths.train.recipe import Recipe
from torchpaths.train.recipes import digits
from torchpaths.train.run import train
from torchpaths.train.scaler import Scaler
from torchpaths.train.schedule import learning_rate
from torchpaths.train.seed import seed_of_mix
from train_toys import NormedBlock, brief, small_net, tiny


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tp.models.MODELS, "small", small_net)


def swin() -> nn.Module:
    made: nn.Module = torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5)
    return made


def groups_of(
    model: nn.Module, method: tp.Method | None, side: int, **changes: object
) -> dict[str, tuple[float, float]]:
    """Name of each parameter -> (factor of the learning rate, decay)."""
    net = tp.route(model, method, example=torch.randn(2, 3, side, side))
    objective = Objective(net, method, classes=5)
    optimizer = make_optimizer(objective, tiny(method=method, weight_decay=0.1, **changes))
    names = {id(p): n.removeprefix("net.") for n, p in objective.named_parameters()}
    found = {names[id(p)]: (g[FACTOR], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert found.keys() == set(names.values()), "each parameter is in one group"
    return found


def test_norms_biases_and_embeddings_do_not_decay_where_the_recipe_says_so() -> None:
    model = swin()
    bare = {f"model.{n}" for n, p in model.named_parameters() if p.dim() == 1 or "relative_position_bias" in n}
    found = groups_of(model, AdaptiveDepth(), 32, no_decay=("norms", "biases", "embeddings"))
    second = {n for n in found if ".skipped." in n}
    assert second, "the second norms are norms as well"
    assert {n for n, (_, decay) in found.items() if decay == 0} == bare | second
    assert {decay for n, (_, decay) in found.items() if n not in bare | second} == {0.1}
    assert {factor for factor, _ in found.values()} == {1.0}


def test_gates_learn_and_decay_as_they_are_told() -> None:
    found = groups_of(
        timm.create_model("resnet10t"), GatedBlocks(), 32, gate_lr=0.5, gate_decay=0.0, no_decay=("fc.*",)
    )
    for name, group in found.items():
        expected = (0.5, 0.0) if name.startswith("deciders.") else (1.0, 0.0 if ".fc." in name else 0.1)
        assert group == expected, name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"no_decay": ("embeddings",)}, "no_decay='embeddings' matches no parameter of this network. Leave it out"),
        ({"no_decay": ("norm",)}, "no_decay='norm' matches no parameter of this network. Did you mean 'norms'"),
        ({"no_decay": ("fc(",)}, "no_decay='fc(' is no kind of parameters and no regular expression"),
        ({"no_decay": ("gates",)}, "no_decay='gates' matches no parameter"),
        ({"gate_lr": 0.1}, "gate_lr and gate_decay are for deciders that learn, and cifar_resnet20 with AdaptiveDepth"),
    ],
)
def test_groups_that_match_nothing_are_errors_that_say_what_to_do(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError) as error:
        groups_of(tp.models.create_model("small", 5), AdaptiveDepth(), 8, **changes)
    assert said in str(error.value)
    groups_of(tp.models.create_model("small", 5), AdaptiveDepth(), 8, no_decay=("norms",))


def test_with_nothing_asked_for_all_parameters_are_one_group_in_their_order() -> None:
    net = tp.route(timm.create_model("resnet10t"), GatedBlocks(), example=torch.randn(2, 3, 32, 32))
    objective = Objective(net, GatedBlocks())
    [group] = make_optimizer(objective, tiny()).param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in objective.parameters()]


def test_batches_are_mixed_as_timm_does_and_labels_with_them() -> None:
    x, y = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 5
    recipe = tiny(mixup=0.2, cutmix=1.0, seed=3)
    kinds = set()
    for step in range(12):
        mixed, shares = Mix(recipe, 5)(x.clone(), y, step, rank=1)
        with undisturbed():
            seed_all(seed_of_mix(3, step, 1))
            theirs = timms.Mixup(0.2, 1.0, label_smoothing=0.0, num_classes=5)  # type: ignore[no-untyped-call]
            expected, targets = theirs(x.clone(), y)
        assert torch.equal(mixed, expected)
        assert torch.equal(shares, targets)
        torch.testing.assert_close(shares.sum(1), torch.ones(8))
        same = float((mixed == x).float().mean())  # cutmix leaves pixels as they were, mixup hardly any
        kinds.add("cutmix" if 0.05 < same < 0.99 else "mixup" if same < 0.01 else "hardly")
    assert kinds >= {"cutmix", "mixup"}


@pytest.mark.parametrize(
    ("method", "model", "said"),
    [
        (GatedFilters(mutual=0.005), "cifar_resnet20", "GatedFilters needs the one class of each image"),
        (CodedPaths(classes=10), "resnext20_10x4d", "CodedPaths needs the one class of each image"),
    ],
)
def test_mixing_is_refused_where_losses_need_the_class_naming_the_method(
    method: Method, model: str, said: str, tmp_path: Path
) -> None:
    recipe = tiny(model=model, method=method, mixup=0.2, size=16, batch=64)
    with pytest.raises(RunError) as error:
        train(recipe, tmp_path / "run", quiet=True)
    assert said in str(error.value)
    assert "leave out mixup and cutmix, or" in str(error.value)
    if isinstance(method, GatedFilters):  # the remedy that the error names
        assert "mutual=0" in str(error.value)
        net = tp.route(
            tp.models.create_model(model, 10, channels=1), GatedFilters(mutual=0), example=torch.randn(2, 1, 16, 16)
        )
        assert mix_of(recipe, Objective(net, GatedFilters(mutual=0)), 10, 64) is not None


def test_mixing_needs_pairs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"mixup=0.2 blends images in pairs, and each process has 63 of a batch of 63"):
        train(brief(mixup=0.2, batch=63), tmp_path / "run", quiet=True)


def test_a_gradient_is_clipped_to_the_norm_asked_for(tmp_path: Path) -> None:
    recipe = brief(lr=1.0, momentum=0.0, weight_decay=0.0, batch=1442)
    start, clipped = (
        load_file(train_to(recipe.override({"clip": clip}), tmp_path / str(clip))) for clip in (1e-9, 0.05)
    )
    trained = [n for n, w in start.items() if "running" not in n and w.is_floating_point()]
    assert math.sqrt(sum(float((clipped[n] - start[n]).square().sum()) for n in trained)) == pytest.approx(0.05, 1e-3)


def train_to(recipe: Recipe, out: Path) -> Path:
    train(recipe, out, quiet=True)
    return out / "weights.safetensors"


def test_an_average_starts_from_the_weights_holds_and_ramps_as_timm_and_torchvision_have_it() -> None:
    net = nn.Linear(1, 1)
    timm_like = ModelEmaV3(net, decay=0.9, use_warmup=True)
    ours = Ema(net, 0.9, ramp=True)
    for step in range(40):
        with torch.no_grad():
            net.weight.fill_(math.sin(step))
        timm_like.update(net, step=step + 1)
        ours.update(net, step)
        torch.testing.assert_close(ours.average["weight"], timm_like.module.weight)
    held = Ema(net, 0.9, every=4, hold=10)  # held for 10 steps: copies at 0, 4 and 8, and once more at 12
    assert [held.weight(step) for step in range(0, 24, 4)] == [0, 0, 0, 0, 0.9, 0.9]
    with torch.no_grad():
        net.weight.fill_(7)
    held.update(net, 13)
    assert float(held.average["weight"]) != 7, "between updates nothing moves"


def test_a_short_runs_average_is_as_good_as_its_weights(tmp_path: Path) -> None:
    recipe = digits().override(
        {"method": None, "twin": False, "epochs": 6, "warmup": 1, "ema": 0.9999, "eval_every": 6, "device": "cpu"}
    )
    found = train(recipe, tmp_path / "run", quiet=True)
    assert found["accuracy"] > 0.9
    assert abs(found["ema_accuracy"] - found["accuracy"]) <= 0.005


def test_schedules_by_epoch_are_torchvisions() -> None:
    recipe = tiny(epochs=20, lr=0.5, warmup=5, warmup_from=0.01, schedule="cosine", final_lr=0.001, schedule_by="epoch")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    main = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15, eta_min=0.001)
    theirs = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, main], milestones=[5])
    for epoch in range(20):
        expected = optimizer.param_groups[0]["lr"]
        assert [learning_rate(recipe, epoch * 3 + i, 3) for i in range(3)] == pytest.approx([expected] * 3, rel=1e-9)
        optimizer.step()
        theirs.step()


def test_the_last_epochs_train_at_the_least_rate() -> None:
    for by in ("step", "epoch"):
        recipe = tiny(epochs=10, cooldown=2, schedule="cosine", final_lr=1e-3, lr=0.1, schedule_by=by)
        rates = [learning_rate(recipe, step, 4) for step in range(40)]
        assert rates[32:] == pytest.approx([1e-3] * 8)
        assert rates[27] > 1e-3
        assert rates == sorted(rates, reverse=True)


def test_a_warm_up_rises_from_where_it_is_told() -> None:
    recipe = tiny(epochs=4, warmup=1, warmup_from=0.2, lr=1.0)
    assert [learning_rate(recipe, step, 4) for step in range(5)] == pytest.approx([0.4, 0.6, 0.8, 1.0, 1.0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule_by": "epoch", "warmup": 1, "epochs": 3}, "the first epoch at a rate of 0; say where"),
        ({"warmup_from": 0.1}, "warmup is 0; give its epochs"),
        ({"cooldown": 1}, "cooldown=1 belongs to schedule 'cosine'"),
        ({"cooldown": 2, "warmup": 1, "epochs": 3, "schedule": "cosine"}, "fill all 3; make them shorter"),
        ({"ema_every": 32}, "ema_every=32 is about the average of the weights; give its decay"),
        ({"ema": 0.9, "ema_hold": 1}, "ema_hold of 1 epochs fills all 1"),
        ({"gate_lr": 0.5}, "method is None; leave them out"),
        ({"clip": 0}, "clip=0: a number above 0"),
        ({"resize": 256}, "give a size that is not above it"),
        ({"resize": 200, "size": 224}, "give a size that is not above it"),
        ({"resize": 256, "size": 224, "crop": 0.9}, "leave out one of the two"),
        ({"train_size": 176, "size": 224}, r"augment.crop, e.g. (0.08, 1.0)"),
        ({"augment": Augment(crop=(0.08, 1.0), whole=True)}, "give size to bring them to"),
        ({"warmup_within": True, "warmup": 0}, "give warmup and schedule='cosine'"),
        ({"repeats": 0}, "repeats=0: a whole number of at least 1"),
    ],
)
def test_options_that_do_not_go_together_are_errors_with_a_remedy(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError) as error:
        tiny(**changes)
    assert said in str(error.value)


def test_fp16_on_a_cpu_is_refused_and_bf16_trains(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"precision='fp16' needs a GPU, .* take precision='bf16', or 'fp32'"):
        train(brief(precision="fp16"), tmp_path / "run", quiet=True)
    assert train(brief(precision="bf16"), tmp_path / "run", quiet=True)["epochs"] == 1


def test_the_scale_of_the_loss_comes_back_bitwise_and_leaves_out_steps_that_overflow() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = Scaler(torch.device("cpu"))
    before = scaler.tensors
    for factor in (0.5, math.inf, 0.25):
        scaler.scaled((weight * factor).sum()).backward()  # type: ignore[no-untyped-call]
        scaler.unscale(optimizer)
        scaler.step(optimizer)
        optimizer.zero_grad()
    assert float(weight.detach()) == pytest.approx(1 - 0.5 - 0.25)
    assert scaler.tensors["scale"] == before["scale"] / 2
    other = Scaler(torch.device("cpu"))
    other.fill(scaler.tensors)
    assert other.tensors == scaler.tensors


def test_top5_is_counted_where_there_are_more_classes() -> None:
    class Told(nn.Module):
        """The scores themselves, past a block that adds nothing."""

        def __init__(self, classes: int) -> None:
            super().__init__()
            self.block = NormedBlock(classes).eval()
            nn.init.zeros_(self.block.norm.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.block(x)
            return out.flatten(1)

    for classes in (5, 7):
        scores = torch.randn(20, classes, 1, 1)
        labels = torch.arange(20) % classes
        net = route_plain(Told(classes), scores[:2])
        found = tp.survey(net, [(scores[:9], labels[:9]), (scores[9:], labels[9:])])
        if classes == 5:
            assert found.accuracy_top5 is None
        else:
            ranks = (scores.flatten(1) > scores.flatten(1).gather(1, labels[:, None])).sum(1)
            assert found.accuracy_top5 == pytest.approx(float((ranks < 5).float().mean()))
            assert np.array_equal(found.top5, np.bincount(labels[ranks < 5], minlength=classes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden": 0}, "hidden=0: "),
        ({"weight": -1.0}, "weight=-1.0: "),
        ({"inference": "x"}, "inference='x'; choose one"),
    ],
)
def test_gates_that_mean_nothing_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RouteError, match=said):
        GatedBlocks(**values)


def test_no_budget_is_offered_to_training_that_is_refused_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "digits", "--help", "--out", "x"])  # not the page that is kept
    shown = capsys.readouterr().out
    assert "--method.budget.open" in shown
    assert "--method.budget.macs" not in shown
    assert "--method.budget.ms" not in shown
    assert cli.main(["train", "digits", "--method.budget.macs=0.5"]) == 2
    assert "training is towards a share of open units, --method.budget.open 0.6" in capsys.readouterr().err
    for budget in (tp.Budget(macs=0.5), tp.Budget(ms=5)):
        with pytest.raises(BudgetError, match=r"write GatedBlocks\(budget=Budget\(open=0\.6\)\)"):
            tp.GatedBlocks(budget)
