"""AdaptiveDepth: adaptive depth networks with specialised sub-paths (Kang and Lee, NeurIPS 2024; the text here is the
2023 one).

The second half of every stage learns only to refine what the first half has learnt, so that it can be left out at run
time: 2^stages depths in one network. Trained are two of them on the same batch, the super-net (everything) and the
base-net (nothing that can be left out), by Algorithm 1:

    alpha CE(y, super) + (1 - alpha) (KL(super || base) + sum over stages KL(features of super || of base))     (Eq. 8)

Each half that always runs has norms of its own for when the rest of its stage is left out (section 3.4). As in the
authors' code the super-net is a teacher whose tensors are detached, so the base-net never sees a label and the two
passes have graphs of their own; stochastic depth acts in the super-net only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from torchpaths.deciders.switch import Switch
from torchpaths.errors import PathError, RouteError, RunError
from torchpaths.junction import Place
from torchpaths.layout import Unit
from torchpaths.methods.base import Losses, Method, Task, Terms
from torchpaths.methods.distil import Features, divergence, outputs_apart, pooled, spatial
from torchpaths.methods.task import Kind, kind_of, scores
from torchpaths.path import Path
from torchpaths.places.covers import Cover
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.places.stages.find import Stage, find_stages
from torchpaths.places.stages.switch import Doubled, Skippable, twin
from torchpaths.routed import Routed
from torchpaths.trace import Inputs, Site, Trace


@dataclass(frozen=True)
class AdaptiveDepth(Method):
    """One network of many depths: the last blocks of each stage can be left out.

    Attributes:
        skippable: names or regular expressions of the blocks that can be left out, one for each unit; None for the
            second half of each stage.
        groups: into how many equal groups a network of one width (ViT) is divided.
        norms: second norms for skipped depth; False shares all (an ablation of Table 3).
        ends: the norms of stem and head have a second version too (MobileNetV2 of the authors' code).
        alpha: weight of the super-net's loss, in (0, 1).
        specialise: train as Algorithm 1 says; False trains super-net and base-net on the labels, half and half (an
            ablation of Table 3).
        features: what of the stages' features is compared, see `torchpaths.methods.distil.Features`.
        outputs: what the network gives, which says how the two are compared: ``"classes"``, scores along axis 1 (Eq.
            8); ``"labels"``, scores of labels each for itself; ``"values"``, of a regression. Several outputs by name:
            pairs ``(("class", "classes"), ("box", "values"))``, or a dict; one word is for all of them, or for those
            called "logits". None asks the task's loss, where it is the
            classifier's or one of torch's. See `torchpaths.methods.distil.outputs_apart`.
        temperature: of all divergences.
        top: only the teacher's so many largest classes are compared, or all where there are fewer.
        detach: no gradient through the teacher (the authors' code); False is Eq. 8 as it stands.
    """

    skippable: tuple[str, ...] | None = None
    groups: int = 4
    norms: bool = True
    ends: bool = False
    alpha: float = 0.5
    specialise: bool = True
    features: Features = "pooled"
    outputs: Kind | tuple[tuple[str, Kind], ...] | None = None
    temperature: float = 1.0
    top: int | None = 500
    detach: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise RouteError(f"alpha={self.alpha!r}: the super-net's share of the loss lies between 0 and 1.")
        if self.features not in get_args(Features):
            raise RouteError(f"features={self.features!r}; choose one of {', '.join(get_args(Features))}.")
        if isinstance(self.outputs, Mapping):
            object.__setattr__(self, "outputs", tuple(self.outputs.items()))
        if not _are_kinds(self.outputs):
            raise RouteError(
                f"outputs={self.outputs!r}; choose one of {', '.join(get_args(Kind))}, or one for each output by name: "
                '{"class": "classes", "box": "values"}.'
            )
        if not self.temperature > 0:
            raise RouteError(f"temperature={self.temperature!r}: a number above 0.")
        if self.groups < 1:
            raise RouteError(f"groups={self.groups!r}: at least one.")
        if self.top is not None and self.top < 2:
            raise RouteError(f"top={self.top!r}: a distribution needs two classes at least; None takes all.")

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """A switch for each stage; the blocks it closes and the norms that depend on it obey. See `Method.find`."""
        found = find_stages(
            model,
            example,
            residuals,
            skippable=self.skippable,
            groups=self.groups,
            norms=self.norms,
            ends=self.ends,
        )
        return [plan for stage in found for plan in self._plans(stage)]

    def _plans(self, stage: Stage) -> Iterator[Plan]:
        unit = Unit(stage.name, 0, stage.cost, "stage")
        site = Site(stage.name, (unit,), (stage.name,), Switch(), stage.apart)
        for name in stage.norms:
            yield Plan(name, (site,), partial(_norm, site=site), level=2)
        for name in stage.drops:
            yield Plan(name, (site,), partial(_drop, site=site), level=2)
        for name, beside in zip(stage.skippable, stage.beside, strict=True):
            last = name == stage.skippable[-1]
            build = partial(_skip, site=site, features=self._features(stage) if last else None, beside=beside)
            covers = (Cover(site.name, stage.cost, stage.items, unit=0, level=2),) if last else ()
            yield Plan(name, (site,), build, covers, level=2)

    def _features(self, stage: Stage) -> Callable[[Tensor], Tensor] | None:
        if not self.specialise or self.features == "none":
            return None
        return partial(pooled if self.features == "pooled" else spatial, axis=stage.axis)

    def passes(self, net: Routed, x: Tensor, y: Any, task: Task, terms: Terms) -> Iterator[Losses]:
        """Eq. 8: the super-net's terms, then the base-net's; together if the teacher has a gradient. See
        `Method.passes`."""
        logits, taught = net(x, self.path(net, False))
        part = {"task": self.share * task(logits, y), **terms(taught)}
        teacher = pytree.tree_map_only(Tensor, Tensor.detach, logits) if self.detach else logits
        features = self.features_of({site: taught[site] for site in _sites(net) if site in taught})
        if self.detach or not self.specialise:
            yield part
            part = {}
        student, learnt = net(x, self.path(net, True))
        if self.specialise:
            part["outputs"] = (1 - self.share) * self._apart(teacher, student, task)
            part |= self.compare(features, learnt)
        else:
            part["base"] = (1 - self.share) * task(student, y)
        yield {**part, **terms(learnt, "base_")}

    def _apart(self, teacher: Any, student: Any, task: Task) -> Tensor:
        """How far the base-net's outputs are from the super-net's."""
        kind = self.outputs or kind_of(task)
        if kind is None:
            raise RunError(
                "AdaptiveDepth compares the outputs of two depths, and what they are cannot be told from a task's loss "
                "of your own: say AdaptiveDepth(outputs='classes') for scores along axis 1, 'labels' for scores of "
                "labels each for itself, 'values' for a regression, a dict of these for several outputs by name; or "
                "AdaptiveDepth(specialise=False), which teaches both depths by the task's loss and compares nothing."
            )
        if isinstance(kind, str):
            return outputs_apart(scores(teacher), scores(student), kind, self.temperature, self.top)
        return outputs_apart(teacher, student, dict(kind), self.temperature, self.top)

    @property
    def share(self) -> float:
        """The super-net's share of the loss."""
        return self.alpha if self.specialise else 0.5

    def features_of(self, trace: Trace) -> dict[str, Tensor]:
        """A teacher's features by stage, as they were measured in training; empty where none are compared."""
        found = {site: made.response["features"] for site, made in trace.items() if "features" in made.response}
        return {site: values.detach() for site, values in found.items()} if self.detach else found

    def compare(self, teacher: Mapping[str, Tensor], learnt: Trace) -> dict[str, Tensor]:
        """The weighted term "features": how far the student's features are from the teacher's, summed over stages.

        Args:
            teacher: what `features_of` gave for the super-net.
            learnt: what happened in the base-net.
        """
        terms = [divergence(f, learnt[site].response["features"], self.temperature) for site, f in teacher.items()]
        return {"features": (1 - self.share) * torch.stack(terms).sum()} if terms else {}

    def path(self, net: Routed, skip: bool | str | Sequence[bool]) -> Path:
        """The path of a depth.

        Args:
            net: a network of this method.
            skip: whether each stage leaves its last blocks out, in order: the paper's notation "TTFF", bools, or one
                bool for all. True is the base-net, False the super-net.

        Raises:
            PathError: for another number of stages, or other letters.
        """
        names = _sites(net)
        if isinstance(skip, bool):
            flags = [skip] * len(names)
        elif isinstance(skip, str):
            if set(skip) - {"T", "F"}:
                raise PathError(f"skip={skip!r}: T for each stage that leaves its last blocks out, F for the others.")
            flags = [letter == "T" for letter in skip]
        else:
            flags = [bool(flag) for flag in skip]
        if len(flags) != len(names):
            raise PathError(
                f"skip={skip!r} says something of {len(flags)} stages, this network has {len(names)}: "
                f"{', '.join(names)}."
            )
        return Path({n: (not flag,) for n, flag in zip(names, flags, strict=True)}, net.layout.fingerprint)

    def paths(self, net: Routed) -> dict[str, Path]:
        """The base-net. See `Method.paths`."""
        return {"base": self.path(net, True)}


def _sites(net: Routed) -> list[str]:
    return [name for name, site in net.sites.items() if site.kind == "stage"]


def _are_kinds(outputs: Any) -> bool:
    if outputs is None or outputs in get_args(Kind):
        return True
    pairs = isinstance(outputs, tuple) and bool(outputs) and all(isinstance(p, tuple) and len(p) == 2 for p in outputs)
    return pairs and all(isinstance(name, str) and kind in get_args(Kind) for name, kind in outputs)


def _norm(module: nn.Module, site: Site) -> Place:
    return Doubled(module, twin(module), site)


def _drop(module: nn.Module, site: Site) -> Place:
    return Doubled(module, nn.Identity(), site)


def _skip(
    module: nn.Module, site: Site, features: Callable[[Tensor], Tensor] | None, beside: int | None = None
) -> Place:
    return Skippable(module, site, features=features, beside=beside)
