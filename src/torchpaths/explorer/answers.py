"""The model behind the page: ``Answers`` says what it does with units set from outside, for one image or for all.

What is set is a number for each unit: 0 shut, 1 open, -1 left to decide. A path chooses whole sites, so where some
units of a site are set and others are not, the network is run up to that site, what it decides there is kept for the
others, and the run goes on with both.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.attacks.shown import attacked_levels
from torchpaths.budget import Budget
from torchpaths.costs import decider_cost
from torchpaths.data import ImageSet
from torchpaths.data.loader import normalised
from torchpaths.errors import DataError, PathError
from torchpaths.extraction import plain
from torchpaths.layout import Layout
from torchpaths.meter.compare import Subject, compare
from torchpaths.outputs import answer, as_scores
from torchpaths.path import Path
from torchpaths.skips.network import skipping
from torchpaths.surveys import Survey
from torchpaths.surveys.checks import opened_units
from torchpaths.train.folder import Run
from torchpaths.trust.roc import wilson

FIRST = 256
"""Images after which an accuracy is told for the first time."""

BATCH = 128
"""Images at once while it grows surer; after each the page may have asked for something else."""


class Answers:
    """A run's network over its images. Threads may share it; only one at a time is timed.

    Attributes:
        run: the run.
        survey: of its network.
        images: those of the survey.
        plain: the plain network, everything open.
    """

    def __init__(self, run: Run, survey: Survey, images: ImageSet) -> None:
        self.run, self.survey, self.images = run, survey, images
        self.net = run.net.eval()
        self._timing, self._attacking = threading.Lock(), threading.Lock()
        self._fast = skipping(self.net)  # for one image, where closed work is really left out
        self.plain = plain(self.net).eval()
        self._deciders: list[tuple[slice, int, list[int]]] = []  # a site's units, its decider's MACs, what must be open
        start = 0
        for name, members in self.layout.sites.items():
            decider = self.net.sites[name].decider
            if decider is not None and (macs := decider_cost(decider).macs):
                own = slice(start, start + len(members))
                self._deciders.append((own, macs, list(self.layout.around[start])))
            start += len(members)

    @property
    def layout(self) -> Layout:
        """Of the network."""
        return self.net.layout

    def units(self, text: str) -> list[int]:
        """What is set, from a character for each unit: 0, 1 or - for what decides itself.

        Raises:
            PathError: for another number of units, or other characters.
        """
        if len(text) != len(self.layout.units) or set(text) - set("01-"):
            raise PathError(
                f"path: {len(text)} characters for {len(self.layout.units)} units; give 0, 1 or - for each, in the "
                "survey's order."
            )
        return [{"0": 0, "1": 1, "-": -1}[character] for character in text]

    def normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Images uint8 ``[batch, H, W, C]`` as the network takes them."""
        parameter = next(self.net.parameters())
        return normalised(pixels, self.run.mean, self.run.std).to(parameter.device, parameter.dtype)

    def path(self, x: Tensor, units: Sequence[int]) -> Path | None:
        """The path that sets these units for a batch; None for one that sets nothing.

        A site that is set in part is asked first what it decides by itself, with what was set before it.
        """
        chosen: dict[str, Any] = {}
        partly: list[tuple[str, list[int]]] = []
        start = 0
        for site, members in self.layout.sites.items():
            own = list(units[start : start + len(members)])
            start += len(members)
            if min(own) >= 0:
                chosen[site] = tuple(map(bool, own))
            elif max(own) >= 0:
                partly.append((site, own))
        for site, own in partly:
            _, trace = self.net(x, Path(chosen) if chosen else None)
            if site not in trace:
                continue  # something around it is closed for all of these images
            opened = trace[site].open.clone().detach()
            for unit, value in enumerate(own):
                if value >= 0:
                    opened[:, unit] = bool(value)
            chosen[site] = opened
        return Path(chosen) if chosen else None

    def call(self, x: Tensor, units: Sequence[int]) -> tuple[Tensor, NDArray[np.bool_], NDArray[np.int64]]:
        """Scores ``[batch, class]``, units open ``[batch, unit]`` and MACs ``[batch]`` with these units set."""
        with torch.inference_mode():
            path = self.path(x, units)
            output, trace = (self._fast if len(x) == 1 else self.net)(x, path)
            opened = opened_units(trace, self.layout, len(x))
            macs = self.layout.costs(opened)[:, 0] - self._not_asked(opened, units)
            return answer(output).float().cpu(), opened, macs

    def _not_asked(self, opened: NDArray[np.bool_], units: Sequence[int]) -> NDArray[np.int64]:
        """MACs ``[batch]`` of the deciders that nobody asks, since their site is set whole."""
        found = np.zeros(len(opened), np.int64)
        for own, macs, around in self._deciders:
            if min(units[own]) >= 0:
                found += macs * opened[:, around].all(1)
        return found

    def seen(self, pixels: NDArray[np.uint8], units: Sequence[int]) -> dict[str, Any]:
        """What the network makes of one image, uint8 ``[H, W, C]``."""
        scores, opened, macs = self.call(self.normalised(pixels[None]), units)
        shares = as_scores(scores).softmax(1)[0]
        top = [[int(k), float(shares[k])] for k in shares.argsort(descending=True)[:5]]
        return {
            "open": opened[0].astype(int).tolist(),
            "path": np.packbits(opened[0]).tobytes().hex(),
            "macs": int(macs[0]),
            "top": top,
            "scores": scores[0].tolist(),
            "n": 1,
        }

    def attacked(
        self, pixels: NDArray[np.uint8], label: int | None, strength: int, units: Sequence[int]
    ) -> NDArray[np.uint8]:
        """One image, uint8 ``[H, W, C]``, under FGSM with these units set.

        Args:
            pixels: the image.
            label: what it is; None for what the network takes it for.
            strength: levels of 255 by which each pixel may be changed.
            units: see above.

        Raises:
            CallError: for a network that gives no gradient.
        """
        x = self.normalised(pixels[None])
        with torch.inference_mode():
            path = self.path(x, units)
        if label is None:
            label = int(self.call(x, units)[0].argmax())
        path = path if path is None or path.batch is None else path[0]
        with self._attacking:  # what gates draw is drawn from torch's own generators, seeded meanwhile
            [levels] = attacked_levels(
                self.net, pixels[None], [label], self.run.mean, self.run.std, strength / 255, path=path
            )
        return np.asarray(levels)

    def accuracy(self, units: Sequence[int], label: int | None = None) -> Iterator[dict[str, Any]]:
        """Accuracy over the images, or those of a class, surer and surer: ``value``, its 95 % interval ``low`` and
        ``high``, ``n``, ``done``; beside it the mean units open and MACs.

        Raises:
            DataError: for a class without images.
        """
        rows = np.random.default_rng(0).permutation(len(self.images))
        if label is not None:
            rows = rows[self.images.labels[rows] == label]
        if not len(rows):
            raise DataError("this class has no images here; choose another.")
        right, macs, opened = 0, 0.0, np.zeros(len(self.layout.units))
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            scores, ran, cost = self.call(self.normalised(self.images.read(part)), units)
            right += int((scores.argmax(1).numpy() == self.images.labels[part]).sum())
            opened += ran.sum(0)
            macs += float(cost.sum())
            n = start + len(part)
            if n < min(FIRST, len(rows)):
                continue
            low, high = wilson(right, n)
            told = {"value": right / n, "low": low, "high": high, "n": n, "macs": macs / n}
            yield {**told, "open": (opened / n).tolist(), "all": n == len(rows), "done": n == len(rows)}

    def time(self, units: Sequence[int], seconds: float = 0.5) -> dict[str, Any]:
        """Milliseconds of one image with these units set, as the network that skips takes them."""
        x = self.normalised(self.images.read([0]))
        with torch.inference_mode():
            path = self.path(x, units)
        return self.timed(Subject("now", self._fast, path, routed=True), seconds)

    def timed(self, subject: Subject, seconds: float = 0.5) -> dict[str, Any]:
        """Milliseconds of one image (``value``), beside the plain network's of the same run (``plain``), and how."""
        x = self.normalised(self.images.read([0]))
        # Without peak memory, for which torch's profiler ends the process where another thread used it before.
        with self._timing:
            [row] = compare([subject], self.plain, [x], seconds=seconds)
        setting = row.setting.to_json()
        return {"value": row.ms, "plain": row.plain_ms, "setting": setting, "n": row.pairs, "done": True}

    def chosen(self, classes: Sequence[int], budget: float | None) -> Path:
        """What a cut for some classes keeps: their codewords' units, or what their images open within a budget.

        Args:
            classes: numbers.
            budget: MACs, up to 1 a share of the plain network's.
        """
        if self.survey.code is not None and self.run.recipe.method is not None:
            return self.run.recipe.method.path_of(self.net, classes)
        layout = self.layout.undecided()
        survey = dataclasses.replace(self.survey, layout=layout)
        return survey.path(classes, None if budget is None else Budget(macs=budget))
