"""Claims about which units open together: the figure shows correlations over images, of units that differ."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from survey_toy import IMAGES, Toy, image, loader
from torchpaths.errors import DataError
from torchpaths.surveys import survey
from torchpaths.surveys.figures import open_together
from torchpaths.surveys.figures.together import AGREE_MAP, correlations

OPEN = np.array([[o == "1" for o in opened] for opened, _, _ in IMAGES])
DIFFER = np.flatnonzero(OPEN.any(0) & ~OPEN.all(0))


def test_correlations_are_pearsons_of_units_that_some_images_open_and_some_do_not() -> None:
    numbers, values = correlations(survey(Toy(), loader()))
    assert numbers.tolist() == DIFFER.tolist()
    np.testing.assert_allclose(values, np.corrcoef(OPEN[:, DIFFER].T), rtol=0, atol=1e-12)


def test_units_that_always_agree_and_that_stand_in_for_each_other_are_at_the_ends() -> None:
    x = torch.stack([image("1110", 0), image("1001", 0), image("1110", 1)])
    numbers, values = correlations(survey(Toy(), [(x, torch.tensor([0, 0, 1]))]))
    assert numbers.tolist() == [1, 2, 3]
    np.testing.assert_allclose(values, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]], rtol=0, atol=1e-12)


def test_the_figure_shows_them_with_no_correlation_in_the_middle_of_the_scale() -> None:
    found = survey(Toy(), loader())
    axes = open_together(found).axes[0]
    [shown] = axes.images
    seen = np.ma.masked_invalid(np.asarray(shown.get_array(), float)).filled(0)
    wanted = correlations(found)[1]
    np.testing.assert_allclose(seen, wanted - np.eye(len(wanted)), rtol=0, atol=1e-12)
    low, high = shown.get_clim()
    assert -low == high >= np.abs(seen).max()
    red, green, blue, _ = AGREE_MAP(0.5)
    assert min(red, green, blue) > 0.95, "nothing to say is paper"


def test_a_survey_without_pairs_or_without_units_that_differ_is_refused() -> None:
    found = survey(Toy(), loader())
    with pytest.raises(DataError, match="older version, which did not count pairs"):
        open_together(dataclasses.replace(found, together=None))
    same = survey(Toy(), [(torch.stack([image("1101", 0)] * 2), torch.tensor([0, 1]))])
    with pytest.raises(DataError, match="no two units"):
        open_together(same)
