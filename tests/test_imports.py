"""The house: which module may import which, and that no module takes a public name away.

Imports are read from the source, those inside functions and those for types alone too.
"""

from __future__ import annotations

import ast
import functools
import json
import pathlib
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "src"

WORDS = (
    "errors",
    "text",
    "schema",
    "budget",
    "ties",
    "layout",
    "path",
    "perceptron",
    "threshold",
    "inputs",
    "trace",
    "place",
    "junction",
    "there",
    "routed",
)
ANALYSIS = (
    "surveys",
    "fronts",
    "meter",
    "skips",
    "cuts",
    "exports",
    "depth",
    "decoding",
    "filtering",
    "attacks",
    "trust",
    "explorer",
)


def modules() -> dict[str, pathlib.Path]:
    """Every module of the package by its dotted name."""
    files = sorted((SOURCE / "torchpaths").rglob("*.py"))
    names = [".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return dict(zip(names, files, strict=True))


@functools.cache
def imports() -> dict[str, set[str]]:
    """Module -> the package's modules that it imports anywhere in its source."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, file in known.items():
        asked: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                asked |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports relatively"
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    asked.add(inner if inner in known else str(node.module))
        found[name] = (asked & known.keys()) - {name}
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle; empty if none do."""
    done: set[str] = set()
    for start in graph:
        trail: list[str] = []
        pending = [(start, iter(sorted(graph[start])))] if start not in done else []
        trail += [start] if pending else []
        while pending:
            name, rest = pending[-1]
            following = next(rest, None)
            if following is None:
                done.add(name)
                pending.pop()
                trail.pop()
            elif following in trail:
                return [*trail[trail.index(following) :], following]
            elif following not in done:
                trail.append(following)
                pending.append((following, iter(sorted(graph[following]))))
    return []


def test_a_circle_is_found_wherever_it_is() -> None:
    line = {"a": {"b"}, "b": {"c"}, "c": set[str](), "d": {"a", "b"}}
    assert circle(line) == []
    assert circle({**line, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({**line, "c": {"d"}}) == ["a", "b", "c", "d", "a"]


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circle(imports()) == []


@pytest.mark.parametrize("word", WORDS)
def test_a_word_imports_nothing_but_words(word: str) -> None:
    assert imports()[f"torchpaths.{word}"] <= {f"torchpaths.{other}" for other in WORDS}


@pytest.mark.parametrize("package", ANALYSIS)
def test_analysis_knows_paths_and_no_method(package: str) -> None:
    # A cut's description holds the method it was routed with, as a value to be written and read.
    allowed = {"torchpaths.methods.base"} if package == "cuts" else set[str]()
    own = {name: asked for name, asked in imports().items() if f"{name}.".startswith(f"torchpaths.{package}.")}
    assert own
    methods = {name: {m for m in asked if m.startswith("torchpaths.methods")} - allowed for name, asked in own.items()}
    assert not any(methods.values()), {name: found for name, found in methods.items() if found}


LOOK = """
import importlib, json, pkgutil, sys
import torchpaths
skipped = []
for found in pkgutil.walk_packages(torchpaths.__path__, "torchpaths."):
    if found.name.endswith(".__main__"):
        continue
    try:
        importlib.import_module(found.name)
    except ImportError as error:
        if "torchpaths" in (error.name or "torchpaths"):
            raise
        skipped.append(found.name)
import torchpaths.surveys.figures
homes = {name: getattr(importlib.import_module("torchpaths." + home), name) for name, home in torchpaths._HOME.items()}
wrong = [name for name, value in homes.items() if getattr(torchpaths, name) is not value]
modules = [name for name in torchpaths.__all__ if type(getattr(torchpaths, name)) is type(torchpaths)]
print(json.dumps({"wrong": wrong, "modules": modules, "names": torchpaths.__all__, "skipped": skipped}))
"""


def test_public_names_stay_what_they_are_when_every_module_has_been_imported() -> None:
    answered = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)
    assert answered.returncode == 0, answered.stderr
    found = json.loads(answered.stdout.splitlines()[-1])
    assert {"survey", "front", "measure", "cost", "export", "Path", "Layout"} <= set(found["names"])
    assert (found["wrong"], found["modules"]) == ([], [])


def test_no_module_bears_a_public_name() -> None:
    import torchpaths

    own = {name.rpartition(".")[2] for name in modules() if name.count(".") == 1}
    assert own.isdisjoint(torchpaths.__all__)
