"""Surveys of one layout along other paths, of other weights or of other groups are not one survey."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from survey_toy import Toy, loader
from torchpaths.errors import DataError
from torchpaths.path import Path as Chosen
from torchpaths.surveys import Survey, survey

SHUT = Chosen({"layer1.0": [False], "layer1.1": [False], "layer2.0": [False, False]})
FULL = Chosen({"layer1.0": [True], "layer1.1": [True], "layer2.0": [True, True]})
PART = Chosen({"layer1.1": [True]})


def test_surveys_along_other_paths_are_not_merged(tmp_path: Path) -> None:
    paths = (None, SHUT, FULL, PART)
    found = [survey(Toy(), loader(), path=path) for path in paths]
    for number, first in enumerate(found):
        first.save(tmp_path)
        back = Survey.load(tmp_path)
        assert (back.along, back.weights) == (first.along, first.weights)
        assert back.merge(survey(Toy(), loader(), path=paths[number])).images.sum() == 20
        for other in found[:number] + found[number + 1 :]:
            with pytest.raises(DataError, match="path"):
                back.merge(other)


def test_surveys_of_other_weights_or_groups_are_not_merged() -> None:
    changed = Toy()
    torch.nn.init.constant_(changed.frozen.weight, 2.0)
    first = survey(Toy(), loader())
    with pytest.raises(DataError, match="other weights"):
        first.merge(survey(changed, loader()))
    grouped = [dataclasses.replace(first, groups=groups) for groups in (("a", "a", "b"), ("a", "b", "b"))]
    with pytest.raises(DataError, match="other groups"):
        grouped[0].merge(grouped[1])


def test_a_survey_that_does_not_say_what_it_is_of_is_merged_as_before() -> None:
    old = dataclasses.replace(survey(Toy(), loader()), along="", weights="")
    assert old.merge(survey(Toy(), loader())).images.sum() == 20
