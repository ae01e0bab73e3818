"""Early exits on a trained ResNet-56: what leaving blocks out has to beat. Run by earlyon, a toolkit that is not
installed with the project: ``pip install earlyon``.

    python benchmarks/early_exits.py --data DIR/cifar10 --weights DIR/cifar10_resnet56.safetensors

Five classifiers stand between the blocks; the network itself stays as it is (`early_exits_heads`). An image leaves at
the first classifier that gives a class at least so much probability. Thresholds are chosen on training images that the
classifiers did not learn from, though the network did, so it is surer of them than of others, and more MACs are spent
on test images than were asked for. *Shared*: one threshold for all exits, with which these images take the MACs asked
for. *Toolkit*: what the toolkit's own search finds for them, a threshold for each exit from a grid, by MACs without the
heads'. MACs of rows are those of test images, with every head that is asked.

Times stand beside the plain network's, in turns. A single image leaves by itself. The toolkit lets a batch leave only
together, once all of its images are sure; ``gathered`` goes on with those that are left. Killed and started again, it
does not train again, nor ask all images again; prints a table and JSON.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any, Literal

import torch
import tyro
from early_exits_heads import CLASSES, HEADS, features, keep, logits, new_heads, split, stages, train
from earlyon import EarlyExitConfig, EarlyExitWrapper, ExitPoint
from earlyon.core.thresholds import calibrate_thresholds_for_budget
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from torchpaths.costs import count_macs
from torchpaths.data import Loader, open_data
from torchpaths.data.first import First
from torchpaths.meter.compare import Subject, compare
from torchpaths.meter.setting import device_name
from torchpaths.models import create_model, load_weights
from torchpaths.train.environment import commit
from torchpaths.train.recipes import cifar10_resnet56

EXAMPLE = torch.zeros(1, 3, 32, 32)
BATCH = 250
"""Of images that are only looked at."""
SEARCHED = 1000
"""Of these images the toolkit's search is given so many, as it asks the network anew for every row."""
SWEEP = (0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999)
"""Shared thresholds of the curves."""
KEPT = ("batch", "macs_ratio", "ms", "plain_ms", "time_ratio", "time_ratio_interval", "gap", "pairs", "waited")


@dataclass(frozen=True)
class Options:
    """What learns, and what is measured.

    Attributes:
        data: CIFAR-10's folder.
        weights: of the plain network.
        exits: as many, evenly spread over the blocks.
        macs: mean shares of the plain network's to choose thresholds for.
        held: training images to choose them on.
        epochs: over the other training images.
        batch: images of a step.
        lr: learning rate of the heads.
        timed: images that times are means over.
        together: images per call, beside single ones.
        seconds: timed work for each network.
        pairs: at least so many.
        threads: of the processor.
        out: folder of the heads.
    """

    data: pathlib.Path
    weights: pathlib.Path
    exits: int = 5
    macs: tuple[float, ...] = (0.85, 0.79, 0.75, 0.64, 0.55)
    held: int = 5000
    epochs: int = 5
    batch: int = 128
    lr: float = 0.005
    timed: int = 64
    together: int = 32
    seconds: float = 2.0
    pairs: int = 15
    threads: int = 1
    out: pathlib.Path = pathlib.Path("runs/early_exits")


@dataclass(frozen=True)
class Policy:
    """When images leave.

    Attributes:
        rule: how it was chosen.
        asked: share of the MACs it was chosen for.
        thresholds: probability from which on an image leaves, by exit.
        enabled: which exits are asked at all.
    """

    rule: Literal["shared", "toolkit"]
    asked: float
    thresholds: tuple[float, ...]
    enabled: tuple[bool, ...]

    def exits(self, answers: Tensor) -> Tensor:
        """Where each image leaves, int64 ``[images]``, for answers ``[exits + 1, images, classes]``."""
        sure = answers.softmax(2).amax(2) >= torch.tensor([*self.thresholds, 0.0])[:, None]
        return (sure & torch.tensor([*self.enabled, True])[:, None]).int().argmax(0)


class Answering(nn.Module):
    """The toolkit's network with its logits alone: one image leaves when it is sure, several when all of them are."""

    def __init__(self, net: EarlyExitWrapper) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor
        found = self.net(x).prediction if len(x) == 1 else self.net.forward_inference_batched(x).predictions
        return found


class Gathered(nn.Module):
    """Each image of a batch leaves when it is sure, and the rest goes on as a smaller batch."""

    def __init__(self, trunk: nn.Sequential, heads: nn.ModuleList, policy: Policy) -> None:
        super().__init__()
        self.trunk, self.heads, self.policy = trunk, heads, policy

    def forward(self, x: Tensor) -> Tensor:
        found = x.new_empty(len(x), CLASSES)
        rows = torch.arange(len(x))
        for part, head, threshold, on in zip(
            self.trunk, self.heads, self.policy.thresholds, self.policy.enabled, strict=False
        ):
            x = part(x)
            if on:
                answer = head(x)
                sure = answer.softmax(1).amax(1) >= threshold
                found[rows[sure]] = answer[sure]
                rows, x = rows[~sure], x[~sure]
                if not len(rows):
                    return found
        found[rows] = self.trunk[-1](x)
        return found


@dataclass(frozen=True)
class Exits:
    """What all heads of one kind answer to all images, and what asking them costs.

    Attributes:
        seen: logits ``[exits + 1, images, classes]`` for the images that thresholds are chosen on, the network's last.
        unseen: for the test images.
        labels: of the test images.
        parts: MACs of each part of the network.
        heads: MACs of each head.
    """

    seen: Tensor
    unseen: Tensor
    labels: Tensor
    parts: tuple[int, ...]
    heads: tuple[int, ...]

    def share(self, policy: Policy, answers: Tensor) -> float:
        """Mean MACs of images that answers are of, as a share of the plain network's."""
        asked = [macs if on else 0 for macs, on in zip(self.heads, policy.enabled, strict=True)]
        macs = (torch.tensor(self.parts) + torch.tensor([*asked, 0])).cumsum(0)
        return float(macs[policy.exits(answers)].double().mean()) / sum(self.parts)

    def tested(self, policy: Policy) -> dict[str, Any]:
        """On the test images."""
        left = policy.exits(self.unseen)
        answers = self.unseen.argmax(2).gather(0, left[None])[0]
        return {
            "macs_share": self.share(policy, self.unseen),
            "accuracy": float((answers == self.labels).double().mean()),
            "left": (left.bincount(minlength=len(self.parts)) / len(left)).tolist(),
        }

    def alone(self) -> list[dict[str, Any]]:
        """Each exit, and the network's end, if everybody left there."""
        accuracies = (self.unseen.argmax(2) == self.labels).double().mean(1).tolist()
        macs = torch.tensor(self.parts).cumsum(0).tolist()
        return [
            {"macs": before, "head_macs": head, "accuracy": accuracy}
            for before, head, accuracy in zip(macs, [*self.heads, 0], accuracies, strict=True)
        ]

    def chosen(self, asked: float) -> Policy:
        """The lowest shared threshold with which images take no fewer MACs than asked for."""
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            enough = self.share(shared(middle, asked, len(self.heads)), self.seen) >= asked
            low, high = (low, middle) if enough else (middle, high)
        return shared(high, asked, len(self.heads))


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    recipe = dataclasses.replace(
        cifar10_resnet56(options.data, options.weights, epochs=options.epochs),
        method=None,
        batch=options.batch,
        lr=options.lr,
    )
    model = create_model(recipe.model, CLASSES)
    load_weights(model, options.weights)
    trunk = stages(model.eval(), options.exits)  # type: ignore[arg-type]
    learnt, held = split(open_data(recipe.data, "train"), options.held)
    heads = new_heads(trunk, EXAMPLE)
    named = f"{options.exits}-{options.epochs}-{options.batch}-{options.lr:g}-{options.held}.pt"
    train(trunk, heads, learnt, recipe, options.out / f"heads-{named}")

    choosing = Loader(held, BATCH, mean=recipe.mean, std=recipe.std)
    testing = Loader(open_data(recipe.data, "test"), BATCH, mean=recipe.mean, std=recipe.std)
    images = next(iter(testing))[0][: options.timed]
    inputs = [EXAMPLE, *features(trunk, EXAMPLE)]
    parts = tuple(count_macs(partial(part, x)) for part, x in zip(trunk, inputs, strict=False))
    answers = options.out / f"answers-{named}"
    if not answers.is_file():
        keep(answers, (logits(trunk, heads, choosing)[0], *logits(trunk, heads, testing)))
    seen, unseen, labels = torch.load(answers, weights_only=True)
    rows, alone, curves = [], {}, {}
    for kind in HEADS:
        asked = tuple(count_macs(partial(head, x)) for head, x in zip(heads[kind], inputs[1:], strict=False))
        exits = Exits(seen[kind], unseen[kind], labels, parts, asked)
        alone[kind] = exits.alone()
        curves[kind] = [{"threshold": at, **exits.tested(shared(at, 0.0, options.exits))} for at in SWEEP]
        policies = [exits.chosen(share) for share in options.macs]
        times = timed(model, trunk, heads[kind], policies, images, options)
        if kind == "toolkit":
            policies += [searched(trunk, heads[kind], First(choosing, SEARCHED), share) for share in options.macs]
            times += [[] for _ in options.macs]  # only what is shared is timed
        for policy, own in zip(policies, times, strict=True):
            row = {"heads": kind, **dataclasses.asdict(policy), "held_macs_share": exits.share(policy, exits.seen)}
            rows.append({**row, **exits.tested(policy), "times": own})
    show(rows)
    made = {
        "commit": commit(),
        "device": device_name(torch.device("cpu")),
        "threads": options.threads,
        "torch": torch.__version__,
        "earlyon": metadata.version("earlyon"),
        **{name: getattr(options, name) for name in ("exits", "held", "epochs", "batch", "lr", "timed")},
        "plain": {"macs": count_macs(partial(model, EXAMPLE)), "accuracy": alone["linear"][-1]["accuracy"]},
        "alone": alone,
        "rows": rows,
        "curves": curves,
    }
    json.dump(made, sys.stdout, indent=1)
    print()


def shared(threshold: float, asked: float, exits: int) -> Policy:
    """One threshold for all exits."""
    return Policy("shared", asked, (threshold,) * exits, (True,) * exits)


def searched(trunk: nn.Sequential, heads: nn.ModuleList, loader: First, asked: float) -> Policy:
    """What the toolkit finds."""
    net = routed(trunk, heads, shared(1.0, asked, len(heads)))
    calibrate_thresholds_for_budget(net, loader, asked)
    return Policy("toolkit", asked, tuple(net.config.confidence_thresholds), tuple(net.config.enabled_exits))


def routed(trunk: nn.Sequential, heads: nn.ModuleList, policy: Policy) -> EarlyExitWrapper:
    """The toolkit's network, of copies: it leaves hooks in what it is given."""
    trunk = copy.deepcopy(trunk)
    widths = [y.shape[1] for y in features(trunk, EXAMPLE)[:-1]]
    points = [ExitPoint(f"exit{i}", str(i), width) for i, width in enumerate(widths)]
    config = EarlyExitConfig(
        backbone="custom",
        num_classes=CLASSES,
        exit_points=points,
        confidence_thresholds=list(policy.thresholds),
        enabled_exits=list(policy.enabled),
    )
    own = {point.name: head for point, head in zip(points, copy.deepcopy(heads), strict=True)}
    return EarlyExitWrapper(trunk, own, nn.Identity(), config, input_shape=tuple(EXAMPLE.shape)).eval()


def timed(
    model: nn.Module,
    trunk: nn.Sequential,
    heads: nn.ModuleList,
    policies: Sequence[Policy],
    images: Tensor,
    options: Options,
) -> list[list[dict[str, Any]]]:
    """Times of each policy beside the plain network."""
    toolkit = [Subject("toolkit", Answering(routed(trunk, heads, policy))) for policy in policies]
    gathered = [Subject("gathered", Gathered(trunk, heads, policy)) for policy in policies]
    how: dict[str, Any] = {"threads": options.threads, "seconds": options.seconds, "pairs": options.pairs}
    measured = compare(toolkit, model, images.split(1), **how)
    measured += compare([*toolkit, *gathered], model, images.split(options.together), **how)
    told = [{"how": row.label, **{k: row.to_json()[k] for k in KEPT}} for row in measured]
    return [told[i :: len(policies)] for i in range(len(policies))]


def show(rows: Sequence[dict[str, Any]]) -> None:
    made = Table(
        title="Times and MACs of the images timed beside the plain network's, paired runs; intervals hold with 95 %"
    )
    for column in ("heads", "threshold", "asked", "MACs", "accuracy", "left at each exit, at the end"):
        made.add_column(column)
    for each in rows[0]["times"]:
        made.add_column(f"{each['how']}, batch {each['batch']}")
    for row in rows:
        left = " ".join(f"{share:.0%}" for share in row["left"])
        cells = [
            row["heads"],
            row["rule"],
            f"{row['asked']:.0%}",
            f"{row['macs_share']:.1%}",
            f"{row['accuracy']:.2%}",
            left,
        ]
        for each in row["times"]:
            low, high = each["time_ratio_interval"]
            cells.append(f"{each['time_ratio']:.2f} ({low:.2f} to {high:.2f}), {each['macs_ratio']:.0%}")
        made.add_row(*cells)
    Console(stderr=True, width=190).print(made)


if __name__ == "__main__":
    main(tyro.cli(Options))
