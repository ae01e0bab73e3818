"""The objective and exact means over the global batch.

The networks here have no batch normalisation, or the reference uses the same micro-batches: its batch statistics are
those of each micro-batch on each rank by design, so splitting a batch changes them.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths import Budget, GatedBlocks, Method, RandomDrop, route
from torchpaths.errors import RunError
from torchpaths.methods.gated_blocks import target_rate_loss
from torchpaths.methods.together import Together
from torchpaths.models import create_model
from torchpaths.train.distributed import World
from torchpaths.train.loop import Hooks, Loop
from torchpaths.train.objective import Objective, WholeBatch, total
from torchpaths.train.seed import seed_noise
from torchpaths.train.state import State
from train_toys import Labelled, Level, Softly, ToyBlock, Twice, batch, tiny, toy


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def objective_of(method: Method) -> Objective:
    net = toy(method)
    torch.manual_seed(7)
    return Objective(net, method)


def whole_batch_gradients(method: Method) -> dict[str, Tensor]:
    objective = objective_of(method)
    total(objective(*batch()).values()).backward()  # type: ignore[no-untyped-call]
    return gradients(objective)


def accumulated(method: Method, exact: bool) -> dict[str, Tensor]:
    objective = objective_of(method)
    parts = list(zip(*(t.chunk(4) for t in batch()), strict=True))
    whole = WholeBatch()
    if exact:
        for x, y in parts:
            with whole.recording(objective):
                objective(x, y, whole)
        assert whole.settle()
    for x, y in parts:
        (total(objective(x, y, whole).values()) / 4).backward()  # type: ignore[no-untyped-call]
    return gradients(objective)


def test_the_plain_objective_is_the_smoothed_cross_entropy() -> None:
    net, (x, y) = toy(), batch()
    [(name, loss)] = Objective(net, None, smoothing=0.1)(x, y).items()
    log_p = net(x)[0].log_softmax(1)
    by_hand = -(0.9 * log_p[torch.arange(8), y] + 0.1 * log_p.mean(1)).mean()
    assert name == "task"
    torch.testing.assert_close(loss, by_hand)


@pytest.mark.parametrize("method", [Level(), Twice(), Labelled(), Together((Softly(), Labelled()))], ids=str)
def test_four_micro_batches_give_the_whole_batchs_gradients_exactly(method: Method) -> None:
    """Of heads too; and where two passes ask for a mean under one name, each gets its own."""
    expected, found = whole_batch_gradients(method), accumulated(method, exact=True)
    assert expected.keys() == found.keys()
    assert any(name.startswith("heads.") for name in expected) == method.headed
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-6, atol=1e-9)


def test_two_passes_that_ask_for_one_name_have_terms_and_means_of_their_own() -> None:
    objective, (x, y) = objective_of(Twice()), batch()
    found = objective(x, y)
    assert list(found) == ["task", "level", "negative_task", "negative_level"]
    for sign, of in ((1, ""), (-1, "negative_")):
        shares = objective.net(sign * x)[0].softmax(1).mean(0)
        torch.testing.assert_close(found[f"{of}level"], 3 * (shares - 0.25).square().sum())
    whole = WholeBatch()
    for xm, ym in zip(x.chunk(2), y.chunk(2), strict=True):
        with whole.recording(objective):
            objective(xm, ym, whole)
    whole.settle()
    again = objective(x[:4], y[:4], whole)
    torch.testing.assert_close(again["level"], found["level"])
    torch.testing.assert_close(again["negative_level"], found["negative_level"])
    assert not torch.allclose(found["level"], found["negative_level"], rtol=1e-3)


def test_heads_belong_to_the_objective_on_the_networks_device_and_in_its_dtype() -> None:
    net = toy(Labelled())
    before = net.state_dict().keys()
    objective = Objective(net, Labelled(), classes=5)
    assert net.state_dict().keys() == before
    assert objective.heads is not None
    assert {p.dtype for p in objective.heads.parameters()} == {torch.float64}
    assert {p.shape[0] for p in objective.heads.parameters()} == {5}
    objective.to(torch.bfloat16)
    assert {p.dtype for p in objective.parameters()} == {torch.bfloat16}
    assert Objective(net, Level()).heads is None


def test_without_a_number_of_classes_the_networks_outputs_are_counted_and_nothing_is_touched() -> None:
    net = route(create_model("cifar_resnet20", 7, channels=1), RandomDrop(), example=torch.zeros(2, 1, 8, 8)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(1)
    given = Objective(net, Labelled(), classes=7)
    torch.manual_seed(1)
    counted = Objective(net, Labelled())
    assert given.heads is not None
    assert counted.heads is not None
    # Chance decides in this network: counting must not take what the heads draw their weights from.
    for name, value in given.heads.state_dict().items():
        assert torch.equal(counted.heads.state_dict()[name], value)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


class Dense(nn.Module):
    """Scores for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.block = ToyBlock(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return y


def test_outputs_that_cannot_be_counted_are_an_error_and_classes_is_the_remedy() -> None:
    dense = route(Dense(), example=torch.zeros(2, 4, 6, 6))
    with pytest.raises(
        RunError, match=r"gives float32 \[1, 4, 6, 6\] for one image.*Objective\(net, method, classes=10\)"
    ):
        Objective(dense, Labelled())
    unknown = toy(Labelled())
    unknown.example_shape = ()
    with pytest.raises(RunError, match=r"size of this network's images is not known.*classes=10"):
        Objective(unknown, Labelled())
    unknown.example_shape = (9, 6, 6)
    with pytest.raises(RunError, match=r"does not run on zeros of \[1, 9, 6, 6\].*classes=10"):
        Objective(unknown, Labelled())
    for net in (dense, unknown):
        assert Objective(net, Labelled(), classes=10).heads is not None


def test_without_the_first_pass_the_gradients_would_be_those_of_another_loss() -> None:
    expected, naive = whole_batch_gradients(Level(weight=30.0)), accumulated(Level(weight=30.0), exact=False)
    difference = sum(float((naive[n] - g).square().sum()) for n, g in expected.items()) ** 0.5
    assert difference > 0.01 * sum(float(g.square().sum()) for g in expected.values()) ** 0.5


def test_a_mean_has_the_global_value_and_the_local_gradient() -> None:
    values = torch.tensor([1.0, 5.0], requires_grad=True)
    whole = WholeBatch()
    for v in values:
        with whole.recording(nn.Identity()):
            whole("v", v)
    whole.settle()
    first = whole("v", values[0])
    first.backward()  # type: ignore[no-untyped-call]
    assert first.item() == 3.0
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.0]


def test_a_mean_that_the_first_pass_did_not_ask_for_is_refused_by_name() -> None:
    whole = WholeBatch()
    with whole.recording(nn.Identity()):
        whole("rate", torch.ones(()))
    whole.settle()
    with pytest.raises(RunError, match=r"'energy' was not asked for.*only rate"):
        whole("energy", torch.ones(()))


def test_the_first_pass_leaves_the_buffers_of_heads_alone() -> None:
    objective, whole = objective_of(Labelled()), WholeBatch()
    assert objective.heads is not None
    with whole.recording(objective):
        objective(*batch(), whole)
    asked = list(objective.heads.buffers())
    assert [int(b) for b in asked] == [0, 0]
    whole.settle()
    objective(*batch(), whole)
    assert [int(b) for b in asked] == [1, 1]


def test_the_first_pass_leaves_running_statistics_alone() -> None:
    net = nn.BatchNorm2d(1)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    whole = WholeBatch()
    with whole.recording(net):
        net(torch.randn(4, 1, 3, 3) + 7)
    assert not whole.settle()
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_accumulated_gates_train_on_the_loss_written_over_all_micro_batches_at_once() -> None:
    """Real gates with real noise: two micro-batches through the loop, against Eq. 9 on the rates of both together."""
    method = GatedBlocks(budget=Budget(open=0.5), weight=2.0)
    made = torch.Generator().manual_seed(3)
    x, y = torch.randn(8, 1, 8, 8, generator=made), torch.randint(0, 10, (8,), generator=made)
    recipe = tiny(method=method, batch=8, accumulate=2, momentum=0.0, weight_decay=0.0, lr=1.0)

    def network() -> tuple[Loop, State]:
        torch.manual_seed(0)
        net = route(create_model("cifar_resnet20", 10, channels=1), method, example=x)
        state = State.fresh(net, recipe)

        class One:
            def __len__(self) -> int:
                return 1

            def epoch(self, epoch: int, start: int = 0):  # type: ignore[no-untyped-def]
                yield x, y

        nothing = Hooks(
            lambda s: None, lambda r: None, lambda s, e: {"accuracy": 0.0}, lambda r: None, lambda s, b: None
        )
        return Loop(recipe, World(), state, One(), nothing), state

    loop, trained = network()
    before = {n: p.detach().clone() for n, p in trained.net.named_parameters()}
    loop.objective.train()
    loop.step(x, y, 0)

    _, reference = network()
    reference.net.train()
    rates, tasks = [], []
    for micro, (xm, ym) in enumerate(zip(x.chunk(2), y.chunk(2), strict=True)):
        seed_noise(recipe.seed, 0, 0, micro)
        logits, trace = reference.net(xm)
        rates.append(torch.cat([d.z.mean(0) for d in trace.values()]))
        tasks.append(functional.cross_entropy(logits, ym))
    together = torch.stack(rates).mean(0)
    rate_loss = 2.0 * target_rate_loss(together, torch.full_like(together, 0.5))
    (torch.stack(tasks).mean() + rate_loss).backward()  # type: ignore[no-untyped-call]

    assert trained.losses is not None
    assert trained.terms == ("task", "rate")
    torch.testing.assert_close(trained.losses[0, 1], rate_loss.detach())
    for name, parameter in reference.net.named_parameters():
        assert parameter.grad is not None
        step = before[name] - dict(trained.net.named_parameters())[name].detach()
        torch.testing.assert_close(step, parameter.grad, rtol=1e-3, atol=2e-5, msg=name)


def test_compiled_whole_an_objective_records_and_settles_the_same_means() -> None:
    method, (x, y) = Level(), batch()
    found = []
    for compiled in (False, True):
        net = toy(method)
        objective = Objective(net, method)
        if compiled:
            objective.compile(fullgraph=True, backend="eager")
        whole = WholeBatch()
        for xm, ym in zip(x.chunk(2), y.chunk(2), strict=True):
            with whole.recording(net):
                objective(xm, ym, whole)
        whole.settle()
        losses = objective(x[:4], y[:4], whole)
        total(losses.values()).backward()  # type: ignore[no-untyped-call]
        found.append((losses, gradients(net)))
    torch.testing.assert_close(found[0], found[1])
