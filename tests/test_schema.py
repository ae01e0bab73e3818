"""One way of reading: what is not exactly what was asked for is an error that says where, in few words."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import torchpaths
from torchpaths.errors import DataError, PathError, clip
from torchpaths.layout import Cost, Layout, Unit
from torchpaths.path import Path
from torchpaths.schema import Count, MalformedError, Share, checked, convert, parse, reading


@dataclass(frozen=True)
class Inner:
    count: Count
    share: Share = 0.5


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    name: str | None = None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b'{"a": 1', "cut short"),
        (b"[NaN]", "NaN is no finite number"),
        (b"[-Infinity]", "-Infinity is no finite number"),
        (b"[1e999]", "1e999 is no finite number"),
        (b"1" * 5000, "not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "'c' stands twice"),
        ("\u00e4".encode("latin-1"), "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not JSON"),
    ],
)
def test_text_that_has_not_one_meaning_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message) as caught:
        parse(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "missing required field `inner`"),
        ({"inner": [{"count": "1"}]}, r"inner\[0\].count: Expected `int`, got `str`"),
        ({"inner": [{"count": 1.0}]}, r"inner\[0\].count: Expected `int`, got `float`"),
        ({"inner": [{"count": True}]}, r"inner\[0\].count: Expected `int`, got `bool`"),
        ({"inner": [{"count": -1}]}, r"inner\[0\].count: Expected `int` >= 0"),
        ({"inner": [{"count": 2**70}]}, r"inner\[0\].count: Expected `int` <= "),
        ({"inner": [{"count": 1}, {"count": 1, "share": 1.5}]}, r"inner\[1\].share: Expected `float` <= 1.0"),
        ({"inner": [], "name": 3}, "name: Expected `str . null`, got `int`"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_nothing_is_cast_rounded_or_guessed(data: Any, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        convert(data, Outer)


def test_what_is_right_becomes_the_dataclass() -> None:
    assert convert({"inner": [{"count": 3, "share": 1}], "name": "x"}, Outer) == Outer((Inner(3, 1.0),), "x")
    assert checked(Outer, {"inner": [{"count": 3}]}) == {"inner": (Inner(3),)}


@pytest.mark.parametrize(
    "fault", [KeyError("k"), TypeError("x" * 5000), MemoryError(), RecursionError("deep"), OverflowError("y")]
)
def test_whatever_is_raised_becomes_a_short_error_with_file_and_remedy(fault: Exception) -> None:
    with (
        pytest.raises(DataError, match=r"^some/file.json: .*; do this\.$") as caught,
        reading("some/file.json", DataError, "do this"),
    ):
        raise fault
    assert len(str(caught.value)) < 500
    assert caught.value.__cause__ is fault


def test_an_error_that_names_the_file_already_keeps_its_words() -> None:
    with pytest.raises(DataError, match=r"^f.json: bad; mend it\.$"), reading("f.json", DataError, "do this"):
        raise DataError("f.json: bad; mend it.")
    with pytest.raises(DataError) as caught, reading("f.json", DataError, "do this"):
        raise DataError(f"f.json: {'x' * 9000}; mend it.")
    assert str(caught.value).endswith("; mend it.")
    assert len(str(caught.value)) < 500


def test_a_clipped_text_keeps_both_ends() -> None:
    assert clip("short", 10) == "short"
    text = clip("a" * 400 + "b" * 400, 400)
    assert (len(text), text[0], text[-1]) == (400, "a", "b")


LAYOUT = Layout((Unit("a", 0, Cost(1, 2)), Unit("a", 1, Cost(3, 4))), Cost(5, 6), Cost(9, 12), "N")


@pytest.mark.parametrize("key", ["kinds", "Terms", "inside ", "extra"])
def test_a_layout_with_a_field_that_it_does_not_know_is_refused(key: str) -> None:
    """A misspelt optional field would else pass for an absent one."""
    with pytest.raises(PathError, match=f"unknown field `{key}`.*write it anew"):
        Layout.from_json({**LAYOUT.to_json(), key: []})


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"index": [0, 0]},
            {"index": [1, 0]},
            {"macs": [1, 2**63]},
            {"macs": [1.0, 3]},
            {"macs": ["1", 3]},
            {"site": "aa"},
        ),
        *(
            {"terms": 3},
            {"terms": [[1, 2]]},
            {"terms": [[1, 2, 0, [0, 9]]]},
            {"terms": [[1, 2, [0, 1]]]},
            {"terms": [[[0, 1], 2, 0]]},
        ),
        *(
            {"inside": {"a": [["b", 0]]}},
            {"inside": {"a": [["a"]]}},
            {"fixed": {"macs": 1}},
            {"fixed": 1},
            {"network": None},
        ),
    ],
    ids=str,
)
def test_an_edited_layout_is_an_error_whatever_was_done_to_it(change: dict[str, Any]) -> None:
    with pytest.raises(PathError) as caught:
        Layout.from_json({**LAYOUT.to_json(), **change})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "sites", [3, {"a": 1}, {"a": [2]}, {"a": [[0], [0, 1]]}, {"a": [[[0]]]}, {"a": []}, {"a": ["1"]}, {"a": [0.5]}]
)
def test_an_edited_path_is_an_error_whatever_was_done_to_it(sites: Any) -> None:
    data = {**json.loads(Path.full(_Net()).to_json()), "sites": sites}
    with pytest.raises(PathError):
        Path.from_json(json.dumps(data))


class _Net:
    layout = LAYOUT


def _unions(kind: Any, seen: set[int]) -> Iterator[tuple[Any, ...]]:
    """The members of every union within a type, as far down as dataclasses and structs go."""
    if isinstance(kind, type) and typing.get_origin(kind) is None:
        if id(kind) in seen:
            return
        seen.add(id(kind))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        yield typing.get_args(kind)
    for part in typing.get_args(kind):
        yield from _unions(part, seen)
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "__struct_fields__")):
        try:
            hints = typing.get_type_hints(kind, include_extras=True)
        except NameError:  # names for type checkers only: `convert` takes no such class
            return
        for hint in hints.values():
            yield from _unions(hint, seen)


def _crashes(members: tuple[Any, ...]) -> bool:
    """Whether msgspec would crash for a union of these, see `torchpaths.schema.convert`."""
    bound = any(typing.get_origin(m) is typing.Annotated and typing.get_args(m)[0] in (int, float) for m in members)
    plain = [typing.get_args(m)[0] if typing.get_origin(m) is typing.Annotated else m for m in members]
    return bound and any(typing.get_origin(m) is tuple and Ellipsis not in typing.get_args(m) for m in plain)


def test_no_type_of_ours_is_one_that_crashes_the_reader() -> None:
    assert _crashes(typing.get_args(Count | tuple[int, int]))
    assert not _crashes(typing.get_args(int | tuple[int, int]))
    found, seen = 0, set[int]()
    for info in pkgutil.walk_packages(torchpaths.__path__, "torchpaths."):
        if info.name.endswith("__main__"):
            continue
        for kind in vars(importlib.import_module(info.name)).values():
            if isinstance(kind, type) and kind.__module__.startswith("torchpaths."):
                for members in _unions(kind, seen):
                    found += 1
                    assert not _crashes(members), (kind, members)
    assert found > 20
