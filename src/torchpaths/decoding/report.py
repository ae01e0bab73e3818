"""``decode_report``: all analyses of a coded network, as JSON values and figures."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from torchpaths.coding.decode import coded_sites
from torchpaths.decoding.binary import Classifiers, Scores, class_scores, classifiers, negatives_for
from torchpaths.decoding.calibration import calibrate
from torchpaths.decoding.draw_classes import draw_classifiers, draw_removal, draw_scores
from torchpaths.decoding.draw_confidence import draw_agreement, draw_decoders, draw_reliability
from torchpaths.decoding.early import early
from torchpaths.decoding.readings import read
from torchpaths.decoding.removal import removal
from torchpaths.decoding.words import Batches, Words, check_words, class_path
from torchpaths.errors import DataError, PathError, near
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.surveys.figures import save

SCHEMA = "torchpaths.decode/1"


def decode_report(
    net: Routed,
    train_loader: Batches,
    test_loader: Batches,
    ood_loader: Batches | None = None,
    twin: Routed | None = None,
    *,
    site: str | None = None,
    repeats: int = 3,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    title: str = "",
    folder: pathlib.Path | str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Removal, classifiers of classes, early decoders and calibration of a coded network.

    It runs, on each batch, the whole network and one path for each class; and on test images a path for each number of
    branches that is removed. Loaders are gone through more than once.

    Args:
        net: a coded network in any mode.
        train_loader: images it was trained on, without augmentation, for the thresholds of classifiers. A part of them
            does, with images of every class.
        test_loader: others, on which everything is measured.
        ood_loader: images of another data set, which are no class of this one; labels are not looked at.
        twin: the same model trained without codes, routed with `torchpaths.Branches`.
        site: the block from which branches are removed; None: the last of the first coding scheme, which
            is figure 2a's for CIFAR.
        repeats: draws of removal.
        seed: of all draws.
        classes: their names; their numbers where None.
        title: of the network and data, for figures.
        folder: where to write figures, PNG and SVG; None for none.
        progress: show bars on the standard error stream.

    Returns:
        JSON values; accuracies, precisions and so on in 0 to 1; ``files`` are the figures written.

    Raises:
        CodeError: for a network without coded blocks, or a twin that the codewords do not fit.
        PathError: for a site without codewords.
        DataError: for no images, labels that are no classes, a class without images, or a wrong number of names.
        RunError: for scores that are not finite.
    """
    words = {name: code.words for name, code in coded_sites(net).items()}
    count = check_words(words, net)
    if twin is not None:
        check_words(words, twin)
    names = [str(k) for k in range(count)] if classes is None else list(classes)
    if len(names) != count:
        raise DataError(f"{len(names)} class names for {count} classes; give one for each.")
    if site is not None and site not in words:
        raise PathError(f"{site!r} is no coded site. {near(site, words)}")
    title = title or net.layout.network

    def bar(what: str) -> str | None:
        return what if progress else None

    readings = read(net, test_loader, progress=bar("test images"))
    loaders = {"train": train_loader, "test": test_loader, "foreign": ood_loader}
    scores = _scores(net, twin, words, {kind: loader for kind, loader in loaders.items() if loader is not None}, bar)
    ratio = negatives_for(count)
    found = {
        name: classifiers(sets["train"], sets["test"], sets.get("foreign"), ratio=ratio, seed=seed)
        for name, sets in scores.items()
    }
    removed = removal(
        net,
        test_loader,
        words,
        site or _last_of_first_scheme(words),
        repeats=repeats,
        seed=seed,
        progress=bar("removal"),
    )
    told = early(readings)
    calibration = calibrate(readings, seed=seed)
    foreign = scores["paths"].get("foreign")
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "network": net.layout.network,
        "classes": names,
        "images": {
            "train": len(scores["paths"]["train"].labels),
            "test": len(readings.labels),
            "foreign": 0 if foreign is None else len(foreign.labels),
        },
        "seed": seed,
        "sites": {name: {"units": word.shape[1], "active": int(word[0].sum())} for name, word in words.items()},
        "accuracy": told.accuracy,
        "class_paths": _costs(net, words, count),
        "removal": removed.to_json(),
        "classifiers": {"negatives": ratio, **{name: one.to_json() for name, one in found.items()}},
        "early": told.to_json(),
        "calibration": calibration.to_json(),
        "files": [],
    }
    if folder is not None:
        figures = {
            "removal": draw_removal(removed, title),
            "classifiers": draw_classifiers(found, names, title),
            "scores": _draw_first(scores["paths"], found["paths"], names, title),
            "early-decoders": draw_decoders(told, title),
            "agreement": draw_agreement(told, title),
            "reliability": draw_reliability(calibration, title),
        }
        report["files"] = [
            str(f) for name, figure in figures.items() for f in save(figure, pathlib.Path(folder) / name)
        ]
    return report


def _scores(
    net: Routed, twin: Routed | None, words: Words, loaders: dict[str, Batches], bar: Callable[[str], str | None]
) -> dict[str, dict[str, Scores]]:
    """Who scores -> which images -> scores."""
    who: dict[str, tuple[Routed, Words | None]] = {"paths": (net, words), "whole": (net, None)}
    if twin is not None:
        who |= {"twin": (twin, words), "twin_whole": (twin, None)}
    return {
        name: {
            kind: class_scores(
                network, loader, given, foreign=kind == "foreign", progress=bar(f"{name}, {kind} images")
            )
            for kind, loader in loaders.items()
        }
        for name, (network, given) in who.items()
    }


def _draw_first(scores: dict[str, Scores], found: Classifiers, names: list[str], title: str) -> Figure:
    """The first class, as in figure 3."""
    return draw_scores(scores["test"], scores.get("foreign"), float(found.thresholds[0]), 0, names, title)


def _last_of_first_scheme(words: Words) -> str:
    """The last of the blocks that share the first one's codewords, as figure 2a's for CIFAR: the end of a stage."""
    first = next(iter(words.values()))
    last = ""
    for name, word in words.items():
        if not torch.equal(word, first):
            break
        last = name
    return last


def _costs(net: Routed, words: Words, classes: int) -> dict[str, float]:
    """Mean MACs and parameters of a class's path, other sites open, and the plain network's."""
    open_ = Path.full(net)
    costs = [(open_ & class_path(words, net, k)).cost(net) for k in range(classes)]
    return {
        "macs": sum(c.macs for c in costs) / classes,
        "params": sum(c.params for c in costs) / classes,
        "plain_macs": net.layout.plain.macs,
        "plain_params": net.layout.plain.params,
    }
