"""Claims about what a survey may hold beside its counts: units shut alone, images, milliseconds, the front."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import torchpaths as tp
import toys
from coded_toys import CODED, WITH_BRANCHES
from filter_toys import blocks, noise
from laws import halved
from survey_toy import Toy, loader
from test_cli_artefacts import made
from torchpaths.cli.measured import measured
from torchpaths.costs import evaluating
from torchpaths.data import open_data
from torchpaths.errors import DataError
from torchpaths.explorer.document import document
from torchpaths.fronts import Front, Point
from torchpaths.surveys import Survey, survey
from torchpaths.surveys.alone import each_shut, shut_alone
from torchpaths.surveys.gallery import easy_and_hard_images, gallery, thumbnail
from torchpaths.train.evaluate import open_run
from verbs import answer, briefly, complaint


def gated() -> tuple[tp.Routed, Tensor]:
    model, x = toys.toy("torchvision/resnet")
    x = torch.cat([x, x.flip(0) * 2 + 1, x * 3])
    return halved(tp.route(model, tp.GatedBlocks(), example=x), x), x


def drawing() -> tuple[tp.Routed, Tensor]:
    net, x = gated()
    for gate in net.deciders.modules():
        if isinstance(gate, tp.Gate):
            gate.inference = "sample"
    return net, x


def filters() -> tuple[tp.Routed, Tensor]:
    return blocks([tp.GatedBlocks(), tp.GatedFilters()]), noise(12)[0]


def coded() -> tuple[tp.Routed, Tensor]:
    make, side, _ = WITH_BRANCHES["own/resnext"]
    model, x = toys.made(make, side)
    return tp.route(model, CODED, example=x).eval(), x


def depth() -> tuple[tp.Routed, Tensor]:
    model, x = toys.toy("torchvision/resnet")
    return tp.route(model, tp.AdaptiveDepth(), example=x).eval(), x


@pytest.mark.parametrize("network", [gated, drawing, filters, coded, depth], ids=lambda made: made.__name__)
def test_a_unit_is_shut_for_the_images_that_open_it_and_the_others_do_as_they_do(network: object) -> None:
    net, x = network()  # type: ignore[operator]
    with torch.no_grad():
        logits, trace = net(x)
        done = set()
        for number, rows, without, _ in each_shut(net, x, trace):
            unit = net.layout.units[number]
            assert rows.tolist() == trace[unit.site].open[:, unit.index].nonzero().flatten().tolist()
            for i, scores in zip(rows.tolist(), without, strict=True):
                opened = trace[unit.site].open[i].tolist()
                opened[unit.index] = False
                drawn = {s: made.open[i].tolist() for s, made in trace.items() if network is drawing}
                wanted, _ = net(x[i : i + 1], tp.Path({**drawn, unit.site: opened}))
                torch.testing.assert_close(scores, wanted[0], atol=1e-5, rtol=1e-4)
                done.add((number, float((wanted[0] - logits[i]).abs().max()) > 1e-6))
        opened_ = {
            n for n, u in enumerate(net.layout.units) if u.site in trace and trace[u.site].open[:, u.index].any()
        }
        assert {number for number, _ in done} == opened_
        assert any(changed for _, changed in done)


def test_the_points_of_a_unit_are_the_accuracy_lost_without_it() -> None:
    net, x = gated()
    with torch.no_grad():
        logits, trace = net(x)
        y = logits.argmax(1)
        y[::3] = (y[::3] + 1) % logits.shape[1]  # some are wrong, and may be right without a unit
        right = logits.argmax(1) == y
        lost = np.zeros(len(net.layout.units))
        for number, rows, without, _ in each_shut(net, x, trace):
            lost[number] = int(right[rows].sum() - (without.argmax(1) == y[rows]).sum())
    assert lost.any()
    net.train()
    found = shut_alone(net, [(x[:5], y[:5]), (x[5:], y[5:])])
    assert net.training, "put back as it was"
    assert found.points == tuple((lost / len(x)).tolist())
    assert (found.images, found.accuracy) == (len(x), int(right.sum()) / len(x))
    with torch.no_grad(), evaluating(net):
        traces = [net(x, tp.Path({unit.site: [False]}))[1] for unit in net.layout.units]
        for ran, cost in zip([net(x)[1], *traces], [found.before, *(found.cost or ())], strict=True):
            path = tp.Path.of(ran)
            opened = sum(made.open.sum() for made in ran.values()) / len(x)
            assert cost == pytest.approx((float(path.macs(net).double().mean()), float(opened)))


def test_nothing_is_shut_over_no_images() -> None:
    net, _ = gated()
    with pytest.raises(DataError, match="no images"):
        shut_alone(net, [])


def test_the_gallery_shows_the_images_that_use_fewest_and_most_units() -> None:
    found = survey(Toy(), loader(), keep_paths=True)
    assert found.samples is not None
    chosen = easy_and_hard_images(found)
    assert chosen.tolist() == [3, 2, 0, 1, 8, 6, 7, 4, 5, 9], "class by class, by units and then by MACs, none twice"
    with pytest.raises(DataError, match="keep_paths=True"):
        easy_and_hard_images(survey(Toy(), loader()))


def test_of_many_classes_a_gallery_has_at_most_120_images() -> None:
    x = torch.ones(900, 304)
    y = torch.arange(900) % 300

    class Many(Toy):
        def forward(self, x: Tensor, path: tp.Path | None = None) -> tuple[Tensor, tp.Trace]:
            return torch.zeros(len(x), 300), super().forward(x[:, :7], path)[1]

    chosen = easy_and_hard_images(survey(Many(), [(x, y)], keep_paths=True))
    assert len(chosen) == 120
    assert len(set(chosen.tolist())) == 120


def test_an_image_of_the_gallery_has_what_the_network_makes_of_it() -> None:
    net, x = gated()
    pixels = np.random.default_rng(0).integers(0, 256, (len(x), 64, 48, 3), np.uint8)
    shown = gallery(net, np.arange(100, 100 + len(x)), x, [1] * len(x), pixels, without=True)
    with torch.no_grad():
        logits, trace = net(x)
        opened = torch.cat([trace[s].open if s in trace else torch.zeros(len(x), 1) for s in net.sites], 1).bool()
        for i, image in enumerate(shown):
            assert (image.number, image.label) == (100 + i, 1)
            bits = np.unpackbits(np.frombuffer(image.packed, np.uint8), count=len(net.sites)).astype(bool)
            np.testing.assert_array_equal(bits, opened[i].numpy())
            assert image.top[0][0] == int(logits[i].argmax())
            assert image.top[0][1] == pytest.approx(float(logits[i].softmax(0).max()), abs=1e-4)
            assert set(image.without) == set(np.flatnonzero(bits).tolist()), "what is shut anyway is not tried"
            for (site, made), score in zip(trace.items(), image.score, strict=True):
                came = made.ran is None or bool(made.ran[i])
                assert (score is not None) == came, site
                if came and made.score is not None:
                    assert score == pytest.approx(float(made.score[i, 0]), abs=1e-4)
            for unit, top in image.without.items():
                without, _ = net(x[i : i + 1], tp.Path({net.layout.units[unit].site: [False]}))
                assert top[0][0] == int(without.argmax())
            assert Image.open(io.BytesIO(image.thumb)).size == (24, 32)


def test_grey_images_have_thumbnails_and_small_ones_stay_as_they_are() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    back = Image.open(io.BytesIO(thumbnail(grey)))
    np.testing.assert_array_equal(np.asarray(back), grey[..., 0])


def test_too_many_units_to_try_each_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchpaths.surveys.gallery.MOST_UNITS", 2)
    net, x = gated()
    with pytest.raises(DataError, match="2 at most"):
        gallery(net, np.arange(len(x)), x, [0] * len(x), np.zeros((len(x), 4, 4, 3), np.uint8), without=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A gated run, and a front of one path and one threshold."""
    folder = made(tmp_path_factory.mktemp("columns") / "run", tp.GatedBlocks())
    net = open_run(folder).net
    path = tp.Path({site: i < 5 for i, site in enumerate(net.sites)}, net.layout.fingerprint)
    points = (
        Point("greedy", path, accuracy=0.4, macs=float(path.cost(net).macs), open=0.5),
        Point("threshold", None, 0.0, accuracy=0.5, macs=2e6, open=0.6),
    )
    Front(net.layout, points, (), 0.9, 10, cloud=((1e6, 0.3),)).save(folder)
    return folder


def test_the_verb_measures_what_is_asked_for_and_reads_the_runs_front(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    briefly(monkeypatch)
    asked = ["--alone", "--alone-images", "20", "--gallery", "--times", "--batch", "2", "--keep", "50"]
    answered = answer(capsys, "survey", run, *asked, "--out", tmp_path, "--json")
    found = Survey.load(answered["survey"])
    assert found.samples is not None
    assert len(found.samples.numbers) == 50
    assert found.alone is not None
    assert found.alone.images == 20
    assert found.times is not None
    assert found.times.setting.batch == 2
    assert answered["alone"]["images"] == 20
    assert list(answered["alone"]["lost_by_unit"].values()) == list(found.alone.points)
    assert answered["times"]["ms"] == found.times.ms
    assert answered["times"]["warnings"] == list(found.times.warnings)
    said = "\n".join(measured(dataclasses.replace(found, times=dataclasses.replace(found.times, warnings=("busy",)))))
    for words in ("on 20 images", f"kept {len(found.gallery)} images", "batch 2", "! busy"):
        assert words in said
    labels = {image.label for image in found.gallery}
    assert labels <= set(range(10))
    assert all(image.without for image in found.gallery if any(image.packed))
    assert [(p.kind, p.threshold) for p in found.front] == [("greedy", None), ("threshold", 0.0)]
    assert found.front[0].packed == np.packbits([i < 5 for i in range(len(found.layout.units))]).tobytes()
    assert found.cloud == ((1e6, 0.3),)


def test_the_front_of_another_network_is_left_out_and_told(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (run / "front.json").read_text()
    data = json.loads(text)
    data["network"]["fingerprint"] = "0" * 16
    (run / "front.json").write_text(json.dumps(data))
    try:
        file = answer(capsys, "survey", run, "--out", tmp_path, "--json")["survey"]
    finally:
        (run / "front.json").write_text(text)
    assert Survey.load(file).front == ()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--keep", "0"], "--keep 0"),
        (["--limit", "0"], "--limit 0"),
        (["--alone", "--alone-images", "0"], "0 images"),
        (["--times", "--batch", "0"], "0"),
    ],
)
def test_nothing_to_measure_on_is_refused(
    run: pathlib.Path, capsys: pytest.CaptureFixture[str], asked: list[str], message: str
) -> None:
    assert message in complaint(capsys, "survey", run, *asked)


def test_the_gallery_holds_its_images_attacked_as_they_were_seen(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["survey", run, "--gallery", "--attack", "16/255", "--keep", "50", "--out", tmp_path, "--json"]
    found = Survey.load(answer(capsys, *asked)["survey"])
    opened = open_run(run)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (opened.mean, opened.std))
    for image in found.gallery:
        [attacked] = image.attacked
        assert (attacked.name, attacked.strength) == ("fgsm", 16 / 255)
        before, after = (np.asarray(Image.open(io.BytesIO(i.thumb)), np.int64) for i in (image, attacked))
        assert np.abs(after - before).max() == 16
        with torch.no_grad():
            logits, trace = opened.net((torch.tensor(after)[None, None] / 255 - mean) / std)
        assert attacked.top[0][0] == int(logits.argmax())
        bits = [bool(d.open[0, i]) for d in trace.values() for i in range(d.open.shape[1])]
        assert attacked.packed == np.packbits(bits).tobytes()
    shown = document(found)["images"]
    assert {each["attacked"][0]["strength"] for each in shown} == {16.0}
    assert "1/255 or more" in complaint(capsys, "survey", run, "--gallery", "--attack", "0.5/255", "--out", tmp_path)
    assert "a number from 0 to 1" in complaint(capsys, "survey", run, "--gallery", "--attack", "8")


def test_a_limit_surveys_images_drawn_from_the_whole_set_and_knows_them_by_their_numbers(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = answer(capsys, "survey", run, "--limit", 40, "--gallery", "--out", tmp_path / "few", "--json")
    every = answer(capsys, "survey", run, "--out", tmp_path / "all", "--json")
    assert (few["images"], every["images"]) == (40, len(open_data("digits", "test")))
    drawn, kept = (Survey.load(each["survey"]) for each in (few, every))
    assert drawn.samples is not None
    assert kept.samples is not None
    numbers = drawn.samples.numbers
    assert numbers.tolist() != list(range(40)), "not the first"
    for name in ("packed", "labels", "predictions", "macs"):
        np.testing.assert_array_equal(getattr(drawn.samples, name), getattr(kept.samples, name)[numbers])
    pixels = open_data("digits", "test").read([image.number for image in drawn.gallery])
    assert [image.thumb for image in drawn.gallery] == [thumbnail(each) for each in pixels]
    more = answer(capsys, "survey", run, "--limit", 10**6, "--out", tmp_path / "more", "--json")
    assert {**more, "survey": ""} == {**every, "survey": ""}
