"""``Branches``: places for a plain ResNeXt's branches, with nobody who decides."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import laws
import skip_laws
import torchpaths as tp
from decoding_toys import METHOD, coded, images, resnext
from torchpaths.errors import RouteError
from torchpaths.files.encode import decode, encode


def test_the_laws_hold() -> None:
    original, x = resnext(), images(4)[0]
    net = tp.route(copy.deepcopy(original), tp.Branches(), example=x)
    laws.check_all(net, original, x)
    laws.check_cut_is_forced(net, x)
    skip_laws.check_skipping_is_masking(net, x)


def test_branches_want_a_model_that_has_some_and_a_number() -> None:
    with pytest.raises(RouteError, match=r"has no grouped convolution.*take a ResNeXt"):
        tp.route(nn.Sequential(nn.Conv2d(3, 4, 3)), tp.Branches(), example=torch.randn(2, 3, 8, 8))
    with pytest.raises(RouteError, match="branches=1: a whole number of at least 2"):
        tp.Branches(1)


def test_sites_and_units_are_those_of_coded_paths() -> None:
    net, other = tp.route(resnext(), tp.Branches(), example=images(2)[0]), coded()
    assert METHOD.words(other).keys() < net.sites.keys()
    assert {site: len(net.sites[site].units) for site in other.sites} == dict.fromkeys(other.sites, 10)
    assert not net.deciders


def test_it_is_written_and_read_as_other_methods() -> None:
    assert decode(encode(tp.Branches(4)), "method") == tp.Branches(4)
