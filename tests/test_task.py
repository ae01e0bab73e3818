"""The losses people have: any task's loss with any method; and what does not go together is an error with a remedy."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import torchpaths as tp
from coded_toys import CODED, PAIRS, WITH_BRANCHES
from torchpaths.errors import RouteError, RunError
from torchpaths.files.encode import decode, encode
from torchpaths.methods.distil import outputs_apart
from torchpaths.methods.task import CrossEntropy, kind_of
from toys import made


class Block(nn.Module):
    """``x + conv2(relu(conv1(x)))``: a block for every method but coded paths."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv2(self.conv1(x).relu())
        return y


class Net(nn.Module):
    """Four blocks and heads of one's own: ``heads(features)`` of ``[N, 4, 8, 8]``."""

    def __init__(self, *heads: nn.Module, names: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks, self.heads = nn.Sequential(*(Block() for _ in range(4))), nn.ModuleList(heads)
        self.names = names

    def forward(self, x: Tensor) -> Any:
        features = self.blocks(self.stem(x))
        found = [head(features) for head in self.heads]
        return dict(zip(self.names, found, strict=True)) if self.names else found[0]


def pooled(outputs: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs))


FILTERS = tp.GatedFilters(mutual=0, sites=(r"blocks\..*\.conv1",))
METHODS: dict[str, tp.Method | list[tp.Method] | None] = {
    "nobody": None,
    "GatedBlocks": tp.GatedBlocks(),
    "RandomDrop": tp.RandomDrop(),
    "AdaptiveDepth": tp.AdaptiveDepth(features="none"),
    "GatedFilters": FILTERS,
    "together": [tp.AdaptiveDepth(), tp.GatedBlocks(), FILTERS],
}


def routed(method: Any, *heads: nn.Module, names: tuple[str, ...] = ()) -> tp.Routed:
    torch.manual_seed(0)
    return tp.route(Net(*heads, names=names), method, example=torch.randn(2, 3, 8, 8)).train()


def images() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def trained(objective: tp.Objective, y: Any) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = objective(images(), y)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    heads = objective.net.get_submodule("model.heads").parameters()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in heads)
    return losses


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_a_regression_labels_that_do_not_exclude_one_another_and_pixels(name: str) -> None:
    method, draw = METHODS[name], torch.Generator().manual_seed(2)
    squared: tp.Task = functional.mse_loss
    tasks: list[tuple[nn.Module, Any, Tensor]] = [
        (pooled(1), squared, torch.randn(4, 1, generator=draw)),
        (pooled(5), nn.BCEWithLogitsLoss(), torch.randint(2, (4, 5), generator=draw).float()),
        (nn.Conv2d(4, 7, 1), None, torch.randint(7, (4, 8, 8), generator=draw)),
    ]
    for head, task, y in tasks:
        net = routed(method, head)
        losses = trained(tp.Objective(net, method, task=task), y)
        if name in ("nobody", "GatedFilters"):  # others multiply it, or draw what runs
            torch.manual_seed(3)
            want = (task or functional.cross_entropy)(tp.Objective(net, method, task=task).net(images())[0], y)
            torch.manual_seed(3)
            torch.testing.assert_close(tp.Objective(net, method, task=task)(images(), y)["task"], want)
        assert all(loss.isfinite() for loss in losses.values())


def test_scores_of_every_pixel_are_distilled_over_classes_and_not_over_the_width_of_the_image() -> None:
    method = tp.AdaptiveDepth(features="none", temperature=2)
    net, y = routed(method, nn.Conv2d(4, 7, 1)), torch.zeros(4, 8, 8, dtype=torch.long)
    p, q = ((net(images(), method.path(net, skip))[0].detach() / 2).log_softmax(1) for skip in (False, True))
    want = 4 * (p.exp() * (p - q)).sum(1).mean() / 2
    assert want > 0.001
    torch.testing.assert_close(tp.Objective(net, method)(images(), y)["outputs"].detach(), want)


def test_outputs_by_name_are_compared_each_as_what_it_is() -> None:
    """A class and a box: the dict goes to the task's loss, and depth compares classes with classes, values with
    values."""

    def task(outputs: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
        box = functional.smooth_l1_loss(outputs["box"], target["box"])
        return functional.cross_entropy(outputs["class"], target["class"]) + box

    method = tp.AdaptiveDepth(features="none", outputs={"class": "classes", "box": "values"})  # type: ignore[arg-type]
    net = routed(method, pooled(5), pooled(4), names=("class", "box"))
    y = {"class": torch.tensor([0, 4, 1, 2]), "box": torch.rand(4, 4)}
    losses = trained(tp.Objective(net, method, task=task), y)
    a, b = (net(images(), method.path(net, skip))[0] for skip in (False, True))
    p, q = a["class"].log_softmax(1), b["class"].log_softmax(1)
    want = ((p.exp() * (p - q)).sum(1).mean() + (a["box"] - b["box"]).square().mean()) / 2
    torch.testing.assert_close(losses["outputs"].detach(), want.detach())
    assert decode(encode(method), "method") == method  # a recipe keeps it


def test_labels_each_for_itself_are_compared_as_probabilities_of_their_own() -> None:
    a, b = torch.randn(3, 5), torch.randn(3, 5)
    p, q = (torch.distributions.Bernoulli(logits=scores / 3) for scores in (a, b))
    want = 9 * torch.distributions.kl_divergence(p, q).mean()
    torch.testing.assert_close(outputs_apart(a, b, "labels", temperature=3), want)


def test_what_outputs_are_is_told_by_the_tasks_loss_where_it_is_one_of_torchs() -> None:
    assert kind_of(CrossEntropy()) == kind_of(nn.CrossEntropyLoss()) == "classes"
    assert kind_of(functools.partial(functional.huber_loss, delta=2.0)) == kind_of(nn.L1Loss()) == "values"
    assert kind_of(functional.binary_cross_entropy_with_logits) == "labels"
    assert kind_of(lambda outputs, target: outputs.sum()) is None


def test_a_loss_of_ones_own_needs_the_word_what_outputs_are_and_each_word_it_offers_works() -> None:
    def task(outputs: Tensor, target: Tensor) -> Tensor:
        return (outputs - target).abs().pow(1.5).mean()

    method, y = tp.AdaptiveDepth(), torch.zeros(4, 3)
    with pytest.raises(RunError, match=r"outputs='classes'.*'labels'.*'values'.*specialise=False"):
        tp.Objective(routed(method, pooled(3)), method, task=task)(images(), y)
    for other in (
        *(tp.AdaptiveDepth(outputs=o) for o in ("classes", "labels", "values")),
        tp.AdaptiveDepth(specialise=False),
    ):
        trained(tp.Objective(routed(other, pooled(3)), other, task=task), y)
    wrong = tp.AdaptiveDepth(outputs="classes")
    with pytest.raises(RunError, match=r"outputs of \[4, 1\].*outputs='values'"):
        tp.Objective(routed(wrong, pooled(1)), wrong, task=task)(images(), y)
    wrong = tp.AdaptiveDepth(outputs=(("mask", "values"),))
    with pytest.raises(RunError, match="names 'mask', which is no tensor among"):
        tp.Objective(routed(wrong, pooled(3)), wrong, task=task)(images(), y)
    for bad in ("class", (), ("classes",), {"a": "b"}):
        with pytest.raises(RouteError, match="choose one of classes, labels, values"):
            tp.AdaptiveDepth(outputs=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outputs", "target", "message"),
    [
        (pooled(1), torch.randn(4, 1), r"at least two classes, the network gives \[4, 1\].*task=torch.nn.functional"),
        (nn.Flatten(0), torch.randn(4), r"scores \[batch, class, ...\]"),
        (pooled(5), torch.randn(4, 5), "shares of the classes, and these are negative or do not sum to 1.*with_logits"),
        (pooled(5), torch.ones(4, 5), "do not sum to 1"),
        (pooled(5), torch.randn(4), r"class numbers, whole numbers \[4\] from 0 to 4, and got float32 \[4\]"),
        (pooled(5), torch.ones(4, 5, dtype=torch.long), r"got int64 \[4, 5\]"),
        (pooled(5), {"label": torch.ones(4)}, "got a dict of 'label'"),
        (pooled(5), torch.tensor([0, 1, 5, 2]), "label 5 is none of the 5 classes"),
        (pooled(5), torch.tensor([0, -1, 1, 2]), "label -1 is none"),
        (nn.Conv2d(4, 7, 1), torch.full((4, 8, 8), 255), r"label 255.*target\[target == 255\] = -100"),
        (nn.Conv2d(4, 7, 1), torch.zeros(4, 4, 4).long(), r"whole numbers \[4, 8, 8\].*got int64 \[4, 4, 4\]"),
    ],
)
def test_a_classifiers_loss_refuses_what_is_no_classification(outputs: nn.Module, target: Any, message: str) -> None:
    for method in (None, tp.GatedBlocks(), tp.AdaptiveDepth()):
        with pytest.raises(RunError, match=message):
            tp.Objective(routed(method, outputs), method)(images(), target)


def test_a_dict_of_outputs_is_refused_by_a_classifiers_loss_unless_one_is_called_logits() -> None:
    with pytest.raises(RunError, match="wants one tensor of scores, the network gives a dict of 'a', 'b'"):
        tp.Objective(routed(None, pooled(5), pooled(2), names=("a", "b")), None)(images(), torch.zeros(4).long())
    method = tp.AdaptiveDepth()
    net = routed(method, pooled(5), pooled(2), names=("logits", "hidden"))
    losses = tp.Objective(net, method)(images(), torch.zeros(4).long())
    want = functional.cross_entropy(net(images())[0]["logits"], torch.zeros(4).long()) / 2
    torch.testing.assert_close(losses["task"], want)


def test_shares_of_classes_and_what_does_not_count_are_labels_too() -> None:
    net, method = routed(None, pooled(5)), None
    shares = torch.rand(4, 5).softmax(1)
    scores = net(images())[0]
    torch.testing.assert_close(
        tp.Objective(net, method)(images(), shares)["task"], -(shares * scores.log_softmax(1)).sum(1).mean()
    )
    y = torch.tensor([1, -100, 0, -100], dtype=torch.int32)
    want = -(scores.log_softmax(1)[0, 1] + scores.log_softmax(1)[2, 0]) / 2
    torch.testing.assert_close(tp.Objective(net, method)(images(), y)["task"], want)


def test_methods_that_teach_by_class_labels_say_so_and_how_to_do_without() -> None:
    """Coded paths and class heads; each remedy in the error works."""
    boxes = {"box": torch.rand(4, 5), "class": torch.tensor([0, 1, 2, 4])}

    def task(outputs: Tensor, target: dict[str, Tensor]) -> Tensor:
        return functional.mse_loss(outputs, target["box"])

    method = tp.GatedFilters(mutual=1.0, sites=FILTERS.sites)
    net = routed(method, pooled(5))
    with pytest.raises(
        RunError, match=r"GatedFilters \(.*class numbers.*got a dict.*labels=.*GatedFilters\(mutual=0\)"
    ):
        tp.Objective(net, method, task=task)(images(), boxes)
    losses = trained(tp.Objective(net, method, task=task, labels=lambda target: target["class"]), boxes)
    by_hand = tp.Objective(net, method)
    assert losses["mutual"] > 0
    assert by_hand.heads is not None
    with pytest.raises(RunError, match=r"gives one output, and class heads.*GatedFilters\(mutual=0\)"):
        tp.Objective(routed(method, pooled(1)), method, task=functional.mse_loss)
    with pytest.raises(RunError, match=r"gives float32 \[1, 7, 8, 8\] for one image.*GatedFilters\(mutual=0\)"):
        tp.Objective(routed(method, nn.Conv2d(4, 7, 1)), method)


def test_coded_paths_want_the_class_of_each_image() -> None:
    make, side, _ = WITH_BRANCHES["own/resnext"]
    _, x = made(make, side)
    for method in (CODED, [CODED, tp.GatedBlocks()]):
        net = tp.route(make(), method, example=x).train()
        squared = tp.Objective(net, method, task=lambda outputs, target: functional.mse_loss(outputs, target))
        with pytest.raises(RunError, match=r"CodedPaths.*class numbers, whole numbers \[4\] from 0 to 4.*GatedBlocks"):
            squared(x, torch.rand(len(x), len(PAIRS)))
        with pytest.raises(RunError, match="label 5 is none of the 5 classes"):
            tp.Objective(net, method)(x, torch.tensor([5] * len(x)))
        y = torch.arange(len(x))
        both = tp.Objective(net, method, task=lambda o, t: functional.mse_loss(o, t[0]), labels=lambda t: t[1])
        assert set(both(x, (torch.rand(len(x), 5), y))) >= {"task", "code"}


def test_a_loss_that_is_no_scalar_function_is_refused() -> None:
    net = routed(None, pooled(5))
    with pytest.raises(RunError, match=r"the loss 'task' is float32 \[4, 5\], not a scalar tensor: take its mean"):
        tp.Objective(net, None, task=nn.MSELoss(reduction="none"))(images(), torch.rand(4, 5))
    with pytest.raises(RunError, match="the loss 'task' is a float"):
        tp.Objective(net, None, task=lambda outputs, target: 0.5)(images(), torch.rand(4, 5))  # type: ignore[arg-type, return-value]
    for wrong in ("mse", nn.MSELoss):
        with pytest.raises(RunError, match="give a function"):
            tp.Objective(net, None, task=wrong)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"smoothing=0\.1 is the cross-entropy's"):
        tp.Objective(net, None, 0.1, task=nn.MSELoss())


def test_parameters_of_a_loss_are_trained_with_the_objective() -> None:
    class Weighted(nn.Module):
        """Squared error with a learnt uncertainty."""

        def __init__(self) -> None:
            super().__init__()
            self.log_variance = nn.Parameter(torch.zeros(()))

        def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
            scaled: Tensor = functional.mse_loss(outputs, target) * (-self.log_variance).exp() + self.log_variance
            return scaled

    objective = tp.Objective(routed(tp.GatedBlocks(), pooled(1)), tp.GatedBlocks(), task=Weighted())
    trained(objective, torch.randn(4, 1))
    assert "task.log_variance" in dict(objective.named_parameters())
    assert objective.get_parameter("task.log_variance").grad is not None


def test_checks_stay_out_of_a_compiled_objective() -> None:
    method = tp.AdaptiveDepth()
    net = routed(method, pooled(5))
    y = torch.tensor([0, 1, 2, 3])
    compiled = torch.compile(tp.Objective(net, method), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images(), y)["outputs"], tp.Objective(net, method)(images(), y)["outputs"])
