"""``survey``: one streaming pass over a data set (ConvNet-AIG, section 4.2).

Memory does not grow with the images, but for the table of distinct paths, which is bounded
(`torchpaths.surveys.taken`), and the images that are to be kept. Everything is summed in whole numbers
(`torchpaths.surveys.tally`), so the result does not depend on how the images were cut into batches, nor on how they
were shared among processes whose surveys are merged.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchpaths.coding.decode import coded_sites
from torchpaths.errors import DataError, RunError
from torchpaths.inputs import device_of
from torchpaths.layout import Layout
from torchpaths.outputs import answer
from torchpaths.path import Path
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.routed import Routed
from torchpaths.surveys import told_apart
from torchpaths.surveys.checks import batches, check_logits, class_numbers, opened_units
from torchpaths.surveys.counts import Floats
from torchpaths.surveys.result import Survey
from torchpaths.surveys.taken import Ints
from torchpaths.surveys.tally import TOP, Seen, Tally
from torchpaths.trace import Trace
from torchpaths.whole import is_whole, whole


class RoutedNet(Protocol):
    """What a survey needs of a network: `torchpaths.Routed` has it."""

    @property
    def layout(self) -> Layout: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def eval(self) -> Any: ...
    def __call__(self, x: Tensor, path: Path | None = None) -> tuple[Tensor, Trace]: ...


def survey(
    net: RoutedNet,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    classes: Sequence[str] | None = None,
    keep_paths: bool | int = False,
    numbers: Iterable[int] | None = None,
    path: Path | None = None,
    progress: bool = False,
) -> Survey:
    """What a network does over a data set, in evaluation mode and without gradients.

    The training mode of every module is put back afterwards, also after an exception. Images go to the device of the
    network's parameters.

    Args:
        net: a routed network, ``net(x, path) -> (logits [batch, class], trace)``.
        loader: any iterable of (x, y): images and int labels ``[batch]``.
        classes: names of the classes; their numbers where None.
        keep_paths: keep path, prediction and MACs of every image (`Survey.samples`), or of so many that a hash of their
            numbers draws.
        numbers: of the images in the loader's order, by which they can be found again; from 0 on by default, for a
            loader that does not shuffle. Processes that share a data set and merge what they counted
            (`Survey.merge`) give the numbers of their own images.
        path: units chosen from outside, for every batch; the rest decides for itself.
        progress: draw a progress bar on the standard error stream.

    Raises:
        DataError: no images, labels that are no class numbers, a wrong number of class names or of numbers.
        RunError: scores or energies that are not finite.
        PathError: a path that does not fit, or a trace that does not fit the network's layout.
    """
    modes = [(module, module.training) for module in net.modules()]
    device = device_of(net)
    most, given = _most(keep_paths), None if numbers is None else _iterator(numbers)
    counted = itertools.count() if given is None else given
    tally: Tally | None = None
    net.eval()
    try:
        for number, (x, y) in enumerate(batches(loader, "survey" if progress else None)):
            with torch.inference_mode():
                output, trace = net(x.to(device, non_blocking=True), path)
                logits = answer(output)
                check_logits(logits, len(x), number)
                opened = opened_units(trace, net.layout, len(x))
                predictions = logits.argmax(1).cpu().numpy()
                best = logits.topk(TOP, 1).indices.cpu().numpy() if logits.shape[1] > TOP else None
            if tally is None:
                # Where a path chooses everything, no decider is asked.
                chosen = path is not None and set(net.layout.sites) <= set(path)
                layout = net.layout.undecided() if chosen else net.layout
                tally = Tally(layout, _names(classes, logits.shape[1]), most)
            tally.decided.update(site for site, decision in trace.items() if decision.score is not None)
            labels = class_numbers(y, len(x), len(tally.classes), number)
            ran, energies = _ran(trace, net.layout, len(x)), _energies(trace, number)
            tally.add(Seen(opened, ran, labels, predictions, best, energies, _next(counted, len(x), number)))
    finally:
        for module, training in modes:
            module.training = training
    if tally is None:
        raise DataError(
            "the loader gave no images, so there is nothing to survey; check the split, its folder and drop_last."
        )
    _check_spent(given, int(tally.images.sum()))
    return Survey(
        **tally.fields(),
        name=tally.layout.network,
        code=_code(net, len(tally.classes)),
        along=told_apart.along(path, net.layout),
        weights=told_apart.weights(net.parameters()),
    )


def _iterator(numbers: Iterable[int]) -> Iterator[int]:
    try:
        return iter(numbers)
    except TypeError as error:
        raise DataError(f"numbers={numbers!r}: give one whole number for each image.") from error


def _most(keep_paths: bool | int) -> int | None:
    """How many images to keep; None for all."""
    if isinstance(keep_paths, (bool, np.bool_)):
        return None if keep_paths else 0
    if not is_whole(keep_paths):
        raise DataError(f"keep_paths={keep_paths!r}: give how many images to keep, or True for all.")
    return int(keep_paths)


def _next(numbers: Iterator[int], batch: int, number: int) -> Ints:
    """The numbers of a batch's images."""
    found = list(itertools.islice(numbers, batch))
    if len(found) < batch:
        raise DataError(f"batch {number}: numbers for {len(found)} of {batch} images; give one for each image.")
    return np.array([whole(one, "numbers", DataError) for one in found], np.int64)


def _check_spent(numbers: Iterator[int] | None, images: int) -> None:
    """Raise `DataError` where numbers are left over: those before may be of other images than was meant."""
    if numbers is not None and next(numbers, None) is not None:
        raise DataError(f"more numbers than the loader's {images} images; give one for each image.")


def _ran(trace: Trace, layout: Layout, batch: int) -> NDArray[np.bool_]:
    """bool ``[batch, site]``: which images came to a site."""
    found = np.zeros((batch, len(layout.sites)), bool)
    for column, site in enumerate(layout.sites):
        if site in trace:
            ran = trace[site].ran
            found[:, column] = True if ran is None else ran.cpu().numpy()
    return found


def _energies(trace: Trace, number: int) -> dict[str, Floats]:
    """Site -> energies float64 ``[batch, unit]``, of sites that have any; 0 for images that did not come."""
    found = {}
    for site, decision in trace.items():
        if ENERGIES in decision.response:
            energies = decision.response[ENERGIES].double()
            if decision.ran is not None:
                energies = energies.masked_fill(~decision.ran.unsqueeze(1), 0.0)
            if not bool(energies.isfinite().all()):
                raise RunError(
                    f"batch {number}: energies of site {site!r} are not finite; the checkpoint is damaged or the "
                    "images are not normalised as in training."
                )
            found[site] = energies.cpu().numpy()
    return found


def _code(net: RoutedNet, classes: int) -> NDArray[np.bool_] | None:
    """bool ``[class, unit]``: the codewords of coded sites; None where nothing is coded."""
    codes = coded_sites(net) if isinstance(net, Routed) else {}
    columns = [
        codes[site].words.cpu().numpy() if site in codes else np.zeros((classes, len(units)), bool)
        for site, units in net.layout.sites.items()
    ]
    if not codes or any(len(column) != classes for column in columns):  # a head of its own, as of a detector
        return None
    return np.ascontiguousarray(np.concatenate(columns, 1))


def _names(classes: Sequence[str] | None, scores: int) -> tuple[str, ...]:
    if classes is None:
        return tuple(str(i) for i in range(scores))
    if len(classes) != scores:
        raise DataError(
            f"{len(classes)} class names for a network that gives {scores} scores; "
            "pass the names of the data set it was trained on."
        )
    return tuple(classes)
