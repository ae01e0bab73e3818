"""The record ``records/cifar10_gated_filters``: gates for the filters of a ResNet-56 on CIFAR-10 (network decoupling,
Table 1), three weights of the sparse loss, and what they have to beat.

    python recipes/cifar10_gated_filters.py --data DIR/cifar10 --weights DIR/cifar10_resnet56.safetensors

trains from the same weights by one recipe: the plain network, gates with three values of lambda_s, and with two more
with the network they started from as a teacher as well (not in the paper). Killed and started again, it goes on where
it was; ``--only`` trains some. At the end the record is written anew from all that are finished, each with the norms'
statistics of training, as in the paper, and measured anew (`torchpaths.update_bn`). Filters pruned for good beside
them: ``benchmarks/pruning.py``, whose results are taken from ``--pruned``.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import tyro
from filter_controls import PLAIN, dialled, one_sided, usual_path
from record import copy_run, provenance, shuffled
from safetensors.torch import save_file

import torchpaths as tp
from torchpaths.cli.tables import count
from torchpaths.costs import count_params
from torchpaths.data import Loader
from torchpaths.files.write import write_json
from torchpaths.filtering.draw_states import draw_runs, draw_states
from torchpaths.filtering.runs import Trained, trained
from torchpaths.filtering.states import filter_states
from torchpaths.surveys.figures import Point, accuracy_macs, save
from torchpaths.train.distil import Distil
from torchpaths.train.evaluate import Surveyed, images_for, open_run
from torchpaths.train.folder import read_json
from torchpaths.train.recipe import Json, Recipe
from torchpaths.train.recipes import cifar10_gated_filters
from torchpaths.train.run import train

Name: TypeAlias = Literal["plain", "sparse-1e-4", "sparse-3e-4", "sparse-8e-4", "taught-3e-4", "taught-5e-4"]
NAMES: tuple[Name, ...] = ("sparse-3e-4", "sparse-8e-4", "sparse-1e-4", "taught-3e-4", "taught-5e-4", "plain")

LABELS: dict[Name, str] = {
    "plain": "plain",
    "sparse-1e-4": "gates, λ_s = 0.0001",
    "sparse-3e-4": "gates, λ_s = 0.0003",
    "sparse-8e-4": "gates, λ_s = 0.0008",
    "taught-3e-4": "gates, λ_s = 0.0003, taught by the plain network",
    "taught-5e-4": "gates, λ_s = 0.0005, taught",
}
DIALLED: tuple[Name, ...] = ("sparse-3e-4", "taught-3e-4", "taught-5e-4")
BEST: Name = "taught-5e-4"
SHARES = (0.685, 0.475)
"""Of the plain network's MACs: 86 M and 60 M."""
BATCHES = 20
"""Of 250 training images, for the norms' statistics."""

ABOUT = """# cifar10_gated_filters

Gates for the filters of a ResNet-56 (93.39 %, 125.5 M MACs, 853,018 parameters) on CIFAR-10, {epochs} epochs from its
weights; one seed, NVIDIA H100 and H200, torch {torch}. Mean MACs of a test image, gates included: open outputs times
open inputs; in brackets if closed inputs were counted as well. *Trained*: with the norms' statistics of training, as in
the paper; *updated*: measured anew on {images} augmented training images, with decisions as in evaluation
(`torchpaths.update_bn`), as for all that stands to the right. *Shuffled*: every layer takes other images' decisions.
*Usual path*: the static network of the filters that most images open (in brackets without statistics of its own).
*Parameters*: without the filters that no test image opens, gates included. *Dialled*: not trained again; one threshold
for all gates, found on training images.
"""
NOTES = """
The paper (ResNet-56, 200 epochs): 93.43 % at 86 M, 92.78 % at 67 M, 92.53 % at 59 M MACs.

Batch 640, learning rate 0.25 along a cosine, one epoch of warm-up, bf16; the taught networks ended on a CPU. Pruned
(`benchmarks/pruning.py`, by torch-pruning) is the first convolution of each block, then trained exactly as the gates
are, without a teacher; slimming before that ten epochs with its penalty. What this says:

- The paper's form, with the statistics of training, is up to three points behind the same weights with statistics of
  their own.
- Decisions hardly depend on the image: other images' decisions and the static usual path are as good at equal MACs to
  within 0.6 points, and few filters are open for some images only (2.7 % at lambda_s = 0.0003, 6.3 % at 0.0005 with a
  teacher). What is learnt is which filters to do without.
- With a teacher that is learnt well: 93.57 % at 90.5 % of the MACs, level with the plain network trained as long, and
  from lambda_s = 0.0005, at another threshold without training, 93.34 % at 68.2 %, within what 10,000 images tell the
  paper's 93.43 % at 86 M. Pruned by L1 norm it is 92.47 %, by slimming 92.36 %, by Taylor 92.33 %; gates without a
  teacher, dialled there, are behind all three, 92.13 %. Blocks closed for good, with that teacher and as long, have
  [93.44 % at 73.7 %](../cifar10_targets/README.md).
- Below that thresholds do not reach: 90.71 % at 47.3 %, where L1 norm has 92.17 % at 46.5 % and a plain ResNet-32
  92.63 % at 54.9 %. Training reaches: the usual path within 47.5 % (by the openness of test images, labels unseen),
  49.2 % with the filter that stays of each closed layer, has 92.56 % after five epochs from there, taught by the
  fine-tuned plain network (`recipes/usual_path.py`, [run](usual/summary.json), a CPU core); the paper 92.53 % at 59 M.
- The network trained for less, lambda_s = 0.0008, has 88.07 % at 23.1 %; a plain ResNet-20 91.73 % at 32.3 %. In the
  taught one the first stage gives way first: dialled to 47.5 %, eight of its nine blocks are closed as a whole.

One dialled row lacks what stands beside the others: the weights it was made of were not kept.
"""


@dataclass(frozen=True)
class Options:
    """What to train and where.

    Attributes:
        data: folder with CIFAR-10's train.parquet and test.parquet.
        weights: safetensors file of the plain ResNet-56.
        runs: where run folders go.
        record: where the record goes.
        pruned: result.json files of ``benchmarks/pruning.py``, in folders.
        only: train only these.
        batch: images of a step.
        lr: learning rate that belongs to it.
        warmup: epochs.
        epochs: of each.
        threads: of each training process.
    """

    data: pathlib.Path
    weights: pathlib.Path
    runs: pathlib.Path = pathlib.Path("runs/cifar10_gated_filters")
    record: pathlib.Path = pathlib.Path(__file__).resolve().parents[1] / "records" / "cifar10_gated_filters"
    pruned: pathlib.Path = pathlib.Path("runs/pruning")
    only: tuple[Name, ...] = ()
    batch: int = 128
    lr: float = 0.05
    warmup: float = 0.0
    epochs: int = 30
    threads: int = 1


def main(options: Options) -> None:
    for name in options.only or NAMES:
        train(recipe_for(name, options), options.runs / name)
    write(options)


def recipe_for(name: Name, options: Options) -> Recipe:
    """The common recipe with one network's way of deciding."""
    kind, _, weight = name.partition("-")
    recipe = cifar10_gated_filters(
        options.data, options.weights, epochs=options.epochs, sparse=float(weight) if weight else 0.0
    )
    return dataclasses.replace(
        recipe,
        method=recipe.method if weight else None,
        distil=Distil() if kind == "taught" else None,
        batch=options.batch,
        lr=options.lr,
        warmup=options.warmup,
        update_bn=0,  # the record has both
        threads=options.threads,
        eval_every=10,
        checkpoint_minutes=1.0,
    )


def write(options: Options) -> None:
    """The record of all that are finished. Networks that stand in it are not measured again."""
    torch.set_num_threads(options.threads)
    done = options.record / "results.json"
    rows: list[Json] = read_json(done)["rows"] if done.is_file() else []
    for name in NAMES:
        if any(row["name"] == name for row in rows) or not (options.runs / name / "summary.json").is_file():
            continue
        rows.append(measured(name, options))
        write_json(done, {"rows": rows})
    pruned = [read_json(file) for file in sorted(options.pruned.glob("*/result.json"))] or _kept(options.record)
    write_json(options.record / "pruned.json", {"rows": pruned})
    save(accuracy_macs(points(rows, pruned), "ResNet-56 on CIFAR-10", joined=False), options.record / "accuracy-macs")
    runs = [Trained(**row["trained"]) for row in rows if row["name"].startswith("sparse")]
    if runs:
        save(draw_runs(runs, "ResNet-56 on CIFAR-10"), options.record / "runs")
    (options.record / "README.md").write_text(readme(rows, pruned))


def points(rows: list[Json], pruned: list[Json]) -> list[Point]:
    """What the figure shows: every network as it was trained, the best also dialled, and what was pruned."""
    found = [Point(row["name"], row["macs"], row["updated"], "run") for row in rows if "updated" in row]
    best = next((row for row in rows if row["name"] == BEST), None)
    found += [Point("dialled", one["macs"], one["accuracy"], "run") for one in (best or {}).get("dialled", [])]
    found += [Point(row["how"], row["macs"], row["accuracy"], "control") for row in pruned]
    return found + [Point("plain", row["macs"], row["accuracy"], "plain") for row in rows if row["name"] == "plain"]


def _kept(record: pathlib.Path) -> list[Json]:
    return read_json(record / "pruned.json")["rows"] if (record / "pruned.json").is_file() else []


def measured(name: Name, options: Options) -> Json:
    """The numbers of one network, and its folder in the record."""
    folder, out = options.runs / name, options.record / name
    summary = read_json(folder / "summary.json")
    copy_run(folder, out, weights=False)
    row = {"name": name, "macs": summary["macs"], "accuracy": summary["accuracy"], **provenance(folder)}
    run = open_run(folder)
    net, method = run.net, run.recipe.method
    if method is None:
        return {**row, "params": count_params(net)}
    learnt = images_for(run, split="train")
    # Augmented as in training: what a network knows by heart has other statistics.
    some = Loader(learnt, 250, augment=run.recipe.augment, shuffle=True, seed=1, mean=run.mean, std=run.std)
    batches = list(itertools.islice(some.epoch(0), BATCHES))
    tp.update_bn(net, batches)
    save_file(net.state_dict(), out / "weights.safetensors")
    images = images_for(run)
    test = Loader(images, 250, mean=run.mean, std=run.std)
    survey = tp.survey(net, test, classes=run.classes, progress=True)
    survey = dataclasses.replace(survey, name=run.recipe.model, method=method.names, dataset=images.name, split="test")
    survey.save(out)
    states = filter_states(survey)
    save(draw_states(states, f"{name}: ResNet-56 on CIFAR-10"), out / "states")
    narrow = tp.narrow(net, states, method)
    usual = usual_path(net, survey.rates, batches, test)
    mixed = shuffled(Surveyed(survey, images, run))
    dial = [dialled(run, share, batches, images) for share in SHARES] if name in DIALLED else []
    return {
        **row,
        "dialled": dial,
        "macs": survey.macs,
        "one_sided": one_sided(net, survey.rates),
        "updated": survey.accuracy,
        "shuffled": mixed,
        "params": count_params(net),
        "narrow": count_params(narrow),
        "usual": usual,
        "trained": vars(trained(survey, sparse=method.sparse, mutual=method.mutual, kl=method.kl, name=name)),
    }


def readme(rows: list[Json], pruned: list[Json]) -> str:
    """The record's page."""
    plain = next((row for row in rows if row["name"] == "plain"), None)
    first = rows[0]
    head = ABOUT.format(images=f"{BATCHES * 250:,}", **first)
    lines = [
        "| network | MACs | of plain | trained | updated | shuffled | usual path | parameters |",
        "|---|---|---|---|---|---|---|---|",
    ]
    if plain is not None:
        lines.append(f"| plain, trained on alike | {count(plain['macs'])} | 100.0% | {plain['accuracy']:.2%} | | | | |")
    for row in rows:
        if row["name"] == "plain":
            continue
        usual = row["usual"]
        lines.append(
            f"| {LABELS[row['name']]} | {count(row['macs'])} ({count(row['one_sided'])}) | {row['macs'] / PLAIN:.1%} | "
            f"{row['accuracy']:.2%} | {row['updated']:.2%} | {row['shuffled']:.2%} | {usual['updated']:.2%} at "
            f"{usual['macs'] / PLAIN:.1%} ({usual['accuracy']:.2%}) | {row['narrow']:,} of {row['params']:,} |"
        )
    for row in rows:
        for one in row.get("dialled", []):
            beside = "| | |"
            if "usual" in one:  # rows of an older record have none
                usual = one["usual"]
                cut = f"{usual['updated']:.2%} at {usual['macs'] / PLAIN:.1%} ({usual['accuracy']:.2%})"
                beside = f"| {one['shuffled']:.2%} | {cut} |"
            lines.append(
                f"| {LABELS[row['name']]}, dialled to {one['asked']:.1%} | {count(one['macs'])} | "
                f"{one['macs'] / PLAIN:.1%} | | {one['accuracy']:.2%} {beside} |"
            )
    lines += [
        f"| {row['how']} pruned to {row['asked']:.0%} ({row['epochs']} epochs) | {count(row['macs'])} | "
        f"{row['macs_share']:.1%} | {row['accuracy']:.2%} | | | | {row['params']:,} |"
        for row in pruned
    ]
    lines += ["", "![accuracy against MACs](accuracy-macs.png)", "", "![filters by the losses' weights](runs.png)", ""]
    return "\n".join([head, *lines, NOTES.strip(), ""])


if __name__ == "__main__":
    main(tyro.cli(Options))
