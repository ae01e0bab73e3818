"""The objective and exact means over the global batch.

The networks here have no batch normalisation, or the reference uses the same micro-batches: its batch statistics are
those of each micro-batch on each rank by design, so splitting a batch changes them.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths import Budget, GatedBlocks, route
from torchpaths.errors import RunError
from torchpaths.methods.gated_blocks import target_rate_loss
from torchpaths.models import create_model
from torchpaths.train.distributed import World
from torchpaths.train.loop import Hooks, Loop
from torchpaths.train.objective import Objective, WholeBatch, total
from torchpaths.train.seed import seed_noise
from torchpaths.train.state import State
from train_toys import Level, batch, tiny, toy


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def whole_batch_gradients(method: Level) -> dict[str, Tensor]:
    net = toy(method)
    total(Objective(net, method)(*batch()).values()).backward()  # type: ignore[no-untyped-call]
    return gradients(net)


def accumulated(method: Level, exact: bool) -> dict[str, Tensor]:
    net = toy(method)
    objective = Objective(net, method)
    parts = list(zip(*(t.chunk(4) for t in batch()), strict=True))
    whole = WholeBatch()
    if exact:
        for x, y in parts:
            with whole.recording(net):
                objective(x, y, whole)
        assert whole.settle()
    for x, y in parts:
        (total(objective(x, y, whole).values()) / 4).backward()  # type: ignore[no-untyped-call]
    return gradients(net)


def test_the_plain_objective_is_the_smoothed_cross_entropy() -> None:
    net, (x, y) = toy(), batch()
    [(name, loss)] = Objective(net, None, smoothing=0.1)(x, y).items()
    log_p = net(x)[0].log_softmax(1)
    by_hand = -(0.9 * log_p[torch.arange(8), y] + 0.1 * log_p.mean(1)).mean()
    assert name == "task"
    torch.testing.assert_close(loss, by_hand)


def test_four_micro_batches_give_the_whole_batchs_gradients_exactly() -> None:
    expected, found = whole_batch_gradients(Level()), accumulated(Level(), exact=True)
    assert expected.keys() == found.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-6, atol=1e-9)


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
