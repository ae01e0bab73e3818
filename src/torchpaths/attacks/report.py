"""``attack_report``: everything here asked of one network, as JSON values and figures."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from torchpaths.attacks.again import again
from torchpaths.attacks.changes import Crossing, Rates, crossing, groups, rates
from torchpaths.attacks.detection import Row, strongest
from torchpaths.attacks.draw import draw_crossing, draw_curves, draw_detection, draw_rates
from torchpaths.attacks.pixels import Pixels, as_levels
from torchpaths.attacks.plan import Plan
from torchpaths.attacks.sample import Sample
from torchpaths.attacks.tried import Asked, curves_of, mimics_of, rows_of
from torchpaths.errors import DataError
from torchpaths.filtering.draw_paths import draw_class_paths
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.surveys.figures import save
from torchpaths.surveys.stages import noun
from torchpaths.trust.answers import Answers
from torchpaths.trust.calibration import by_budget, by_path
from torchpaths.trust.detectors import Known, suspicion
from torchpaths.trust.draw import draw_calibration, draw_escalations

SCHEMA = "torchpaths.attack/1"
ASKED = "as it is"
EVERYTHING = "everything"


def attack_report(
    net: Routed,
    train: Sample,
    test: Sample,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    plain: Routed | None = None,
    foreign: Sample | None = None,
    path: Path | None = None,
    others: Mapping[str, Path] | None = None,
    plan: Plan | None = None,
    classes: Sequence[str] | None = None,
    label: int | None = None,
    title: str = "",
    folder: pathlib.Path | str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Attacks on a network, what they do to its paths, whether paths tell, and how far its answers can be trusted.

    Args:
        net: a routed network of any methods, in any mode.
        train: training images, from which is learnt which paths are common.
        test: others, which are attacked.
        mean: by which images were normalised in training, scale 0 to 1.
        std: likewise.
        plain: the same model without paths, normalised alike, for the curves.
        foreign: images of other classes.
        path: units chosen from outside.
        others: further paths of the network, budgets by name. Where images have no say in the path, answers along them
            are compared with the network's own.
        plan: what is tried.
        classes: their names; their numbers where None.
        label: of whose images the rates are drawn; None for all.
        title: of the network and data, for figures.
        folder: where to write figures, PNG and SVG; None for none.
        tell: is told what is done next.

    Raises:
        DataError: for images that do not fit, or too few.
        CallError: for a network without gradients.
        RunError: for scores that are not finite.
        PathError: for paths that do not fit.
    """
    plan, others = plan or Plan(), dict(others or {})
    if len(test) < 2:
        raise DataError(f"{len(test)} test images, of which one half is calibrated by the other; give two or more.")
    many = Asked(net, mean, std, path, others, plan.batch)
    tell("training images")
    known = Known.of(many(train)[0])
    names = tuple(str(k) for k in range(known.train.logits.shape[1])) if classes is None else tuple(classes)
    if len(names) != known.train.logits.shape[1]:
        raise DataError(f"{len(names)} class names for {known.train.logits.shape[1]} classes; give one for each.")
    tell("clean images")
    clean, along = many(test)
    calm = suspicion(known, clean, many.compared(along))
    pixels = Pixels(net, mean, std, path=path, gradient=plan.gradient)
    curves = curves_of(net, plain, pixels, test, mean, std, path, plan, tell)
    rows, shown = rows_of(many, known, pixels, test, foreign, calm, plan, tell)
    mimics = mimics_of(many, known, pixels, test, calm, clean, plan, tell)
    moved = _moved(known, clean, shown, label, plan.seed)
    budgets = {ASKED: clean, **along}
    if clean.sites and clean.hard.any():
        tell("everything open")
        budgets[EVERYTHING] = many.run(test, Path.full(net))
    two = again(many, train, test, known, budgets, tell)
    asked_again = {} if two is None else two.curves()
    if two is not None and two.added:
        budgets[two.first] = two.cheap
    calibrated = by_budget(budgets, plan.seed)
    common = by_path(known, clean, seed=plan.seed) if clean.sites else []
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "network": net.layout.network,
        "classes": list(names),
        "images": {"train": len(train), "test": len(test), "foreign": 0 if foreign is None else len(foreign)},
        "plan": plan.to_json(),
        "marks": {"decided": int(clean.hard.sum()), "energies": int((~clean.hard).sum())},
        "unseen": [names[k] for k in known.unseen],
        "accuracy": float(clean.right.mean()),
        "curves": [found.to_json() for found in curves],
        "detection": [row.to_json() for row in rows],
        "mimicry": [row.to_json() for row in mimics.values()],
        "strongest": strongest(mimics),
        **{name: None if part is None else part.to_json() for name, part in moved.items()},
        "by_budget": [group.to_json() for group in calibrated],
        "by_path": [group.to_json() for group in common],
        "selective": {name: found.to_json() for name, found in asked_again.items()},
        "asked": None if two is None else {"first": two.first, "again": two.again},
        "files": [],
    }
    if folder is not None:
        title = title or net.layout.network
        figures: dict[str, Figure] = {"attack-accuracy": draw_curves(curves, title)}
        of_attacks = [*rows, *([_worst(mimics, as_levels(plan.strength))] if mimics else [])]
        if fooling := [row for row in of_attacks if row.scores]:
            figures["attack-detection"] = draw_detection(fooling, title)
        if isinstance(moved["rates"], Rates):
            of = "all classes" if label is None else names[label]
            figures["attack-rates"] = draw_rates(moved["rates"], title, of, as_levels(max(plan.detected)))
        if isinstance(moved["crossing"], Crossing):
            figures["attack-crossing"] = draw_crossing(moved["crossing"], title)
        figures["calibration"] = draw_calibration(calibrated, common, title)
        if two is not None:
            figures["asked-again"] = draw_escalations(
                asked_again, net.layout.plain.macs, title, f"{two.first}, then {two.again}"
            )
        for name, (paths, called) in groups(clean, shown, names).items():
            if any(bool(mask.any()) for mask in paths.states.dynamic.values()):
                figures[f"attack-paths-{name}"] = draw_class_paths(
                    paths, called, f"{title}, attacked", unit=noun(net.layout)
                )
        report["files"] = [
            str(file) for name, figure in figures.items() for file in save(figure, pathlib.Path(folder) / name)
        ]
    return report


def _moved(
    known: Known, clean: Answers, attacked: Answers, label: int | None, seed: int
) -> dict[str, Rates | Crossing | None]:
    """What the strongest FGSM does to paths; None where there is nothing to see."""
    found: dict[str, Rates | Crossing | None] = {"rates": None, "crossing": None}
    if clean.hard.any():
        found["rates"] = rates(clean, attacked, label)
    if clean.sites and (clean.right & ~attacked.right & (known.images[attacked.predicted] > 0)).any():
        found["crossing"] = crossing(known, clean, attacked, seed)
    return found


def _worst(mimics: Mapping[str, Row], strength: str) -> Row:
    """Of each score what the strongest attack achieves."""
    best = strongest(mimics)
    scores = {score: mimics[name].scores[score] for score, name in best.items()}
    unnoticed = {score: mimics[name].unnoticed[score] for score, name in best.items()}
    images = next(iter(mimics.values())).images
    fooled = max(row.fooled for row in mimics.values())
    return Row(f"matched path {strength}, the strongest", images, fooled, scores, unnoticed)
