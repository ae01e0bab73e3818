"""What a report tries on a network: the curves, the table of attacks, and the attacker who matches paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from torchpaths.attacks.adaptive import Aim, mimicry
from torchpaths.attacks.curves import Curve, curve
from torchpaths.attacks.detection import Row, told_apart
from torchpaths.attacks.gates import Way, drawing
from torchpaths.attacks.linf import drawing_from, fgsm, pgd
from torchpaths.attacks.pixels import Pixels, as_levels
from torchpaths.attacks.plan import Plan
from torchpaths.attacks.sample import Sample
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.trust.answers import Answers, Floats, answers
from torchpaths.trust.detectors import Known, suspicion


class Asked:
    """The network asked along its paths."""

    def __init__(
        self,
        net: Routed,
        mean: Sequence[float],
        std: Sequence[float],
        path: Path | None,
        others: dict[str, Path],
        size: int,
    ) -> None:
        self.net, self.mean, self.std, self.path, self.others, self.size = net, mean, std, path, others, size

    def __call__(self, sample: Sample, foreign: bool = False) -> tuple[Answers, dict[str, Answers]]:
        """Along its own path, and along the others."""
        own = self.run(sample, self.path, foreign)
        return own, {name: self.run(sample, path, foreign) for name, path in self.others.items()}

    def run(self, sample: Sample, path: Path | None, foreign: bool = False) -> Answers:
        """Along one path; what gates draw is the same each time."""
        with drawing_from(0):
            return answers(self.net, sample.normalised(self.mean, self.std, self.size), path, foreign=foreign)

    def compared(self, along: Mapping[str, Answers]) -> list[Answers]:
        """The answers that are compared with the network's own: where images have no say in its path."""
        return list(along.values()) if all(not seen.sites for seen in along.values()) else []

    def suspicion(self, known: Known, sample: Sample, foreign: bool = False) -> tuple[Answers, dict[str, Floats]]:
        """Answers and how suspicious they are."""
        seen, along = self(sample, foreign)
        return seen, suspicion(known, seen, self.compared(along))


def curves_of(
    net: Routed,
    plain: Routed | None,
    pixels: Pixels,
    test: Sample,
    mean: Sequence[float],
    std: Sequence[float],
    path: Path | None,
    plan: Plan,
    tell: Callable[[str], None],
) -> list[Curve]:
    named: dict[str, tuple[Pixels, int | None]] = {"paths": (pixels, plan.quality)}
    drawn = drawing(net)
    if drawn is not None:
        named["paths, gates draw"] = Pixels(drawn, mean, std, path=path, gradient=plan.gradient), plan.quality
    if pixels.gated:
        other: Way = "around" if plan.gradient == "through" else "through"
        named[f"paths, {other} the gates"] = Pixels(net, mean, std, path=path, gradient=other), None
    if plain is not None:
        named["plain"] = Pixels(plain, mean, std), plan.quality
    found = []
    for name, (one, quality) in named.items():
        tell(f"curve: {name}")
        found.append(curve(name, one, test.batches(plan.batch), plan.strengths, quality=quality, seed=plan.seed))
    return found


def rows_of(
    many: Asked,
    known: Known,
    pixels: Pixels,
    test: Sample,
    foreign: Sample | None,
    calm: dict[str, Floats],
    plan: Plan,
    tell: Callable[[str], None],
) -> tuple[list[Row], Answers]:
    """The table of attacks, and answers to the strongest FGSM."""
    rows = []
    shown: tuple[float, Answers] | None = None
    for strength in plan.detected:
        name = f"FGSM {as_levels(strength)}"
        tell(name)

        def attack(x: Tensor, y: Tensor, number: int, far: float = strength) -> Tensor:
            return fgsm(pixels, x, y, far, seed=plan.seed + number)

        seen, told = many.suspicion(known, test.attacked(attack, plan.batch))
        rows.append(told_apart(name, calm, told, seen))
        if shown is None or strength >= shown[0]:
            shown = strength, seen
    name = f"PGD {as_levels(plan.strength)}, {plan.steps} steps"
    tell(name)

    def many_steps(x: Tensor, y: Tensor, number: int) -> Tensor:
        return pgd(pixels, x, y, plan.strength, steps=plan.steps, seed=plan.seed + number)

    seen, told = many.suspicion(known, test.attacked(many_steps, plan.batch))
    rows.append(told_apart(name, calm, told, seen))
    if foreign is not None:
        tell("other classes")
        seen, told = many.suspicion(known, foreign, foreign=True)
        rows.append(told_apart("other classes", calm, told, seen, foreign=True))
    assert shown is not None
    return rows, shown[1]


def mimics_of(
    many: Asked,
    known: Known,
    pixels: Pixels,
    test: Sample,
    calm: dict[str, Floats],
    clean: Answers,
    plan: Plan,
    tell: Callable[[str], None],
) -> dict[str, Row]:
    """Attack -> what the attacker who matches paths achieves by it."""
    compared = [] if clean.sites else list(many.others.values())
    if not plan.mimics or not (clean.sites or compared):
        return {}
    some = test.first(plan.mimics)
    found = {}
    for where in plan.aims if clean.sites else plan.aims[:1]:
        aim = Aim.at(known, clean.only(slice(0, len(some))), where)
        for weight in plan.weights:
            name = f"weight {weight:g}" + (f", {where} path" if clean.sites else "")
            tell(f"matched path, {name}")

            def attack(x: Tensor, _: Tensor, number: int, weight: float = weight, aim: Aim = aim) -> Tensor:
                part = aim.only(slice(number * plan.batch, number * plan.batch + len(x)))
                return mimicry(
                    pixels, x, part, plan.strength, weight=weight, steps=plan.mimic_steps, others=compared,
                    seed=plan.seed + number,
                )  # fmt: skip

            seen, told = many.suspicion(known, some.attacked(attack, plan.batch))
            found[name] = told_apart(name, calm, told, seen)
    return found
