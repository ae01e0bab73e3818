"""What a survey is asked for is a whole number where it has to be, and nothing is kept that cannot be read again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from survey_toy import Toy, loader
from torchpaths.errors import DataError
from torchpaths.surveys import Survey, survey
from torchpaths.whole import is_whole

NO_NUMBERS = [True, np.bool_(True), 1.0, 2.9, float("nan"), "1", None, [1], np.array([1]), torch.tensor([1, 2]), 1j]


@pytest.mark.parametrize("value", [*NO_NUMBERS, -1, 2**63, torch.tensor(True), np.float32(3)], ids=repr)
def test_a_whole_number_is_no_bool_no_fraction_and_within_what_files_hold(value: Any) -> None:
    assert not is_whole(value)


@pytest.mark.parametrize("value", [0, 7, np.int64(7), np.uint8(7), torch.tensor(7), 2**62], ids=repr)
def test_whole_numbers_of_every_library_are_taken(value: Any) -> None:
    assert is_whole(value)


@pytest.mark.parametrize(
    "numbers",
    [
        [-1, *range(9)],
        [0.5, *range(1, 10)],
        [2**63, *range(9)],
        [True, *range(1, 10)],
        range(11),
        range(9),
        5,
        [None] * 10,
    ],
    ids=repr,
)
def test_numbers_that_name_no_images_are_refused_and_not_lost(numbers: Any) -> None:
    with pytest.raises(DataError, match="numbers"):
        survey(Toy(), loader(), keep_paths=True, numbers=numbers)


@pytest.mark.parametrize("keep", [None, float("nan"), 2.9, -1, "all", [1]], ids=repr)
def test_how_many_to_keep_is_a_whole_number_or_a_bool(keep: Any) -> None:
    with pytest.raises(DataError, match="keep_paths"):
        survey(Toy(), loader(), keep_paths=keep)


def test_a_bool_of_numpy_keeps_all_or_none(tmp_path: Any) -> None:
    yes: Any = np.bool_(True)
    no: Any = np.bool_(False)
    two: Any = np.int64(2)
    every = survey(Toy(), loader((4, 6)), keep_paths=yes, numbers=np.arange(10) * 3)
    every.save(tmp_path)
    kept = Survey.load(tmp_path).samples
    assert kept is not None
    assert kept.numbers.tolist() == list(range(0, 30, 3))
    assert survey(Toy(), loader(), keep_paths=no).samples is None
    some = survey(Toy(), loader(), keep_paths=two).samples
    assert some is not None
    assert len(some.numbers) == 2


def test_only_surveys_are_merged() -> None:
    found: Any = survey(Toy(), loader())
    for other in ("x", None, found.to_json()):
        with pytest.raises(DataError, match="no survey"):
            found.merge(other)
