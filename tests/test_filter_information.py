"""What filters tell of the class: bounds of mutual information, categories, the embedding, by hand in NumPy."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import torchpaths as tp
from filter_toys import OPEN, blocks, chain, cut, images, noise, said
from torchpaths.errors import DataError, PathError, RouteError, RunError
from torchpaths.filtering import (
    category_given_open,
    class_paths,
    embed,
    filter_information,
    head_weights,
    information,
)
from torchpaths.filtering.classifier import PENALTIES, Linear, entropy, fit_linear
from torchpaths.places.channels.layer import FEATURES


def many(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of `chain`: channel k for class k, in nine of ten images."""
    made = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (count,), generator=made)
    wrong = torch.rand(count, generator=made) < 0.1
    x = said(*((int(k),) if not w else () for k, w in zip(y, wrong, strict=True)))
    return x + 0.01 * torch.rand(x.shape, generator=made), y


def test_a_bound_is_the_entropy_less_the_cross_entropy_on_other_images() -> None:
    net = chain()
    train, test = many(300, 0), many(200, 1)
    found = information(net, [train], cut(*test, 150, 50))
    _, trace = net(train[0])
    classifiers = {
        "encodings": fit_linear(trace["second"].open, train[1], 3),
        "features": fit_linear(trace["second"].response[FEATURES], train[1], 3),
    }
    _, trace = net(test[0])
    values = {"encodings": trace["second"].open, "features": trace["second"].response[FEATURES]}
    for part, classifier in classifiers.items():
        v, y = values[part].detach().double().numpy(), test[1].numpy()
        scores = v @ classifier.weight.numpy().T + classifier.bias.numpy()
        losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(len(y)), y]
        p = np.bincount(y, minlength=3) / len(y)
        bound = getattr(found, part)["second"]
        assert bound.entropy == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-12)
        assert bound.bits == pytest.approx(bound.entropy - losses.mean() / np.log(2), abs=1e-9)
        assert bound.error == pytest.approx(losses.std() / np.log(2) / np.sqrt(len(y)), abs=1e-9)
        assert bound.images == 200
    assert found.fitted_on == 300


def test_a_bound_lies_below_the_information_and_near_it_where_a_linear_classifier_is_enough() -> None:
    # Of a class's images nine of ten are told by their channel, the tenth by none: I = H(c) - 0.1 H(c).
    found = information(chain(), [many(3000, 2)], [many(3000, 3)])
    truth = 0.9 * np.log2(3)
    bound = found.encodings["second"]
    assert truth - 0.05 < bound.bits < truth + 3 * bound.error
    assert found.heads == {}


def test_decisions_that_tell_nothing_have_a_bound_of_nothing() -> None:
    net = blocks()
    x, _ = noise(200)
    y = torch.randint(0, 4, (200,), generator=torch.Generator().manual_seed(5))
    found = information(net, [(x[:100], y[:100])], [(x[100:], y[100:])])
    for bound in (*found.encodings.values(), *found.features.values()):
        assert -0.25 < bound.bits < 0.15


def test_little_memory_gives_the_same_bounds_in_more_passes() -> None:
    net = blocks([tp.GatedFilters(), tp.GatedBlocks()])
    loader, passes = cut(*noise(60), 20, 40), 0

    class Counted:
        def __iter__(self) -> Any:
            nonlocal passes
            passes += 1
            return iter(loader)

    whole = information(net, Counted(), loader)
    assert passes == 1
    small = information(net, Counted(), loader, memory=1000)
    assert passes > 3
    assert small == whole
    assert information(net, cut(*noise(60), 7, 53), loader).encodings.keys() == whole.encodings.keys()


def test_images_that_did_not_come_are_neither_fitted_on_nor_judged() -> None:
    net = blocks([tp.GatedFilters(), tp.GatedBlocks()])
    x, y = noise(80)
    _, trace = net(x)
    doors = trace["block1"].open[:, 0]
    found = information(net, [(x, y)], [(x, y)], sites=["block1.conv1"])
    assert found.encodings["block1.conv1"].images == int(doors.sum()) < 80
    own = fit_linear(trace["block1.conv1"].open[doors], y[doors], 4)
    loss = own.losses(trace["block1.conv1"].open[doors], y[doors]).mean()
    bits = (entropy(torch.bincount(y[doors])) - float(loss)) / np.log(2)
    assert found.encodings["block1.conv1"].bits == pytest.approx(bits, abs=1e-9)


def test_class_heads_have_their_own_bound() -> None:
    net = chain()
    method = tp.GatedFilters(sites=("second",))
    heads = method.heads(net, 3)
    assert heads is not None
    weights = head_weights(heads, net)
    x, y = images()
    found = information(net, [(x, y)], [(x, y)], heads=weights)
    scores = OPEN.double().numpy() @ weights["second"].double().numpy().T
    losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(7), y.numpy()]
    p = np.bincount(y.numpy()) / 7
    expected = -(p * np.log2(p)).sum() - losses.mean() / np.log(2)
    assert found.heads["second"].bits == pytest.approx(expected, abs=1e-6)


def test_heads_are_found_in_an_objective_and_in_a_checkpoint() -> None:
    for method in (tp.GatedFilters(), [tp.GatedFilters(), tp.GatedBlocks()]):
        net = blocks(method)
        objective = tp.Objective(net, method if isinstance(method, tp.Method) else tp.methods.Together(tuple(method)))
        assert objective.heads is not None
        found = head_weights(objective.heads, net)
        assert list(found) == [name for name, site in net.sites.items() if site.kind == "filters"]
        kept = {f"heads.{name}": value for name, value in objective.heads.state_dict().items()}
        again = head_weights(kept, net)
        assert all(torch.equal(weight, again[name]) for name, weight in found.items())
        assert found["block2.conv1"].shape == (4, 16)
    with pytest.raises(RouteError, match=r"the class head of 'block1.conv1' is missing.*mutual"):
        head_weights({}, net)
    with pytest.raises(RouteError, match=r"of shape \(4, 3\); it takes 8 filters"):
        head_weights({**kept, "heads.block1/conv1.weight": torch.zeros(4, 3)}, net)


def test_a_linear_classifier_is_scikit_learns_at_the_penalty_chosen() -> None:
    made = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (400,), generator=made)
    x = torch.randn(400, 5, generator=made) + torch.nn.functional.one_hot(y, 5)
    own = fit_linear(x, y, 3)
    z = ((x.double() - x.double().mean(0)) / x.double().std(0, correction=0)).numpy()
    losses = []
    for penalty in PENALTIES:
        other = LogisticRegression(C=1 / (penalty * 400), tol=1e-8, max_iter=2000).fit(z, y.numpy())
        losses.append(np.abs(other.predict_log_proba(z) - _log_proba(own, x)).max())
    assert min(losses) < 1e-3


def _log_proba(own: Linear, x: Tensor) -> np.ndarray[Any, Any]:
    return torch.nn.functional.linear(x.double(), own.weight, own.bias).log_softmax(1).numpy()


def test_a_classifier_of_constants_or_of_few_images_gives_the_frequencies() -> None:
    y = torch.tensor([0] * 60 + [1] * 40)
    for own in (fit_linear(torch.ones(100, 2), y, 3), fit_linear(torch.randn(100, 2)[:20], y[50:70], 3)):
        assert not own.weight.any()
    shares = fit_linear(torch.ones(100, 2), y, 3).bias.exp()
    assert shares.tolist() == pytest.approx([60.5 / 101.5, 40.5 / 101.5, 0.5 / 101.5])


def test_categories_and_bits_of_single_filters_are_as_counted_by_hand() -> None:
    x, y = images()
    paths = class_paths(chain(), cut(x, y, 4, 3))
    shares = np.stack([OPEN[y == k].double().mean(0).numpy() for k in range(3)])
    given = category_given_open(paths)["second"]
    assert np.isnan(given[:, 1]).all(), "a silent filter says nothing"
    others = [0, 2, 3, 4, 5]
    assert np.allclose(given[:, others], shares[:, others] / shares[:, others].sum(0))
    assert given[:, 3].tolist() == [0, 1, 0], "filter 3 opens for class 1 only"
    bits = filter_information(paths)["second"]
    for unit in range(6):
        joint = np.array(
            [[(OPEN[y == k, unit] == on).sum().item() for k in range(3)] for on in (True, False)], float
        ) / 7  # fmt: skip
        apart = joint.sum(1, keepdims=True) * joint.sum(0)
        expected = sum(p * np.log2(p / q) for p, q in zip(joint.flat, apart.flat, strict=True) if p)
        assert bits[unit] == pytest.approx(expected, abs=1e-12)
    assert bits[0] == bits[1] == 0


def test_the_embedding_is_the_same_each_time_and_puts_equal_decisions_on_one_spot() -> None:
    net = chain()
    x, y = many(60, 4)
    first, second = (embed(net, batches, images=50)["second"] for batches in (cut(x, y, 60), cut(x, y, 7, 53)))
    assert np.array_equal(first.at, second.at)
    assert first.labels.tolist() == y[:50].tolist()
    z = net(x[:50])[1]["second"].open
    assert first.distinct == len(torch.unique(z, dim=0))
    for a in range(0, 50, 7):
        alike = (z == z[a]).all(1).numpy()
        assert np.array_equal(first.decision == first.decision[a], alike)
        assert (first.at[alike] == first.at[a]).all()
    assert not np.array_equal(first.at, embed(net, [(x, y)], images=50, seed=1)["second"].at)


def test_what_decides_alike_for_all_is_not_embedded() -> None:
    x = said(*[(0,)] * 6)
    assert embed(chain(), [(x, torch.zeros(6).long())]) == {}
    with pytest.raises(DataError, match="t-SNE of 3 images: it needs at least 4"):
        embed(chain(), [], images=3)
    with pytest.raises(PathError, match=r"'secnd' is no site of filters. Did you mean 'second'"):
        embed(chain(), [], ["secnd"])


def test_without_scikit_learn_t_sne_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RunError, match="pip install 'scikit-learn"):
        embed(chain(), [images()])
