"""The record ``records/cifar10_targets``: gates for a trained ResNet-56 with a target for each block, and controls.

    python recipes/cifar10_targets.py --data DIR/cifar10 --weights DIR/cifar10_resnet56.safetensors

One target for all blocks closes some that must not close and keeps some that nobody misses. Here the blocks that the
network's output misses least are closed for good, the next ones gated at a half and the others left open, and the
network with everything open teaches. Beside it, trained as long with the same teacher: seven blocks closed for all
images (`torchpaths.shrink`), and blocks left out by chance at the rates the gates ended with. On one core each takes
hours; killed and started again, it goes on where it was. ``--only`` trains some of them. The record is written anew
from all that are finished.
"""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import tyro
from record import Entry, last_rates, write_record

from torchpaths import Fixed, GatedBlocks, RandomDrop
from torchpaths.methods.base import Method
from torchpaths.methods.together import Together
from torchpaths.shrinking.job import DISTIL
from torchpaths.surveys.figures import Point
from torchpaths.train.folder import read_json
from torchpaths.train.recipe import Recipe
from torchpaths.train.recipes import cifar10_resnet56
from torchpaths.train.run import train

Name: TypeAlias = Literal["gated", "closed", "random-drop"]
NAMES: tuple[Name, ...] = ("gated", "closed", "random-drop")
SITES = tuple(f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(9))
CLOSED = ("layer2.4", "layer2.1", "layer1.5", "layer1.8")
"""The cheapest, one after the other, each measured with those before closed."""
GATED = ("layer2.6", "layer2.8", "layer3.2", "layer3.3", "layer3.7", "layer3.8")
SHRUNK = ("layer2.8", "layer1.8", "layer2.5", "layer1.5", "layer3.2", "layer2.3", "layer3.8")
"""What `torchpaths.shrink` closes for 75 % of the MACs, see records/cifar10_shrunk."""
GATES = GatedBlocks(
    targets=tuple(0.0 if site in CLOSED else 0.5 if site in GATED else 1.0 for site in SITES),
    start="target",
    weight=4.0,
)

ENTRIES = (
    Entry("gated", "gates, own targets", "run"),
    Entry("closed", "seven blocks closed", "control"),
    Entry("random-drop", "random drop", "control"),
)

OTHERS = "cifar10_resnet56"
"""The record of gates with one target for all blocks."""
SMALLER = {"ResNet-44": (0.9310, 97_174_144), "ResNet-32": (0.9263, 68_862_592)}
"""Plain networks of the same kind, trained from scratch for 200 epochs: accuracy and MACs."""

NOTES = """
Four blocks are closed for good, six gated with target 0.5 from the start on, the others open; the loss is
0.3 CE + 0.7 T^2 KL, T = 3, from the whole network, and 4 times the target-rate loss; batch 512, learning rate 0.08
along a cosine, bf16. The weights all start from give 93.39 %; trained on alike for ten epochs,
[93.59 %](../cifar10_resnet56/README.md). *Seven blocks closed*: for all images.
*Random drop*: at the rates of the gates. *Shuffled*: the same gated network, but every image takes other images'
decisions, each block by itself. `*`: everything runs, scaled by the probability of being open. *Training* is by the
clock, beside eight other runs on the same GPU. The weights of the random drop are left out.

Who wins at three quarters of the MACs:

- **Blocks closed for all images**, 93.44 %: as good as the whole network trained on (93.59 %, +-0.5), and nothing to
  decide. Of all that was measured here it is what to have.
- **Gates** come second, 93.15 %, level with blocks left out by chance at the same rates, 93.12 %. They do look at the
  image: with other images' decisions the same network has 92.70 %. But what looking wins is what half-open blocks lose.
- Smaller plain networks from scratch for 200 epochs: ResNet-44 93.10 % at 77.4 %, ResNet-32 92.63 % at 54.9 %.
- **Early exits** (`benchmarks/early_exits.py`; frozen network, five exits, thresholds chosen on training images): with
  the better heads 92.94 % at 86.3 %, 92.11 % at 80.2 %, 91.17 % at 76.6 %, 87.52 % at 65.5 %; with a public toolkit's
  own, 92.29, 90.11, 88.13 and 79.80 %. In batches the toolkit saves nothing, since images leave only all together;
  gathered by image, batches of 32 take 0.6 to 0.9 of the plain time ([all of it](early_exits.json)).
- **Gates with one target for all blocks**, ten epochs without a teacher: 92.08 % at 78.2 %, 91.00 % at 63.2 %.

Why those were weak: they are undecided. With target 0.7 the mean probability of being open is 0.62, 73 % of all
probabilities lie between 0.25 and 0.75 (2,000 test images), and taking the likelier side opens 78 %. And they close
blocks that must not close: with target 0.6 layer3.0 for 34 % of the images and layer1.7 for 21 %, each of which costs
the trained network 7 to 8 points when it is left out for all (1,000 images). Here a start at the target, a weight of 4
and six blocks that can be missed leave 37 % undecided, and open 50.5 % where training draws 49.5 %.

What they learnt: vehicles run 18 to 19 blocks, animals 20 to 22.

![for how many images of each class each block runs](gated/figures/class-rates.png)
"""


@dataclass(frozen=True)
class Options:
    """What to train and where.

    Attributes:
        data: folder with CIFAR-10's train.parquet and test.parquet.
        weights: safetensors file of the plain ResNet-56.
        runs: where run folders go.
        record: where the record goes.
        only: train only these.
        epochs: of each network.
        batch: images of a step.
        lr: learning rate that belongs to it.
        threads: of each training process.
    """

    data: pathlib.Path
    weights: pathlib.Path
    runs: pathlib.Path = pathlib.Path("runs/cifar10_targets")
    record: pathlib.Path = pathlib.Path(__file__).resolve().parents[1] / "records" / "cifar10_targets"
    only: tuple[Name, ...] = ()
    epochs: int = 30
    batch: int = 128
    lr: float = 0.02
    threads: int = 1


def main(options: Options) -> None:
    for name in options.only or NAMES:
        train(recipe_for(name, options), options.runs / name)
    finished = [entry for entry in ENTRIES if (options.runs / entry.name / "summary.json").is_file()]
    write_record(options.record, options.runs, finished, options.data, NOTES, others(options.record))


def others(record: pathlib.Path) -> list[Point]:
    """Points beside those of this record: earlier gates, smaller plain networks, early exits."""
    earlier = read_json(record.parent / OTHERS / "results.json")["rows"]
    exits = read_json(record / "early_exits.json")
    found = [
        Point(row["label"], row["macs"], row["accuracy"], row["role"])
        for row in earlier
        if row["name"] in ("plain", "gated-0.7")
    ]
    found += [Point(name, macs, accuracy, "plain") for name, (accuracy, macs) in SMALLER.items()]
    best = [row for row in exits["rows"] if (row["heads"], row["rule"]) == ("conv", "shared")]
    rows = [row for row in best if row["asked"] >= 0.75]
    macs = exits["plain"]["macs"]
    return found + [
        Point(f"early exits, {r['asked']:.0%}", r["macs_share"] * macs, r["accuracy"], "control") for r in rows
    ]


def recipe_for(name: Name, options: Options) -> Recipe:
    """The common recipe with one network's way of deciding."""
    recipe = cifar10_resnet56(options.data, options.weights, epochs=options.epochs)
    return dataclasses.replace(
        recipe,
        method=method_for(name, options.runs),
        distil=DISTIL,
        batch=options.batch,
        lr=options.lr,
        threads=options.threads,
        eval_every=10,
        checkpoint_minutes=1.0,
    )


def method_for(name: Name, runs: pathlib.Path) -> Method:
    """How a network decides. The chances are known once the gated network is trained."""
    if name == "gated":
        return GATES
    if name == "closed":
        return Fixed(SHRUNK)
    last = last_rates(runs / "gated")
    return Together(
        (Fixed(CLOSED), RandomDrop(tuple(max(round(last[s], 4), 1e-4) if s in GATED else 1.0 for s in SITES)))
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
