"""The command ``torchpaths``: one verb per module, nothing imported before the verb is known.

Torch takes seconds to import and tyro a few tenths; ``torchpaths --help`` and a mistyped verb need neither, so the
verb is looked up in the argument list itself and its module is imported after that. What a verb prints for people goes
through rich; with ``--json`` standard output holds one JSON object and everything else goes to standard error.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Sequence

VERBS = {
    "train": "train a network; without arguments the digits demo, plain and gated side by side",
    "shrink": "blocks of a trained network closed for good within a budget, the rest trained, cut out and compared",
    "evaluate": "accuracy, MACs and units open of a trained run",
    "predict": "what a trained network says of images, and which of its blocks it runs for them",
    "survey": "which units open for which classes: statistics and figures of a trained run",
    "explore": "a page on which to see, shut and compare the paths of a surveyed run: one file, or live with its model",
    "cut": "a trained run's network along one path, as a plain network that needs no torchpaths",
    "export": "a trained run's network in a file for ONNX Runtime, torch.export or OpenVINO, that still skips there",
    "depths": "every depth of an adaptive-depth run: accuracy, MACs, norms, what its blocks look at and add",
    "decode": "what a coded run's branches, classes and early decoders are worth: numbers and figures",
    "filters": "which filters of a run open for what, what they see, what they tell of the class: numbers and figures",
    "attack": "a run under FGSM, PGD and one who knows of paths; whether paths tell; calibration: numbers and figures",
    "front": "the menu of a trained run: sub-networks worth having, with accuracy, MACs and milliseconds",
    "measure": "MACs, time, gap and memory of a trained run beside the plain network, on this device",
    "codes": "codewords for classes: which units shall work for which class, as far apart as possible",
}

HELP = f"""usage: torchpaths VERB ...

Networks whose information paths you can see, choose and cut out.

{chr(10).join(f"  {verb:<10}{text}" for verb, text in VERBS.items())}

  torchpaths VERB --help   what a verb takes
  torchpaths --version     the version
"""


def help_page(verb: str) -> pathlib.Path:
    """Where a verb's help stands as a file, so that neither torch nor the verb must be imported to show it.

    ``python -m torchpaths.cli.pages`` writes them; a test says when one is old.
    """
    return pathlib.Path(__file__).with_name("pages") / f"{verb}.txt"


OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


class MisuseError(Exception):
    """Arguments that make no sense, in words."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the arguments after the command's name; None takes the process's own.

    Returns:
        The exit status: 0, or 1 after an error the library explains, 2 for arguments that make no sense, 130 after
        Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _main(arguments)
        sys.stdout.flush()  # while a reader that has gone can still be met
    except BrokenPipeError:  # the reader, say `head`, has what it wanted; the rest goes nowhere, also at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


def _main(arguments: list[str]) -> int:
    """See `main`."""
    if not arguments:
        print(HELP, file=sys.stderr)
        return MISUSED
    verb, rest = arguments[0], arguments[1:]
    if verb in ("-h", "--help", "help"):
        print(HELP)
        return OK
    if verb == "--version":
        from importlib.metadata import version

        print(f"torchpaths {version('torchpaths')}")
        return OK
    if verb not in VERBS:
        from torchpaths.errors import near

        return complain(f"no verb {verb!r}. {near(verb, VERBS)} See torchpaths --help.", MISUSED)
    if rest in (["-h"], ["--help"]) and (page := help_page(verb)).is_file():
        print(page.read_text(encoding="utf-8"), end="")
        return OK
    # Else torch's profiler, the meter of memory, reports on standard error that it finds no GPU. Read as torch loads.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    run: Callable[[list[str]], int] = importlib.import_module(f"torchpaths.cli.{verb}").run
    return _guarded(run, rest)


def _guarded(run: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Run a verb; errors of the library and of the operating system become one line instead of a traceback."""
    from torchpaths import errors
    from torchpaths.text import visible

    explained = (
        errors.PathError,
        errors.BudgetError,
        errors.RouteError,
        errors.CallError,
        errors.MeasureError,
        errors.DataError,
        errors.CodeError,
        errors.RunError,
        OSError,
    )
    # One line, as errors are, and like them obeyed by no terminal.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {visible(str(message))}\n"
    try:
        return run(arguments)
    except BrokenPipeError:
        raise
    except MisuseError as error:
        return complain(str(error), MISUSED)
    except explained as error:
        return complain(str(error), FAILED)
    except KeyboardInterrupt:
        return complain(
            "stopped by Ctrl-C. A training run continues from its last checkpoint: repeat the command.", INTERRUPTED
        )


def complain(message: str, status: int) -> int:
    """Print ``error: message`` to standard error, red where that is a terminal, and return ``status``."""
    from torchpaths.terminal import Console

    console = Console(stderr=True, soft_wrap=True)
    console.print("error:", style="bold red", end=" ")
    console.print(message)
    return status
