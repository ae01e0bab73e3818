"""All figures that a survey has the data for, into one folder."""

from __future__ import annotations

import pathlib

import numpy as np

from torchpaths.surveys.figures.images import ImageSource, easy_and_hard
from torchpaths.surveys.figures.layers import executed_layers
from torchpaths.surveys.figures.rates import class_rates
from torchpaths.surveys.figures.style import save
from torchpaths.surveys.figures.together import correlations, open_together
from torchpaths.surveys.figures.training import read_rates, training_rates
from torchpaths.surveys.result import Survey


def save_all(
    survey: Survey,
    folder: pathlib.Path | str,
    *,
    images: ImageSource | None = None,
    metrics: pathlib.Path | str | None = None,
    target: float | None = None,
) -> list[pathlib.Path]:
    """Write the figures as PNG and SVG and return the files: those that say something of this network.

    None of one that takes one path for every image; where images differ in which units they execute
    but not in how many, neither how many nor which are easy; rates over training only where some unit's ever differed.

    Args:
        survey: any survey.
        folder: where to; made if needed.
        images: the data surveyed, for the easy and hard images; the survey must have kept paths.
        metrics: the run's ``metrics.jsonl``, for the rates over training.
        target: the mean rate asked for, drawn in the latter.
    """
    if survey.distinct_paths == 1:
        return []
    folder = pathlib.Path(folder)
    drawn = {"class-rates": class_rates(survey)}
    if np.count_nonzero(survey.histogram.sum(0)) > 1:
        drawn["executed-layers"] = executed_layers(survey)
    if survey.together is not None and len(correlations(survey)[0]) > 1:
        drawn["open-together"] = open_together(survey)
    if metrics is not None:
        epochs, rates = read_rates(metrics, survey.layout)
        if ((rates > 0) & (rates < 1)).any() or np.ptp(rates, 0).any():
            drawn["training-rates"] = training_rates(epochs, rates, survey.layout, survey.title, target)
    if images is not None and (np.count_nonzero(survey.histogram, axis=1) > 1).any():
        drawn["easy-and-hard"] = easy_and_hard(survey, images)
    return [file for name, figure in drawn.items() for file in save(figure, folder / name)]
