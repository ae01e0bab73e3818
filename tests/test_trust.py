"""What paths say about images: answers, scores of suspicion, AUROC and FPR95, calibration, asking again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

import torchpaths as tp
from decoding_toys import coded, images
from torchpaths.attacks import Sample
from torchpaths.data import open_data
from torchpaths.errors import DataError
from torchpaths.trust import (
    Answers,
    Known,
    answers,
    by_budget,
    by_path,
    escalations,
    reliability,
    separation,
    suspicion,
)
from torchpaths.trust.roc import threshold, wilson
from toys import toy

NEVER = float("inf")


def answered(logits: Any, labels: Any = None, marks: Any = None, *, hard: bool = True, macs: Any = None) -> Answers:
    """Answers of a made-up network; marks of one site."""
    scores = np.asarray(logits, np.float32)
    count = len(scores)
    marked = np.zeros((count, 0), np.float32) if marks is None else np.asarray(marks, np.float32)
    units = marked.shape[1]
    return Answers(
        scores,
        scores.argmax(1) if labels is None else np.asarray(labels),
        marked,
        ("gates",) * units,
        np.full(units, hard),
        np.ones(count) if macs is None else np.asarray(macs, np.float64),
        marked > 0.5,
    )


SCORES = np.eye(2, dtype=np.float32)


def test_marks_are_what_images_decide_about_and_energies() -> None:
    model, x = toy("torchvision/narrow")
    labels = torch.tensor([0, 1, 2, 3])
    net = tp.route(model, [tp.AdaptiveDepth(), tp.GatedBlocks()], example=x).eval()
    seen = answers(net, [(x[:3], labels[:3]), (x[3:], labels[3:])])
    trace = net(x)[1]
    gates = [name for name in net.sites if net.sites[name].kind == "block"]
    assert seen.sites == tuple(gates), "a stage is set from outside and says nothing of an image"
    assert np.array_equal(seen.marks, torch.cat([trace[site].open for site in gates], 1).numpy())
    assert seen.hard.all()
    assert np.array_equal(seen.macs, tp.Path.of(trace).macs(net).numpy())
    along = answers(net, [(x, labels)], tp.Path.full(net))
    assert along.sites == ()
    branches = coded()
    x, y = images(4)
    seen = answers(branches, [(x, y)])
    assert not seen.hard.any()
    assert np.allclose(seen.marks.sum(1), 10 * len(set(seen.sites)), atol=1e-3), "energies of mean 1, ten to a block"
    assert seen.bits.dtype == bool
    assert 0 < seen.bits.mean() < 1


def test_rarity_counts_the_very_path() -> None:
    known = Known.of(answered(SCORES[[0] * 7], marks=[[1, 0]] * 6 + [[0, 0]]))
    seen = answered(SCORES[[0, 0, 0]], marks=[[1, 0], [0, 0], [1, 1]])
    assert np.allclose(known.rarity(seen), [np.log2(8 / 7), np.log2(8 / 2), np.log2(8)])


def test_distance_is_to_the_paths_of_the_predicted_class() -> None:
    known = Known.of(answered(SCORES[[0] * 5 + [1] * 5], marks=[[1, 0]] * 5 + [[0, 1]] * 5))
    seen = answered(SCORES[[0, 0, 1]], marks=[[1, 0], [0, 1], [0, 1]])
    assert known.distance(seen).tolist() == [0, 1, 0]


def test_likelihood_is_a_coin_for_each_gate_and_a_normal_for_each_energy() -> None:
    known = Known.of(answered(SCORES[[0] * 4 + [1] * 4], marks=[[1, 0]] * 6 + [[1, 1]] * 2))
    seen = answered(SCORES[[0, 1]], marks=[[1, 1], [1, 1]])
    rates = np.array([8.5, 2.5]) / 9
    wanted = [
        -np.log((4 + rates[0]) / 5) - np.log(rates[1] / 5),
        -np.log((4 + rates[0]) / 5) - np.log((2 + rates[1]) / 5),
    ]
    assert np.allclose(known.likelihood(seen), wanted)
    energies = np.array([[0.5], [1.0], [1.5]])
    known = Known.of(answered(SCORES[[0] * 3], marks=energies, hard=False))
    spread = energies.std()
    wanted = 0.5 * (1 / spread) ** 2 + np.log(spread) + 0.5 * np.log(2 * np.pi)
    assert np.allclose(known.likelihood(answered(SCORES[[0]], marks=[[2.0]], hard=False)), wanted)


def test_a_class_of_few_images_is_as_sure_of_what_is_always_open() -> None:
    always = np.ones((103, 1000))
    known = Known.of(answered(SCORES[[0] * 100 + [1] * 3], marks=always))
    common, few = known.likelihood(answered(SCORES[[0, 1]], marks=always[:2]))
    assert few == pytest.approx(common, abs=5)
    assert few < 10, "of a thousand units"


def test_a_class_for_which_no_training_image_was_taken_is_as_suspicious_as_can_be() -> None:
    known = Known.of(answered(SCORES[[0, 0]], marks=[[1, 0], [1, 1]]))
    assert known.unseen == [1]
    seen = answered(SCORES[[1, 0]], marks=[[1, 0], [1, 0]])
    assert known.distance(seen).tolist() == [NEVER, 0.25]
    assert known.likelihood(seen)[0] == NEVER
    found = separation(known.likelihood(seen)[1:], known.likelihood(seen)[:1])
    assert found.auroc == 1
    with pytest.raises(DataError, match="no training image was taken for class 1"):
        known.nearest_path(seen, 1)


def test_scores_are_there_where_they_mean_something() -> None:
    seen = answered(SCORES)
    known = Known.of(seen)
    assert set(suspicion(known, seen)) == {"softmax", "energy"}
    assert set(suspicion(known, seen, [answered(SCORES[::-1])])) == {"softmax", "energy", "depths"}
    assert np.all(suspicion(known, seen, [seen])["depths"] == 0)
    marked = answered(SCORES, marks=[[1], [0]])
    assert set(suspicion(Known.of(marked), marked)) == {"rarity", "distance", "likelihood", "softmax", "energy"}
    sure = suspicion(known, answered([[9, 0], [1, 0]], [0, 0]))
    assert sure["softmax"][0] < sure["softmax"][1]
    assert sure["energy"][0] < sure["energy"][1]
    with pytest.raises(DataError, match="give answers of one network along one path"):
        suspicion(known, marked)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_and_fpr95_are_scikit_learns(ties: bool) -> None:
    draw = np.random.default_rng(0)
    clean, strange = draw.normal(size=200), draw.normal(1, 1, 80)
    if ties:
        clean, strange = clean.round(), strange.round()
    found = separation(clean, strange)
    truth, scores = np.repeat([0, 1], [200, 80]), np.concatenate([clean, strange])
    assert found.auroc == pytest.approx(roc_auc_score(truth, scores))
    passing, accepted, _ = roc_curve(1 - truth, -scores, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(passing[accepted >= 0.95].min())
    assert np.mean(clean <= threshold(clean)) >= 0.95
    assert found.interval[0] < found.auroc < found.interval[1]
    assert (found.clean, found.strange) == (200, 80)


def test_intervals_hold_the_truth_in_95_of_100_draws() -> None:
    draw = np.random.default_rng(1)
    truth = 0.7602499389065233  # of two normal variables of distance 1
    held = [separation(draw.normal(size=60), draw.normal(1, 1, 60)).interval for _ in range(400)]
    assert 0.92 < np.mean([low <= truth <= high for low, high in held]) < 0.98
    drawn = [wilson(int(draw.binomial(50, 0.9)), 50) for _ in range(400)]
    assert 0.92 < np.mean([low <= 0.9 <= high for low, high in drawn]) < 0.99
    assert wilson(0, 0) == (0, 1)
    assert wilson(90, 100) == pytest.approx((0.826, 0.945), abs=1e-3)
    assert wilson(5, 5)[1] == pytest.approx(1)


def unsure(images: int, scale: float, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits that are right as often as they say, times a scale; and labels."""
    draw = np.random.default_rng(seed)
    logits = 1.5 * draw.normal(size=(images, 4))
    powers = np.exp(logits)
    labels = np.array([draw.choice(4, p=p) for p in powers / powers.sum(1, keepdims=True)])
    return logits * scale, labels


def test_each_budget_gets_a_temperature_of_its_own() -> None:
    honest, labels = unsure(3000, 1.0)
    groups = by_budget({"large": answered(honest, labels), "small": answered(honest * 4, labels)})
    large, small = groups
    assert [group.name for group in groups] == ["large", "small"]
    assert large.images == 1500
    assert small.ways["own"].scaling.bias == pytest.approx(large.ways["own"].scaling.bias + np.log(4), abs=0.02)
    eces = {way: made.reliability.ece for way, made in small.ways.items()}
    assert eces["own"] < 0.05 < eces["unscaled"]
    assert eces["first"] == pytest.approx(eces["unscaled"], abs=0.02)


def test_a_temperature_by_path_helps_where_rare_paths_are_too_sure() -> None:
    sure, labels = unsure(4000, 1.0)
    rare = np.arange(4000) % 4 == 0
    sure[rare] *= 4
    marks = np.zeros((4000, 3))
    marks[rare] = 1
    seen = answered(sure, labels, marks)
    groups = by_path(Known.of(seen), seen)
    assert groups[0].name == "common"
    assert sum(group.images for group in groups) == 2000
    last = groups[-1]
    assert last.ways["path"].reliability.ece < last.ways["one"].reliability.ece - 0.05
    assert last.ways["path"].nll < last.ways["unscaled"].nll


def test_calibration_wants_images_and_paths() -> None:
    logits, labels = unsure(4, 1.0)
    with pytest.raises(DataError, match="do not depend on the image"):
        by_path(Known.of(answered(logits)), answered(logits))
    with pytest.raises(DataError, match="give both some"):
        by_budget({"one": answered(logits[:1], labels[:1])})
    with pytest.raises(DataError, match="no budget"):
        by_budget({})


def test_reliability_is_shared_with_decoding() -> None:
    from torchpaths.decoding import reliability as theirs

    assert theirs is reliability


def test_suspicious_images_are_asked_again_first() -> None:
    labels = np.array([0, 0, 0, 0])
    cheap = answered(SCORES[[1, 0, 0, 1]], labels, macs=[1, 1, 1, 1])
    dear = answered(SCORES[[0, 0, 1, 0]], labels, macs=[10, 10, 10, 10])
    good, bad = np.array([4.0, 1, 0, 3]), np.array([0.0, 1, 2, 0])
    found = escalations(cheap, dear, {"good": good, "bad": bad})
    curve = found["good"]
    half = np.flatnonzero(curve.shares == 0.5)[0]
    assert curve.accuracy[[0, half, -1]].tolist() == [0.5, 1.0, 0.75]
    assert curve.macs[[0, half, -1]].tolist() == [1, 6, 11]
    assert curve.chance[half] == 0.625
    assert found["bad"].gain < 0 < curve.gain
    with pytest.raises(DataError, match="different images"):
        escalations(cheap, answered(SCORES[[0]], [0]), {})
    with pytest.raises(DataError, match="not numbers"):
        escalations(cheap, dear, {"x": np.array([1, 2, 3, np.nan])})


def test_samples_are_the_same_each_time_and_at_least_one_image() -> None:
    data = open_data("digits", "test")
    first, second = (Sample.of(data, 20, seed=3) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert first.x.shape == (20, 1, 8, 8)
    assert [len(y) for _, y in first.batches(8)] == [8, 8, 4]
    assert len(Sample.of(data, None)) == len(data)
    assert float(torch.cat([x for x, _ in first.batches(8)]).max()) == 1.0
    with pytest.raises(DataError, match="0 images: take at least one"):
        Sample.of(data, 0)


def test_scores_that_are_no_numbers_and_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="not numbers"):
        separation(np.array([0.0, np.nan]), np.array([1.0]))
    with pytest.raises(DataError, match="of one image or more"):
        separation(np.zeros(0), np.array([1.0]))
    with pytest.raises(DataError, match="gave no images"):
        answers(coded(), [])
    x, y = images(4)
    with pytest.raises(DataError, match="label 10 is out of range"):
        answers(coded(), [(x, y + 7)])
