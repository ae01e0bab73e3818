"""Attacks on routed networks, and what they do to paths.

| file | what |
|---|---|
| `pixels` | a network as an attacker sees it: pixels of 0 to 1, with gradients |
| `gates` | gradients through gates or around them; gates that draw |
| `linf` | FGSM and PGD |
| `jpeg` | the defence they are tried with |
| `adaptive` | the attacker who matches the path of the class to be taken for |
| `shown` | images of a survey's gallery, attacked |
| `sample` | some images of a set |
| `curves` | accuracy against strength |
| `changes` | rates before and after; where an image leaves its class's path; paths of attacked images |
| `detection` | whether attacks are told by path or by score |
| `draw` | all of it drawn |
| `plan`, `tried`, `report` | all of it measured on one network, as JSON and figures |
"""

from torchpaths.attacks.adaptive import Aim, mimicry
from torchpaths.attacks.changes import Crossing, Rates, crossing, rates
from torchpaths.attacks.curves import Curve, curve
from torchpaths.attacks.gates import drawing
from torchpaths.attacks.jpeg import jpeg
from torchpaths.attacks.linf import fgsm, pgd
from torchpaths.attacks.pixels import Pixels
from torchpaths.attacks.plan import Plan
from torchpaths.attacks.report import attack_report
from torchpaths.attacks.sample import Sample

__all__ = [
    "Aim",
    "Crossing",
    "Curve",
    "Pixels",
    "Plan",
    "Rates",
    "Sample",
    "attack_report",
    "crossing",
    "curve",
    "drawing",
    "fgsm",
    "jpeg",
    "mimicry",
    "pgd",
    "rates",
]
