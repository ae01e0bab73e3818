"""``widen``: the weights of a narrowed network in the whole one, whose removed filters are closed.

A path of the narrowed network is then one of the whole network, so what is made of a network along a path needs to know
nothing of narrowing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from torchpaths.errors import RouteError
from torchpaths.narrowing.bare import kept_numbers
from torchpaths.narrowing.left import Left
from torchpaths.path import Path
from torchpaths.routed import Routed


def widen(net: Routed, path: Path, left: Mapping[str, Left], whole: Routed) -> Path:
    """Put the weights of a narrowed network into the whole one, which then gives along a path what ``net`` does along
    the narrower one.

    Deciders are left as they are: along a path nobody asks them.

    Args:
        net: the narrowed network.
        path: one of ``net`` for the whole batch.
        left: what is left in it of the whole one's sites.
        whole: the network as it was before, with any weights, which are overwritten.

    Returns:
        The path of the whole network.

    Raises:
        PathError: for a path that is not of ``net``.
        RouteError: if the networks do not belong together.
    """
    path.check(net.layout)
    found = {name: list(opened) for name, opened in path.items()}
    for name, site in left.items():
        if name in found:
            opened = dict(zip(site.units, found[name], strict=True))
            found[name] = [bool(opened.get(i, False)) for i in range(site.of)]
    numbers = kept_numbers(whole, left)
    values = net.model.state_dict()
    with torch.no_grad():
        for key, target in whole.model.state_dict().items():
            name = key.rpartition(".")[0].removesuffix(".skipped")
            rows, columns = numbers.get(name, (None, None))
            source = values[key]
            if source.shape != target.shape:
                _put(target, source, rows, columns, key)
            else:
                target.copy_(source)
    return Path(found, whole.layout.fingerprint)


def _put(target: Tensor, source: Tensor, rows: list[int] | None, columns: list[int] | None, key: str) -> None:
    """Write rows and columns into a tensor that has more of them."""
    places = [range(n) if k is None else k for n, k in zip(target.shape, (rows, columns), strict=False)]
    if tuple(map(len, places)) != tuple(source.shape[: len(places)]):
        raise RouteError(
            f"{key!r} is {list(source.shape)} for {list(target.shape)}: these networks do not belong together."
        )
    index = [torch.tensor(list(k), device=target.device) for k in places]
    target[torch.meshgrid(*index, indexing="ij")] = source.to(target.device)
