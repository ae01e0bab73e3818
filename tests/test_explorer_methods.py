"""The page with its model, for every method and mixtures of them: what it says is what the library computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import torchpaths as tp
from browser import Shown, chromium, needs_chromium, serving
from torchpaths.costs import decider_cost
from torchpaths.errors import BudgetError
from torchpaths.explorer.answers import Answers
from torchpaths.explorer.pictures import live_document
from torchpaths.explorer.serve import app_of
from torchpaths.surveys.alone import shut_alone
from torchpaths.train.evaluate import images_for, open_run, survey_run
from torchpaths.train.run import train
from train_toys import tiny

METHODS: dict[str, Callable[[], tp.Method]] = {
    "gated": tp.GatedBlocks,
    "filters": tp.GatedFilters,
    "depth": tp.AdaptiveDepth,
    "coded": lambda: tp.CodedPaths(classes=10),
    "drop": lambda: tp.RandomDrop(0.5),
    "depth, gated": lambda: tp.Together((tp.AdaptiveDepth(), tp.GatedBlocks())),
    "gated, filters": lambda: tp.Together((tp.GatedBlocks(), tp.GatedFilters())),
}

PARITY = """async ({ cuts, paths }) => {
  const [{ modelOf, fill }, { chosen, costOf }] = await Promise.all([import("/data.js"), import("/costs.js")]);
  const model = modelOf(await (await fetch("/api/survey")).json());
  await fill(model);
  return {
    cuts: cuts.map(([classes, budget]) => { const bits = chosen(model, classes, budget); return bits && [...bits]; }),
    costs: paths.map((bits) => [0, 1].map((asked) => costOf(model, bits, asked).macs)),
  };
}"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Answers]:
    """A run of one epoch by a method, opened with its survey; each made once."""
    kept: dict[str, Answers] = {}

    def make(name: str) -> Answers:
        if name not in kept:
            folder = tmp_path_factory.mktemp("methods") / "run"
            model = "resnext20_10x4d" if name == "coded" else "cifar_resnet14"
            train(tiny(method=METHODS[name](), model=model), folder, quiet=True)
            survey = survey_run(folder).survey
            run = open_run(folder)
            kept[name] = Answers(run, survey, images_for(run))
        return kept[name]

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def library_cut(answers: Answers, classes: list[int], budget: float | None) -> list[int] | None:
    """What the library keeps for classes, None where nothing fits."""
    try:
        path = answers.chosen(classes, budget)
    except BudgetError:
        return None
    return list(map(int, path.opened(answers.layout.undecided())[0]))


@needs_chromium
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_served_and_its_page_says_what_the_network_gives(
    browser: Any, made: Callable[[str], Answers], name: str
) -> None:
    answers = made(name)
    layout, count = answers.layout, len(answers.layout.units)
    rng = np.random.default_rng(0)
    paths = rng.random((6, count)) < rng.random((6, 1))
    cuts = [(classes, budget) for classes in ([1], [3, 8], [0, 1, 2, 9]) for budget in (None, 0.01, 0.4, 0.7, 1.0)]
    with serving(app_of(answers, live_document(answers, None))) as address:
        shown = Shown(browser).open(address)
        shown.page.locator("#picture").focus()
        shown.page.keyboard.press("ArrowRight")
        shown.page.keyboard.press("Space")
        if name != "drop":  # which draws anew for each answer
            *_, last = answers.accuracy([0 if unit == 1 else -1 for unit in range(count)])
            shown.page.wait_for_function(
                "text => document.querySelectorAll('#ledger .cell')[4].innerText.includes(text)",
                arg=f"{len(answers.images)} images",
            )
            assert f"{last['value'] * 100:.1f}" in shown.page.locator("#ledger .number").nth(4).inner_text()
        assert ("anew for each answer" in shown.text("#about")) is (name == "drop")
        found = shown.page.evaluate(PARITY, {"cuts": cuts, "paths": paths.astype(int).tolist()})
        assert shown.errors == []
        assert [url for url in shown.asked if not url.startswith((address, "data:"))] == []
        shown.close()
    both = [layout.undecided().costs(paths)[:, 0], layout.costs(paths)[:, 0]]
    assert found["costs"] == np.stack(both, 1).tolist()
    if name != "depth":  # of which a survey says nothing: every image opens the same
        assert found["cuts"] == [library_cut(answers, classes, budget) for classes, budget in cuts]


@pytest.mark.parametrize("name", [name for name in METHODS if "gated" in name or "filters" in name])
def test_macs_hold_the_deciders_that_are_asked_at_every_click_down_to_all_shut(
    made: Callable[[str], Answers], name: str
) -> None:
    answers = made(name)
    x = answers.normalised(answers.images.read([3, 5]))
    units = [-1] * len(answers.layout.units)
    asked: set[str] = set()
    hooks = [
        site.decider.register_forward_pre_hook(lambda *_, of=of: asked.add(of))
        for of, site in answers.net.sites.items()
        if site.decider is not None
    ]
    order = np.random.default_rng(0).permutation(len(units)).tolist()
    for click, unit in enumerate([None, *order]):
        if unit is not None:
            units[unit] = 0
        if len(order) > 30 and click % 20 and click < len(order) - 3:
            continue
        asked.clear()
        _, opened, macs = answers.call(x, units)
        deciders = sum(decider_cost(decider).macs for of in asked if (decider := answers.net.sites[of].decider))
        assert (macs == answers.layout.undecided().costs(opened)[:, 0] + deciders).all(), click
    assert asked == set()
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", ["gated", "depth, gated"])
def test_what_a_saved_page_says_of_a_unit_shut_alone_is_the_live_answer(
    made: Callable[[str], Answers], name: str
) -> None:
    answers = made(name)
    pixels, labels = answers.images.read(list(range(len(answers.images)))), torch.from_numpy(answers.images.labels)
    alone = shut_alone(answers.net, [(answers.normalised(pixels), labels)])
    assert alone.cost is not None
    for unit, (lost, cost) in enumerate(zip(alone.points, alone.cost, strict=True)):
        *_, last = answers.accuracy([0 if u == unit else -1 for u in range(len(alone.points))])
        assert lost is not None
        assert cost is not None
        assert last["value"] == pytest.approx(alone.accuracy - lost)
        assert sum(last["open"]) == pytest.approx(cost[1])
        assert last["macs"] == pytest.approx(cost[0], rel=2e-3)  # the live answer leaves out a decider nobody asks


@pytest.mark.parametrize("name", METHODS)
def test_every_methods_images_can_be_attacked_with_units_set_or_without(
    made: Callable[[str], Answers], name: str
) -> None:
    answers = made(name)
    pixels = np.asarray(answers.images.read([2])[0])
    free = [-1] * len(answers.layout.units)
    for units in (free, [0, *free[1:]], [1] * len(free)):
        levels = answers.attacked(pixels, None, 4, units)
        assert levels.shape == pixels.shape
        assert np.abs(levels.astype(int) - pixels).max() == 4
        assert np.isfinite(answers.seen(levels, units)["scores"]).all()
