"""``torchpaths train [RECIPE]``: train by a recipe, any field of it overridden; without one, the digits demo."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from tyro import conf

from torchpaths.budget import Budget
from torchpaths.cli import MISUSED, OK, complain
from torchpaths.cli.methods import import_model, named
from torchpaths.cli.names import translated
from torchpaths.cli.options import Json, emit, parse, speaking
from torchpaths.cli.tables import side_by_side
from torchpaths.errors import near
from torchpaths.explorer import explore
from torchpaths.methods import METHODS, Method, Together
from torchpaths.models.hub import PREFIX
from torchpaths.train.distil import Distil
from torchpaths.train.evaluate import summary, survey_run
from torchpaths.train.recipe import Recipe
from torchpaths.train.recipes import RECIPES
from torchpaths.train.run import train

DEMO = "digits"

FORCE = "Begin anew in the place of a run that is in the folder, which goes with everything beside it."

ABOUT = """Train by the recipe {name!r} (known: {known}).
The run folder gets the resolved recipe, metrics, checkpoints, the survey and its figures; repeating the command goes on
from the last checkpoint. Under torchrun the same command trains on all processes."""


def run(arguments: list[str]) -> int:
    """Train, survey, draw and print. Returns the exit status, see `torchpaths.cli.main`."""
    name, rest = (arguments[0], arguments[1:]) if arguments and not arguments[0].startswith("-") else (DEMO, arguments)
    if name not in RECIPES:
        return complain(f"no recipe {name!r}. {near(name, RECIPES, len(RECIPES))}", MISUSED)
    recipe = RECIPES[name]()
    method, rest = _take("--method", rest)
    if method is not None:
        recipe = _with_method(recipe, named(method))
    theirs = translated(rest)
    if theirs is not None:
        return complain(theirs, MISUSED)
    options, recipe = _parse(name, recipe, rest)
    if recipe.finetune and recipe.data == RECIPES["finetune"]().data and not pathlib.Path(recipe.data).exists():
        return complain("which images? Give --data FOLDER, with a folder for each class, or train/ and val/.", MISUSED)
    if ":" in recipe.model and "/" not in recipe.model and not recipe.model.startswith(PREFIX):
        import_model(recipe.model)
    with speaking(options.json) as console:
        train(recipe, options.out, resume=options.resume, force=options.force)
        if os.environ.get("RANK", "0") != "0":  # under torchrun the first process speaks for all
            return OK
        found = survey_run(options.out, keep_paths=True)
        found.survey.save(options.out)
        drawn = found.draw(options.out / "figures")
        page = explore(found.survey, options.out / "explorer.html", run=options.out)
        twin = [survey_run(options.out / "plain").survey] if recipe.twin else []
        console.print(side_by_side([*twin, found.survey]))
        console.print(f"run folder: {options.out}", soft_wrap=True)
        if drawn:
            console.print(f"figures:    {options.out / 'figures'}", soft_wrap=True)
        console.print(f"explorer:   {page}", soft_wrap=True)
    if options.json:
        beside = {"plain": summary(twin[0])} if twin else {}
        emit(
            {
                "folder": str(options.out),
                "figures": [str(f) for f in drawn],
                "explorer": str(page),
                **summary(found.survey),
                **beside,
            }
        )
    return OK


@dataclass(frozen=True)
class _Distil:
    """A network to learn from, beside the labels."""

    teacher: str | None = None
    """"start", the network that training starts from, or a run's folder; nobody by default."""
    weight: float = Distil.weight
    """The teacher's share of the loss, in (0, 1]; the labels have the rest."""
    temperature: float = Distil.temperature
    """By which scores are divided."""

    @classmethod
    def of(cls, distil: Distil | None) -> _Distil:
        return cls() if distil is None else cls(distil.teacher, distil.weight, distil.temperature)

    def made(self) -> Distil | None:
        return None if self.teacher is None else Distil(self.teacher, self.weight, self.temperature)


def _take(flag: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    """The value of ``flag VALUE`` or ``flag=VALUE``, None where the flag is absent, and the other arguments."""
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2], arguments[:i] + arguments[i + 1 :]
        if argument == flag:
            return "".join(arguments[i + 1 : i + 2]), arguments[:i] + arguments[i + 2 :]
    return None, arguments


def _with_method(recipe: Recipe, method: Method | None) -> Recipe:
    """The recipe with another method, or its own where it has one of that kind. A plain network has no plain twin."""
    if method is None:
        return dataclasses.replace(recipe, method=None, twin=False)
    return recipe if type(recipe.method) is type(method) else dataclasses.replace(recipe, method=method)


def _parse(name: str, recipe: Recipe, arguments: list[str]) -> tuple[Any, Recipe]:
    """The options ``out``, ``resume``, ``force`` and ``json``, and the recipe with its overrides.

    tyro takes what a field accepts from its annotation, and ``Recipe.method`` is annotated as any method. So it is a
    field of its own here, annotated as the method it is; of several methods each is one in turn, under its class. So is
    what the network learns from, of which ``None`` is a choice for one field and not for all.
    """
    plain = dataclasses.replace(recipe, distil=None)
    fields: list[tuple[str, Any, Any]] = [
        ("out", Annotated[pathlib.Path, conf.arg(help="Run folder.")], pathlib.Path("runs") / name),
        ("resume", Annotated[bool, conf.arg(help="Go on with the run in the folder, if there is one.")], True),
        ("force", Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help=FORCE)], False),
        ("json", Json, False),
        ("recipe", Annotated[Recipe, conf.arg(name=""), conf.AvoidSubcommands], plain),
        ("distil", _Distil, _Distil.of(recipe.distil)),
    ]
    about = (
        f"Who decides; --method {'|'.join(METHODS)} chooses another at its defaults, package.module:Class one of your "
        "own, A,B several."
    )
    method: Any = recipe.method
    if isinstance(method, Together):
        method = _record("Methods", [(type(m).__name__, type(m), m) for m in method.methods])()
    if method is not None:
        fields.append(("method", Annotated[type(method), conf.arg(help=about)], method))
    kind = _record("Options", fields)
    options: Any = parse(kind, arguments, f"train {name}", ABOUT.format(name=name, known=", ".join(RECIPES)), TRAINED)
    given = dataclasses.replace(options.recipe, distil=options.distil.made())
    if method is None:
        return options, given
    made = options.method
    if isinstance(recipe.method, Together):
        made = Together(tuple(getattr(made, field.name) for field in dataclasses.fields(made)))
    return options, dataclasses.replace(given, method=made)


TRAINED = tyro.constructors.ConstructorRegistry()
"""What `Budget` offers where something is trained towards it: MACs and milliseconds are for choosing alone."""


@TRAINED.struct_rule
def _open_alone(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    if info.type is not Budget:
        return None
    known = info.default.open if isinstance(info.default, Budget) else tyro.MISSING
    about = "Mean share of units open, in (0, 1]."
    field = tyro.constructors.StructFieldSpec(name="open", type=float, default=known, helptext=about)
    return tyro.constructors.StructConstructorSpec(instantiate=Budget, fields=(field,))


def _record(name: str, fields: Sequence[tuple[str, Any, Any]]) -> Any:
    """A dataclass of fields given as name, type and default; defaults may be of classes that cannot be hashed."""
    made = [(n, t, dataclasses.field(default_factory=functools.partial(_same, d))) for n, t, d in fields]
    return dataclasses.make_dataclass(name, made)


def _same(value: Any) -> Any:
    return value
