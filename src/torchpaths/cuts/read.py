"""``load_cut`` reads what `save_cut` wrote, from data alone: the original network is made, routed and cut again."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from torchpaths.cuts.spec import LOADER, SPEC, WEIGHTS, Spec
from torchpaths.differences import difference
from torchpaths.errors import DataError, PathError, RunError, clip
from torchpaths.extraction import Cut, cut_out, noise, run
from torchpaths.files.tensors import read_tensors
from torchpaths.models.known import known
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.routing import route


def load_cut(folder: pathlib.Path | str) -> nn.Module:
    """A network that `save_cut` wrote, in evaluation mode. No code of the folder is run: the original is cut again.

    The folder may come from a stranger: of its network only what `torchpaths.models.known.known` lets pass is made.

    Raises:
        DataError: if a file is missing, cut short, edited or of another schema, or does not fit the others.
        RunError: if the library of its original is not installed or does not know it.
    """
    return _opened(pathlib.Path(folder))[1].module.eval()


@dataclass(frozen=True)
class Uncut:
    """A cut network as what it was cut out of: the original, of whose closed parts nobody knows the weights.

    Attributes:
        net: the original, routed.
        path: along which it is the cut network.
        names: a list of blocks in the original -> {name of each child in the cut network: its name in the original}.
    """

    net: Routed
    path: Path
    names: Mapping[str, Mapping[str, str]]

    def further(self, path: Path) -> Path:
        """What remains of the original along a path of the cut network.

        Args:
            path: one for the whole batch.

        Raises:
            PathError: for sites that are no sites of the original.
        """
        chosen = {}
        for site, opened in path.items():
            was = _before(site, self.names)
            if was not in self.path or len(self.path[was]) != len(opened):
                raise PathError(
                    f"site {site!r} of the cut network is no site of its original as it was routed; cut the run that "
                    "it was cut out of along one path that closes both."
                )
            chosen[was] = opened
        return self.path & Path({site: chosen.get(site, opened) for site, opened in self.path.items()})


def uncut(folder: pathlib.Path | str) -> Uncut:
    """A network that `save_cut` wrote, for cutting it further. Errors as `load_cut`; and

    Raises:
        PathError: if parts of layers were cut, whose places in the original are not kept.
    """
    net, cut, spec = _opened(pathlib.Path(folder))
    x = noise(net)
    # Layers that lost channels or rows hold copies of what is left, so the original there is none that was trained.
    if spec.kept is not None or difference(run(cut.module, x), run(net, x, path=spec.path)) > 1:
        raise PathError(
            f"{folder}: channels of its layers, or rows of its head, were cut out, so it cannot be cut further; cut "
            "the run that it was cut out of along one path that closes both."
        )
    return Uncut(net.eval(), spec.path, cut.kept)


def _before(site: str, names: Mapping[str, Mapping[str, str]]) -> str:
    """What a site of the cut network is called in the original."""
    found: list[str] = []
    for part in site.split("."):
        found.append(names.get(".".join(found), {}).get(part, part))
    return ".".join(found)


def _opened(folder: pathlib.Path) -> tuple[Routed, Cut, Spec]:
    """The original, routed; what was cut out of it, which has the folder's weights; and the description.

    Both share parameters, but for layers of which only some channels or rows are left.
    """
    spec = Spec.read(folder)
    if not (folder / WEIGHTS).exists():
        raise DataError(f"{folder}: {WEIGHTS} is missing; copy the whole folder.")
    weights = read_tensors(folder / WEIGHTS, DataError, "copy the folder again", spec.sha256)
    dtype = getattr(torch, str(spec.dtype), None)
    if not isinstance(dtype, torch.dtype):
        raise DataError(
            f"{folder / SPEC}: torch has no dtype {spec.dtype!r}; the file was edited, cut the network again."
        )
    stored = {t.dtype for t in weights.values() if t.is_floating_point()}
    if stored - {dtype}:
        raise DataError(
            f"{folder / SPEC}: the weights are no {spec.dtype}; the file was edited, cut the network again."
        )
    try:
        model = known(spec.source).make().to(dtype)
        net = route(model, spec.method, example=torch.zeros(2, *spec.shape, dtype=dtype))
        cut = cut_out(net, spec.path, classes=spec.kept)
        cut.module.load_state_dict(weights)
    except RunError as error:
        text, place = str(error), clip(str(folder / SPEC), 160)
        raise RunError(clip(text if str(folder) in text else f"{place}: {text}", 499)) from error
    except Exception as error:  # whatever torch or the library says to what an edited file asks for
        place, library = clip(str(folder), 160), clip(spec.source.library, 20)
        raise DataError(
            f"{place}: path, weights and network do not fit each other ({clip(str(error), 160)}); {SPEC} was edited, "
            f"or another version of {library} is installed. {LOADER} opens networks with blocks given by hand."
        ) from error
    return net, cut, spec
