"""What is chosen: ``Path``. Data and arithmetic, no networks.

A ``Path`` says for some or all sites which units are open, either once for the whole batch (plain bools: closed work is
really left out) or for each sample (a bool tensor ``[batch, unit]``). Sites a path does not name decide for themselves.

All four papers meet here: a ConvNet-AIG inference graph, a set of active filters, a class's codeword and a depth of an
adaptive network are the same thing, a ``Path``. Everything downstream (cost, survey, cut, run, draw) knows only paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.errors import PathError, near
from torchpaths.layout import Cost, HasLayout, Layout
from torchpaths.schema import MalformedError, Strict, convert, parse, reading

SCHEMA = "torchpaths.path/1"

Bools: TypeAlias = tuple[bool, ...]


class Happened(Protocol):
    """What a path needs of a decision: which units ran, bool ``[batch, unit]``."""

    @property
    def open(self) -> Tensor: ...


def _normalise(site: str, value: Any) -> Bools | Tensor:
    """One site's choice as a tuple of bools (whole batch) or a bool tensor [batch, unit]."""
    if isinstance(value, Tensor):
        if value.dtype != torch.bool:
            raise PathError(
                f"path[{site!r}]: a tensor of {value.dtype}; a path holds bools, compare first (e.g. rate > 0.5)."
            )
        if value.dim() == 2:
            return value
        if value.dim() == 1 and len(value) > 0:
            return tuple(bool(v) for v in value.tolist())
        raise PathError(
            f"path[{site!r}]: a tensor of shape {tuple(value.shape)}; give [unit] for the batch or [batch, unit] per "
            "sample."
        )
    if isinstance(value, bool):
        return (value,)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or len(value) == 0:
        raise PathError(
            f"path[{site!r}]: {value!r} is no choice; give a bool, a list with a bool for each unit, or a bool tensor."
        )
    if all(isinstance(v, bool) for v in value):
        return tuple(value)
    if (
        all(isinstance(row, Sequence) and row and all(isinstance(v, bool) for v in row) for row in value)
        and len({len(row) for row in value}) == 1
    ):
        return torch.tensor([list(row) for row in value], dtype=torch.bool)
    raise PathError(f"path[{site!r}]: {value!r} holds something other than True and False, or rows of unequal length.")


class Path(Mapping[str, "Bools | Tensor"]):
    """What is chosen: site -> which of its units are open.

    A value is given as a bool (sites of one unit), a list or 1-d bool tensor (one choice for the batch: closed work is
    really left out), or a list of lists or bool tensor ``[batch, unit]`` (per sample). Reading gives a tuple of bools
    or a tensor. Sites left out decide for themselves.

    ``a & b`` and ``a | b`` combine site by site (a site that only one of the two names keeps what that one says) and
    ``~a`` swaps open and closed. ``path[3]`` of a per-sample path is sample 3's path for a batch.

    Raises:
        PathError: for values that are no bools, ragged rows, or batches of unequal size.
    """

    __slots__ = ("_choices", "network")

    def __init__(self, choices: Mapping[str, Any], network: str | None = None) -> None:
        """
        Args:
            choices: site -> bools, see above.
            network: fingerprint of the network this path was made for, checked where it is used; None for any.
        """
        self._choices: dict[str, Bools | Tensor] = {site: _normalise(site, value) for site, value in choices.items()}
        self.network = network
        sizes = {len(v) for v in self._choices.values() if isinstance(v, Tensor)}
        if len(sizes) > 1:
            raise PathError(
                f"a path for batches of different sizes {sorted(sizes)}; all tensors of a path belong to one batch."
            )

    @classmethod
    def full(cls, net: HasLayout) -> Path:
        """Everything open: the original network."""
        return cls({site: (True,) * len(units) for site, units in net.layout.sites.items()}, net.layout.fingerprint)

    @classmethod
    def of(cls, trace: Mapping[str, Happened]) -> Path:
        """What happened, as a choice: per sample ``[batch, unit]``. A site that did not run is absent."""
        return cls({site: decision.open.detach() for site, decision in trace.items()})

    @property
    def batch(self) -> int | None:
        """Samples in a per-sample path; None for a path of the whole batch."""
        return next((len(v) for v in self._choices.values() if isinstance(v, Tensor)), None)

    def __getitem__(self, key: Any) -> Any:
        """A site's choice for a site's name; for a sample's number or a slice, the path of that sample or those."""
        if isinstance(key, str):
            try:
                return self._choices[key]
            except KeyError:
                raise KeyError(f"no site {key!r} in this path. {near(key, self._choices)}") from None
        if self.batch is None:
            raise PathError(
                f"path[{key!r}]: this path is one for the whole batch and has no samples; index it by a site's name."
            )
        return Path({site: v[key] if isinstance(v, Tensor) else v for site, v in self._choices.items()}, self.network)

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def __contains__(self, site: object) -> bool:
        return site in self._choices

    def __invert__(self) -> Path:
        return Path(
            {s: ~v if isinstance(v, Tensor) else tuple(not b for b in v) for s, v in self._choices.items()},
            self.network,
        )

    def __and__(self, other: Path) -> Path:
        return self._combine(other, "&")

    def __or__(self, other: Path) -> Path:
        return self._combine(other, "|")

    def _combine(self, other: Path, how: str) -> Path:
        if self.network and other.network and self.network != other.network:
            raise PathError(f"{how} of paths of two networks ({self.network}, {other.network}).")
        merged: dict[str, Bools | Tensor] = dict(self._choices)
        for site, b in other._choices.items():
            a = merged.get(site)
            if a is None:
                merged[site] = b
                continue
            widths = [v.shape[1] if isinstance(v, Tensor) else len(v) for v in (a, b)]
            if widths[0] != widths[1]:
                raise PathError(
                    f"{how} at site {site!r}: {widths[0]} units against {widths[1]}; the paths belong to different "
                    "networks."
                )
            if isinstance(a, Tensor) and isinstance(b, Tensor) and len(a) != len(b):
                raise PathError(f"{how} at site {site!r}: batches of {len(a)} and {len(b)}.")
            if isinstance(a, Tensor) or isinstance(b, Tensor):
                device = a.device if isinstance(a, Tensor) else b.device  # type: ignore[union-attr]
                ta, tb = (torch.as_tensor(v, dtype=torch.bool, device=device) for v in (a, b))
                merged[site] = ta & tb if how == "&" else ta | tb
            else:
                merged[site] = tuple((x and y) if how == "&" else (x or y) for x, y in zip(a, b, strict=True))
        return Path(merged, self.network or other.network)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Path):
            return NotImplemented
        if self._choices.keys() != other._choices.keys():
            return False
        for a, b in ((v, other._choices[s]) for s, v in self._choices.items()):
            if isinstance(a, Tensor) != isinstance(b, Tensor):
                return False
            if isinstance(a, Tensor) and isinstance(b, Tensor):
                if a.shape != b.shape or not bool((a == b.to(a.device)).all()):
                    return False
            elif a != b:
                return False
        return True

    def __hash__(self) -> int:
        if self.batch is not None:
            raise TypeError("a per-sample path is not hashable; take one sample's, path[i].")
        return hash(frozenset(self._choices.items()))

    def __repr__(self) -> str:
        def show(v: Bools | Tensor) -> str:
            return (
                f"bool[{v.shape[0]}, {v.shape[1]}]" if isinstance(v, Tensor) else "".join("1" if b else "0" for b in v)
            )

        return f"Path({', '.join(f'{s}: {show(v)}' for s, v in self._choices.items())})"

    def to(self, device: torch.device | str) -> Path:
        """The same path with its tensors on ``device``."""
        return Path({s: v.to(device) if isinstance(v, Tensor) else v for s, v in self._choices.items()}, self.network)

    def check(self, layout: Layout, batch: int | None = None) -> None:
        """Raise unless this path fits a network, and a batch of that size.

        Raises:
            PathError: another network's path, unknown sites (with near names), a wrong number of units or samples.
        """
        sites = layout.sites
        for site, value in self._choices.items():
            if site not in sites:
                raise PathError(
                    f"the path names site {site!r}, which {layout.network} does not have. {near(site, sites)}"
                )
            width = value.shape[1] if isinstance(value, Tensor) else len(value)
            if width != len(sites[site]):
                raise PathError(
                    f"the path gives {width} units at site {site!r}, which has {len(sites[site])}; the path belongs "
                    "to another network."
                )
        if self.network is not None and self.network != layout.fingerprint:
            raise PathError(
                f"the path was made for network {self.network}, this is {layout.fingerprint} ({layout.network}); "
                "choose a path of this one."
            )
        if batch is not None and self.batch is not None and self.batch != batch:
            raise PathError(
                f"a path for {self.batch} samples met a batch of {batch}; take path[i] to use one sample's for all."
            )

    def cost(self, net: HasLayout) -> Cost:
        """What one image costs along this path, deciders included.

        Raises:
            PathError: for a path of another network, a per-sample path, or one that leaves sites to decide (which it
                may where they cost nothing, inside something closed); if parts of the network were replaced since its
                costs were counted.
        """
        if self.batch is not None:
            raise PathError(
                "a per-sample path has a cost for each sample: path[i].cost(net), or path.macs(net) for all."
            )
        layout = _priced(net)
        return layout.cost(self.opened(layout)[0])

    def macs(self, net: HasLayout) -> Tensor:
        """MACs of each sample along its path, float64 ``[batch]`` (``[1]`` for a path of the whole batch). Errors as
        `cost`."""
        layout = _priced(net)
        return torch.from_numpy(layout.costs(self.opened(layout))[:, 0]).double()

    def opened(self, layout: Layout) -> NDArray[np.bool_]:
        """bool ``[batch, unit]`` in layout order (``[1, unit]`` for a path of the whole batch), False where nothing is
        chosen because it runs nothing. Errors as `cost`."""
        self.check(layout)
        rows = self.batch or (1 if self.batch is None else 0)
        columns, missing = [], []
        for site, units in layout.sites.items():
            if site in self._choices:
                chosen = torch.as_tensor(self._choices[site], dtype=torch.bool).cpu()
                columns.append(chosen.expand(rows, -1).numpy())
            else:
                missing.append(site)
                columns.append(np.zeros((rows, len(units)), bool))
        opened = np.concatenate(columns, 1) if columns else np.zeros((rows, 0), bool)
        if costly := _costly(layout, opened, missing):
            raise PathError(
                f"the cost of a path that leaves {len(costly)} sites to decide for themselves "
                f"({', '.join(costly[:3])}) depends on the image; choose them too, e.g. path & Path.full(net)."
            )
        return opened

    def to_json(self) -> str:
        """As JSON text; per-sample choices as lists of 0 and 1."""
        sites = {
            s: v.int().tolist() if isinstance(v, Tensor) else [int(b) for b in v] for s, v in self._choices.items()
        }
        return json.dumps({"schema": SCHEMA, "network": self.network, "sites": sites})

    @classmethod
    def from_json(cls, text: str | bytes) -> Path:
        """The inverse of `to_json`.

        Raises:
            PathError: if the text is no path of this schema.
        """
        with reading("no path", PathError, "the file was edited or cut short, write it anew"):
            return cls.from_data(parse(text))

    @classmethod
    def from_data(cls, data: Any) -> Path:
        """As `from_json`, of what the text holds."""
        with reading("no path", PathError, "the file was edited or cut short, write it anew"):
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            if found != SCHEMA:
                raise MalformedError(f"schema {found!r}, this version reads {SCHEMA!r}")
            written = convert(data, _Written)
            return cls({site: _bools(site, value) for site, value in written.sites.items()}, written.network)


def _priced(net: HasLayout) -> Layout:
    """The layout of something routed, which may know that its costs are old."""
    priced = getattr(net, "priced", None)
    layout: Layout = net.layout if priced is None else priced()
    return layout


def _costly(layout: Layout, opened: NDArray[np.bool_], missing: Sequence[str]) -> list[str]:
    """Those of the missing sites that may cost something, along a path ``[batch, unit]`` for which they are closed."""
    if not missing:
        return []
    names = np.array([unit.site for unit in layout.units])
    left = np.isin(names, missing)
    most = layout.costs(opened | left)
    if np.array_equal(layout.costs(opened), most):
        return []
    return [site for site in missing if not np.array_equal(layout.costs(opened | (left & (names != site))), most)]


class _Written(Strict, frozen=True):
    """A path as `Path.to_json` writes it; a choice is a list for the batch, or a list of them for its samples."""

    schema: str
    sites: dict[str, list[bool | int | list[bool | int]]]
    network: str | None = None


def _bools(site: str, value: list[Any]) -> list[Any]:
    """Lists of exact 0 and 1 as bools."""
    if wrong := [v for v in value if not isinstance(v, list) and v not in (0, 1)]:
        raise PathError(f"path[{site!r}] holds {wrong[0]!r}; a path holds 0 and 1.")
    return [_bools(site, v) if isinstance(v, list) else bool(v) for v in value]
