"""How much may be open: ``Budget``, a rule of choice; as a share of units a training target as well."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from torchpaths.errors import BudgetError


@dataclass(frozen=True, slots=True, repr=False)
class Budget:
    """How much may be open. Exactly one field is set.

    A share of open units is a training target and a rule of choice alike. MACs and milliseconds are rules of choice
    alone (`Front.best`, `Survey.path`, `shrink`): methods that train towards a budget refuse them.

    Attributes:
        open: mean share of units open, in (0, 1]. Units of each kind (`Unit.kind`) are counted apart: 0.5 is half of
            the stages and half of the filters, not half of everything, where hundreds of filters would be all.
        macs: a share of the plain network's MACs when at most 1, a number of MACs when above 1.
        ms: milliseconds per batch on a device that was profiled.

    Raises:
        BudgetError: if none or several are set, or one is out of range.
    """

    open: float | None = None
    macs: float | None = None
    ms: float | None = None

    def __repr__(self) -> str:
        given = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if getattr(self, f.name))
        return f"Budget({', '.join(given)})"

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) is not None}
        if len(given) != 1:
            raise BudgetError(
                f"a Budget takes exactly one of open, macs and ms, got {given or 'none'}; e.g. Budget(open=0.6)."
            )
        [(name, value)] = given.items()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
            raise BudgetError(f"Budget({name}={value!r}): a budget is a finite number above 0.")
        if name == "open" and value > 1:
            raise BudgetError(f"Budget(open={value!r}): a share of units lies in (0, 1]; for 60 % write open=0.6.")
