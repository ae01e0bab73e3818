"""``filter_report``: all analyses of a network's filters, as JSON values and figures."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from torchpaths.errors import DataError
from torchpaths.filtering.categories import Heads, category_given_open, filter_information, weights_of
from torchpaths.filtering.draw_information import draw_information, draw_points
from torchpaths.filtering.draw_paths import draw_categories, draw_class_paths, draw_image_paths
from torchpaths.filtering.draw_peaks import draw_peaks
from torchpaths.filtering.draw_states import draw_states
from torchpaths.filtering.embedding import check_embedded, embed
from torchpaths.filtering.fields import receptive_fields
from torchpaths.filtering.information import Information, information
from torchpaths.filtering.paths import ClassPaths, class_paths, image_paths
from torchpaths.filtering.peaks import peaks
from torchpaths.filtering.sites import Batches, chosen, filter_sites
from torchpaths.routed import Routed
from torchpaths.surveys.figures import save
from torchpaths.surveys.figures.images import ImageSource

SCHEMA = "torchpaths.filters/1"
FILTERS, TOP, IMAGES = 6, 8, 6
"""Filters whose images are shown, images for each; images whose paths are shown."""


def filter_report(
    net: Routed,
    train_loader: Batches,
    test_loader: Batches,
    twin: Routed | None = None,
    *,
    mixed: Batches | None = None,
    images: ImageSource | None = None,
    heads: Heads | None = None,
    site: str | None = None,
    names: Sequence[str] = ("network", "other"),
    embedded: int = 1000,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    title: str = "",
    folder: pathlib.Path | str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """States, paths of classes, information, embedding, what filters see and their categories.

    Loaders are gone through more than once, and only the first ones' memory grows with images, see `information`.

    Args:
        net: a network with filters, in any mode.
        train_loader: images that linear classifiers are fitted on, without augmentation.
        test_loader: others, in order, on which everything is measured.
        twin: another network of the same model, say one trained without the divergence, to compare what layers tell.
        mixed: test images whose classes come mixed, for the figures of single images; None: the test loader does.
        images: the test images' pixels by number, in the loader's order; None: no pictures of what filters see.
        heads: class heads of the training, see `torchpaths.filtering.head_weights`.
        site: the layer of which is shown what filters see; None: the one whose filters, each by itself, tell most.
        names: of the network and the twin, for the figure.
        embedded: images in the t-SNE figure; 0 for none.
        seed: of all draws.
        classes: their names; their numbers where None.
        title: of the network and data, for figures.
        folder: where to write figures, PNG and SVG; None for none, and then nothing is embedded and no peaks are found.
        progress: show bars on the standard error stream.

    Returns:
        JSON values; shares in 0 to 1, information in bits; ``files`` are the figures written.

    Raises:
        RouteError: for a network without filters.
        PathError: for a layer without filters.
        DataError: for no images, fewer embedded ones than t-SNE needs, labels that are no classes, or a wrong number of
            class names.
        RunError: for scores that are not finite, or if scikit-learn is not installed.
    """
    sites = filter_sites(net)
    if site is not None:
        chosen(net, [site])
    if embedded:
        check_embedded(embedded)
    title = title or net.layout.network

    def bar(what: str) -> str | None:
        return what if progress else None

    paths = class_paths(net, test_loader, progress=bar("paths of classes"))
    labels = _names(classes, len(next(iter(paths.came.values()))))
    told = {names[0]: information(net, train_loader, test_loader, heads=heads, seed=seed, progress=bar("information"))}
    if twin is not None:
        told[names[1]] = information(twin, train_loader, test_loader, seed=seed, progress=bar("information, other"))
    by_filter = filter_information(paths)
    site = site or _telling(by_filter, sites)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "network": net.layout.network,
        "classes": labels,
        "seed": seed,
        "states": paths.states.to_json(),
        "paths": _paths_json(paths),
        "information": {name: one.to_json() for name, one in told.items()},
        "filter_information": {name: [_number(v) for v in values] for name, values in by_filter.items()},
        "files": [],
    }
    if folder is not None:
        figures = _figures(
            net,
            test_loader,
            mixed or test_loader,
            images,
            heads,
            paths,
            told,
            by_filter[site],
            site,
            embedded,
            seed,
            labels,
            title,
            bar,
        )
        report["files"] = [
            str(file) for name, figure in figures.items() for file in save(figure, pathlib.Path(folder) / name)
        ]
    return report


def _figures(
    net: Routed,
    loader: Batches,
    mixed: Batches,
    images: ImageSource | None,
    heads: Heads | None,
    paths: ClassPaths,
    told: dict[str, Information],
    telling: Any,
    site: str,
    embedded: int,
    seed: int,
    labels: list[str],
    title: str,
    bar: Callable[[str], str | None],
) -> dict[str, Figure]:
    """All figures that there is something to draw of."""
    figures = {
        "filter-states": draw_states(paths.states, title),
        "filter-categories": draw_categories(paths.shares, labels, title),
        "filter-information": draw_information(told, title),
    }
    if any(bool(mask.any()) for mask in paths.states.dynamic.values()):
        figures["class-paths"] = draw_class_paths(paths, labels, title)
    x, y = _some(mixed, IMAGES)
    few = image_paths(net, x)
    lines = [
        labels[int(c)] + ("" if p == c else f", taken for {labels[p]}")
        for c, p in zip(y.tolist(), few.predicted.tolist(), strict=True)
    ]
    figures["image-paths"] = draw_image_paths(few, lines, title)
    if heads is not None:
        figures["filter-heads"] = draw_categories(weights_of(heads), labels, title, weights=True)
    points = embed(net, mixed, images=embedded, seed=seed, progress=bar("t-SNE")) if embedded else {}
    if points:
        figures["encodings"] = draw_points(points, labels, title)
    if images is not None:
        best = np.argsort(-np.nan_to_num(telling), kind="stable")[:FILTERS].tolist()
        found = peaks(net, loader, site, best, top=TOP, progress=bar("responses"))
        fields = receptive_fields(net, [site], tuple(x.shape[1:]))[site]
        figures["filter-images"] = draw_peaks(found, fields, images, labels, title)
    return figures


def _names(classes: Sequence[str] | None, count: int) -> list[str]:
    if classes is None:
        return [str(k) for k in range(count)]
    if len(classes) != count:
        raise DataError(f"{len(classes)} class names for {count} classes; give one for each.")
    return list(classes)


def _telling(by_filter: dict[str, Any], sites: dict[str, int]) -> str:
    """The layer with the filter that tells most, of equals the last."""
    return max(reversed(list(sites)), key=lambda name: float(np.nan_to_num(by_filter[name]).max()))


def _some(loader: Batches, count: int) -> tuple[Tensor, Tensor]:
    """The first image of each of some classes, in the order they come."""
    found: dict[int, Tensor] = {}
    for x, y in loader:
        for image, label in zip(x, torch.as_tensor(y).tolist(), strict=True):
            if label not in found:
                found[label] = image.clone()
            if len(found) == count:
                break
        if len(found) == count:
            break
    return torch.stack(list(found.values())), torch.tensor(list(found))


def _paths_json(paths: ClassPaths) -> dict[str, Any]:
    given = category_given_open(paths)
    return {
        name: {
            "came": paths.came[name].tolist(),
            "opened": opened.tolist(),
            "open_filters": [_number(v) for v in paths.open_filters[name]],
            "category_given_open": [[_number(v) for v in row] for row in given[name]],
        }
        for name, opened in paths.opened.items()
    }


def _number(value: float) -> float | None:
    """None for NaN, which JSON cannot hold; six digits, since counts of thousands of images have no more."""
    return None if np.isnan(value) else round(float(value), 6)
