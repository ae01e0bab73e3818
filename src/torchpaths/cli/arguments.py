"""From arguments to a dataclass, with tyro; and the two ways of answering, for people and with ``--json``.

Apart from `options`, which knows runs and so needs torch: a verb that needs none answers at once.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar

import tyro
from tyro import conf

from torchpaths.cli import MisuseError
from torchpaths.terminal import Console

T = TypeVar("T")

Json: TypeAlias = Annotated[
    bool, conf.FlagCreatePairsOff, conf.arg(help="Print one JSON object and nothing else on standard output.")
]


def parse(
    kind: type[T],
    arguments: Sequence[str],
    verb: str,
    about: str,
    registry: tyro.constructors.ConstructorRegistry | None = None,
) -> T:
    """The arguments as an instance of ``kind``; prints help (status 0) or what is wrong (status 2) and exits.

    Args:
        kind: a dataclass; nested ones become ``--field.name``.
        arguments: what follows the verb.
        verb: for the usage line.
        about: the first paragraph of the help.
        registry: which options types have, where it is not what they say themselves.
    """
    config = (conf.AvoidSubcommands, conf.SuppressFixed)
    return tyro.cli(
        kind, args=arguments, prog=f"torchpaths {verb}", description=about, config=config, registry=registry
    )


def refuse(arguments: Sequence[str], names: Sequence[str], why: str) -> None:
    """Refuse options that would have no effect, also where they say what is the default.

    Args:
        arguments: what follows the verb.
        names: of the options, ``skip-corrupt``.
        why: they have none, and what to do instead.

    Raises:
        MisuseError: for any of them among the arguments.
    """
    given = {argument.partition("=")[0].replace("_", "-") for argument in arguments if argument.startswith("--")}
    if found := [f"--{name}" for name in names if f"--{name}" in given]:
        raise MisuseError(f"{', '.join(found)}: {why}")


@contextlib.contextmanager
def speaking(as_json: bool) -> Iterator[Console]:
    """The console to print tables on. With ``--json`` whatever is printed meanwhile goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield Console(stderr=as_json)


def emit(result: dict[str, Any]) -> None:
    """Print ``result`` as one JSON object on one line of standard output. NaN, which JSON cannot say, must be None."""
    print(json.dumps(result, allow_nan=False), flush=True)
