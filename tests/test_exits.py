"""Early exit: images that are done leave the batch, nothing behind runs for them, and the others see nothing of it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import torchpaths as tp
from exit_toys import FIRST, NEVER, coded, stops_at_each
from laws import close, random_path
from skip_laws import always, macs_beside_deciders
from torchpaths.coding.decode import decoders, distances
from torchpaths.costs import count_macs
from torchpaths.deciders.exit import Heard, confidence
from torchpaths.errors import RouteError
from torchpaths.places.channels.energy import ENERGIES


@pytest.fixture(scope="module")
def toy() -> tuple[tp.Routed, Tensor]:
    return coded()


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


# who decides


def test_confidence_is_one_on_a_codeword_and_zero_between_two() -> None:
    words = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]]).bool()
    energies = torch.tensor([[2.0, 2.0, 0, 0], [1, 1, 1, 1], [1.8, 2.2, 0, 0]])
    sure = confidence(distances(energies, words))
    assert sure[0] == 1
    assert sure[1] == 0
    assert 0.5 < sure[2] < 1


def test_an_image_is_done_once_enough_decoders_in_a_row_agree_and_the_last_is_sure() -> None:
    def away(label: int, sure: float) -> Tensor:
        d = torch.ones(1, 3)
        d[0, label] = 1 - sure
        return d

    told = [(0, 0.9), (1, 0.9), (1, 0.2), (1, 0.6)]
    done = {(1, 0.5): [True, True, False, True], (2, 0.5): [False, False, False, True]}
    done |= {(2, 0.1): [False, False, True, True], (3, 0.1): [False, False, False, True]}
    for (agree, threshold), expected in done.items():
        heard, found = Heard.nothing(1), []
        for label, sure in told:
            heard = heard.then(away(label, sure))
            found.append(bool(tp.Exit(agree, threshold)(heard)))
        assert found == expected, (agree, threshold)


def test_a_block_that_did_not_run_for_an_image_neither_stops_it_nor_interrupts_the_others() -> None:
    near = torch.tensor([[0.0, 1, 1], [0, 1, 1]])
    heard = Heard.nothing(2).then(near)
    other = heard.then(near.flip(1), torch.tensor([True, False]))
    assert tp.Exit(1, 0.0)(other).tolist() == [True, False]
    assert tp.Exit(2, 0.0)(other.then(near)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"agree": 0}, "agree=0"),
        ({"agree": True}, "agree=True"),
        ({"threshold": -0.1}, r"from 0.*to 1; above 1"),
        ({"threshold": math.nan}, "threshold=nan"),
        ({"threshold": "0.9"}, "threshold='0.9'"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(RouteError, match=text):
        tp.Exit(**wrong)
    tp.Exit(1, 0.0)
    tp.Exit(1, 2.0)  # what the remedies say


# what runs


def test_if_nobody_is_done_it_is_skipping_bit_for_bit(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    fast, plain = tp.skipping(net, exit=NEVER), tp.skipping(net)
    for path in (None, random_path(net), random_path(net, len(x))):
        for batch in (1, len(x)):
            part = path if path is None or path.batch is None or batch > 1 else path[0:1]
            (y, trace), (expected, known) = fast(x[:batch], part), plain(x[:batch], part)
            assert torch.equal(y, expected)
            assert list(trace) == list(known)
            for name, decision in trace.items():
                assert torch.equal(decision.open, known[name].open)
                assert decision.whole == known[name].whole
                assert decision.ran is None
            assert fast.stopped(trace).tolist() == [-1] * batch
            assert torch.equal(fast.macs(trace), plain.macs(known))


@pytest.mark.parametrize("batch", [1, 12])
def test_if_all_are_done_at_the_first_coded_block_nothing_behind_runs(
    toy: tuple[tp.Routed, Tensor], batch: int
) -> None:
    net, x = toy
    fast = tp.skipping(net, exit=FIRST)
    ran: list[str] = []
    for name, module in fast.model.named_modules():
        if next(module.children(), None) is None:
            module.register_forward_pre_hook(lambda module, args, name=name: ran.append(name))
    y, trace = fast(x[:batch])
    assert "layer2.0.conv3" in ran
    assert not [name for name in ran if name.startswith(("layer2.1", "layer3", "avgpool", "flatten", "fc"))]
    assert list(trace) == ["layer2.0.branches"]
    energies = tp.skipping(net)(x[:batch])[1]["layer2.0.branches"].response[ENERGIES]
    away = distances(energies, fast.sites["layer2.0.branches"].decider.words)  # type: ignore[union-attr, arg-type]
    close(y, functional.log_softmax(-away, 1))
    assert fast.stopped(trace).tolist() == [0] * batch


def test_images_stop_at_several_blocks_and_the_others_are_answered_as_without(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    fast, shares = stops_at_each(net, x)
    expected, full = net(x)
    y, trace = fast(x)
    stopped = fast.stopped(trace)
    assert [(stopped == i).float().mean() for i in (0, 1, 2, 3, -1)] == pytest.approx(shares)
    assert torch.equal(y.isfinite().all(1), torch.ones(len(x), dtype=torch.bool))
    close(y[stopped < 0], expected[stopped < 0])
    told = torch.stack([functional.log_softmax(-away, 1) for away in decoders(net, full).values()])
    early = stopped >= 0
    close(y[early], told[stopped[early], early.nonzero().flatten()])
    for number, decision in enumerate(trace.values()):
        there = (stopped < 0) | (stopped >= number)
        ran = torch.ones_like(there) if decision.ran is None else decision.ran
        assert torch.equal(ran, there)
        assert not decision.open[~there].any()
        assert decision.open[there].all()
        assert not decision.response[ENERGIES][~there].any()


def test_a_batch_is_its_images_one_by_one(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    fast, _ = stops_at_each(net, x)
    y, trace = fast(x)
    for i, image in enumerate(x.chunk(len(x))):
        one, own = fast(image)
        close(one[0], y[i])
        assert int(fast.stopped(own)) == int(fast.stopped(trace)[i])
        assert float(fast.macs(own)) == float(fast.macs(trace)[i])


def test_what_runs_is_counted_as_what_is_claimed(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    for fast in (stops_at_each(net, x)[0], tp.skipping(net, exit=FIRST), tp.skipping(net, exit=NEVER)):
        for part in (x, x[:1], x[-1:]):
            _, trace = fast(part)
            assert count_macs(partial(fast, part)) == int(fast.macs(trace).sum())
    early = tp.skipping(net, exit=FIRST)
    assert float(early.macs(early(x)[1]).mean()) < 0.5 * net.layout.plain.macs


def test_a_path_from_outside_holds(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    fast, plain = stops_at_each(net, x)[0], tp.skipping(net)
    for seed in range(4):
        for path in (random_path(net, seed=seed), random_path(net, len(x), seed)):
            (y, trace), (expected, _) = fast(x, path), plain(x, path)
            stopped = fast.stopped(trace)
            assert torch.allclose(y[stopped < 0], expected[stopped < 0], rtol=1e-4, atol=1e-4)
            for number, (name, decision) in enumerate(trace.items()):
                there = (stopped < 0) | (stopped >= number)
                chosen = torch.as_tensor(path[name]).expand(len(x), -1)
                assert torch.equal(decision.open, chosen & there.unsqueeze(1))
            if path.batch is None:
                assert count_macs(partial(fast, x, path)) == int(fast.macs(trace).sum())
    early = tp.skipping(net, exit=FIRST)
    assert list(early(x, tp.Path.full(net))[1]) == ["layer2.0.branches"], "what a path names may lie behind the exit"


def test_a_block_without_energy_says_nothing(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    closed = tp.Path({"layer2.0.branches": [False] * 10})
    fast = tp.skipping(net, exit=FIRST)
    assert fast.stopped(fast(x, closed)[1]).tolist() == [1] * len(x)


def test_blocks_may_have_gates_as_well() -> None:
    net, x = coded(more=(tp.GatedBlocks(),))
    net.eval()
    for site in net.sites.values():
        if isinstance(site.decider, tp.Gate):
            score = net(x)[1][site.name].score
            assert score is not None
            site.decider.threshold = float(score.flatten().sort().values[5:7].mean())
    plain = tp.skipping(net)
    expected, known = always(plain)(x)
    assert any(bool((~d.open).any()) and bool(d.open.any()) for d in known.values()), "gates decide image by image"
    fast = always(tp.skipping(net, exit=tp.Exit(1, 0.05)))
    y, trace = fast(x)
    stopped = fast.stopped(trace)
    assert len(set(stopped.tolist())) >= 3
    assert (stopped < 0).any()
    close(y[stopped < 0], expected[stopped < 0])
    names = list(net.sites)
    for name, decision in trace.items():
        there = (stopped < 0) | (stopped >= names.index(name))
        opened = known[name].open if name in known else torch.zeros_like(decision.open)
        assert torch.equal(decision.open, opened & there.unsqueeze(1))
    for i in range(len(x)):
        one, own = fast(x[i : i + 1])
        close(one[0], y[i])
        assert int(fast.stopped(own)) == int(stopped[i])
        deciders = sum(1 for n in own if isinstance(net.sites[n].decider, tp.Gate))
        gates = {n: d for n, d in net.deciders.items() if isinstance(d, tp.Gate)}
        asked = sum(
            m.in_features * m.out_features
            for d in list(gates.values())[:deciders]
            for m in d.modules()
            if isinstance(m, nn.Linear)
        )
        assert macs_beside_deciders(fast, x[i : i + 1], None) + asked == int(fast.macs(own))
    dear = tp.skipping(net, exit=tp.Exit(1, 0.05))
    dear.prices.limit = lambda kind, batch, for_all, gathering: 0  # type: ignore[method-assign]
    assert torch.equal(dear.stopped(dear(x)[1]), stopped), (
        "a block that ran for all says nothing of images it is closed for"
    )


def test_where_the_sum_is_outside_of_the_block_images_leave_behind_it() -> None:
    import torchvision

    torch.manual_seed(0)
    settings = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]]
    model = torchvision.models.MobileNetV2(num_classes=8, inverted_residual_setting=settings).eval()
    x = torch.randn(6, 3, 32, 32)
    net = tp.route(model, tp.CodedPaths(classes=8, branches=8, ratios=(0.5, 0.5, 0.25)), example=x).eval()
    fast = tp.skipping(net, exit=FIRST)
    y, trace = fast(x)
    assert fast.stopped(trace).tolist() == [1] * 6, "the first block's branches begin in the module before it"
    assert len(fast.exits.behind) == 4  # type: ignore[union-attr]
    assert count_macs(partial(fast, x)) == int(fast.macs(trace).sum())
    expected, _ = net(x)
    close(tp.skipping(net, exit=NEVER)(x)[0], expected)
    assert len(trace) == 2
    assert y.shape == (6, 8)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_precision_and_memory_order_do_not_matter(dtype: torch.dtype, order: torch.memory_format) -> None:
    net, x = coded()
    net, x = net.to(dtype).to(memory_format=order), x.to(dtype).contiguous(memory_format=order)
    fast = stops_at_each(net, x)[0]
    y, trace = fast(x)
    stay = fast.stopped(trace) < 0
    assert y.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(
        y[stay].to(dtype), net(x)[0][stay], rtol=0.05, atol=0.05 if dtype == torch.bfloat16 else 1e-8
    )


def test_a_survey_sees_what_ran(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    fast, shares = stops_at_each(net, x)
    survey = tp.survey(fast, [(x, torch.zeros(len(x), dtype=torch.long))])
    rates = survey.opened.sum(0) / len(x)
    there = 1 - np.concatenate([[0], np.cumsum(shares[:-2])])
    assert rates == pytest.approx(np.repeat(there, 10))
    with torch.inference_mode():
        assert torch.equal(fast(x)[0], fast(x + 0)[0])
