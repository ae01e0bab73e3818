"""Several methods on one network: one network, one training, one run folder; the order of the list means nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths import AdaptiveDepth, Budget, GatedBlocks, Method, RandomDrop, Routed, cli, route
from torchpaths.errors import RouteError
from torchpaths.methods.together import Together
from torchpaths.models import create_model
from torchpaths.train.metrics import read_metrics
from torchpaths.train.objective import Objective
from torchpaths.train.run import load_run, train
from train_toys import Labelled, Level, Twice, tiny

GATES, DEPTH = GatedBlocks(budget=Budget(open=0.6), weight=2.0), AdaptiveDepth()


def routed(*methods: Method, seed: int = 0) -> Routed:
    torch.manual_seed(seed)
    return route(create_model("cifar_resnet20", 10, channels=1), list(methods), example=torch.randn(2, 1, 8, 8))


def images() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    return torch.randn(8, 1, 8, 8, generator=made), torch.randint(0, 10, (8,), generator=made)


def losses(net: Routed, *methods: Method) -> dict[str, Tensor]:
    torch.manual_seed(2)
    found: dict[str, Tensor] = Objective(net.train(), list(methods))(*images())
    return found


def test_the_order_of_the_list_means_nothing() -> None:
    one, other = routed(DEPTH, GATES), routed(GATES, DEPTH)
    assert one.layout.fingerprint == other.layout.fingerprint
    assert list(one.sites) == list(other.sites)
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    first, second = losses(one, DEPTH, GATES), losses(other, GATES, DEPTH)
    assert list(first) == list(second)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert Together((DEPTH, GATES)) == Together((GATES, DEPTH)) == Together((Together((GATES,)), DEPTH))


def test_both_passes_of_depth_train_the_gates_and_the_second_ones_terms_bear_its_name() -> None:
    net = routed(DEPTH, GATES)
    found = losses(net, DEPTH, GATES)
    assert list(found) == ["task", "rate", "outputs", "features", "base_rate"]
    # By hand: the same noise, pass by pass, and Eq. 9 over the gates of the blocks that ran.
    torch.manual_seed(2)
    for skip, name in ((False, "rate"), (True, "base_rate")):
        _, trace = net(images()[0], DEPTH.path(net, skip))
        gated = [made.z.mean() for site, made in trace.items() if net.sites[site].kind == "block"]
        assert len(gated) == (6 if skip else 9)
        torch.testing.assert_close(found[name], 2 * sum((z - 0.6) ** 2 for z in gated))


def test_heads_of_one_method_are_kept_under_its_name() -> None:
    net = routed(GATES, Labelled())
    objective = Objective(net, Together((Labelled(), GATES)))
    assert objective.heads is not None
    assert {name.partition(".")[0] for name, _ in objective.heads.named_parameters()} == {"Labelled"}
    assert {"task", "rate", "labels", "spread"} == set(objective(*images()))


def test_two_that_decide_at_one_site_are_refused_and_either_remedy_works() -> None:
    model = create_model("cifar_resnet20", 10, channels=1)
    x = images()[0]
    with pytest.raises(RouteError, match=r"GatedBlocks and RandomDrop both decide at site 'layer1.0'; take one of"):
        route(model, [RandomDrop(), GATES], example=x)
    parts = GatedBlocks(sites=("layer1.*",)), RandomDrop((1.0,) * 3 + (0.5,) * 6)
    net = route(model, list(parts), example=x)
    deciders = {name.partition("/")[0]: type(decider).__name__ for name, decider in net.deciders.items()}
    assert deciders == {"layer1": "Gate", "layer2": "Chance", "layer3": "Chance"}
    assert set(losses(net, *parts)) == {"task", "rate"}
    assert len(route(create_model("cifar_resnet20", 10, channels=1), RandomDrop(), example=x).deciders) == 9


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ([GATES, GatedBlocks()], "GatedBlocks is given twice; give it once, with sites= or a list of targets"),
        ([DEPTH, Level()], "AdaptiveDepth and Level each run the network their own way.*take one of them"),
        ([DEPTH, Twice(), GATES], "AdaptiveDepth and Twice each run"),
        ([GatedBlocks], "give methods, instances such as GatedBlocks"),
        ([GATES, None], "give methods, instances"),
        ([], "give methods, instances such as GatedBlocks"),
    ],
)
def test_methods_that_do_not_go_together_are_refused_by_name_and_the_model_is_as_it_was(
    methods: list[Any], said: str
) -> None:
    model = create_model("cifar_resnet20", 10, channels=1)
    before = [type(module) for module in model.modules()]
    with pytest.raises(RouteError, match=said):
        route(model, methods, example=images()[0])
    assert [type(module) for module in model.modules()] == before


def test_one_method_with_a_list_of_targets_is_what_two_of_one_class_would_be() -> None:
    net = routed(GatedBlocks(targets=(0.5,) * 3 + (0.9,) * 6))
    assert len(net.deciders) == 9


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of gates and depth on digits."""
    out = tmp_path_factory.mktemp("together") / "run"
    train(tiny(method=Together((GATES, DEPTH)), epochs=2, batch=128, ema=0.9), out, quiet=True)
    return out


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main([*map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_of_several_says_who_they_are_and_measures_both_depths(composed: Path) -> None:
    summary = json.loads((composed / "summary.json").read_text())
    assert summary["method"] == "AdaptiveDepth,GatedBlocks"
    assert set(summary["losses"]) == {"task", "rate", "outputs", "features", "base_rate"}
    assert summary["paths"]["base"]["macs_share"] < summary["macs_share"] < 1
    rows = [row for row in read_metrics(composed / "metrics.jsonl") if row["kind"] == "epoch"]
    assert len(rows) == 2
    assert rows[-1]["losses"]["task"] < rows[0]["losses"]["task"]
    opened = load_run(composed)
    assert opened.recipe.method == Together((DEPTH, GATES))
    assert {site.kind for site in opened.net.sites.values()} == {"block", "stage"}


def test_a_run_of_several_goes_on_in_either_order(composed: Path) -> None:
    again = train(tiny(method=Together((DEPTH, GATES)), epochs=2, batch=128, ema=0.9), composed, quiet=True)
    assert again == json.loads((composed / "summary.json").read_text())


def test_a_run_of_several_is_evaluated_surveyed_and_cut(
    composed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    evaluated = answer(capsys, "evaluate", composed)
    assert evaluated["accuracy"] == json.loads((composed / "summary.json").read_text())["accuracy"]
    assert evaluated["method"] == "AdaptiveDepth,GatedBlocks"
    surveyed = answer(capsys, "survey", composed, "--out", tmp_path, "--figures", tmp_path / "figures")
    assert (surveyed["accuracy"], surveyed["macs"]) == (evaluated["accuracy"], evaluated["macs"])
    assert tp.Survey.load(tmp_path).method == ("AdaptiveDepth", "GatedBlocks")
    cut = answer(capsys, "cut", composed, "--out", tmp_path / "cut", "--budget-macs", "0.7")
    assert cut["cut"]["macs"] <= 0.7 * cut["plain"]["macs"]
    small = tp.load_cut(tmp_path / "cut")
    assert isinstance(small, nn.Module)
    opened = load_run(composed)
    path = tp.Path.from_json(json.dumps(cut["path"]))
    x = images()[0]
    torch.testing.assert_close(small(x), opened.net(x, path)[0], rtol=1e-4, atol=1e-5)


def test_the_command_trains_several_at_their_defaults_with_knobs_of_each(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    knobs = ["--method.GatedBlocks.budget.open", 0.5, "--method.AdaptiveDepth.alpha", 0.3]
    short = ["--epochs", 1, "--warmup", 0, "--batch", 256, "--no-twin"]
    made = answer(capsys, "train", "--method", "GatedBlocks,AdaptiveDepth", *knobs, *short, "--out", tmp_path / "run")
    assert made["method"] == "AdaptiveDepth,GatedBlocks"
    method = load_run(tmp_path / "run").recipe.method
    assert method == Together((AdaptiveDepth(alpha=0.3), GatedBlocks(budget=Budget(open=0.5))))
