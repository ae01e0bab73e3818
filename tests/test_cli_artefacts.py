"""Verbs take whatever holds a network: runs, cut networks, paths, fronts and their points; no time is tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import torchpaths as tp
from torchpaths import cli
from torchpaths.cuts import Spec, load_cut
from torchpaths.data import open_data
from torchpaths.errors import BudgetError, MeasureError, PathError, RouteError
from torchpaths.files.tensors import to_bytes
from torchpaths.files.write import write_json
from torchpaths.fronts import Front, Point
from torchpaths.routing import route_plain
from torchpaths.train.evaluate import open_run
from torchpaths.train.folder import build
from train_toys import ToyNet, tiny
from verbs import answer, complaint

QUICK = ["--seconds", "0.01", "--batch", "8"]
AT = 1.5
"""A threshold."""


def made(folder: Path, method: tp.Method | None) -> Path:
    """A run folder without training, whose gates are not all alike."""
    images = open_data("digits", "test")
    recipe = tiny(method=method)
    net = build(recipe, images.classes, images.shape)
    torch.manual_seed(0)
    for gate in net.deciders.modules():
        if isinstance(gate, tp.Gate):
            nn.init.normal_(gate.fc2.weight, std=5.0)
            nn.init.zeros_(gate.fc2.bias)
    data = {"name": "digits", "classes": images.classes, "shape": images.shape, "mean": images.mean, "std": images.std}
    write_json(folder / "recipe.json", recipe.to_json())
    write_json(folder / "run.json", {"data": data})
    (folder / "weights.safetensors").write_bytes(to_bytes(net.state_dict()))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated run with a front of one path and two points at which gates decide."""
    folder = made(tmp_path_factory.mktemp("artefacts") / "run", tp.GatedBlocks())
    net = open_run(folder).net
    path = tp.Path({site: i < 5 for i, site in enumerate(net.sites)}, net.layout.fingerprint)
    points = (
        Point("threshold", None, AT, accuracy=0.2, macs=1e6, open=0.3),
        Point("greedy", path, accuracy=0.4, macs=float(path.cost(net).macs), open=0.5),
        Point("threshold", None, 0.0, accuracy=0.5, macs=2e6, open=0.6),
    )
    Front(net.layout, points, (), 0.9, 10).save(folder)
    return folder


@pytest.fixture(scope="module")
def cut(run: Path) -> Path:
    assert cli.main(["cut", str(run), "--point", "2", "--out", str(run.parent / "cut")]) == 0
    return run.parent / "cut"


def test_a_cut_folder_is_evaluated_surveyed_measured_and_exported(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Spec.read(cut)
    evaluated = answer(capsys, "evaluate", cut, "--json")
    assert (evaluated["macs"], evaluated["original"]["macs"]) == (spec.cut.macs, spec.plain.macs)
    surveyed = answer(capsys, "survey", cut, "--out", tmp_path, "--json")
    assert surveyed["accuracy"] == evaluated["accuracy"]
    [row] = answer(capsys, "measure", cut, *QUICK, "--json")["rows"]
    assert row["macs_ratio"] == spec.cut.macs / spec.plain.macs, "beside the original that it was cut out of"
    answer(capsys, "export", cut, "--out", tmp_path / "net.pt2", "--json")
    x = torch.randn(1, *spec.shape)
    with torch.no_grad():
        given = torch.export.load(tmp_path / "net.pt2").module()(x)
        torch.testing.assert_close(given, load_cut(cut)(x), rtol=1e-4, atol=1e-4)


def test_a_cut_folder_is_cut_further_and_gives_what_it_gave_along_that_path(cut: Path, tmp_path: Path) -> None:
    first = route_plain(load_cut(cut), torch.zeros(2, *Spec.read(cut).shape))
    path = tp.Path({site: i != 1 for i, site in enumerate(first.sites)})
    (tmp_path / "path.json").write_text(path.to_json())
    out = tmp_path / "smaller"
    assert cli.main(["cut", str(cut), "--path", str(tmp_path / "path.json"), "--out", str(out)]) == 0
    x = torch.randn(2, *first.example_shape)
    with torch.no_grad():
        torch.testing.assert_close(load_cut(out)(x), first(x, path)[0], rtol=1e-4, atol=1e-4)
    spec = Spec.read(out)
    assert spec.plain == Spec.read(cut).plain, "it still says what the original costs"
    assert sum(o for (o,) in spec.path.values()) == len(first.sites) - 1


def test_a_cut_folder_without_its_images_says_what_is_missing(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    for name in ("weights.safetensors", "spec.json"):
        (away / name).write_bytes((cut / name).read_bytes())
    written = json.loads((away / "spec.json").read_text())
    del written["data"]
    (away / "spec.json").write_text(json.dumps(written))
    assert "give them: --data FOLDER" in complaint(capsys, "evaluate", away)
    assert answer(capsys, "evaluate", away, "--data", "digits", "--json")["images"] == 355
    assert "no best weights; leave out --weights best" in complaint(capsys, "evaluate", away, "--weights", "best")


def test_a_point_at_which_gates_decide_is_kept_as_a_run_exported_and_evaluated(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = f"gates at {AT}"
    there = answer(capsys, "evaluate", run, "--point", named, "--json")
    trained = answer(capsys, "evaluate", run, "--json")
    assert there["units_open"] < trained["units_open"]
    answer(capsys, "cut", run, "--point", named, "--out", tmp_path / "kept", "--json")
    kept = answer(capsys, "evaluate", tmp_path / "kept", "--json")
    assert (kept["open_by_unit"], kept["accuracy"]) == (there["open_by_unit"], there["accuracy"])
    assert "a network with thresholds of its own" in complaint(capsys, "train", "--out", tmp_path / "kept")
    answer(capsys, "export", run, "--point", 1, "--out", tmp_path / "net.pt2", "--json")
    net = open_run(tmp_path / "kept").net
    module = torch.export.load(tmp_path / "net.pt2").module()
    images = open_data("digits", "test")
    x = (torch.from_numpy(images.read(range(20))).permute(0, 3, 1, 2) / 255 - images.mean[0]) / images.std[0]
    with torch.no_grad():
        for one in x:
            opened = torch.cat([d.open for d in _full(net, one[None]).values()], 1)
            assert torch.equal(module(one[None])[1], opened)


def _full(net: tp.Routed, x: torch.Tensor) -> tp.Trace:
    trace: tp.Trace = net(x)[1]
    assert list(trace) == list(net.sites)
    return trace


def test_budgets_choose_for_every_verb_as_for_cut(
    run: Path, cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--budget-macs", "0.8", "--front", str(run / "front.json")]
    kept = Spec.read(cut)
    measured = {r["label"]: r for r in answer(capsys, "measure", run, *asked[:2], *QUICK, "--json")["rows"]}
    assert list(measured) == ["masked", "skipping", "path, skipping", "path, cut"]
    assert measured["path, cut"]["macs_ratio"] <= 0.8
    assert answer(capsys, "evaluate", run, "--point", 2, "--json")["macs"] == kept.cut.macs
    answer(capsys, "cut", run, *asked, "--out", tmp_path / "cut", "--json")
    assert Spec.read(tmp_path / "cut").path == kept.path, "only paths can be cut"
    said = complaint(capsys, "measure", run, "--budget-ms", 3)
    assert "no times were measured" in said
    assert "has no point '9'" in complaint(capsys, "export", run, "--point", 9, "--out", tmp_path / "x.pt2")
    assert "--point says what to keep" in complaint(capsys, "measure", run, "--point", 1, "--budget-macs", 0.5)


def test_what_a_run_closes_for_every_image_is_measured_cut_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made(tmp_path / "fixed", tp.Fixed(("layer1.1", "layer3.2")))
    rows = {r["label"]: r for r in answer(capsys, "measure", run, *QUICK, "--json")["rows"]}
    assert list(rows) == ["masked", "skipping", "cut"]
    assert rows["cut"]["macs"] == rows["skipping"]["macs"]


def test_force_replaces_a_network_and_nothing_else(
    run: Path, cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    answer(capsys, "cut", run, "--point", 2, "--out", out, "--json")
    before = sorted(p.name for p in out.iterdir())
    assert "is there already and not empty" in complaint(capsys, "cut", run, "--point", 1, "--out", out)
    answer(capsys, "cut", run, "--point", 1, "--out", out, "--force", "--json")
    assert "thresholds.json" in {p.name for p in out.iterdir()} != set(before)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    assert "--force does not replace it" in complaint(capsys, "cut", run, "--point", 2, "--out", mine, "--force")
    assert (mine / "thesis.tex").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "out"]


def toy() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return ToyNet().eval(), torch.randn(4, 1, 6, 6)


def test_in_python_verbs_take_points_and_plain_networks(tmp_path: Path) -> None:
    model, x = toy()
    net = tp.route(ToyNet(), tp.GatedBlocks(), example=x).eval()
    net.model.load_state_dict(model.state_dict())
    shut = tp.Path({"block1": [False], "block2": [True]})
    path, gates = Point("every", shut, accuracy=0.5), Point("threshold", None, 0.3, accuracy=0.5)
    with torch.no_grad():
        want = net(x, shut)[0]
        for small in (tp.extract(net, path), tp.extract(model, shut, example=x), tp.extract(model, path, example=x)):
            torch.testing.assert_close(small(x), want)
        with pytest.raises(PathError, match="at this point gates decide, at threshold 0\\.3"):
            tp.extract(net, gates)
        tp.export(model, tmp_path / "plain.pt2", x)
        torch.testing.assert_close(torch.export.load(tmp_path / "plain.pt2").module()(x[:1]), model(x[:1]))
    own = tp.measure(model, x, shut, against=model, seconds=0.01)
    assert own.macs == tp.measure(net, x, path, seconds=0.01).macs
    with pytest.raises(MeasureError, match="give the plain network"):
        tp.measure(model, x)
    with pytest.raises(RouteError, match="give some"):
        tp.export(model, tmp_path / "x.pt2")
    with pytest.raises(PathError, match="none opens at a threshold"):
        tp.measure(tp.route(toy()[0], example=x), x, gates)


def test_a_threshold_is_set_on_a_copy_of_the_network(run: Path) -> None:
    net = open_run(run).net
    point = Front.load(run, net).point("gates at 1.5")
    x = torch.randn(8, *net.example_shape)
    tp.measure(net, x, point, seconds=0.01)
    assert {d.threshold for d in net.deciders.values() if isinstance(d, tp.Gate)} == {0.0}
    with pytest.raises(BudgetError, match="Did you mean 'gates at 1\\.5'"):
        Front.load(run, net).point("gates at 1.4")
