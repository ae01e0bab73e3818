"""Thresholds at which gates open as often as they were trained to; and what is said of rates that differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.errors import BudgetError, DataError
from torchpaths.methods import Together
from torchpaths.surveys import survey
from torchpaths.train.evaluate import open_run
from torchpaths.train.report import rates_told
from torchpaths.train.run import train
from torchpaths.train.sampled import Watched
from train_toys import ToyNet, tiny
from verbs import answer, complaint

METHOD = tp.GatedBlocks(budget=tp.Budget(open=0.3))


@pytest.fixture
def gated() -> tuple[tp.Routed, list[tuple[Tensor, Tensor]]]:
    """A toy whose gates differ from image to image, and images."""
    torch.manual_seed(0)
    x = torch.randn(400, 1, 6, 6)
    net = tp.route(ToyNet(), METHOD, example=x[:2]).eval()
    for gate in net.deciders.values():
        assert isinstance(gate, tp.Gate)
        nn.init.normal_(gate.fc1.weight, std=3.0)
        nn.init.normal_(gate.fc2.weight, std=0.5)
    return net, [(part, torch.zeros(len(part), dtype=torch.long)) for part in torch.split(x, 100)]


def test_every_gate_opens_for_its_targets_share_of_images(gated: tuple[tp.Routed, list[tuple[Tensor, Tensor]]]) -> None:
    net, images = gated
    before = survey(net, images).rates
    targets = {"block1": 0.3, "block2": 0.8}
    found = tp.calibrate(net, images, targets)
    assert abs(survey(net, images).rates - [0.3, 0.8]).max() <= 0.003 < abs(before - [0.3, 0.8]).max()
    assert {site: net.sites[site].decider.threshold for site in targets} == found  # type: ignore[union-attr]
    tp.calibrate(net, images, 0.5)
    assert abs(survey(net, images).rates - 0.5).max() <= 0.003


def test_what_cannot_be_calibrated_is_said(gated: tuple[tp.Routed, list[tuple[Tensor, Tensor]]]) -> None:
    net, images = gated
    with pytest.raises(BudgetError, match=r"lies in \(0, 1\)"):
        tp.calibrate(net, images, 1.0)
    with pytest.raises(BudgetError, match=r"no gate at 'block3' goes by a score\. Did you mean"):
        tp.calibrate(net, images, {"block3": 0.5})
    with pytest.raises(DataError, match="no images were given"):
        tp.calibrate(net, [], 0.5)
    with pytest.raises(DataError, match="gone after one pass"):
        tp.calibrate(net, iter(images), 0.5)
    with pytest.raises(BudgetError, match="no gate of this network goes by a score"):
        tp.calibrate(tp.route(ToyNet(), example=images[0][0]), images, 0.5)


def test_rates_in_use_and_as_drawn_equal_their_formulas(gated: tuple[tp.Routed, list[tuple[Tensor, Tensor]]]) -> None:
    net, images = gated
    watched = Watched(net)
    found = survey(watched, images)
    with torch.no_grad():
        scores = torch.cat([torch.cat([d.score for d in net(x)[1].values()], 1) for x, _ in images])
    told = watched.told(METHOD)["gate_rates"]
    assert told["sampled"] == pytest.approx(float(scores.sigmoid().mean()))
    assert told["argmax"] == pytest.approx(float((scores > 0).float().mean())) == pytest.approx(found.rates.mean())
    assert told["target"] == 0.3
    assert watched.told(Together((METHOD,))) == watched.told(METHOD)
    assert watched.told(None) == {}


def test_a_run_tells_its_gates_rates_each_epoch_and_can_be_calibrated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(tiny(method=tp.GatedBlocks(budget=tp.Budget(open=0.4)), model="cifar_resnet14", epochs=2), run)
    lines = [line for line in capfd.readouterr().err.splitlines() if "gates open for" in line]
    assert len(lines) == 2
    assert "target 40.0%" in lines[0]
    rates = json.loads((run / "summary.json").read_text())["gate_rates"]
    assert rates.keys() == {"target", "sampled", "argmax"}
    told = answer(capfd, "cut", run, "--calibrate", "--out", tmp_path / "set", "--json")
    assert abs(told["after"]["argmax"] - 0.4) <= 0.01 < abs(told["before"]["argmax"] - 0.4)
    thresholds = {n: s.decider.threshold for n, s in open_run(tmp_path / "set").net.sites.items() if s.decider}
    assert thresholds == told["thresholds"]
    (tmp_path / "set" / "thresholds.json").write_text('{"schema": "torchpaths.thresholds/1", "thresholds": {"x": 1.0}}')
    assert "no gate at 'x' goes by a score" in complaint(capfd, "evaluate", tmp_path / "set")


@pytest.mark.parametrize(
    ("used", "drawn", "told"),
    [
        (0.55, 0.6, "torchpaths cut RUN --calibrate"),  # what was trained is asked for again
        (0.59, 0.6, None),
        (0.75, 0.6, "they run more in use than they drew"),  # it would shut what serves
        (0.2, 0.9, "train longer"),  # thresholds for 60 % would open what was never trained so
    ],
)
def test_calibrating_is_recommended_only_where_it_opens_again_what_was_trained(
    used: float, drawn: float, told: str | None
) -> None:
    rates = {"argmax": used, "sampled": drawn, "target": 0.6}
    assert rates_told(rates, last=False).endswith("target 60.0%")
    line = rates_told(rates, last=True)
    assert ("--calibrate" in line) == (told is not None and "--calibrate" in told)
    assert line.endswith("target 60.0%") if told is None else told in line
