"""The analyses of Coded ResNeXt on networks: removal, classifiers of classes, early decoders, the plain twin, and the
report of all."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from decoding_toys import METHOD, coded, exact, images, made_up, resnext
from torchpaths.coding.decode import decoders
from torchpaths.coding.schemes import codes
from torchpaths.decoding import (
    Readings,
    calibrate,
    class_path,
    class_scores,
    classifiers,
    decode_report,
    early,
    read,
    removal,
)
from torchpaths.decoding.draw_classes import draw_classifiers, draw_removal, draw_scores
from torchpaths.decoding.draw_confidence import draw_agreement, draw_decoders, draw_reliability
from torchpaths.decoding.words import Batches
from torchpaths.errors import CodeError, DataError, PathError, RunError

BLOCK = "layer3.1.branches"


@pytest.fixture(scope="module")
def net() -> tp.Routed:
    return coded()


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    return images(60)


def cut(batch: tuple[Tensor, Tensor], *sizes: int) -> Batches:
    """The images in batches of these sizes."""
    x, y = (torch.split(part, list(sizes)) for part in batch)
    return list(zip(x, y, strict=True))


def accuracy(net: tp.Routed, batch: tuple[Tensor, Tensor], path: tp.Path | None = None) -> float:
    with torch.no_grad():
        return float((net(batch[0], path)[0].argmax(1) == batch[1]).float().mean())


def test_a_class_path_is_the_methods(net: tp.Routed) -> None:
    for k in range(10):
        assert class_path(METHOD.words(net), net, k) == METHOD.path(net, classes=[k])


def test_scores_of_a_class_are_the_logits_of_the_network_cut_out_for_it(
    net: tp.Routed, batch: tuple[Tensor, Tensor]
) -> None:
    found = class_scores(net, cut(batch, 37, 23), METHOD.words(net))
    assert found.values.shape == (60, 10)
    for k in range(10):
        small = tp.extract(net, METHOD.path(net, classes=[k]))
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found.values[:, k]), small(batch[0])[:, k])
    assert np.array_equal(found.labels, batch[1].numpy())


def test_scores_of_the_whole_network_are_its_logits(net: tp.Routed, batch: tuple[Tensor, Tensor]) -> None:
    found = class_scores(net, cut(batch, 60))
    with torch.no_grad():
        assert np.array_equal(found.values, net(batch[0])[0].numpy())


def test_removing_nothing_is_the_networks_accuracy_and_all_of_a_kind_a_path(
    net: tp.Routed, batch: tuple[Tensor, Tensor]
) -> None:
    words = METHOD.words(net)
    found = removal(net, cut(batch, 25, 35), words, BLOCK, repeats=2)
    own = words[BLOCK][batch[1]]
    for values, among in ((found.active, own), (found.inactive, ~own)):
        assert values.shape == (2, int(among[0].sum()) + 1)
        assert values[:, 0] == pytest.approx(accuracy(net, batch))
        assert values[:, -1] == pytest.approx(accuracy(net, batch, tp.Path({BLOCK: ~among})))


def test_removing_all_inactive_of_the_only_coded_block_is_the_class_path(batch: tuple[Tensor, Tensor]) -> None:
    words = tuple("".join(str(int(bit)) for bit in word) for word in codes(10, 10, 3))
    method = tp.CodedPaths(classes=10, schemes=((), (), words))
    model = resnext()
    model.layer3 = nn.Sequential(model.get_submodule("layer3.0"))
    net = tp.route(model, method, example=batch[0][:2]).eval()
    assert list(method.words(net)) == ["layer3.0.branches"]
    found = removal(net, [batch], method.words(net), "layer3.0.branches")
    x, y = batch
    right = [accuracy(net, (x[y == k], y[y == k]), method.path(net, classes=[k])) for k in range(10)]
    assert found.inactive[:, -1] == pytest.approx(np.mean(right))


def test_so_many_branches_of_the_right_kind_are_removed_for_each_image(
    net: tp.Routed, batch: tuple[Tensor, Tensor]
) -> None:
    seen: list[Tensor] = []

    def keep(module: Any, args: tuple[Any, ...]) -> None:
        if args[1] is not None:
            seen.append(~args[1][BLOCK])

    handle = net.register_forward_pre_hook(keep)
    try:
        removal(net, [batch], METHOD.words(net), BLOCK, repeats=2)
    finally:
        handle.remove()
    own = METHOD.words(net)[BLOCK][batch[1]]
    counts = {True: [], False: []}  # type: dict[bool, list[int]]
    for closed in seen:
        of_own = bool((closed & own).any())
        assert not bool((closed & (~own if of_own else own)).any())
        [count] = set(closed.sum(1).tolist())
        counts[of_own].append(count)
    assert (counts[True], counts[False]) == ([3, 1, 2, 1, 2], [7, *range(1, 7), *range(1, 7)])
    ones = [closed for closed in seen if set(closed.sum(1).tolist()) == {1}]
    assert any(len(set(closed.int().argmax(1)[batch[1] == 0].tolist())) > 1 for closed in ones), "drawn by image"


def test_draws_are_seeded_and_do_not_depend_on_batches(net: tp.Routed, batch: tuple[Tensor, Tensor]) -> None:
    def found(seed: int, *sizes: int) -> list[list[float]]:
        made = removal(net, cut(batch, *sizes), METHOD.words(net), BLOCK, repeats=2, seed=seed)
        return [*made.active.tolist(), *made.inactive.tolist()]

    assert found(0, 60) == found(0, 7, 30, 23)
    assert found(0, 60) != found(1, 60)


def test_where_energies_are_codewords_every_decoder_is_right() -> None:
    net, x, y = exact()
    readings = read(net, [(x, y)])
    assert np.array_equal(readings.decoded[:, 0], y.numpy())
    assert early(readings).decoders.tolist() == [1.0]
    assert (readings.margins > 1).all()
    other = read(net, [(x, (y + 1) % 10)])
    assert early(other).decoders.tolist() == [0.0]


def test_readings_are_the_decoders_of_the_trace(net: tp.Routed, batch: tuple[Tensor, Tensor]) -> None:
    readings = read(net, cut(batch, 11, 49))
    with torch.no_grad():
        logits, trace = net(batch[0])
    told = decoders(net, trace)
    assert readings.sites == tuple(told)
    torch.testing.assert_close(torch.from_numpy(readings.logits), logits)
    for at, distances in enumerate(told.values()):
        assert np.array_equal(readings.decoded[:, at], distances.argmin(1).numpy())
        nearest = distances.sort(1).values
        torch.testing.assert_close(torch.from_numpy(readings.margins[:, at]), nearest[:, 1] - nearest[:, 0])


def test_the_table_of_agreement_sums_to_all_images_and_counts_what_agrees() -> None:
    readings = made_up(500)
    found = early(readings)
    rows = found.table()
    assert [row.label for row in rows] == ["0", "1", "2", "3", "4", "5", "≥ 6"]
    assert sum(row.images for row in rows) == 500
    assert sum(row.right for row in rows) == readings.right.sum()
    predicted = readings.logits.argmax(1)
    for n, row in enumerate(rows):
        agreeing = np.array([(d == p).sum() for d, p in zip(readings.decoded, predicted, strict=True)])
        chosen = agreeing >= 6 if n == 6 else agreeing == n
        assert row.images == chosen.sum()
        assert row.accuracy == pytest.approx((predicted == readings.labels)[chosen].mean())
    assert [row.label for row in early(made_up(50, blocks=2)).table()] == ["0", "1", "2"]


def test_a_block_to_which_no_image_came_decodes_nothing() -> None:
    made = made_up(4, blocks=2)
    decoded = made.decoded.copy()
    decoded[:, 1] = -1
    told = early(Readings(made.sites, made.logits, made.labels, decoded, made.margins))
    assert np.isnan(told.decoders[1])
    assert told.to_json()["decoders"]["block1"] is None
    assert told.images[2] == 0


def test_images_that_do_not_come_to_a_block_are_not_decoded_there(batch: tuple[Tensor, Tensor]) -> None:
    both = tp.route(resnext(), [METHOD, tp.RandomDrop(0.5)], example=batch[0][:2]).eval()
    torch.manual_seed(0)
    readings = read(both, [batch])
    torch.manual_seed(0)
    with torch.no_grad():
        trace = both(batch[0])[1]
    some = False
    for at, site in enumerate(readings.sites):
        opened = trace[site].ran if site in trace else torch.zeros(60, dtype=torch.bool)
        came = np.ones(60, bool) if opened is None else opened.numpy()
        some |= bool(0 < came.sum() < 60)
        assert np.array_equal(readings.decoded[:, at] >= 0, came)
    assert some


def test_a_plain_twin_with_all_open_is_itself_and_along_a_path_has_its_channels_zeroed(
    batch: tuple[Tensor, Tensor],
) -> None:
    original, x = resnext(), batch[0]
    twin = tp.route(copy.deepcopy(original), tp.Branches(), example=x[:2]).eval()
    words = {site: word for site, word in METHOD.words(coded()).items() if site in twin.sites}
    assert len(words) == 4
    with torch.no_grad():
        assert torch.equal(twin(x)[0], original(x))
    path = class_path(words, twin, 3)
    by_hand = copy.deepcopy(original)
    for site, opened in path.items():
        conv: Any = by_hand.get_submodule(site.replace("branches", "conv3"))
        kept = torch.as_tensor(opened).repeat_interleave(conv.weight.shape[1] // 10)
        conv.weight.data *= kept.view(1, -1, 1, 1)
    with torch.no_grad():
        expected = by_hand(x)
        torch.testing.assert_close(twin(x, path)[0], expected)
        each = tp.Path({site: torch.as_tensor(opened).expand(len(x), -1) for site, opened in path.items()})
        torch.testing.assert_close(twin(x, each)[0], expected)
        small = tp.extract(twin, path & tp.Path.full(twin))
        torch.testing.assert_close(small(x), expected)
    assert sum(p.numel() for p in small.parameters()) == (path & tp.Path.full(twin)).cost(twin).params
    scores = class_scores(twin, [batch], words)
    torch.testing.assert_close(torch.from_numpy(scores.values[:, 3]), expected[:, 3])


def test_analyses_leave_modes_as_they_were(net: tp.Routed, batch: tuple[Tensor, Tensor]) -> None:
    words = METHOD.words(net)
    net.train()
    net.model.get_submodule("bn1").eval()
    try:
        modes = [m.training for m in net.modules()]
        class_scores(net, [batch], words)
        read(net, [batch])
        with pytest.raises(DataError):
            removal(net, [(batch[0], batch[1] + 50)], words, BLOCK)
        assert [m.training for m in net.modules()] == modes
    finally:
        net.eval()


def test_mistakes_are_named_with_a_remedy(net: tp.Routed, batch: tuple[Tensor, Tensor]) -> None:
    words = METHOD.words(net)
    bare = tp.route(resnext(), tp.Branches(), example=batch[0][:2])
    with pytest.raises(CodeError, match=r"has no coded site.*train it with CodedPaths"):
        read(bare, [batch])
    with pytest.raises(CodeError, match="has no coded site"):
        class_scores(bare, [batch], {})
    with pytest.raises(CodeError, match=r"'nowhere', and ResNeXt has no site.*routed with torchpaths.Branches\(\)"):
        class_scores(bare, [batch], {"nowhere": words[BLOCK]})
    with pytest.raises(CodeError, match=r"codewords of 4 branches for 'layer3.1.branches', and ResNeXt has 10 units"):
        class_scores(net, [batch], {BLOCK: words[BLOCK][:, :4]})
    with pytest.raises(CodeError, match=r"codewords for \[9, 10\] classes"):
        class_scores(net, [batch], {**words, BLOCK: words[BLOCK][:9]})
    with pytest.raises(CodeError, match="codewords for 9 classes, and the network tells 10 apart"):
        class_scores(net, [batch], {BLOCK: words[BLOCK][:9]})
    with pytest.raises(PathError, match="no class 10; classes are numbered from 0 to 9"):
        class_path(words, net, 10)
    with pytest.raises(PathError, match=r"'layer3.2.branches' is no coded site. Did you mean"):
        removal(net, [batch], words, "layer3.2.branches")
    with pytest.raises(DataError, match="repeats=0: draw at least once"):
        removal(net, [batch], words, BLOCK, repeats=0)
    for empty in (lambda: read(net, []), lambda: class_scores(net, []), lambda: removal(net, [], words, BLOCK)):
        with pytest.raises(DataError, match=r"gave no images.*check the split"):
            empty()
    with pytest.raises(DataError, match="out of range for 10 classes"):
        class_scores(net, [(batch[0], batch[1] + 90)])
    assert class_scores(net, [(batch[0], batch[1] + 90)], foreign=True).values.shape == (60, 10)
    broken = (batch[0] * float("nan"), batch[1])
    for run in (
        lambda: read(net, [broken]),
        lambda: class_scores(net, [broken], words),
        lambda: removal(net, [broken], words, BLOCK),
    ):
        with pytest.raises(RunError, match="scores of 60 of 60 images are not finite"):
            run()
    with pytest.raises(DataError, match="give each image one row"):
        Readings(("a",), np.zeros((2, 3), np.float32), np.zeros(3, int), np.zeros((3, 1), int), np.zeros((3, 1)))  # type: ignore[arg-type]


def test_the_report_holds_all_analyses_and_draws_them(
    net: tp.Routed, batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    twin = tp.route(resnext(1), tp.Branches(), example=batch[0][:2])
    others = (torch.randn(30, 3, 8, 8), torch.full((30,), 77))
    train = images(40, seed=1)
    report = decode_report(net, [train], [batch], [others], twin, repeats=2, folder=tmp_path, title="toy")
    json.dumps(report, allow_nan=False)
    assert report["images"] == {"train": 40, "test": 60, "foreign": 30}
    assert report["removal"]["site"] == "layer2.1.branches", "the last of the first coding scheme"
    assert list(report["classifiers"]) == ["negatives", "paths", "whole", "twin", "twin_whole"]
    assert report["accuracy"] == pytest.approx(accuracy(net, batch))
    costs = [(METHOD.path(net, classes=[k]) & tp.Path.full(net)).cost(net).params for k in range(10)]
    assert report["class_paths"]["params"] == pytest.approx(np.mean(costs))
    names = ("removal", "classifiers", "scores", "early-decoders", "agreement", "reliability")
    assert {Path(f).name for f in report["files"]} == {f"{n}.{kind}" for n in names for kind in ("png", "svg")}
    assert all(Path(f).stat().st_size > 1000 for f in report["files"])
    again = decode_report(net, [train], [batch], [others], twin, repeats=2)
    assert {**report, "files": []} == again
    short = decode_report(net, [train], [batch], repeats=1, site=BLOCK)
    assert short["removal"]["site"] == BLOCK
    assert short["classifiers"]["paths"]["foreign"] is None


def test_the_report_refuses_what_does_not_belong(net: tp.Routed, batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(DataError, match="3 class names for 10 classes"):
        decode_report(net, [batch], [batch], classes=("a", "b", "c"))
    with pytest.raises(PathError, match="'layer9' is no coded site"):
        decode_report(net, [batch], [batch], site="layer9")
    few = (batch[0][:9], batch[1][:9])
    with pytest.raises(DataError, match="class 9 has no images among 9 training images; give more, of every class"):
        decode_report(net, [few], [batch])
    gated = tp.route(resnext(), tp.GatedBlocks(), example=batch[0][:2])
    with pytest.raises(CodeError, match=r"a twin is the same model trained without codes, routed with torchpaths\.Br"):
        decode_report(net, [batch], [batch], twin=gated)


def test_figures_show_what_was_measured(net: tp.Routed, batch: tuple[Tensor, Tensor]) -> None:
    words = METHOD.words(net)
    removed = removal(net, [batch], words, BLOCK, repeats=2)
    lines = draw_removal(removed, "toy").axes[0].lines
    drawn = {len(line.get_ydata()): np.asarray(line.get_ydata()) for line in lines[1:]}  # type: ignore[arg-type]
    assert drawn[4] == pytest.approx(100 * removed.active.mean(0))
    assert drawn[8] == pytest.approx(100 * removed.inactive.mean(0))
    scores = class_scores(net, [batch], words)
    found = classifiers(scores, scores, scores)
    names = [f"class {k}" for k in range(10)]
    axes, _ = draw_classifiers({"paths": found}, names, "toy").axes
    points = next(line for line in axes.lines if len(line.get_xdata()) == 10)  # type: ignore[arg-type]
    assert np.asarray(points.get_xdata()) == pytest.approx(100 * found.test.recall)
    assert np.asarray(points.get_ydata()) == pytest.approx(100 * found.test.precision)
    assert len(draw_scores(scores, scores, 0.0, 0, names, "toy").axes[0].get_legend_handles_labels()[1]) == 3
    told = early(made_up(300))
    assert [b.get_height() for b in draw_decoders(told, "toy").axes[0].patches] == pytest.approx(100 * told.decoders)  # type: ignore[attr-defined]
    bars = draw_agreement(told, "toy").axes[0].patches
    assert [b.get_height() for b in bars] == pytest.approx([100 * (row.accuracy or 0) for row in told.table()])  # type: ignore[attr-defined]
    assert len(draw_reliability(calibrate(made_up(300)), "toy").axes) == 6
