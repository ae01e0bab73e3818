"""``torchpaths cut RUN``: a run's network along one path, written as a plain network that needs no torchpaths; or
without its silent filters, as a run, see `torchpaths.cli.silent`."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Annotated

from tyro import conf

from torchpaths.budget import Budget
from torchpaths.cli import OK
from torchpaths.cli.options import OfRun, emit, parse, read_path, speaking
from torchpaths.cli.silent import remove_silent
from torchpaths.cli.tables import count
from torchpaths.cuts import Spec, save_cut
from torchpaths.errors import BudgetError, DataError, RouteError, near
from torchpaths.files.document import read_document
from torchpaths.fronts import Front
from torchpaths.models import source
from torchpaths.path import Path
from torchpaths.schema import convert, reading
from torchpaths.surveys import Survey
from torchpaths.text import visible
from torchpaths.train.folder import Run


@dataclass(frozen=True)
class Options(OfRun):
    """What the verb takes."""

    out: pathlib.Path = dataclasses.field(kw_only=True)
    """Folder for the cut network; it must be new or empty."""
    path: pathlib.Path | None = None
    """The path, as JSON."""
    budget_macs: float | None = None
    """Or keep the units that images open most, within so many MACs: up to 1 a share of the plain network's."""
    budget_open: float | None = None
    """Or within this share of units, of each kind where there are several."""
    label: str | None = None
    """The class, by name or number, whose images say what is kept; all images by default. Without a budget: what at
    least half of its images open."""
    budget_ms: float | None = None
    """Or the most accurate path of the run's front within so many milliseconds for a batch, see torchpaths front."""
    classes: str | None = None
    """Or what of a coded network works for these classes, by name or number with commas between, and their rows of the
    head: for one class a binary classifier."""
    without: str | None = None
    """Or for all classes but these."""
    front: pathlib.Path | None = None
    """Choose the most accurate path within a budget from this front.json instead of the run's survey."""
    silent: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Or only remove the filters that no training image opens (of --split validation, where that is given), and the
    gates of those that every one opens. What comes out is a run, whose network still decides."""


def run(arguments: list[str]) -> int:
    """Choose, cut, write and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = "A run's network along one path as a plain network: weights, description and a loader without torchpaths."
    options = parse(Options, arguments, "cut", about)
    budget = _budget(options)
    if options.silent:
        return remove_silent(options, options.out)
    with speaking(options.json) as console:
        opened = options.open()
        keep = _kept(options, opened)
        path, chosen = _choose(options, budget, opened, keep)
        channels = opened.net.example_shape[0]
        net, path = opened.whole(path)
        spec = save_cut(
            net,
            path,
            options.out,
            source(opened.recipe.model, len(opened.classes), channels=channels),
            method=opened.recipe.method,
            classes=opened.classes,
            keep=keep,
            mean=opened.mean,
            std=opened.std,
        )
        rows = [f"chosen by {chosen}", *_rows(spec, path), *_threshold(options, keep), f"wrote {options.out}"]
        console.print("\n".join(rows), soft_wrap=True)
    if options.json:
        emit({"folder": str(options.run), "out": str(options.out), **spec.to_json()})
    return OK


def _budget(options: Options) -> Budget | None:
    """The budget asked for.

    Raises:
        BudgetError: if nothing says what to keep, or several things do.
    """
    given = {"macs": options.budget_macs, "open": options.budget_open, "ms": options.budget_ms}
    budgets = {name: value for name, value in given.items() if value is not None}
    whole = {"path": options.path, "classes": options.classes, "without": options.without}
    says = [f"--{name}" for name, value in whole.items() if value is not None] + ["--silent"] * options.silent
    if says:
        if len(says) > 1 or budgets or options.label is not None or options.front is not None:
            raise BudgetError(
                f"{says[0]} says what to keep; leave out {', '.join([*says[1:], 'budgets'])}, --label and --front."
            )
        return None
    if len(budgets) > 1:
        raise BudgetError(f"{' and '.join(f'--budget-{name}' for name in budgets)}: give one budget.")
    if not budgets and (options.label is None or options.front is not None):
        raise BudgetError(
            "nothing says what to keep; give --path FILE, --budget-macs 0.6 or --label CLASS, or --classes CLASS of a "
            "coded network, or --silent of one with gated filters."
        )
    if options.label is not None and (options.front is not None or "ms" in budgets):
        raise BudgetError("--label: a front knows no classes, only a survey does; give --budget-macs or --budget-open.")
    return Budget(**budgets) if budgets else None


def _kept(options: Options, opened: Run) -> tuple[int, ...] | None:
    """The classes whose scores are kept; None for all.

    Raises:
        DataError: for one that there is not, or if none is left.
    """
    asked = options.classes if options.classes is not None else options.without
    if asked is None:
        return None
    names = [name.strip() for name in asked.split(",")]
    if not all(names):
        raise DataError(f"{asked!r}: names or numbers of classes, with commas between.")
    named = tuple(_class(name, opened.classes) for name in names)
    kept = named if options.without is None else tuple(k for k in range(len(opened.classes)) if k not in named)
    if not kept:
        raise DataError(f"--without {asked}: no class is left; leave fewer out.")
    return kept


def _class(name: str, classes: tuple[str, ...]) -> int:
    if classes.count(name) > 1:
        numbers = [str(i) for i, each in enumerate(classes) if each == name]
        raise DataError(f"several classes are called {name!r}; give the number, {' or '.join(numbers)}.")
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise DataError(f"there is no class {name!r} in this run. {near(name, classes)}")


def _threshold(options: Options, keep: tuple[int, ...] | None) -> list[str]:
    """From which score on a single class's classifier says yes, in words, if the run was decoded."""
    if keep is None or len(keep) > 1:
        return []
    file = options.run / "decode.json"
    if not file.is_file():
        return [f"from which score on it says yes is told by: torchpaths decode {options.run}"]
    report = read_document(file, "torchpaths.decode/1", "decode report", f"torchpaths decode {options.run}")
    with reading(file, DataError, "it was edited or cut short; make it anew with torchpaths decode"):
        threshold: float = convert(report["classifiers"]["paths"]["thresholds"][keep[0]], float, "thresholds")
    return [f"it says yes from a score of {threshold:.3f} on, the best F1 on training images ({file})"]


def _choose(options: Options, budget: Budget | None, opened: Run, keep: tuple[int, ...] | None) -> tuple[Path, str]:
    """The path, and what chose it, in words."""
    if keep is not None:
        if opened.recipe.method is None:
            raise RouteError("this run has no method, so its classes have no paths; cut a coded network's.")
        names = ", ".join(visible(opened.classes[k]) for k in keep[:3]) + (
            f" and {len(keep) - 3} more" if len(keep) > 3 else ""
        )
        return opened.recipe.method.path_of(opened.net, keep), f"the codewords of {names}"
    if options.path is not None:
        return read_path(options.path), str(options.path)
    if budget is not None and (budget.ms is not None or options.front is not None):
        front = options.front or options.run / "front.json"
        path = Front.load(front, opened.net).best(budget, fixed=True).path
        assert path is not None  # as fixed=True asks for
        return path, str(front)
    found, where = _surveyed(options, opened)
    label = options.label
    if label is not None and label not in found.classes and label.isdecimal():
        return found.path(int(label), budget), where
    return found.path(label, budget), where


def _surveyed(options: Options, opened: Run) -> tuple[Survey, str]:
    """The survey beside the run, or a new one if it has none or others are asked for; its layout without deciders.

    A cut network has no deciders, so they take nothing of its budget.
    """
    file = options.run / "survey.json"
    found = None
    if options.data is None and options.weights == "final" and file.is_file():
        found = Survey.load(file, opened.net.layout)
    where = str(file)
    if found is None or found.split != options.split:
        found = options.survey().survey
        where = f"what {found.images.sum():,} images open"
    # The network's own layout: surveys of older versions do not say what deciders cost.
    return dataclasses.replace(found, layout=opened.net.layout.undecided()), where


def _rows(spec: Spec, path: Path) -> list[str]:
    """What came out, in words."""
    units = [unit for opened in path.values() for unit in opened]
    shares = {"MACs": (spec.cut.macs, spec.plain.macs), "parameters": (spec.cut.params, spec.plain.params)}
    return [
        f"{spec.source}: {sum(units)} of {len(units)} units kept",
        *(f"{count(cut)} of {count(plain)} {what} ({cut / plain:.1%})" for what, (cut, plain) in shares.items()),
        f"made by {spec.build}" + (", edited" if spec.edits else ""),
    ]
