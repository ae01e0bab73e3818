"""Beginning anew in the place of a run, which goes with everything in its folder: ``replaced``."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torchpaths.errors import RunError
from torchpaths.files.fresh import check_free
from torchpaths.files.write import disk
from torchpaths.train.lock import LOCK, held
from torchpaths.train.recipe import Recipe

_RUNS = ("", "run", "plain")
"""Where in a folder runs lie: a run itself, that of a shrunk network, a plain twin."""


@contextmanager
def replaced(out: pathlib.Path, recipe: Recipe) -> Iterator[None]:
    """Set aside what this library wrote into a folder, while a run begins in its place.

    At the end of the block it is gone; after an error it is back where it was, unless the new run has saved something.

    Args:
        out: the folder; there may be none, or an empty one.
        recipe: of the new run, its paths absolute.

    Raises:
        RunError: for a folder that holds no network of ours, one in which a process is training, or one that holds what
            the recipe starts from; nothing is touched then.
    """
    check_free(out, force=True)
    teacher = None if recipe.distil is None else recipe.distil.teacher
    needed = {"weights": recipe.weights, "start": recipe.start, "data": recipe.data, "teacher": teacher}
    for name, source in needed.items():
        if source is not None and pathlib.Path(source).is_relative_to(out.resolve()):
            raise RunError(f"{out} holds what the new run needs, its {name}, {source}; take a new folder for that.")
    old = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}.old")
    if out.exists():
        with ExitStack() as stack:
            for folder in (out / name for name in _RUNS):
                if (folder / LOCK).is_file():
                    stack.enter_context(held(folder))
            with disk(out, "nothing was touched"):
                os.replace(out, old)
    try:
        yield
    except BaseException:
        if old.exists() and not _saved(out):
            _put_back(old, out)
        else:
            shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _put_back(old: pathlib.Path, out: pathlib.Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    try:
        os.replace(old, out)
    except OSError as error:
        raise RunError(
            f"the run that was in {out} could not be put back ({error.strerror}); it is whole in {old}, move it "
            "yourself."
        ) from error


def _saved(out: pathlib.Path) -> bool:
    """Whether a folder holds anything that was trained."""
    return any((out / run / name).exists() for run in _RUNS for name in ("checkpoints", "summary.json"))
