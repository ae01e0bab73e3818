"""The arithmetic of decoding: thresholds, precision and recall, calibration, against brute force and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_recall_fscore_support

from decoding_toys import made_up
from torchpaths.decoding import Quality, Scores, best_threshold, calibrate, classifiers, fit, reliability
from torchpaths.decoding.binary import negatives_for
from torchpaths.decoding.calibration import features_of
from torchpaths.errors import DataError, RunError

few = st.lists(st.integers(-4, 4), min_size=1, max_size=12)


@settings(deadline=None)
@given(few, few)
def test_the_best_threshold_is_that_of_brute_force(positives: list[int], negatives: list[int]) -> None:
    p, n = np.array(positives, float), np.array(negatives, float)

    def f1(threshold: float) -> float:
        hits = int((p >= threshold).sum())
        return 2 * hits / (hits + int((n >= threshold).sum()) + len(p))

    threshold, value = best_threshold(p, n)
    tried = {t: f1(t) for t in np.arange(-5, 5.5, 0.5).tolist()}
    assert value == pytest.approx(max(tried.values()))
    assert f1(threshold) == pytest.approx(value)
    assert threshold == max(t for t in {*positives, *negatives} if f1(t) == pytest.approx(value))


def random_scores(count: int, classes: int, seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    values = rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    return Scores(values.astype(np.float32), labels)


def test_precision_recall_and_f1_are_scikit_learns() -> None:
    train, test, foreign = (random_scores(n, 6, seed) for n, seed in ((300, 0), (240, 1), (90, 2)))
    found = classifiers(train, test, foreign)
    assert found.foreign is not None
    for k, threshold in enumerate(found.thresholds):
        assert found.train_f1[k] == pytest.approx(f1_score(train.labels == k, train.values[:, k] >= threshold))
        positive = test.labels == k
        own = test.values[positive, k]
        for quality, negatives in ((found.test, test.values[~positive, k]), (found.foreign, foreign.values[:, k])):
            truth = np.repeat([True, False], [len(own), len(negatives)])
            told = np.concatenate([own, negatives]) >= threshold
            p, r, f, _ = precision_recall_fscore_support(truth, told, average="binary", zero_division=0)
            assert (quality.precision[k], quality.recall[k], quality.f1[k]) == pytest.approx((p, r, f))


def test_on_the_images_it_was_chosen_on_a_threshold_is_worth_its_f1() -> None:
    train = random_scores(120, 6, 0)
    for scores in (train, Scores(train.values.round(), train.labels)):  # without ties, and with many
        found = classifiers(scores, scores)
        assert found.test.f1 == pytest.approx(found.train_f1)


def test_the_two_mean_f1_are_what_their_names_say() -> None:
    quality = Quality(np.array([1.0, 0.2]), np.array([0.5, 0.8]), np.array([2 / 3, 0.32]))
    assert quality.mean_f1 == pytest.approx((2 / 3 + 0.32) / 2)
    assert quality.f1_of_means == pytest.approx(2 * 0.6 * 0.65 / 1.25)
    assert Quality(np.zeros(2), np.zeros(2), np.zeros(2)).f1_of_means == 0
    # The paper's own numbers for CIFAR-10 (section 4.3).
    paper = Quality(np.array([0.93]), np.array([0.77]), np.array([0.0]))
    assert round(paper.f1_of_means, 2) == 0.84


def test_negatives_are_drawn_nine_to_one_seeded_and_averaged() -> None:
    train, test = random_scores(800, 40, 0), random_scores(800, 40, 1)
    whole, drawn = classifiers(train, test), classifiers(train, test, ratio=9)
    assert drawn.to_json() == classifiers(train, test, ratio=9).to_json()
    assert drawn.to_json() != classifiers(train, test, ratio=9, seed=1).to_json()
    # 39 negatives for each positive become 9: recall at the same threshold would stay, and precision rise.
    assert drawn.test.precision.mean() > whole.test.precision.mean() + 0.05
    hits = (test.values[test.labels == 0, 0] >= drawn.thresholds[0]).mean()
    assert drawn.test.recall[0] == pytest.approx(hits)
    wrong = (test.values[test.labels != 0, 0] >= drawn.thresholds[0]).mean() * 9 * 20
    expected = 20 * hits / (20 * hits + wrong)
    assert drawn.test.precision[0] == pytest.approx(expected, abs=0.12)
    assert classifiers(train, test, ratio=39).to_json() == whole.to_json(), "where there are no more, all are taken"
    assert (negatives_for(10), negatives_for(11)) == (None, 9)


def test_scores_that_cannot_be_judged_are_refused() -> None:
    good = random_scores(20, 4, 0)
    with pytest.raises(DataError, match="class 3 has no images among 3 training images; give more"):
        classifiers(Scores(good.values[:3], good.labels[:3]), good)
    alone = Scores(good.values, np.zeros(20, np.int64))
    with pytest.raises(DataError, match="class 0 has no images of any other class"):
        classifiers(alone, good)
    with pytest.raises(DataError, match="scores of one class"):
        Scores(good.values[:, :1], good.labels)
    with pytest.raises(DataError, match="gave no images"):
        Scores(good.values[:0], good.labels[:0])
    with pytest.raises(DataError, match=r"give \[image, class\] and \[image\]"):
        Scores(good.values, good.labels[:3])
    values = good.values.copy()
    values[2, 1] = np.nan
    with pytest.raises(RunError, match="scores of 1 of 20 images are not finite; the checkpoint is damaged"):
        Scores(values, good.labels)
    with pytest.raises(DataError, match="different numbers of classes"):
        classifiers(good, random_scores(20, 5, 0))
    for wrong in ({"repeats": 0}, {"ratio": 0.0}):
        with pytest.raises(DataError, match="draw at least once, and a ratio above 0"):
            classifiers(good, good, **wrong)


def by_hand(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> float:
    """Expected calibration error, bin by bin."""
    total = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence) if b / bins < c <= (b + 1) / bins]
        if inside:
            gap = abs(sum(right[i] for i in inside) / len(inside) - sum(confidence[i] for i in inside) / len(inside))
            total += gap * len(inside) / len(confidence)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_is_that_of_a_computation_by_hand(bins: int) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(400)
    right = rng.random(400) < confidence**2
    told = reliability(confidence, right, bins)
    assert told.ece == pytest.approx(by_hand(confidence, right, bins))
    assert told.images.sum() == 400
    exact = reliability(np.array([0.0, 1.0]), np.array([False, True]), bins)
    assert exact.ece == pytest.approx(0 if bins > 1 else abs(0.5 - 0.5))


def nll(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def test_a_temperature_lowers_the_loss_keeps_the_largest_and_finds_the_true_one() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(5000, 10)) * 1.5
    powers = np.exp(true)
    labels = np.array([rng.choice(10, p=p) for p in powers / powers.sum(1, keepdims=True)])
    logits = 3 * true
    scaling = fit(logits, labels)
    assert np.exp(scaling.bias) == pytest.approx(3, rel=0.06)
    before, after = fit(true, labels), scaling.probabilities(logits)
    assert np.exp(before.bias) == pytest.approx(1, rel=0.06)
    assert nll(after, labels) < nll(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels) - 0.3
    assert np.array_equal(after.argmax(1), logits.argmax(1))
    assert after.sum(1) == pytest.approx(1)
    nearby = [
        nll(type(scaling)(scaling.bias + d, *([np.zeros(0)] * 3)).probabilities(logits), labels) for d in (-0.1, 0.1)
    ]
    assert nll(after, labels) < min(nearby)


def test_decoders_calibrate_better_where_they_know_more_and_never_worse_where_fitted() -> None:
    readings = made_up()
    known = features_of(readings)
    one, more = fit(readings.logits, readings.labels), fit(readings.logits, readings.labels, known)
    losses = [nll(s.probabilities(readings.logits, known), readings.labels) for s in (one, more)]
    assert losses[1] < losses[0] - 0.02
    assert more.weights[0] < 0, "the more decoders agree, the lower the temperature"
    noise = np.random.default_rng(1).normal(size=(len(known), 2))
    useless = fit(readings.logits, readings.labels, noise)
    assert nll(useless.probabilities(readings.logits, noise), readings.labels) <= losses[0] + 1e-12


def test_calibration_is_measured_on_images_it_was_not_fitted_on() -> None:
    readings = made_up()
    found = calibrate(readings, share=0.25)
    assert (found.fitted_on, found.measured_on) == (1000, 3000)
    assert list(found.ways) == ["unscaled", "temperature", "decoders"]
    ways = found.to_json()
    assert ways["unscaled"]["ece"] > ways["temperature"]["ece"] > ways["decoders"]["ece"]
    order = np.random.default_rng(0).permutation(4000)
    rest = readings.only(order[1000:])
    powers = np.exp(rest.logits.astype(np.float64))
    plain = powers / powers.sum(1, keepdims=True)
    assert ways["unscaled"]["ece"] == pytest.approx(by_hand(plain.max(1), rest.right, 15))
    assert ways["unscaled"]["nll"] == pytest.approx(nll(plain, rest.labels))
    assert (
        found.to_json()
        == calibrate(readings, share=0.25).to_json()
        != calibrate(readings, share=0.25, seed=1).to_json()
    )


def test_a_network_that_is_always_right_has_a_temperature_still() -> None:
    logits = 4.0 * np.eye(3)[np.arange(30) % 3]
    scaling = fit(logits, np.arange(30) % 3, np.arange(30.0)[:, None])
    assert np.isfinite(scaling.probabilities(logits, np.arange(30.0)[:, None])).all()


def test_what_cannot_be_calibrated_is_refused() -> None:
    logits, labels = np.zeros((4, 3)), np.zeros(4, np.int64)
    with pytest.raises(DataError, match="give a row for each image"):
        fit(logits, labels[:2])
    with pytest.raises(DataError, match=r"features \(2, 1\)"):
        fit(logits, labels, np.zeros((2, 1)))
    for broken in ({"logits": logits + np.nan}, {"features": np.full((4, 1), np.inf)}):
        with pytest.raises(RunError, match="not finite; the checkpoint is damaged"):
            fit(**{"logits": logits, "labels": labels, **broken})
    with pytest.raises(DataError, match="fitted with features"):
        fit(logits, labels, np.ones((4, 1))).probabilities(logits)
    with pytest.raises(DataError, match="outside of 0 to 1"):
        reliability(np.array([1.5]), np.array([True]))
    with pytest.raises(DataError, match="at least one image"):
        reliability(np.zeros(0), np.zeros(0, bool))
    for share in (0.0, 0.01, 1.0):
        with pytest.raises(DataError, match="give both some"):
            calibrate(made_up(10), share=share)
