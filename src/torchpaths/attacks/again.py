"""Two budgets of one network, for asking suspicious images again at the larger: ``Again``, of whatever a network has.

* Early decoders of coded paths: what the block nearest to half of the MACs tells, then the network to its end. It goes
  on where it was, so nothing is paid twice.
* Gates that open by a score: at higher thresholds, by which a quarter of what they open stays shut, then as they are.
* Paths that are set from outside: the smallest budget, then the largest.

What is rare is learnt anew at the first budget, from training images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torchpaths.attacks.gates import thriftier
from torchpaths.attacks.sample import Sample
from torchpaths.attacks.tried import Asked
from torchpaths.trust.answers import Answers
from torchpaths.trust.detectors import Known, by_score, suspicion
from torchpaths.trust.early import early_answers, half_way
from torchpaths.trust.selective import Escalation, escalations

SHARE = 0.75
"""Of what gates open, so much they still open at higher thresholds."""
LOOKED = 500
"""Training images by which thresholds are set."""


@dataclass(frozen=True, eq=False)
class Again:
    """The same images at two budgets.

    Attributes:
        first: name of the small budget.
        again: of the large one.
        cheap: answers at the small one.
        dear: at the large one; their MACs are what they cost beside the first.
        known: training images at the small one; None where images have no say in its path.
        added: whether the small budget is none that the network's method names.
    """

    first: str
    again: str
    cheap: Answers
    dear: Answers
    known: Known | None
    added: bool = False

    def curves(self) -> dict[str, Escalation]:
        """For each score of suspicion, accuracy against MACs."""
        scores = by_score(self.cheap) if self.known is None else suspicion(self.known, self.cheap)
        return escalations(self.cheap, self.dear, scores)


def again(
    many: Asked, train: Sample, test: Sample, known: Known, budgets: Mapping[str, Answers], tell: Callable[[str], None]
) -> Again | None:
    """The two budgets of a network, None where it has only one.

    Args:
        many: the network.
        train: the training images.
        test: the images of all answers.
        known: the training images' own answers.
        budgets: name -> answers at the budgets that are known, the network's own first.
        tell: is told what is done next.
    """
    asked, clean = next(iter(budgets.items()))
    if (place := half_way(many.net, many.path)) is not None:
        cheap = early_answers(clean, many.net, place)
        rest = dataclasses.replace(clean, macs=clean.macs - cheap.macs)
        learnt = Known.of(early_answers(known.train, many.net, place))
        return Again(f"early, at {place.site}", asked, cheap, rest, learnt, added=True)
    some = train.first(LOOKED).normalised(many.mean, many.std, many.size)
    if clean.hard.any() and (fewer := thriftier(many.net, some, many.path, SHARE)) is not None:
        tell("higher thresholds")
        thrifty = Asked(fewer, many.mean, many.std, many.path, {}, many.size)
        learnt = Known.of(thrifty.run(train, many.path))
        return Again("higher thresholds", asked, thrifty.run(test, many.path), clean, learnt, added=True)
    ladder = sorted(budgets.items(), key=lambda entry: float(entry[1].macs.mean()))
    (first, cheap), (last, dear) = ladder[0], ladder[-1]
    if len(ladder) < 2:
        return None
    return Again(first, last, cheap, dear, known if cheap is clean else None)
