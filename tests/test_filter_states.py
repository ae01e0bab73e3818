"""States of filters and paths of classes and images: counts by hand, of any batches, of images that came."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import torchpaths as tp
from filter_toys import OPEN, Blocks, blocks, chain, cut, images, noise
from torchpaths.errors import DataError, RouteError
from torchpaths.filtering import FilterStates, class_paths, filter_sites, filter_states, image_paths
from torchpaths.filtering.runs import ordered, trained
from torchpaths.surveys import survey


def one(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(x, y)]


def test_filters_are_active_dynamic_or_silent_as_counted_by_hand() -> None:
    x, y = images()
    states = filter_states(chain(), cut(x, y, 3, 4))
    assert states.opened["second"].tolist() == OPEN.sum(0).tolist() == [7, 0, 3, 2, 2, 4]
    assert states.came == {"second": 7}
    assert states.active["second"].tolist() == [True, False, False, False, False, False]
    assert states.silent["second"].tolist() == [False, True, False, False, False, False]
    assert states.dynamic["second"].tolist() == [False, False, True, True, True, True]
    assert states.counts == {"second": {"active": 1, "dynamic": 4, "silent": 1}}
    assert states.shares == {"active": 1 / 6, "dynamic": 4 / 6, "silent": 1 / 6}


@pytest.mark.parametrize("method", [tp.GatedFilters(), [tp.GatedFilters(), tp.GatedBlocks()]])
def test_batches_of_any_size_and_a_survey_count_the_same(method: tp.Method) -> None:
    net = blocks(method)
    x, y = noise(40)
    whole = class_paths(net, one(x, y))
    parts = class_paths(net, cut(x, y, 1, 2, 7, 30))
    for other in (parts, class_paths(survey(net, one(x, y))), class_paths(survey(net, one(x, y), keep_paths=True))):
        for name in whole.opened:
            assert np.array_equal(whole.opened[name], other.opened[name])
            assert np.array_equal(whole.came[name], other.came[name])
    for states in (filter_states(net, cut(x, y, 39, 1)), filter_states(survey(net, one(x, y)))):
        assert states.came == whole.states.came
        assert all(torch.equal(n, whole.states.opened[name]) for name, n in states.opened.items())


def test_images_that_did_not_come_to_a_layer_do_not_count() -> None:
    net = blocks([tp.GatedFilters(), tp.GatedBlocks()])
    x, y = noise(64)
    _, trace = net(x)
    doors = trace["block1"].open[:, 0]
    assert 0 < int(doors.sum()) < 64, "the toy's block opens for some images"
    paths = class_paths(net, one(x, y))
    name = "block1.conv1"
    assert paths.states.came[name] == int(doors.sum())
    # By hand, from the trace: of the images that came.
    for k in range(4):
        own = doors & (y == k)
        assert paths.came[name][k] == int(own.sum())
        assert paths.opened[name][k].tolist() == trace[name].open[own].sum(0).tolist()
    active = trace[name].open[doors].all(0)
    assert torch.equal(filter_states(net, one(x, y)).active[name], active)
    assert bool(active.any()), "counting the others would leave no filter active"
    few = image_paths(net, x)
    assert np.array_equal(few.came[name], doors.numpy())
    assert not few.opened[name][~doors.numpy()].any()


def test_a_layer_that_no_image_came_to_has_no_states() -> None:
    net = blocks([tp.GatedFilters(), tp.GatedBlocks()])
    gate: Any = net.deciders["block1"]
    with torch.no_grad():
        gate.fc2.bias.copy_(torch.tensor([500.0, -500.0]))
    states = filter_states(net, one(*noise(30)))
    assert states.came["block1.conv1"] == 0
    assert states.counts["block1.conv1"] == {"active": 0, "dynamic": 0, "silent": 0}
    assert states.came["block2.conv1"] > 0
    known = sum(len(n) for name, n in states.opened.items() if states.came[name])
    assert sum(states.shares.values()) == pytest.approx(1)
    assert states.shares["silent"] * known == sum(c["silent"] for c in states.counts.values())


def test_closing_silent_filters_changes_no_answer() -> None:
    net = blocks()
    x, y = noise(50)
    silent = filter_states(net, one(x, y)).silent
    assert sum(int(mask.sum()) for mask in silent.values()) > 3
    logits, trace = net(x)
    closed = tp.Path({name: trace[name].open & ~silent[name] for name in silent}, net.layout.fingerprint)
    assert torch.equal(net(x, closed)[0], logits)


def test_states_come_back_from_json() -> None:
    states = filter_states(blocks(), one(*noise(20)))
    data = json.loads(json.dumps(states.to_json()))
    read = FilterStates.from_json(data)
    assert read.came == states.came
    assert read.counts == states.counts
    assert data["shares"] == states.shares
    assert data["sites"]["block1.conv1"]["silent"] == states.counts["block1.conv1"]["silent"]
    with pytest.raises(DataError, match="no states of filters: Object missing required field"):
        FilterStates.from_json({})
    with pytest.raises(DataError, match="count both for every site"):
        FilterStates({"a": torch.zeros(2).long()}, {})


def test_the_path_of_a_class_is_the_share_of_its_images() -> None:
    x, y = images()
    net = chain()
    paths = class_paths(net, cut(x, y, 5, 2))
    shares = paths.shares["second"]
    for k in range(3):
        assert np.array_equal(shares[k], OPEN[y == k].double().mean(0).numpy())
    assert paths.open_filters["second"].tolist() == pytest.approx([2, 3.5, 7 / 3])
    few = image_paths(net, x)
    assert np.array_equal(few.opened["second"], OPEN.numpy())
    assert few.predicted.tolist() == net(x)[0].argmax(1).tolist()


def test_a_class_without_images_has_no_path() -> None:
    x, y = images()
    paths = class_paths(chain(), one(x[:4], y[:4]))
    assert paths.came["second"].tolist() == [2, 2, 0]
    assert np.isnan(paths.shares["second"][2]).all()
    assert not np.isnan(paths.shares["second"][:2]).any()


def test_training_modes_are_put_back() -> None:
    net = blocks().train()
    model: Any = net.model
    model.block1.bn1.eval()
    filter_states(net, one(*noise(4)))
    assert net.training
    assert model.block2.training
    assert not model.block1.bn1.training
    with pytest.raises(DataError, match="label 9 is out of range"):
        filter_states(net, [(noise(1)[0], torch.tensor([9]))])
    assert net.training


def test_what_cannot_be_counted_is_refused() -> None:
    x, y = noise(4)
    plain = tp.route(Blocks(), tp.GatedBlocks(), example=x)
    with pytest.raises(RouteError, match=r"has no site of filters.*GatedFilters\(\)"):
        filter_sites(plain)
    with pytest.raises(RouteError, match="has no site of filters"):
        filter_states(survey(plain, one(x, y)))
    with pytest.raises(DataError, match=r"give a loader of images too, filter_states\(net, loader\)"):
        filter_states(blocks())
    with pytest.raises(DataError, match=r"give a loader of images too, class_paths\(net, loader\)"):
        class_paths(blocks())
    with pytest.raises(DataError, match="the loader gave no images to see filters with"):
        filter_states(blocks(), [])


def test_rows_of_the_table_hold_what_the_survey_counted_and_are_ordered_as_in_the_paper() -> None:
    net = blocks()
    found = survey(net, one(*noise(30)))
    row = trained(found, sparse=2e-4, mutual=0.01, kl=0, name="b")
    shares = filter_states(found).shares
    assert (row.active, row.dynamic, row.silent) == tuple(shares[s] for s in ("active", "dynamic", "silent"))
    assert (row.macs, row.accuracy, row.images) == (found.macs, found.accuracy, 30)
    assert json.loads(json.dumps(row.to_json()))["dynamic"] == shares["dynamic"]
    others = [trained(found, sparse=s, mutual=m) for s, m in ((2e-4, 0.0), (1e-4, 0.01), (1e-4, 0.0))]
    assert [(r.sparse, r.mutual) for r in ordered([row, *others])] == [(1e-4, 0), (1e-4, 0.01), (2e-4, 0), (2e-4, 0.01)]
