"""``torchpaths attack RUN``: what attacks do to a run's network, whether its paths tell, and how far to trust it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from torchpaths.attacks import Plan, Sample, attack_report
from torchpaths.attacks.gates import Way
from torchpaths.cli import OK, MisuseError
from torchpaths.cli.choice import class_of
from torchpaths.cli.decode import foreign_images
from torchpaths.cli.options import Draws, emit, parse, read_path, refuse, speaking
from torchpaths.errors import RunError
from torchpaths.files.write import write_json
from torchpaths.path import Path
from torchpaths.progress import telling
from torchpaths.routed import Routed
from torchpaths.surveys.figures.style import drawn_as
from torchpaths.train.evaluate import images_for, open_run
from torchpaths.train.folder import Run

MEANT = Plan()


@dataclass(frozen=True)
class Options(Draws):
    """What the verb takes."""

    plain: pathlib.Path | None = None
    """Run folder of the plain network, to be attacked beside it; by default the twin that the run was trained with, if
    there is one."""
    ood: pathlib.Path | None = None
    """An image set of other classes and the same image size, to be told from the run's own."""
    path: pathlib.Path | None = None
    """A path to take instead of deciding, as JSON."""
    test_images: int | None = 1000
    """Attack so many images, drawn by the run's seed."""
    train_images: int | None = 5000
    """Learn from so many training images, drawn alike, which paths are common."""
    strengths: tuple[str, ...] = ("0", "1/255", "2/255", "4/255", "8/255", "12/255")
    """How far each pixel, of 0 to 1, may be changed, for the curves of FGSM."""
    detected: tuple[str, ...] = ("2/255", "4/255", "8/255")
    """Strengths of the FGSM attacks that are to be detected."""
    strength: str = "8/255"
    """Of PGD and of the attacker who also matches the path."""
    steps: int = MEANT.steps
    """Of PGD."""
    adaptive_images: int = MEANT.mimics
    """Images for the attacker who also matches the path, of those attacked; 0 for none."""
    adaptive_steps: int = MEANT.mimic_steps
    """Steps of that attacker, at least 100."""
    path_weights: tuple[float, ...] = MEANT.weights
    """What that attacker multiplies the distance to the path by; the strongest is reported."""
    quality: int = MEANT.quality
    """Of JPEG."""
    gradient: Way = MEANT.gradient
    """Whether gradients go through gates, by the estimator they were trained with, or around them."""
    label: str | None = None
    """The class, by name or number, whose rates before and after are drawn; all by default."""
    out: pathlib.Path | None = None
    """Folder for attack.json and the figures; the run folder by default."""


def run(arguments: list[str]) -> int:
    """Attack, measure, save, draw and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = "FGSM, PGD and an attacker who knows of paths; whether paths tell; calibration, and asking again."
    options = parse(Options, arguments, "attack", about)
    if not options.adaptive_images:
        why = "that attacker is left out with --adaptive-images 0; leave one of them out."
        refuse(arguments, ("adaptive-steps", "path-weights"), why)
    plan = _plan(options)
    with speaking(options.json) as console, drawn_as(options.style):
        opened = options.open()
        images = options.images(opened)
        seed = opened.recipe.seed
        train = images_for(opened, data=options.data, split="train", skip_corrupt=options.skip_corrupt)
        ood = None if options.ood is None else foreign_images(options.ood, options.skip_corrupt, opened, images)
        out = options.out or options.run
        with telling("attack", show=True) as tell:
            report = attack_report(
                opened.net,
                Sample.of(train, options.train_images, seed),
                Sample.of(images, options.test_images, seed),
                opened.mean,
                opened.std,
                plain=_plain(options, opened),
                foreign=None if ood is None else Sample.of(ood, options.test_images, seed),
                path=None if options.path is None else read_path(options.path),
                others=_others(opened),
                plan=dataclasses.replace(plan, seed=seed),
                classes=opened.classes,
                label=_label(options.label, opened),
                title=f"{opened.recipe.model} on {images.name}",
                folder=out / "figures",
                tell=tell,
            )
        file = out / "attack.json"
        write_json(file, {name: value for name, value in report.items() if name != "files"})
        for table in tables(report):
            console.print(table)
        console.print("\n".join(f"wrote {written}" for written in (file, *report["files"])), soft_wrap=True)
    if options.json:
        emit({"folder": str(options.run), **report, "files": [str(file), *report["files"]]})
    return OK


def _plan(options: Options) -> Plan:
    return Plan(
        strengths=tuple(strength_of(text) for text in options.strengths),
        detected=tuple(strength_of(text) for text in options.detected),
        strength=strength_of(options.strength),
        steps=options.steps,
        mimics=options.adaptive_images,
        mimic_steps=options.adaptive_steps,
        weights=options.path_weights,
        quality=options.quality,
        gradient=options.gradient,
    )


def strength_of(text: str) -> float:
    """A strength as people write it: ``0.03`` or ``8/255``.

    Raises:
        MisuseError: for anything else.
    """
    above, _, below = text.partition("/")
    try:
        return float(above) / (float(below) if below else 1.0)
    except (ValueError, ZeroDivisionError):
        raise MisuseError(
            f"strength {text!r}: how far a pixel of 0 to 1 may be changed, such as 8/255 or 0.03."
        ) from None


def _plain(options: Options, opened: Run) -> Routed | None:
    """The plain network beside the run's.

    Raises:
        RunError: for one of other classes or images, or that was normalised otherwise.
    """
    own = options.run / "plain"
    folder = own if options.plain is None and (own / "summary.json").is_file() else options.plain
    if folder is None:
        return None
    other = open_run(folder)
    same = (other.classes, other.net.example_shape) == (opened.classes, opened.net.example_shape)
    if not same or (other.mean, other.std) != (opened.mean, opened.std):
        raise RunError(
            f"the run {folder} is of other classes or images than {opened.folder}, or normalises them otherwise, so "
            "one attack cannot be tried on both; give the plain network that was trained on the same data."
        )
    if other.recipe.method is not None:
        raise RunError(f"the run {folder} is not plain; train the same model with --method none.")
    return other.net


def _others(opened: Run) -> dict[str, Path]:
    """The budgets that the run's method names."""
    return {} if opened.recipe.method is None else opened.recipe.method.paths(opened.net)


def _label(name: str | None, opened: Run) -> int | None:
    return None if name is None else class_of(name, opened.classes)


def tables(report: dict[str, Any]) -> Iterator[Table]:
    """What is printed: accuracy under attack, detection, calibration, asking again."""
    first = report["curves"][0]
    table = _table("accuracy under FGSM", "", *(row["strength"] for row in first["as_attacked"]))
    for found in report["curves"]:
        for what, key in (("", "as_attacked"), (", JPEG", "jpeg")):
            if key in found:
                table.add_row(f"{found['name']}{what}", *(f"{row['accuracy']:.1%}" for row in found[key]))
    intervals = [row["interval"] for found in report["curves"] for row in found["as_attacked"]]
    table.caption = f"{report['images']['test']:,} images; {_within(intervals)}"
    yield table
    rows = [*report["detection"], *report["mimicry"]]
    scores = list(dict.fromkeys(score for row in rows for score in row["scores"]))
    for title, key, good in (
        ("AUROC", "auroc", "0.5 is chance, 1 tells all"),
        ("FPR95, share let pass", "fpr95", "where 95 % of clean images pass; 0 lets none"),
    ):
        table = _table(f"told from clean images: {title}", "", "fooled", *scores)
        for number, row in enumerate(rows):
            if number == len(report["detection"]):
                table.add_section()
                table.add_row(f"matched path {report['plan']['strength']}")
            cells = [f"{row['scores'][s][key]:.3f}" if s in row["scores"] else "–" for s in scores]
            table.add_row(row["name"], f"{row['fooled'] / row['images']:.0%}", *cells)
        intervals = [row["scores"][score][f"{key}_interval"] for row in rows for score in row["scores"]]
        table.caption = f"{good}; {_within(intervals)}"
        yield table
    for title, key, ways in (
        ("calibration by budget", "by_budget", ("unscaled", "first", "own")),
        ("calibration from common to rare paths", "by_path", ("unscaled", "one", "path")),
    ):
        if report[key]:
            table = _table(title, "", "images", "accuracy", *(f"ECE {way}" for way in ways))
            for row in report[key]:
                ece = (f"{row[way]['ece']:.2%}" for way in ways)
                table.add_row(row["name"], str(row["images"]), f"{row['accuracy']:.2%}", *ece)
            yield table
    if report["selective"]:
        two = report["asked"]
        title = f"asking again, {two['first']}, then {two['again']}: points of accuracy above chance"
        table = _table(title, "score", "gain")
        for name, found in report["selective"].items():
            table.add_row(name, f"{100 * found['gain']:+.2f}")
        yield table


def _within(intervals: Sequence[Sequence[float]]) -> str:
    """How wide 95 % intervals are, in words."""
    widest = max((high - low for low, high in intervals), default=0.0)
    return f"95 % intervals no wider than {widest:.2f}, each in attack.json"


def _table(title: str, *columns: str) -> Table:
    how: dict[str, Any] = {"title_justify": "left", "title_style": "", "caption_justify": "left"}
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, **how)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", no_wrap=bool(i))
    return table
