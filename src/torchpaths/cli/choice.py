"""What verbs take that run or write a network along a path or at a point of its front: ``OfPath``, ``choose``."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass

from torchpaths.budget import Budget
from torchpaths.cli.options import OfRun, read_path
from torchpaths.errors import BudgetError, DataError, RouteError, near
from torchpaths.fronts import Front, Point
from torchpaths.path import Path
from torchpaths.surveys import Survey
from torchpaths.text import visible
from torchpaths.train.folder import Run


@dataclass(frozen=True)
class OfPath(OfRun):
    """What says which part of a network is meant."""

    path: pathlib.Path | None = None
    """The path, as JSON."""
    point: str | None = None
    """Or a point of the run's front, by its number or name there: 3, "gates at 2.52"."""
    budget_macs: float | None = None
    """Or the units that images open most, within so many MACs: up to 1 a share of the plain network's. Their accuracy
    is not looked at; with --front it is."""
    budget_open: float | None = None
    """Or within this share of units, of each kind where there are several."""
    label: str | None = None
    """The class, by name or number, or several with commas between, whose images say what is kept; all images by
    default. Without a budget: what at least half of its images open."""
    budget_ms: float | None = None
    """Or the most accurate point of the run's front within so many milliseconds for a batch, see torchpaths front."""
    classes: str | None = None
    """Or what of a coded network works for these classes, by name or number with commas between, and their rows of the
    head: for one class a binary classifier."""
    without: str | None = None
    """Or for all classes but these."""
    front: pathlib.Path | None = None
    """Choose from this front.json: the most accurate point within a budget, instead of by the run's survey."""


@dataclass(frozen=True)
class Chosen:
    """What is meant.

    Attributes:
        what: units chosen from outside, or a point of the run's front.
        by: what chose it, in words.
        keep: numbers of the classes whose scores are kept; None for all.
        title: of a point, its name in the menu.
    """

    what: Path | Point
    by: str
    keep: tuple[int, ...] | None = None
    title: str = ""

    @property
    def whole(self) -> Path | None:
        """The path for all images that it is; None where gates decide."""
        if isinstance(self.what, Path):
            return self.what
        return self.what.path if self.what.fixed else None


def choose(options: OfPath, opened: Run, *, fixed: bool = False) -> Chosen | None:
    """What the options mean; None if they say nothing.

    Args:
        options: of the verb.
        opened: the run.
        fixed: within a budget, only a path for all images.

    Raises:
        BudgetError: if several things say what is meant, or nothing meets a budget.
        DataError: for classes that there are not, or files that cannot be read.
    """
    budget = budget_of(options)
    if not means(options):
        return None
    keep = _kept(options, opened)
    if keep is not None:
        return _of_classes(opened, keep)
    if options.path is not None:
        return Chosen(read_path(options.path), str(options.path))
    if options.point is not None or (budget is not None and (budget.ms is not None or options.front is not None)):
        file = options.front or options.run / "front.json"
        front = Front.load(file, opened.net)
        point = front.point(str(options.point)) if budget is None else front.best(budget, fixed=fixed)
        return Chosen(point, f"{file}: {front.title(point)}", title=front.title(point))
    found, where = _surveyed(options, opened)
    path = found.path(None if options.label is None else _labels(options.label, found.classes), budget)
    return Chosen(path, where if budget is None else f"{where}: {_by_rates(options, found)}")


def means(options: OfPath) -> bool:
    """Whether the options say what is meant; if not, it is what the network decides itself."""
    budgets = (options.budget_macs, options.budget_open, options.budget_ms)
    return bool(said(options)) or any(given is not None for given in (*budgets, options.label, options.front))


def by_images(options: OfPath) -> bool:
    """Whether images say what is meant: those of the run's survey, or of others that are asked for."""
    elsewhere = (options.front, options.budget_ms)
    return means(options) and not said(options) and all(value is None for value in elsewhere)


def said(options: OfPath) -> list[str]:
    """The options that say alone what is meant."""
    whole = {name: getattr(options, name) for name in ("path", "point", "classes", "without")}
    return [f"--{name}" for name, value in whole.items() if value is not None]


def budget_of(options: OfPath, *more: str) -> Budget | None:
    """The budget asked for.

    Args:
        options: of the verb.
        more: other options that were given and say alone what is meant.

    Raises:
        BudgetError: if several things say what is meant.
    """
    given = {"macs": options.budget_macs, "open": options.budget_open, "ms": options.budget_ms}
    budgets = {name: value for name, value in given.items() if value is not None}
    says = [*said(options), *more]
    if says:
        if len(says) > 1 or budgets or options.label is not None or (options.front is not None and not options.point):
            raise BudgetError(
                f"{says[0]} says what to keep; leave out {', '.join([*says[1:], 'budgets'])}, --label and --front."
            )
        return None
    if len(budgets) > 1:
        raise BudgetError(f"{' and '.join(f'--budget-{name}' for name in budgets)}: give one budget.")
    if options.front is not None and not budgets:
        raise BudgetError("nothing says what to keep; --front only says where to choose: give --budget-macs or --point")
    if options.label is not None and (options.front is not None or "ms" in budgets):
        raise BudgetError("--label: a front knows no classes, only a survey does; give --budget-macs or --budget-open.")
    return Budget(**budgets) if budgets else None


def _kept(options: OfPath, opened: Run) -> tuple[int, ...] | None:
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
    named = tuple(class_of(name, opened.classes) for name in names)
    kept = named if options.without is None else tuple(k for k in range(len(opened.classes)) if k not in named)
    if not kept:
        raise DataError(f"--without {asked}: no class is left; leave fewer out.")
    return kept


def _labels(text: str, classes: tuple[str, ...]) -> list[int | str]:
    """Classes by name or number with commas between; one name may hold commas itself."""
    names = [text] if text in classes else [name.strip() for name in text.split(",")]
    return [int(name) if name not in classes and name.isdecimal() else name for name in names]


def class_of(name: str, classes: tuple[str, ...]) -> int:
    """The number of a class that is told by its name or number.

    Raises:
        DataError: for one that there is not.
    """
    if classes.count(name) > 1:
        numbers = [str(i) for i, each in enumerate(classes) if each == name]
        raise DataError(f"several classes are called {name!r}; give the number, {' or '.join(numbers)}.")
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise DataError(f"there is no class {name!r} in this run. {near(name, classes)}")


def _of_classes(opened: Run, keep: tuple[int, ...]) -> Chosen:
    """What of a coded network works for some classes."""
    if opened.recipe.method is None:
        raise RouteError("this run has no method, so its classes have no paths; cut a coded network's.")
    names = ", ".join(visible(opened.classes[k]) for k in keep[:3]) + (
        f" and {len(keep) - 3} more" if len(keep) > 3 else ""
    )
    return Chosen(opened.recipe.method.path_of(opened.net, keep), f"the codewords of {names}", keep)


def _by_rates(options: OfPath, found: Survey) -> str:
    """That a budget without a front is filled by how often units open, and how to have one filled by accuracy."""
    if len(set(found.rates.tolist())) > 1:
        rule = "the units opened most often within the budget"
    else:  # as where nothing decides: plain networks, adaptive depth
        rule = "every unit is opened as often as any other, so the cheapest within the budget"
    if options.label is not None:
        return f"{rule}, whatever that does to accuracy"
    file = options.run / "front.json"
    first = "" if file.is_file() else f"torchpaths front {options.run}, then "
    return f"{rule}, whatever that does to accuracy; for the most accurate that was measured: {first}--front {file}"


def _surveyed(options: OfPath, opened: Run) -> tuple[Survey, str]:
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
