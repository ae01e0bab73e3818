"""``save_cut`` writes a network cut along a path into a folder.

weights.safetensors   its weights
spec.json             where it comes from and what it takes, see `torchpaths.cuts.spec`
load.py               a loader that needs torch, safetensors and the network's own library, and no torchpaths
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import pathlib
import runpy
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from torchpaths import models
from torchpaths.copies import copied
from torchpaths.costs import count_macs, count_params
from torchpaths.cuts import build, loader
from torchpaths.cuts.code import Code
from torchpaths.cuts.spec import LOADER, SPEC, WEIGHTS, Spec
from torchpaths.differences import difference
from torchpaths.errors import RouteError, RunError
from torchpaths.extraction import Cut, cut_out, noise, run
from torchpaths.files.fresh import check_free, fresh_folder
from torchpaths.files.tensors import to_bytes
from torchpaths.files.write import write_file
from torchpaths.layout import Cost
from torchpaths.methods.base import Method
from torchpaths.models import Source
from torchpaths.models.known import untrained
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.version import __version__


def save_cut(
    net: Routed,
    path: Path,
    folder: pathlib.Path | str,
    source: Source,
    *,
    method: Method | None = None,
    classes: tuple[str, ...] = (),
    keep: Sequence[int] | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    images: str | None = None,
    crop: float = 1.0,
    bicubic: bool = False,
    resize: int | None = None,
    example: Tensor | None = None,
    force: bool = False,
) -> Spec:
    """Cut a network along a path and write it into a folder, whole or not at all.

    load.py is run before the folder takes its name: the network it makes has all the weights and gives the same output
    as ``net`` along the path.

    Args:
        net: a routed network; it is not changed.
        path: one for the whole batch that names every site.
        folder: where to; made if absent, and it must be empty.
        source: how the original model of ``net`` is made; see `torchpaths.models.source`.
        method: with which ``net`` was routed.
        classes: names by label, of all classes of ``net``.
        keep: numbers of the classes whose scores are kept, see `torchpaths.extract`; None: all.
        mean: per channel, to be subtracted from images of 0 to 1.
        std: per channel, to divide by after that.
        images: the set that ``net`` was trained on, by name or folder, for verbs that run the cut network.
        crop: share of the shorter side that is left of an image that is scaled to the network's size.
        bicubic: whether it is scaled with bicubic weights, otherwise bilinear.
        resize: pixels to which its shorter side is scaled before the centre is cut out, in place of ``crop``.
        example: images to compare on, as for `extract`.
        force: replace a network that is there.

    Raises:
        PathError, RouteError: as `extract`; and RouteError if no loader gives the same network, as when ``source`` does
            not make the original of ``net``.
        RunError: for a folder that is not empty, a full disk, or a source that cannot be made.
    """
    folder = pathlib.Path(folder).absolute()  # "." has no name
    _check_json(source)
    source = untrained(source)  # its weights lie beside it
    check_free(folder, force)
    x = (noise(net) if example is None else example).cpu()
    cut = cut_out(net, path, example, keep)
    if keep is not None:
        keep = [int(k) for k in keep]
        classes = tuple(classes[k] for k in keep) if classes else ()
    module = copied(cut.module).cpu().eval()
    with fresh_folder(folder, force) as fresh:
        data = to_bytes(module.state_dict())
        write_file(fresh / WEIGHTS, data)
        sha256 = hashlib.sha256(data).hexdigest()
        expression, edits = _write_loader(fresh, net, cut, source, module, x, sha256)
        spec = Spec(
            source=source,
            network=net.layout.network,
            path=Path(dict(path), net.layout.fingerprint),
            build=expression.text,
            edits=edits,
            shape=tuple(x.shape[1:]),
            dtype=str(x.dtype).removeprefix("torch."),
            mean=tuple(mean),
            std=tuple(std),
            classes=tuple(classes),
            cut=Cost(count_macs(functools.partial(module, x[:1])), count_params(module)),
            plain=net.layout.plain,
            sha256=sha256,
            method=method,
            kept=None if keep is None else tuple(keep),
            data=images,
            crop=crop,
            bicubic=bicubic,
            resize=resize,
        )
        write_file(fresh / SPEC, (json.dumps(spec.to_json(), indent=1) + "\n").encode())
    return spec


def _check_json(source: Source) -> None:
    if not isinstance(source, Source):
        raise RunError(
            f"source={source!r} does not say how the original is made; give "
            "torchpaths.models.source(name, classes=...), with the name that create_model takes."
        )
    try:
        json.dumps(source.kwargs, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunError(
            f"the source of a cut network is written as JSON, and {source.kwargs!r} holds something else ({error}); "
            "give numbers, texts and lists only."
        ) from error


def _write_loader(
    folder: pathlib.Path, net: Routed, cut: Cut, source: Source, module: nn.Module, x: Tensor, sha256: str
) -> tuple[Code, bool]:
    """Write the first loader whose network is the cut one; the expression it begins with, and whether it edits."""
    params = f"{count_params(module):,} of {net.layout.plain.params:,} parameters"
    by = f"Cut out by torchpaths {__version__}, which is not needed here: model = load()."
    about = f"{source} along one path, {params}.\n\n{by}\n"
    expected = run(module, x)
    reason = ""
    for expression, edits, definitions in _loaders(net, cut, source):
        own = loader.beside(definitions)
        for name in own:
            shutil.copy(pathlib.Path(models.__file__).with_name(f"{name}.py"), folder)
        write_file(folder / LOADER, loader.text(about, definitions, sha256, x.dtype).encode())
        try:
            with _apart(own):
                made: nn.Module = runpy.run_path(str(folder / LOADER))["load"]()
            same = edits or _settings(made, cut) == _settings(module, cut)
            off = difference(run(made, x), expected) if same else math.inf
        except Exception as error:  # whatever the library raises for arguments it does not take
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            continue
        if off <= 1:
            return expression, edits
        reason = "its blocks or its output differ"
    raise RouteError(f"no loader gives the cut {net.layout.network} ({reason}). Does {source} make its original?")


def _loaders(net: Routed, cut: Cut, source: Source) -> Iterator[tuple[Code, bool, list[Code]]]:
    """Expression, whether it is edited after that, and definitions; those that read best first."""
    kind = type(net.model)
    children = {name: list(net.model.get_submodule(name)._modules) for name in cut.kept}
    edits = bool(cut.left) or any(len(names) < len(children[name]) for name, names in cut.kept.items())
    if edits:
        for expression in build.smaller(source, kind, cut, tuple(map(len, children.values()))):
            yield expression, False, loader.made(expression)
    expression = build.original(source, kind)
    yield expression, edits, loader.edited(expression, cut, children) if edits else loader.made(expression)


def _settings(model: nn.Module, cut: Cut) -> list[dict[str, Any]]:
    """The numbers and texts that the blocks were made with.

    Networks with equal weights and equal output for images of one size may still differ: in the shift of a window that
    is as large as the image, or in rates of dropping that matter in training only.
    """
    blocks = (model.get_submodule(name).modules() for name in cut.kept)
    return [
        {k: v for k, v in vars(m).items() if k != "training" and isinstance(v, (bool, int, float, str, tuple, list))}
        for m in itertools.chain.from_iterable(blocks)
    ]


@contextmanager
def _apart(names: list[str]) -> Iterator[None]:
    """Import modules of these names afresh, and afterwards leave no trace of them."""
    path, bytecode = list(sys.path), sys.dont_write_bytecode
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path[:], sys.dont_write_bytecode = path, bytecode
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
