"""``There``: whether the junctions of a network are still where they were.

Whoever replaces a layer in which a junction stands takes the junction away: a new head behind closed filters reads them
all, and nobody masks or leaves out what the trace says is closed. A site of which nothing is left simply does not run;
one of which a part is left would answer for another path than its trace tells.
"""

from __future__ import annotations

import operator
from typing import Any

from torch import nn

from torchpaths.errors import CallError
from torchpaths.junction import Junction, junctions


class There:
    """The junctions of a network, as they stand in it. Looked through before each call, so in few and cheap steps."""

    def __init__(self, owner: nn.Module) -> None:
        """
        Args:
            owner: the routed network, which has its model in ``model``.
        """
        self._owner = owner
        self._named = list(junctions(owner._modules["model"]))  # type: ignore[arg-type]
        self._remember()

    def _remember(self) -> None:
        """Where they stand now: the tables of all modules around them, names there, and what has them."""
        found = list(_around(self._owner))
        self._tables = [table for table, _, _ in found]
        self._names = [name for _, name, _ in found]
        self._held = [child for _, _, child in found]

    def check(self) -> None:
        """
        Raises:
            CallError: if some of a site's modules were replaced, and others stand.
        """
        now = map(dict.get, self._tables, self._names)
        if not any(map(operator.is_not, now, self._held)):
            return
        standing = {id(junction) for _, junction in junctions(self._owner.model)}  # type: ignore[arg-type]
        left = {site.name for _, j in self._named if id(j) in standing for site in j._place.sites}
        for name, junction in self._named:
            torn = next((s.name for s in junction._place.sites if s.name in left), None)
            if id(junction) not in standing and torn is not None:
                raise CallError(
                    f"module {name!r} was replaced after route, which obeyed site {torn!r}: the new one knows nothing "
                    "of what that closes. Route the network as it is now: route(plain(net), method, example=x); "
                    "weights of gates can be loaded into that one."
                )
        self._remember()


def _around(module: nn.Module) -> list[tuple[dict[str, Any], str, Any]]:
    """Of all modules that are junctions or hold some: the table that has each, its name there, itself."""
    found: list[tuple[dict[str, Any], str, Any]] = []
    while isinstance(module, Junction):
        module = module._place.block
    for name, child in module._modules.items():
        inner = [] if child is None else _around(child)
        if inner or isinstance(child, Junction):
            found += [(module._modules, name, child), *inner]
    return found
