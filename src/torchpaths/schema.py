"""One way of reading JSON: text to data, data to typed values, and every fault on the way one kind of error.

Files come from other versions, from other programs and from strangers, cut short, edited or made to do harm. `parse` is
stricter than Python's own reader, which takes NaN, numbers without end and the last of two equal keys. `convert` checks
data against the annotations of a dataclass with msgspec: nothing is rounded, cast or guessed. `reading` turns what else
goes wrong while a value is made into an error of the library that says which file, where in it, and what to do.
"""

from __future__ import annotations

import contextlib
import json
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from torchpaths.errors import clip, reason

T = TypeVar("T")

Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
NotNegative: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
"""Numbers that documents hold: of work or weights, of things, of pixels or channels, above 0, 0 or above, and from 0
to 1."""


MOST = 2**24
"""Numbers in an image that a file may ask for: beyond, a stranger's file would only fill the memory."""


class MalformedError(ValueError):
    """Text or data that is not what it should be; what reads it says where and what to do, see `reading`."""


class Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A document with fields that may be absent: others than its own are refused, else a misspelt one would pass for
    an absent one."""


def parse(text: bytes | str) -> Any:
    """JSON as data: dicts, lists, texts, finite numbers, bools and None.

    Raises:
        MalformedError: for what is no JSON in UTF-8, is nested too deep, names a key twice in one object, or holds a
            number that is not finite.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        return json.loads(text, object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite)
    except MalformedError:
        raise
    except RecursionError as error:
        raise MalformedError("not JSON that anything wrote: it is nested too deep") from error
    except ValueError as error:  # no UTF-8, no JSON, a whole number of thousands of digits
        raise MalformedError(f"not JSON ({clip(str(error), 120)}), it may have been cut short") from error


def convert(data: Any, kind: Any, at: str = "") -> Any:
    """Data as a value of a type: of a dataclass, or whatever else msgspec knows. Fields it does not have are left out.

    Args:
        data: from `parse`; dataclasses within may be made already.
        kind: the type.
        at: what the data stand under in their file, for errors.

    msgspec crashes the process for a union that joins a constrained number and a tuple of fixed length,
    as ``Count | tuple[int, int]``: no type of a document may hold one, which a test looks after.

    Raises:
        MalformedError: for a missing field or a value of another type or out of range, naming the place.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at ")
        place = place.strip("`").removeprefix("$").removeprefix(".")
        where = f"{at}{'.' if at and place and not place.startswith('[') else ''}{place}"
        raise MalformedError(f"{where}: {said}" if where else said) from error
    except RecursionError as error:
        raise MalformedError(f"{at}: nested too deep" if at else "nested too deep") from error


def checked(kind: type[Any], values: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Values for the fields of a dataclass, each checked against the field's annotation as by `convert`.

    Annotations that cannot be resolved or that msgspec does not know, as a class of somebody else may have, check
    nothing.
    """
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # names that exist for a type checker only
        hints = {}
    found = {}
    for name, value in values.items():
        try:
            found[name] = convert(value, hints.get(name, Any), f"{at}.{name}" if at else name)
        except TypeError:
            found[name] = value
    return found


@contextlib.contextmanager
def reading(where: object, error: type[Exception], remedy: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes an error that names a file, what is wrong with it and a remedy.

    An error that is one already keeps its words. None is longer than 500 characters, whatever the file holds.

    Args:
        where: the file or folder.
        error: the class to raise.
        remedy: what to do, without a full stop.
    """
    try:
        yield
    except Exception as fault:  # what a constructor, torch or numpy says to what a stranger wrote
        place = clip(str(where), 200)
        if isinstance(fault, error) and not isinstance(fault, MalformedError):
            text = str(fault)
            text = text if place in text else f"{place}: {text}"
            if text == str(fault) and len(text) < 500:
                raise
        else:
            own = type(fault).__module__ == "torchpaths.errors" or isinstance(fault, MalformedError)
            told = (str(fault) if own else _told(fault)).removesuffix(f"; {remedy}.").rstrip(".")
            text = f"{told}." if place in told else f"{place}: {clip(told, 490 - len(place) - len(remedy))}; {remedy}."
        raise error(clip(text, 499)) from fault


def _told(fault: Exception) -> str:
    if isinstance(fault, KeyError):
        return f"{fault} is missing"
    return f"malformed ({reason(fault, 200)})"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise MalformedError(f"not JSON of one meaning: {clip(repr(twice), 80)} stands twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise MalformedError(f"not JSON: {clip(text, 40)} is no finite number")
    return number
